//! Steps of traced requests: they go to the log and, with the feature `otel`, to a collector.

use common::messages::ProcessId;
#[cfg(feature = "otel")]
use common::spans::{Spans, Step};

use crate::error::Error;
use crate::options::Options;
use kvserver_core::{TraceStep, Traced};

/// Where the steps of traced requests go.
#[derive(Clone)]
pub(crate) struct TraceLog {
    /// The collector, if one is named.
    #[cfg(feature = "otel")]
    spans: Option<Spans>,
}

impl TraceLog {
    /// Begins logging, and sending to the collector if one is named.
    #[cfg(feature = "otel")]
    pub(crate) fn start(options: &Options, me: &ProcessId) -> Result<Self, Error> {
        let refused = |reason| Error::Io { action: "send spans", source: std::io::Error::other(reason) };
        let start = |endpoint: &String| Spans::start(endpoint, "kvserver", &me.server.to_string());
        let spans = options.otlp_endpoint.as_ref().map(start).transpose().map_err(refused)?;
        Ok(Self { spans })
    }

    /// Begins logging; without the feature `otel` there is no collector.
    #[cfg(not(feature = "otel"))]
    pub(crate) fn start(_: &Options, _: &ProcessId) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Sends what waits for the collector, at the server's end.
    pub(crate) fn stop(&self) {
        #[cfg(feature = "otel")]
        if let Some(spans) = &self.spans {
            spans.stop();
        }
    }

    /// Logs a step. The field `request` is the same at all servers and at the client.
    pub(super) fn log(&self, traced: &Traced) {
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
        #[cfg(feature = "otel")]
        if let Some(spans) = &self.spans {
            let facts = [
                ("partition", partition.map(|partition| partition.to_string())),
                ("server", server.map(|server| server.to_string())),
                ("version", version.map(|version| version.to_string())),
                ("outcome", outcome.map(str::to_owned)),
            ];
            let attributes = facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            spans.step(*request, Step { name: step, took: *after, attributes, error: None });
        }
        let (server, version) = (server.map(tracing::field::display), version.map(tracing::field::display));
        tracing::info!(%request, partition, after_us, server, version, outcome, "{step}");
    }
}
