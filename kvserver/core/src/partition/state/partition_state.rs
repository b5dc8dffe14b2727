//! The state of a partition, and the methods that change it.

use std::time::Duration;

use common::ids::{Epoch, LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, PeerMessage, Reply, ToCoordinator};
use common::time::Time;
use common::view::Member;

use super::super::super::env::Env;
use super::super::super::io::{Later, LogRecord};
use super::super::super::limits::TAIL_BYTES_MAX;
use super::super::super::log::Log;
use super::super::super::out::After;
use super::super::super::planted::PlantedBug;
use super::super::durable_state::DurableState;
use super::super::given::Given;
use super::super::recovered::RecoveredCopy;
use super::super::waiting::{Pending, Waiting};
use super::parts::{Applying, Busy, Failure, OnDisk, ShellWork};

/// See the text of `state`.
#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(super) id: PartitionId,
    epoch: Epoch,
    pub(super) log: Log,
    pub(super) commit: Seq,
    pub(super) applied: Seq,
    pub(super) shell: ShellWork,
    pub(super) disk: OnDisk,
    given: Given,
    /// V4a: this process was in step in an epoch whose coordinator became active.
    proved: bool,
    /// Requests of clients that wait here.
    pub(crate) waiting: Waiting,
    failure: Failure,
}

impl PartitionState {
    pub(crate) fn new(id: PartitionId, found: RecoveredCopy) -> Self {
        Self {
            id,
            epoch: Epoch::default(),
            log: Log::recovered(found.base, found.runs, found.last),
            // Only what the records contain is known to be committed.
            commit: found.applied,
            applied: found.applied,
            shell: ShellWork::default(),
            failure: Failure { noted: found.durable_state.failed, reported: None },
            disk: OnDisk {
                synced_durable: found.durable_state.synced,
                state: found.durable_state,
                written: false,
                busy: Busy::Idle,
                installed: None,
            },
            given: Given::default(),
            proved: false,
            waiting: Waiting::new(id),
        }
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The last entry that is known here to be committed. It may be behind the end of this log.
    pub(crate) fn commit(&self) -> Seq {
        self.commit
    }

    pub(crate) fn applied(&self) -> Seq {
        self.applied
    }

    pub(crate) fn durable_state(&self) -> &DurableState {
        &self.disk.state
    }

    /// The epoch of the newest sync whose mark is on disk.
    pub(crate) fn synced_durable(&self) -> Epoch {
        self.disk.synced_durable
    }

    /// The records are wrong: nothing is answered from them (`failed`).
    pub(crate) fn is_failed(&self) -> bool {
        self.disk.state.failed
    }

    pub(crate) fn busy(&self) -> Busy {
        self.disk.busy
    }

    /// Whether neither a drop nor an install is on its way to the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.disk.busy == Busy::Idle
    }

    /// The last state copy that was put in place: its sender and number.
    pub(crate) fn installed(&self) -> Option<(ServerId, u64)> {
        self.disk.installed
    }

    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    pub(crate) fn given_mut(&mut self) -> &mut Given {
        &mut self.given
    }

    /// V4a: whether this process was in step in an epoch whose coordinator became active.
    pub(crate) fn is_proved(&self) -> bool {
        self.proved
    }

    pub(crate) fn prove(&mut self) {
        self.proved = true;
    }

    /// A newer view has another epoch for the partition.
    pub(crate) fn enter_epoch(&mut self, epoch: Epoch) {
        assert!(epoch > self.epoch, "partition {}: epochs never go back", self.id);
        self.epoch = epoch;
    }

    /// Adds an entry to the log in memory, and to what this batch writes to disk. It counts when that is durable
    /// ([`Self::on_durable`]).
    pub(crate) fn append(&mut self, env: &mut Env, entry: Entry) {
        assert!(entry.id.tag <= self.epoch, "partition {}: an entry of an epoch to come", self.id);
        assert!(self.is_idle(), "partition {}: appended to while it is {:?}", self.id, self.disk.busy);
        env.touched.insert(self.id);
        self.log.append(entry.clone());
        env.out.persist(LogRecord::Entry { partition: self.id, entry });
        self.disk.written = true;
    }

