//! Traced requests: how they come to the core, and how their steps are logged.

use common::ids::RequestId;

use super::Driver;
use crate::core::{Ask, Input, Token, TraceStep, Traced};
use crate::replies::Outbox;

impl Driver {
    /// A request of a connection that is traced.
    pub(super) fn on_traced(&mut self, outbox: &Outbox, id: u64, ask: Ask, request: RequestId) {
        if !self.has_room && matches!(ask, Ask::Write { .. }) {
            tracing::info!(%request, "refused: the disk is full");
        } else {
            // The one that the request gets next.
            let token = Token(self.last_token + 1);
            self.step(Input::Trace { token, request });
        }
        self.on_asks(outbox, vec![(id, ask)], false);
    }
}

/// Logs a step. The field `request` is the same at all servers and at the client.
pub(super) fn log(traced: &Traced) {
    let Traced { request, partition, after, step } = traced;
    let after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    let partition = partition.map(|partition| partition.0);
    let (step, server, version, outcome) = match *step {
        TraceStep::Received { from: None } => ("received", None, None, None),
        TraceStep::Received { from } => ("received, passed on by a server", from, None, None),
        TraceStep::Forwarded { to } => ("passed on to its coordinator", Some(to), None, None),
        TraceStep::Parked {} => ("waits for its coordinator, or for writes before it", None, None, None),
        TraceStep::Ordered { entry } => ("ordered", None, Some(entry), None),
        TraceStep::Appended { entry } => ("appended to the log of a replica", None, Some(entry), None),
        TraceStep::Stored {} => ("on this disk", None, None, None),
        TraceStep::Acknowledged { to } => ("acknowledged to its coordinator", Some(to), None, None),
        TraceStep::AcknowledgedBy { by } => ("acknowledged by a replica", Some(by), None, None),
        TraceStep::Applied {} => ("applied", None, None, None),
        TraceStep::Read {} => ("reads its records", None, None, None),
        TraceStep::Answered { outcome } => ("answered", None, None, Some(outcome)),
    };
    let (server, version) = (server.map(tracing::field::display), version.map(tracing::field::display));
    tracing::info!(%request, partition, after_us, server, version, outcome, "{step}");
}
