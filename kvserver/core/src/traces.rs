//! Traced requests: the steps of each at this server, and their times, go to the shell's log.
//!
//! A traced request is identified by where its answer goes, and once it is in the log by its position there. Tracing
//! decides nothing: nothing else changes without it, or when one of its messages is lost. While nothing is traced, each
//! of these functions is one test.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{PartitionId, RequestId, Seq, ServerId};
use common::time::Time;

use super::io::Token;
use super::limits::{TRACED_FOR, TRACED_MAX};
use super::requests::ReplyTo;

/// Where the answer to a traced request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    Client(Token),
    Peer(ServerId, u64),
}

impl Asker {
    pub(super) fn of(to: ReplyTo) -> Option<Self> {
        match to {
            ReplyTo::Client { token, .. } => Some(Self::Client(token)),
            ReplyTo::Peer { server, n } => Some(Self::Peer(server, n)),
            ReplyTo::Question { .. } | ReplyTo::Read(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) since: Time,
    /// The partition, known from when it was received.
    pub(super) partition: Option<PartitionId>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: RequestId,
    pub(super) since: Time,
    /// The entry is in this server's log.
    pub(super) appended: bool,
    pub(super) stored: bool,
    pub(super) acknowledged: bool,
    pub(super) by: BTreeSet<ServerId>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    pub(super) requests: BTreeMap<Asker, Request>,
    pub(super) entries: BTreeMap<(PartitionId, Seq), Entry>,
}

impl Traces {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.entries.is_empty()
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert!(self.requests.len() <= TRACED_MAX, "traced requests are bounded");
        assert!(self.entries.len() <= TRACED_MAX, "traced entries are bounded");
        for entry in self.entries.values() {
            assert!(entry.appended || !entry.stored, "on disk before it was in the log");
            assert!(entry.stored || !entry.acknowledged, "acknowledged before it was on disk");
        }
    }

    /// Drops traced requests that are too old, for whatever reason they have not ended.
    pub(crate) fn forget_old(&mut self, now: Time) {
        if !self.is_empty() {
            self.requests.retain(|_, request| now.since(request.since) <= TRACED_FOR);
            self.entries.retain(|_, entry| now.since(entry.since) <= TRACED_FOR);
        }
    }
}
