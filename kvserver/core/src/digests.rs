//! Digests of this server's copies, each as of an entry that compares copies: those that are being made, and the last
//! ones that were made. An entry has the same position in every copy's log, so copies can be compared whatever is
//! written meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::ids::{LogId, PartitionId};
use common::messages::Digest;

use super::limits::DIGESTS_KEPT;

/// A partition's copy as of an entry.
type CopyAt = (PartitionId, LogId);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    making: BTreeSet<CopyAt>,
    made: BTreeMap<CopyAt, Digest>,
    order: VecDeque<CopyAt>,
}

impl Digests {
    /// An entry that compares copies was applied.
    pub(crate) fn on_applied(&mut self, copy: CopyAt) {
        self.making.insert(copy);
    }

    /// A digest was made; `None` if the copy was not read as of that entry after all.
    pub(crate) fn on_made(&mut self, copy: CopyAt, digest: Option<Digest>) {
        self.making.remove(&copy);
        let Some(digest) = digest else { return };
        if self.made.insert(copy, digest).is_none() {
            self.order.push_back(copy);
        }
        while self.order.len() > DIGESTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.made.remove(&oldest);
        }
        assert_eq!(self.order.len(), self.made.len(), "each digest leaves in its turn");
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert_eq!(self.order.len(), self.made.len(), "each digest leaves in its turn");
        assert!(self.order.len() <= DIGESTS_KEPT, "digests are bounded");
        assert!(self.order.iter().all(|copy| self.made.contains_key(copy)), "a digest in turn is not there");
    }

    pub(crate) fn get(&self, copy: CopyAt) -> Option<Digest> {
        self.made.get(&copy).copied()
    }

    pub(crate) fn is_making(&self, copy: CopyAt) -> bool {
        self.making.contains(&copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, Seq};

    #[test]
    fn the_oldest_go_first_and_what_is_left_out_is_no_longer_awaited() {
        let copy = |seq| (PartitionId(1), LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) });
        let mut digests = Digests::default();
        digests.on_applied(copy(0));
        assert!(digests.is_making(copy(0)));
        digests.on_made(copy(0), None);
        assert!(!digests.is_making(copy(0)) && digests.get(copy(0)).is_none());
        let kept = DIGESTS_KEPT as u64;
        (1..=kept + 1).for_each(|seq| digests.on_made(copy(seq), Some(Digest::default())));
        assert!(digests.get(copy(1)).is_none());
        assert!(digests.get(copy(2)).is_some() && digests.get(copy(kept + 1)).is_some());
    }
}
