//! Requests that were passed on to their coordinators.

use std::collections::BTreeMap;

use common::ids::ServerId;
use common::time::Time;

use super::super::ask::Ask;
use super::super::context::Context;
use super::super::limits::STALLED;
use super::super::requests::ClientRequest;
use super::super::routing::coordinator_of;

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

    /// The number of a message that passes a request on; an answer is known by it.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Keeps a request that is passed on under number `n` until it is answered.
    pub(super) fn note(&mut self, n: u64, forward: Forward) {
        assert!(n <= self.last, "a number that was not given out");
        let before = self.open.insert(n, forward);
        assert!(before.is_none(), "a request that is passed on has a number of its own");
    }

    /// Asserts what must be true after every step.
    pub(super) fn invariants(&self, cx: &Context) {
        for (n, forward) in &self.open {
            let ask = &forward.unrouted.ask;
            assert!(*n <= self.last, "a number that was not given out");
            assert!(!cx.is_me(forward.to), "a request is passed on to the server that has it");
            assert_eq!(coordinator_of(&cx.view, ask), Some(forward.to), "it is with its coordinator");
            assert!(forward.unrouted.maybe_done, "a request that was sent on may be done (W2)");
            let is_numbered = !matches!(ask, Ask::Write { origin: None, .. });
            assert!(is_numbered, "a write leaves this server with its number");
            assert!(forward.first <= cx.watched() + STALLED, "it is passed on in the future");
        }
        assert!(!self.bypassed.contains_key(&cx.me.server), "a server does not hear itself");
    }
}
