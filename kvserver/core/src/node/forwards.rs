//! Requests that were passed on to their coordinators.

use std::collections::BTreeMap;

use common::ids::ServerId;
use common::time::Time;

use super::super::requests::ClientRequest;

/// What becomes of a client's request for a partition that another server coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// The client gets the number of the view, and asks the coordinator.
    SendAway,
    /// It is passed on to the coordinator.
    PassOn,
}

/// A request that was passed on.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) unrouted: ClientRequest,
    pub(super) to: ServerId,
    pub(super) sent: Time,
    /// When it was first passed on, as [`Context::watched`](crate::context::Context::watched) counts.
    pub(super) first: Time,
    /// Members that were asked to pass it on.
    pub(super) relays: usize,
    /// The write may have been in some log before it was passed on, so a refusal does not mean that it was not done
    /// (W2).
    pub(super) in_doubt: bool,
}

/// Requests that were passed on and are not answered yet.
#[derive(Debug)]
pub(super) struct Forwards {
    /// By the number of the message.
    pub(super) open: BTreeMap<u64, Forward>,
    /// Coordinators that requests are relayed to through other members, and since when.
    pub(super) bypassed: BTreeMap<ServerId, Time>,
    pub(super) last: u64,
}

impl Forwards {
    /// Messages are numbered from the one after `number` on.
    pub(super) fn after(number: u64) -> Self {
        Self { open: BTreeMap::new(), bypassed: BTreeMap::new(), last: number }
    }
}