    /// Voids the entries after a position, in memory and with what this batch writes to disk.
    pub(crate) fn cut(&mut self, env: &mut Env, after: Seq) {
        if after >= self.log.last() {
            return;
        }
        assert!(after >= self.reaching(), "partition {}: applied entries are never cut", self.id);
        assert!(self.is_idle(), "partition {}: cut while it is {:?}", self.id, self.disk.busy);
        let awaited = self.waiting.last();
        assert!(awaited.is_none_or(|last| last <= after), "partition {}: a write that waits is cut", self.id);
        self.log.cut(after);
        env.out.persist(LogRecord::Cut { partition: self.id, after });
        self.disk.written = true;
    }

    /// The entries up to `seq`, which are in this log, are committed.
    pub(crate) fn advance_commit_to(&mut self, seq: Seq) {
        assert!(
            seq <= self.log.last(),
            "partition {}: no entry beyond the log is known to be committed",
            self.id
        );
        self.commit = self.commit.max(seq);
    }

    /// More of the log is on disk; `cuts` was the count of cuts when that was asked for.
    pub(crate) fn on_durable(&mut self, env: &mut Env, seq: Seq, cuts: u64) {
        self.log.on_durable(seq, cuts);
        env.trace_stored(self.id, self.log.durable());
        env.touched.insert(self.id);
    }

    /// Ends a batch: what the log was given in it follows its way to the disk.
    pub(crate) fn await_written(&mut self, env: &mut Env) {
        if std::mem::take(&mut self.disk.written) {
            env.out.after(After::Entries {
                partition: self.id,
                cuts: self.log.cuts(),
                last: self.log.last(),
            });
        }
    }

    /// Has the commit log keep its entries from `from` on; `None` releases them.
    pub(crate) fn pin_log(&mut self, env: &mut Env, from: Option<Seq>) {
        let forgets = from.is_none() && env.cx.planted(PlantedBug::PinNotReleased);
        if from != self.shell.pinned && !forgets {
            self.shell.pinned = from;
            env.out.effect(Later::PinLog { partition: self.id, from });
        }
    }

    /// Drops entries from memory that are neither to be applied nor, from `needed` on, to be sent to a member.
    pub(crate) fn evict(&mut self, needed: Seq) {
        let reaching = self.reaching();
        assert!(needed <= reaching.next(), "partition {}: entries are still to be applied", self.id);
        self.log.evict(needed, reaching, TAIL_BYTES_MAX);
    }

    /// The commit log no longer has entries up to `seq`.
    pub(crate) fn on_trimmed(&mut self, seq: Seq) {
        self.log.on_trimmed(seq.min(self.applied));
        assert!(self.log.base().seq <= self.applied, "partition {}: trimmed before it was applied", self.id);
    }

    /// Whether the log has the no-op of the epoch, which no older log has.
    pub(crate) fn has_no_op(&self) -> bool {
        self.log.last_tag() == self.epoch
    }

    /// Whether the copy is in step: its log is a prefix of the coordinator's and has the no-op of the epoch, and the
    /// mark on disk says so. A mark without the no-op, on a disk that lost only the end of its log, counts for nothing.
    pub(crate) fn is_synced(&self) -> bool {
        self.disk.state.synced == self.epoch && self.has_no_op()
    }

    /// Whether an entry of the present epoch is committed, so that its coordinator is active.
    pub(crate) fn has_commit_of_epoch(&self) -> bool {
        self.log.id_at(self.commit).is_some_and(|id| id.tag == self.epoch)
    }

    /// The message to the coordinator that says what the log has.
    pub(crate) fn sync_reply(&self) -> PeerMessage {
        // Only what is on disk may be counted.
        let last = self.log.durable_id();
        let runs: Vec<_> = self.log.runs().iter().copied().filter(|run| run.first <= last.seq).collect();
        let tag = runs.last().map_or(self.log.base().tag, |run| run.tag);
        assert_eq!(tag, last.tag, "partition {}: the log ends with its last tag", self.id);
        ToCoordinator::SyncReply { base: self.log.base(), last, commit: self.commit, runs }
            .about(self.id, self.epoch)
    }

