//! The invariants I1 to I7, which must hold at every moment, whatever fails (docs/protocol.md). They are checked from
//! outside, with knowledge of everything that each server ever did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{Epoch, LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, StoreVerdict};
use common::operation::{Command, Outcome};
use common::time::WallTime;
use common::view::{ServerState, View};
use kvserver_core::testkit::PartitionLog;

use super::model::Model;
use super::server::WALL_BEGIN_MS;

/// Largest error of a stamp, in milliseconds, besides the drift of clocks: their initial difference, the delay of
/// messages, and the time until a correction is in use.
pub(crate) const STAMPS_OFF_MS_MAX: u64 = 3_000;

/// How wrong a stamp may be when `right` is the time: clocks are fast or slow by 5 % at most.
fn stamps_off_max(right: u64) -> u64 {
    STAMPS_OFF_MS_MAX + right.saturating_sub(WALL_BEGIN_MS) / 20
}

/// An entry that some server has applied, and that is therefore committed.
#[derive(Debug)]
struct Committed {
    id: LogId,
    body: Bytes,
    outcome: Outcome,
    /// Digest of the records after it.
    digest: u64,
}

/// The history of one partition.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    committed: Vec<Committed>,
    /// The last entry that was acknowledged to a client.
    acknowledged: Seq,
    /// For each entry that was ever in some log: the entry before it, and its body.
    entries: BTreeMap<LogId, (LogId, Bytes)>,
    pub(crate) model: Model,
}

/// How often faults have occurred, and their consequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Disks that have lost the last batches of their logs.
    pub(crate) batches_lost: u64,
    /// Syncs that failed while all disks failed to sync.
    pub(crate) syncs_failed: u64,
    /// Answers of the ECS that a store must be kept.
    pub(crate) kept: u64,
    /// Stores that were set aside.
    pub(crate) set_aside: u64,
    /// Stores that an operator has reinstated.
    pub(crate) reinstated: u64,
    /// Copies that a partition went on without, and whose servers were given empty directories.
    pub(crate) kept_aside: u64,
    /// Directories of the ECS that went back.
    pub(crate) ecs_went_back: u64,
    /// Views while there were faults.
    pub(crate) views: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    partitions: BTreeMap<PartitionId, Partition>,
    views: BTreeMap<Epoch, Arc<View>>,
    newest: Option<Arc<View>>,
    /// Nothing happens in this run for which a server may be taken for dead.
    pub(crate) no_server_fails: bool,
    /// Machines' clocks run nearly right, so stamps must be right too.
    pub(crate) clocks_run_right: bool,
    /// Some server has computed a wrong digest, or has a bad disk.
    pub(crate) misread: bool,
    /// Some disk has gone back to an earlier moment.
    pub(crate) goes_back: bool,
    /// A partition went on without its last whole member, after the wait for it, and that was reported.
    pub(crate) is_beyond: bool,
    /// Reports of coordinators about servers whose copies are kept aside (V4a).
    pub(crate) kept_aside: Vec<String>,
    /// Reports of copies that have failed.
    pub(crate) copies_failed: u64,
    pub(crate) counts: Counts,
    /// By partition: the last epoch in which a coordinator was active.
    active: BTreeMap<PartitionId, Epoch>,
    /// Committed entries that are not yet checked at all members.
    pub(crate) fresh: Vec<(PartitionId, LogId)>,
    /// Partitions whose members have changed since the last check.
    pub(crate) changed: BTreeSet<PartitionId>,
    /// Entries that coordinators have acknowledged to clients, and on how many disks they must be.
    pub(crate) rested: Vec<(PartitionId, LogId, u8)>,
    /// Partitions with acknowledgements to clients since the last check.
    pub(crate) acknowledging: BTreeSet<PartitionId>,
}

impl Truth {
    pub(crate) fn partition(&self, partition: PartitionId) -> Option<&Partition> {
        self.partitions.get(&partition)
    }

    /// The newest view that is on the disk of the ECS.
    pub(crate) fn newest(&self) -> Option<&Arc<View>> {
        self.newest.as_ref()
    }

