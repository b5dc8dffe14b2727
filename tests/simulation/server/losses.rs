//! What a server's disk loses, and what it has got back: the server is *whole* in a partition if its disk has all that
//! it acknowledged there.

use std::collections::BTreeMap;

use common::ids::{Epoch, LogId, Nonce, PartitionId, StoreId};
use common::view::{Assignment, View};
use kvserver_core::PlantedBug;
use kvserver_core::testkit::PartitionLog;

use super::super::disk::Disk;
use super::super::timeline::Timeline;
use super::{Gray, NEVER, OPEN, Server};

impl Server {
    /// The store is lost, or must not be used again: what comes back has nothing, and says so by another store id.
    pub(crate) fn wipe(&mut self) {
        assert!(self.process.is_none(), "wiped under a running process");
        self.disk = Disk::new(self.disk.batches_kept);
        self.condemned = false;
        // What was used before is of the former store.
        (self.used, self.epochs) = (Epoch::default(), Vec::new());
        (self.saved, self.hollow) = (Vec::new(), BTreeMap::new());
        if self.config.bug != Some(PlantedBug::WipedKeepsIdentity) {
            self.stores += 1;
            self.store = StoreId((self.stores << 64) | (self.index as u128 + 1));
        }
    }

    /// The disk goes back to an earlier moment of its own; so does the count of its starts, some times. `epochs`: the
    /// newest of each partition.
    pub(crate) fn go_back(&mut self, line: &mut Timeline, epochs: &[Epoch]) {
        assert!(self.process.is_none(), "a running process holds its disk");
        if self.saved.is_empty() {
            return;
        }
        let (incarnation, image) = self.saved[line.rng.usize(0..self.saved.len())].clone();
        let before = self.disk.durable.logs.clone();
        self.disk.go_back(image, line.chance(0.3));
        line.note(|| format!("  s{} goes back", self.index));
        if line.chance(0.4) {
            self.incarnation = incarnation;
        }
        self.note_losses(before, epochs);
        (self.used, self.epochs) = (Epoch::default(), Vec::new());
    }

    /// The last synced batches of its log are gone, though its records and its view are not. `epochs`: the newest of
    /// each partition. How many batches.
    pub(crate) fn lose_batches(&mut self, line: &mut Timeline, epochs: &[Epoch]) -> usize {
        assert!(self.process.is_none(), "a running process holds its disk");
        let before = self.disk.durable.logs.clone();
        let most = if line.chance(0.5) { 1 } else { self.disk.batches_kept };
        let (keeps_marks, vouched) = (line.chance(0.3), line.chance(0.3));
        let batches = self.disk.lose_batches(most, keeps_marks, vouched);
        line.note(|| {
            format!("  s{} loses {batches} batches; marks {keeps_marks}, told {vouched}", self.index)
        });
        self.note_losses(before, epochs);
        batches
    }

    fn note_losses(&mut self, before: BTreeMap<PartitionId, PartitionLog>, epochs: &[Epoch]) {
        for (partition, log) in before {
            let last = log.last();
            let keeps = self.disk.durable.logs.get(&partition).is_some_and(|now| now.holds(last));
            if !keeps {
                let epoch = epochs.get(usize::from(partition.0)).copied().unwrap_or_default();
                // What was lost before, and is not back, is lost still.
                let known = self.hollow.entry(partition).or_insert((epoch, last));
                *known = (known.0.max(epoch), known.1.max(last));
            }
        }
    }

    /// A copy of the directory, as it is now or was at an earlier moment, that is started beside the original.
    pub(crate) fn twin(&self, index: usize, line: &mut Timeline) -> Self {
        let saved = &self.saved;
        let (incarnation, image) = if saved.is_empty() || line.chance(0.5) {
            (self.incarnation, self.disk.image())
        } else {
            saved[line.rng.usize(0..saved.len())].clone()
        };
        let mut disk = self.disk.copied();
        disk.go_back(image, false);
        // What the original acknowledges from now on, and all that it may have lost, is not here.
        let partitions = self.disk.durable.logs.keys();
        Self {
            index,
            id: self.id,
            store: self.store,
            stores: self.stores,
            incarnation,
            nonce: Nonce(0),
            config: self.config.clone(),
            disk,
            hollow: partitions.map(|&partition| (partition, (NEVER, OPEN))).collect(),
            saves: 0.0,
            held: Vec::new(),
            saved: Vec::new(),
            used: Epoch::default(),
            named_in: Epoch::default(),
            judged_in: Epoch::default(),
            epochs: Vec::new(),
            readers: Vec::new(),
            lone: Vec::new(),
            process: None,
            gray: Gray::default(),
            ..*self
        }
    }

    /// It is a copy that is named in place of its original: what that one acknowledges counts in the epochs of before,
    /// and in no later one.
    pub(super) fn on_named(&mut self, view: &View) {
        for (partition, (epoch, _)) in self.hollow.iter_mut().filter(|(_, (epoch, _))| *epoch == NEVER) {
            *epoch = view.assignment(*partition).map(|now| counted_until(now, view)).unwrap_or_default();
        }
    }

    /// Another process with its id was named before it, or again: what that one has acknowledged in epochs of before
    /// is not here.
    pub(crate) fn on_after_twin(&mut self, view: &View) {
        let all = view.iter().map(|(partition, now)| (partition, (counted_until(now, view), OPEN)));
        self.hollow.extend(all);
    }

    /// The partitions in which it is a copy that was named in place of its original, and what that one had is not known
    /// yet.
    pub(crate) fn unknown_in_place(&self) -> Vec<PartitionId> {
        if self.named_in == Epoch::default() {
            return Vec::new();
        }
        let unknown = self.hollow.iter().filter(|(_, (_, last))| *last == OPEN);
        unknown.map(|(&partition, _)| partition).collect()
    }

    /// `last`: the end of its original's log.
    pub(crate) fn on_in_place(&mut self, partition: PartitionId, last: LogId) {
        if let Some((_, known)) = self.hollow.get_mut(&partition) {
            *known = last;
        }
    }

    /// An operator gives the directory a new store id, as the process asked for before it stopped.
    pub(crate) fn renew(&mut self) {
        self.stores += 1;
        self.store = StoreId((self.stores << 64) | (self.index as u128 + 1));
        (self.saved, self.hollow) = (Vec::new(), BTreeMap::new());
    }

    /// Whether its disk has all that it acknowledged in a partition.
    pub(crate) fn is_whole(&self, partition: PartitionId) -> bool {
        !self.hollow.contains_key(&partition)
    }

    /// What its disk has got back.
    pub(crate) fn look_at_losses(&mut self) {
        let logs = &self.disk.durable.logs;
        self.hollow.retain(|partition, (epoch, last)| {
            let log = logs.get(partition);
            // A coordinator notes nothing when its log is that of a later epoch: the epoch's entries show it.
            let is_whole = |log: &PartitionLog| {
                log.durable_state().synced > *epoch || log.last().tag > *epoch || log.holds(*last)
            };
            !log.is_some_and(is_whole)
        });
    }
}

/// The last epoch in which a process counts that `view` names no more. An epoch that begins with that view is the first
/// in which it does not.
fn counted_until(now: &Assignment, view: &View) -> Epoch {
    if now.epoch < view.number { now.epoch } else { Epoch { version: now.epoch.version - 1, ..now.epoch } }
}