    fn persist_mark(&self, env: &mut Env) {
        env.out
            .persist(LogRecord::DurableState { partition: self.id, durable_state: self.disk.state.encode() });
    }

    /// Notes in the mark that the log has the no-op of the epoch, with the batch that brings it.
    pub(crate) fn get_in_step(&mut self, env: &mut Env) {
        let leaves_no_op_out = env.cx.planted(PlantedBug::NoOpLeftOut);
        assert!(self.has_no_op() || leaves_no_op_out, "partition {}: in step without the no-op", self.id);
        self.disk.state.synced = self.epoch;
        if !env.cx.planted(PlantedBug::SyncMarkNotDurable) {
            self.persist_mark(env);
        }
        env.out.after(After::Synced { partition: self.id, epoch: self.epoch });
    }

    /// The mark of a sync is on disk.
    pub(crate) fn on_synced(&mut self, env: &mut Env, epoch: Epoch) {
        assert!(epoch <= self.epoch, "partition {}: in step in an epoch to come", self.id);
        self.disk.synced_durable = self.disk.synced_durable.max(epoch);
        env.touched.insert(self.id);
    }

    /// J2: notes in the mark that a member is proposed in this epoch.
    pub(crate) fn note_proposed(&mut self, env: &mut Env, member: Member) {
        assert!(!env.cx.is_me(member.server), "partition {}: a server proposes itself", self.id);
        self.disk.state.proposed_in = self.epoch;
        self.disk.state.proposed = vec![member];
        self.persist_mark(env);
        env.out.after(After::Proposed { partition: self.id, epoch: self.epoch, member });
    }

    /// Notes in the mark the servers whose copies were found equal with this one.
    pub(crate) fn note_equal_with(&mut self, env: &mut Env, servers: Vec<ServerId>) {
        if self.disk.state.equal_with != servers {
            self.disk.state.equal_with = servers;
            self.persist_mark(env);
        }
    }

    /// Marks the records as wrong.
    pub(crate) fn note_failed(&mut self, env: &mut Env) {
        assert!(!self.disk.state.failed, "partition {}: a copy fails once", self.id);
        self.disk.state.failed = true;
        self.persist_mark(env);
        env.out.after(After::Failed { partition: self.id });
    }

    /// The mark of a failed copy is on disk.
    pub(crate) fn on_failed(&mut self, env: &mut Env) {
        self.failure.noted = self.disk.state.failed;
        env.touched.insert(self.id);
    }

    /// Whether the failure is on disk, and was not reported to the ECS in the last `again`. Then it counts as reported.
    pub(crate) fn is_failure_due(&mut self, now: Time, again: Duration) -> bool {
        let due = self.failure.noted && self.failure.reported.is_none_or(|at| now.since(at) >= again);
        if due {
            self.failure.reported = Some(now);
        }
        due
    }

    /// Takes the mark of a failed copy back. Writes that were applied meanwhile were not answered, and are now.
    pub(crate) fn take_failure_back(&mut self, env: &mut Env) {
        assert!(self.disk.state.failed, "partition {}: it has not failed", self.id);
        self.disk.state.failed = false;
        self.failure = Failure::default();
        self.persist_mark(env);
        while let Some(pending) = self.waiting.pop_applied(env, self.applied) {
            let reason = "its copy was not to be trusted when it was applied".to_owned();
            env.reply(pending.to, Reply::Unknown { reason });
        }
    }

    /// Removes log, records and mark, with one record.
    pub(crate) fn begin_drop(&mut self, env: &mut Env) {
        assert!(self.is_idle(), "partition {}: dropped while it is {:?}", self.id, self.disk.busy);
        let me = env.cx.my_member();
        let counts = env.cx.view.assignment(self.id).is_some_and(|now| now.in_sync.contains(&me));
        let early = env.cx.planted(PlantedBug::FailedDroppedEarly);
        assert!(!counts || early, "partition {}: a copy that counts is dropped (I2)", self.id);
        self.disk.busy = Busy::Dropping;
        env.out.persist(LogRecord::Drop { partition: self.id });
        env.out.after(After::Dropped { partition: self.id });
    }