    /// I1: a view is on the disk of the ECS, or in use somewhere.
    pub(crate) fn on_view(&mut self, view: &Arc<View>) {
        let known = self.views.entry(view.number).or_insert_with(|| Arc::clone(view));
        assert_eq!(known, view, "I1: two views have the number {}", view.number);
        if let Some(newest) = &self.newest
            && newest.number >= view.number
        {
            return;
        }
        let down = view.servers.iter().find(|(_, info)| info.state == ServerState::Down);
        assert!(!self.no_server_fails || down.is_none(), "a server that is well is taken for dead: {down:?}");
        let before = self.newest.replace(Arc::clone(view));
        for (partition, assignment) in view.iter() {
            let old = before.as_ref().and_then(|before| before.assignment(partition));
            if old.is_none_or(|old| old.in_sync != assignment.in_sync) {
                self.changed.insert(partition);
            }
        }
    }

    /// Whether a server was the only member of a partition in a view from `first` on, and before `end`.
    pub(crate) fn was_alone(
        &self,
        partition: PartitionId,
        server: ServerId,
        first: Epoch,
        end: Epoch,
    ) -> bool {
        let mut views = self.views.range(..end).rev().take_while(|(number, _)| **number >= first);
        views.any(|(_, view)| {
            let now = view.assignment(partition);
            now.is_some_and(|now| now.in_sync.len() == 1 && now.in_sync[0].server == server)
        })
    }

    /// Views that the ECS has made so far.
    pub(crate) fn views_made(&self) -> u64 {
        self.views.len() as u64
    }

    /// A coordinator is active.
    pub(crate) fn on_active(&mut self, partition: PartitionId, epoch: Epoch) {
        let known = self.active.entry(partition).or_default();
        *known = epoch.max(*known);
    }

    /// R3: a store is set aside only where each of its partitions is being served, by a coordinator of the newest view.
    /// `of`: its partitions; none: any.
    pub(crate) fn check_verdict(&self, view: &View, of: Option<&[PartitionId]>, verdict: &StoreVerdict) {
        let StoreVerdict::SetAside {} = verdict else { return };
        let is_of_store = |partition: &PartitionId| of.is_none_or(|of| of.contains(partition));
        for (partition, assignment) in view.iter().filter(|(partition, _)| is_of_store(partition)) {
            assert_eq!(
                self.active.get(&partition),
                Some(&assignment.epoch),
                "R3: a store is set aside while partition {partition} is not served"
            );
        }
    }

    /// An entry is written to a log for the first time, so it has just been stamped: no wall clock that jumps moves
    /// stamps.
    pub(crate) fn check_stamp(&self, partition: PartitionId, entry: &Entry, right: u64) {
        let known = self.partitions.get(&partition).is_some_and(|now| now.entries.contains_key(&entry.id));
        let Ok(Command { stamp, .. }) = Command::from_wire(entry.body.clone()) else { return };
        let off = stamp.0.abs_diff(right);
        assert!(
            known || stamp.0 == 0 || !self.clocks_run_right || off <= stamps_off_max(right),
            "partition {partition}: entry {} is stamped {off} ms off",
            entry.id
        );
    }

    /// A value is read that expires at some time: it does not live on for long.
    pub(crate) fn check_alive(&self, expires: WallTime, right: u64) {
        let over = right.saturating_sub(expires.0);
        assert!(
            !self.clocks_run_right || over <= stamps_off_max(right),
            "a value is read {over} ms after its end"
        );
    }

    /// I3: an entry is written to some log, behind `previous`.
    pub(crate) fn on_written(&mut self, partition: PartitionId, previous: LogId, entry: &Entry) {
        let entries = &mut self.partitions.entry(partition).or_default().entries;
        let (first_previous, first_body) =
            entries.entry(entry.id).or_insert_with(|| (previous, entry.body.clone()));
        assert_eq!(*first_body, entry.body, "I3: partition {partition} has two entries {}", entry.id);
        assert_eq!(*first_previous, previous, "I3: partition {partition}: two entries before {}", entry.id);
    }

