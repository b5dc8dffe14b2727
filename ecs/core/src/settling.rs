//! Coordinators that changed as planned and have not said that they are active. Until they have, their partitions are
//! left alone: a new coordinator waits for its promise to the former one to run out, unless that one acknowledges the
//! new epoch (P3b), which it cannot do once it is no member any more.

use std::collections::BTreeMap;

use common::ids::{Epoch, PartitionId};
use common::time::Time;

/// See the module's text. Forgotten at a restart of the ECS: then such a partition may wait for the promise.
#[derive(Debug, Default)]
pub(super) struct Settling(BTreeMap<PartitionId, (Epoch, Time)>);

impl Settling {
    /// A partition's coordinator is another one from `epoch` on; it is active at `until` at the latest, if at all.
    pub(super) fn begin(&mut self, partition: PartitionId, epoch: Epoch, until: Time) {
        let before = self.0.insert(partition, (epoch, until));
        assert!(
            before.is_none_or(|(earlier, _)| earlier < epoch),
            "a later view changed the coordinator again"
        );
    }

    /// A coordinator is active in `epoch`; whether that was waited for.
    pub(super) fn on_active(&mut self, partition: PartitionId, epoch: Epoch) -> bool {
        let awaited = self.0.get(&partition).is_some_and(|(begun, _)| epoch >= *begun);
        if awaited {
            self.0.remove(&partition);
        }
        awaited
    }

    /// Until when a partition is to be left alone.
    pub(super) fn until(&self, partition: PartitionId, now: Time) -> Option<Time> {
        self.0.get(&partition).map(|(_, until)| *until).filter(|until| *until > now)
    }

    /// Forgets what is over.
    pub(super) fn sift(&mut self, now: Time) {
        self.0.retain(|_, (_, until)| *until > now);
    }
}
