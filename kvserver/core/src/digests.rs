//! Digests of this server's copies, each as of an entry that compares copies: those that are being made, and the last
//! ones that were made. An entry has the same place in every copy's log, so copies can be compared whatever is written
//! meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::ids::{LogId, PartitionId};
use common::messages::Digest;

use super::limits::DIGESTS_KEPT;

/// A copy as of an entry.
type Place = (PartitionId, LogId);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    making: BTreeSet<Place>,
    made: BTreeMap<Place, Digest>,
    order: VecDeque<Place>,
}

impl Digests {
    /// An entry that compares copies was applied.
    pub(crate) fn on_applied(&mut self, place: Place) {
        self.making.insert(place);
    }

    /// A digest was made; `None` if the copy was not read as of that entry after all.
    pub(crate) fn on_made(&mut self, place: Place, digest: Option<Digest>) {
        self.making.remove(&place);
        let Some(digest) = digest else { return };
        if self.made.insert(place, digest).is_none() {
            self.order.push_back(place);
        }
        while self.order.len() > DIGESTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.made.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, place: Place) -> Option<Digest> {
        self.made.get(&place).copied()
    }

    pub(crate) fn is_making(&self, place: Place) -> bool {
        self.making.contains(&place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, Seq};

    #[test]
    fn the_oldest_go_first_and_what_is_left_out_is_no_longer_awaited() {
        let place = |seq| (PartitionId(1), LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) });
        let mut digests = Digests::default();
        digests.on_applied(place(0));
        assert!(digests.is_making(place(0)));
        digests.on_made(place(0), None);
        assert!(!digests.is_making(place(0)) && digests.get(place(0)).is_none());
        let kept = DIGESTS_KEPT as u64;
        (1..=kept + 1).for_each(|seq| digests.on_made(place(seq), Some(Digest::default())));
        assert!(digests.get(place(1)).is_none());
        assert!(digests.get(place(2)).is_some() && digests.get(place(kept + 1)).is_some());
    }
}