    /// The drop record is on disk: the partition begins with nothing, in the present epoch.
    pub(crate) fn on_dropped(&mut self, env: &mut Env) {
        assert!(self.disk.busy == Busy::Dropping, "partition {}: it was not being dropped", self.id);
        let given = std::mem::take(&mut self.given);
        self.waiting.reroute_parked(env);
        self.reroute_pending(env);
        assert!(self.waiting.is_empty(), "partition {}: requests that wait are passed on", self.id);
        let is_applying = matches!(self.shell.applying, Applying::Entries(_));
        let applying_unused = self.shell.applying_unused + usize::from(is_applying);
        // Writes before the drop, perhaps in the same batch, say nothing about the log that begins now.
        let mut log = std::mem::take(&mut self.log);
        log.install(LogId::default());
        let new = Self::new(self.id, RecoveredCopy::default());
        let shell = ShellWork { applying_unused, ..ShellWork::default() };
        *self = Self { epoch: self.epoch, given, shell, log, ..new };
    }

    /// Puts the staged copy in the place of log and records, with one record.
    pub(crate) fn begin_install(&mut self, env: &mut Env, generation: u32, base: LogId) {
        assert!(self.is_idle(), "partition {}: replaced while it is {:?}", self.id, self.disk.busy);
        assert!(base.seq >= self.reaching(), "partition {}: applied entries are undone", self.id);
        self.disk.busy = Busy::Installing;
        env.out.persist(LogRecord::Install { partition: self.id, generation, base });
        // Comparisons of the former records say nothing about the new ones.
        self.note_equal_with(env, Vec::new());
    }

    /// The install record is on disk: log and records begin after `base`.
    pub(crate) fn on_installed(&mut self, env: &mut Env, base: LogId) {
        assert!(self.disk.busy == Busy::Installing, "partition {}: nothing was being installed", self.id);
        assert!(base.seq >= self.applied, "partition {}: applied entries are undone", self.id);
        self.log.install(base);
        self.commit = self.commit.max(base.seq);
        self.applied = base.seq;
        let is_applying = matches!(std::mem::take(&mut self.shell.applying), Applying::Entries(_));
        self.shell.applying_unused += usize::from(is_applying);
        self.disk.busy = Busy::Idle;
        env.touched.insert(self.id);
    }

    /// Notes the copy of the state that was put in place, by its sender and number.
    pub(crate) fn note_installed(&mut self, from: ServerId, transfer: u64) {
        assert!(self.is_idle(), "partition {}: in place before its record is on disk", self.id);
        self.disk.installed = Some((from, transfer));
    }

    /// A write was ordered and waits until it is applied.
    pub(crate) fn await_applied(&mut self, env: &mut Env, pending: Pending, bytes: usize) {
        assert!(pending.seq == self.log.last(), "partition {}: a write waits for its own entry", self.id);
        self.waiting.await_applied(env, pending, bytes);
    }

    /// J5: passes on what is ordered and not applied: the next coordinator is asked with the same origin.
    pub(crate) fn reroute_pending(&mut self, env: &mut Env) {
        self.waiting.reroute_pending(env, &self.log);
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, env: &Env) {
        self.log.invariants();
        self.given.invariants(env.cx.me.server, env.cx.latest() + env.cx.config.timers.promise);
        self.disk.state.invariants();
        self.waiting.invariants(self.log.last(), self.applied, self.is_failed());
        assert!(self.applied <= self.commit, "partition {}: applied before it was committed", self.id);
        assert!(self.shell.applying != Applying::Entries(0), "partition {}: no entry is applied", self.id);
        let (reported, noted) = (self.failure.reported.is_some(), self.failure.noted);
        assert!(noted || !reported, "partition {}: a failure is reported before it is on disk", self.id);
        assert!(self.log.base().seq <= self.applied, "partition {}: trimmed before it was applied", self.id);
        assert!(
            self.reaching() <= self.commit.min(self.log.durable()),
            "partition {}: applied early",
            self.id
        );
        assert!(self.disk.synced_durable <= self.disk.state.synced.max(self.epoch));
        assert!(!self.disk.written, "partition {}: what was written is awaited", self.id);
        assert!(self.failure.noted <= self.disk.state.failed, "partition {}: failed by mistake", self.id);
    }
}