    /// I4, I7: a server has applied an entry.
    pub(crate) fn on_applied(
        &mut self,
        partition: PartitionId,
        id: LogId,
        body: &Bytes,
        outcome: &Outcome,
        digest: u64,
    ) {
        let history = self.partitions.entry(partition).or_default();
        let index = usize::try_from(id.seq.0 - 1).expect("few entries");
        assert!(index <= history.committed.len(), "partition {partition}: {id} was applied before its time");
        if let Some(first) = history.committed.get(index) {
            assert_eq!(first.id, id, "I4: partition {partition} has two committed entries at one place");
            assert_eq!(first.body, *body, "I4: partition {partition}, entry {id}: another body");
            assert_eq!(first.outcome, *outcome, "I7: partition {partition}, entry {id}: another outcome");
            assert_eq!(first.digest, digest, "I4: partition {partition}: other records after entry {id}");
            return;
        }
        let command = Command::from_wire(body.clone()).expect("an entry as it was ordered");
        let expected = history.model.apply(id, &command);
        assert_eq!(*outcome, expected, "I7: partition {partition}, entry {id}: {command:?}");
        let committed = Committed { id, body: body.clone(), outcome: outcome.clone(), digest };
        history.committed.push(committed);
        self.fresh.push((partition, id));
    }

    /// The records of a server are as a copy made them.
    pub(crate) fn on_installed(&self, partition: PartitionId, applied: LogId, digest: u64) {
        let Some(index) = applied.seq.0.checked_sub(1) else { return };
        let history = self.partitions.get(&partition).expect("some server has applied the copied state");
        let index = usize::try_from(index).expect("few entries");
        let committed = history.committed.get(index).expect("a copy holds what is committed");
        assert_eq!(committed.id, applied, "I4: partition {partition}: a copy of something else");
        assert_eq!(
            committed.digest, digest,
            "I4: partition {partition}: a copy at {applied} is not the original"
        );
    }

    /// An entry is acknowledged to a client.
    pub(crate) fn on_acknowledged(&mut self, partition: PartitionId, version: LogId) {
        let history = self.partitions.entry(partition).or_default();
        let index = usize::try_from(version.seq.0 - 1).expect("few entries");
        let committed = history.committed.get(index).map(|committed| committed.id);
        assert_eq!(committed, Some(version), "partition {partition}: acknowledged and not committed");
        history.acknowledged = history.acknowledged.max(version.seq);
        self.acknowledging.insert(partition);
    }

    /// An acknowledged entry is on as many disks as the view of its coordinator asks for.
    pub(crate) fn check_rests(partition: PartitionId, id: LogId, least: u8, disks: usize) {
        assert!(
            disks >= usize::from(least),
            "partition {partition}: entry {id} is acknowledged and on {disks} disks; {least} are asked for"
        );
    }

    /// I5: this server may read as the coordinator now, and `other` may or may not.
    pub(crate) fn on_reader(&self, partition: PartitionId, applied: u64, other: Option<(usize, usize)>) {
        if let Some((one, two)) = other {
            panic!("I5: servers {one} and {two} may both read partition {partition} as its coordinator");
        }
        let acknowledged = self.partitions.get(&partition).map_or(0, |history| history.acknowledged.0);
        assert!(
            applied >= acknowledged,
            "I5: a coordinator may read partition {partition} at {applied}, {acknowledged} is acknowledged"
        );
    }

    /// I6: this replica may answer alone now. What it does not have applied it knows as pending, from its log.
    pub(crate) fn on_lone_reader(&self, partition: PartitionId, server: usize, log: Option<&PartitionLog>) {
        let Some(history) = self.partitions.get(&partition) else { return };
        let Some(index) = history.acknowledged.0.checked_sub(1) else { return };
        let id = history.committed[usize::try_from(index).expect("few entries")].id;
        assert!(
            log.is_some_and(|log| log.holds(id)),
            "I6: server {server} may read partition {partition} alone and lacks the acknowledged entry {id}"
        );
    }

    /// I2: a member of the newest view's in-sync set has this committed entry on disk.
    pub(crate) fn check_held(
        &self,
        partition: PartitionId,
        id: LogId,
        server: usize,
        log: Option<&PartitionLog>,
    ) {
        let holds = log.is_some_and(|log| log.holds(id));
        assert!(
            holds,
            "I2: partition {partition}: in-sync server {server} lacks the committed entry {id} on disk"
        );
    }

