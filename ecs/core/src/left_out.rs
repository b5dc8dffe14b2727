//! Processes that the ECS has refused recently, and why: they report as servers and are no members. Kept for the
//! status, and so that none of them is forgotten: their reports are ignored, and their links are closed now and then,
//! so that they say hello again and are either accepted or refused anew.
//!
//! Forgotten at a restart, and a while after the last refusal: a process that still runs has said hello again by then.

use std::collections::BTreeMap;

use common::ids::ServerId;
use common::messages::ProcessId;
use common::time::Time;

use super::refusal::Refusal;
use crate::limits::{LEFT_OUT_FOR, LEFT_OUT_MAX, REFUSED_AGAIN_AFTER};

/// A process that was refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    sender: ProcessId,
    /// The address that it listens at, if it has reported one.
    pub(super) address: Option<String>,
    pub(super) why: Refusal,
    at: Time,
}

/// See the module's text. One process for each server.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftOut(BTreeMap<ServerId, Refused>);

impl LeftOut {
    /// A process is refused.
    pub(super) fn note(&mut self, now: Time, sender: ProcessId, address: Option<String>, why: Refusal) {
        let address =
            address.or_else(|| self.0.get(&sender.server).and_then(|refused| refused.address.clone()));
        self.0.insert(sender.server, Refused { sender, address, why, at: now });
        if self.0.len() > LEFT_OUT_MAX {
            let oldest = self.0.iter().min_by_key(|(_, refused)| refused.at).map(|(&server, _)| server);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        assert!(self.0.len() <= LEFT_OUT_MAX);
    }

    /// Asserts what must be true between steps.
    pub(super) fn invariants(&self) {
        assert!(
            self.0.iter().all(|(&server, refused)| refused.sender.server == server),
            "kept by its server"
        );
    }

    /// A process of the server is taken.
    pub(super) fn forget(&mut self, server: ServerId) {
        self.0.remove(&server);
    }

    /// Whether a process that is no member is to say hello again: it was not refused, or some time ago.
    pub(super) fn may_try(&self, now: Time, sender: ProcessId) -> bool {
        let refused = self.0.get(&sender.server).filter(|refused| refused.sender == sender);
        refused.is_none_or(|refused| now.since(refused.at) >= REFUSED_AGAIN_AFTER)
    }

    /// The processes that are left out now.
    pub(super) fn present(&self, now: Time) -> impl Iterator<Item = (ServerId, &Refused)> {
        let present = self.0.iter().filter(move |(_, refused)| now.since(refused.at) < LEFT_OUT_FOR);
        present.map(|(&server, refused)| (server, refused))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::ids::{Incarnation, Nonce, StoreId};

    use super::*;

    fn sender(id: u128, incarnation: u64) -> ProcessId {
        let incarnation = Incarnation(incarnation);
        ProcessId { server: ServerId(id), store: StoreId(id), incarnation, nonce: Nonce(1) }
    }

    #[test]
    fn who_is_refused_is_listed_for_a_while_and_may_try_again() {
        let (mut out, begin) = (LeftOut::default(), Time(1_000_000));
        assert!(out.may_try(begin, sender(1, 1)));
        out.note(begin, sender(1, 1), Some("h:1".to_owned()), Refusal::TooManyServers);
        assert!(
            !out.may_try(begin, sender(1, 1)) && out.may_try(begin, sender(1, 2)),
            "exactly this process"
        );
        assert!(out.may_try(begin + REFUSED_AGAIN_AFTER, sender(1, 1)));
        let later = begin + LEFT_OUT_FOR - Duration::from_millis(1);
        assert_eq!(out.present(later).count(), 1);
        assert_eq!(out.present(begin + LEFT_OUT_FOR).count(), 0);
        out.note(later, sender(1, 1), None, Refusal::TooManyServers);
        let (_, refused) = out.present(begin + LEFT_OUT_FOR).next().unwrap();
        assert_eq!(refused.address.as_deref(), Some("h:1"), "it is not said each time");
        out.forget(ServerId(1));
        assert_eq!(out.present(later).count(), 0);
    }

    #[test]
    fn strangers_fill_no_memory() {
        let mut out = LeftOut::default();
        for id in 0..2 * LEFT_OUT_MAX as u64 {
            out.note(Time(id), sender(id.into(), 1), None, Refusal::TooManyServers);
        }
        assert_eq!(out.0.len(), LEFT_OUT_MAX);
        assert!(out.0.contains_key(&ServerId(2 * LEFT_OUT_MAX as u128 - 1)), "the newest stay");
    }
}