    /// I2 for all entries.
    pub(crate) fn check_held_all(&self, partition: PartitionId, server: usize, log: Option<&PartitionLog>) {
        let Some(history) = self.partitions.get(&partition) else { return };
        for committed in &history.committed {
            self.check_held(partition, committed.id, server, log);
        }
    }

    /// Entries that are committed, over all partitions.
    pub(crate) fn committed(&self) -> usize {
        self.partitions.values().map(|history| history.committed.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::ClusterId;
    use common::operation::Operation;
    use common::ring::Partitions;

    const P: PartitionId = PartitionId(0);

    fn at(tag: u64, seq: u64) -> LogId {
        LogId { tag: Epoch { generation: 0, version: tag }, seq: Seq(seq) }
    }

    fn entry(id: LogId, value: &'static str) -> Entry {
        let operation = Operation::put("k", value);
        Entry { id, body: Command { origin: None, stamp: Default::default(), operation }.to_wire() }
    }

    fn written(id: LogId, replaced: bool) -> Outcome {
        Outcome::Written { version: id, replaced }
    }

    #[test]
    #[should_panic(expected = "I1")]
    fn two_views_with_one_number_are_found() {
        let number = Epoch { generation: 0, version: 3 };
        let mut truth = Truth::default();
        truth.on_view(&Arc::new(View::new(ClusterId(1), number, Partitions::default())));
        truth.on_view(&Arc::new(View::new(ClusterId(2), number, Partitions::default())));
    }

    #[test]
    #[should_panic(expected = "I2")]
    fn a_missing_committed_entry_is_found() {
        let mut truth = Truth::default();
        let one = entry(at(1, 1), "a");
        truth.on_applied(P, one.id, &one.body, &written(one.id, false), 7);
        truth.check_held_all(P, 0, Some(&PartitionLog::default()));
    }

    #[test]
    #[should_panic(expected = "I3")]
    fn two_entries_with_one_name_are_found() {
        let mut truth = Truth::default();
        truth.on_written(P, LogId::default(), &entry(at(1, 1), "a"));
        truth.on_written(P, LogId::default(), &entry(at(1, 1), "b"));
    }

    #[test]
    #[should_panic(expected = "I3")]
    fn two_ways_to_one_entry_are_found() {
        let mut truth = Truth::default();
        truth.on_written(P, at(1, 1), &entry(at(3, 2), "a"));
        truth.on_written(P, at(2, 1), &entry(at(3, 2), "a"));
    }

    #[test]
    #[should_panic(expected = "I4")]
    fn an_applied_entry_that_changes_is_found() {
        let mut truth = Truth::default();
        for tag in [1, 2] {
            let one = entry(at(tag, 1), "a");
            truth.on_applied(P, one.id, &one.body, &written(one.id, false), 7);
        }
    }

    #[test]
    #[should_panic(expected = "2 are asked for")]
    fn an_acknowledged_entry_on_one_disk_is_found() {
        Truth::check_rests(P, at(1, 1), 2, 1);
    }

    #[test]
    #[should_panic(expected = "I5")]
    fn two_readers_are_found() {
        Truth::default().on_reader(P, 0, Some((1, 2)));
    }

    #[test]
    #[should_panic(expected = "I5")]
    fn a_reader_that_is_behind_is_found() {
        let mut truth = Truth::default();
        let one = entry(at(1, 1), "a");
        truth.on_applied(P, one.id, &one.body, &written(one.id, false), 7);
        truth.on_acknowledged(P, one.id);
        truth.on_reader(P, 0, None);
    }

    #[test]
    #[should_panic(expected = "I6")]
    fn a_lone_reader_that_lacks_something_is_found() {
        let mut truth = Truth::default();
        let one = entry(at(1, 1), "a");
        truth.on_applied(P, one.id, &one.body, &written(one.id, false), 7);
        truth.on_acknowledged(P, one.id);
        truth.on_lone_reader(P, 1, Some(&PartitionLog::default()));
    }

    #[test]
    #[should_panic(expected = "I7")]
    fn a_wrong_outcome_is_found() {
        let one = entry(at(1, 1), "a");
        Truth::default().on_applied(P, one.id, &one.body, &written(one.id, true), 7);
    }
}
