//! One partition at this server: its log, how far it is committed and applied, and the role that the view gives.
//!
//! `applied <= min(commit, durable)`: only what every in-sync copy has, and what is on this disk, reaches the
//! records. So cutting a log never undoes anything applied; where it would, the process stops.

mod apply;
mod mark;

use std::collections::BTreeMap;

use common::codec::Wire;
use common::ids::{Epoch, LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, PeerMessage, Reply, Run};
use common::operation::Command;
use common::status::{CopyStatus, Role as RoleName};
use common::time::Time;
use common::view::Assignment;

pub use mark::Mark;

use super::ask::Ask;
use super::coordinator::Coordinator;
use super::env::{After, Env, ReplyTo, Stray};
use super::io::{Effect, LogRecord, ReadId};
use super::limits::{TAIL_BYTES_MAX, UNLISTED_KEPT};
use super::log::Log;
use super::member::Replica;
use super::mutation::Mutation;
use super::waiting::Waiting;
use super::watch::Watches;

/// A copy as it was found on disk.
#[derive(Clone, Debug, Default)]
pub struct RecoveredCopy {
    /// The entry before the first one in the log.
    pub base: LogId,
    /// Tag changes after it.
    pub runs: Vec<Run>,
    /// The last entry.
    pub last: Seq,
    /// The last entry that the records contain.
    pub applied: Seq,
    /// See [`Mark`].
    pub mark: Mark,
}

/// An entry that was ordered here and is not applied yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) seq: Seq,
    pub(crate) to: ReplyTo,
    pub(crate) since: Time,
}

/// The part that this server has in a partition.
#[derive(Debug)]
pub(crate) enum Role {
    /// None: no view lists this copy.
    Unlisted,
    /// The view names this server coordinator, but a former process of it was that: it waits for a newer epoch
    /// (S3).
    Resting,
    /// Orders and acknowledges.
    Coordinator(Box<Coordinator>),
    /// Follows: an in-sync replica or a joining one.
    Replica(Box<Replica>),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct PartitionCopy {
    pub(crate) id: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) log: Log,
    pub(crate) commit: Seq,
    pub(crate) applied: Seq,
    /// Entries that the shell is applying.
    applying: usize,
    /// Batches that the shell is applying to records which are to be replaced: their outcomes mean nothing.
    applying_in_vain: usize,
    /// The shell is reading entries back for the state machine.
    reading_back: bool,
    pub(crate) mark: Mark,
    /// The newest sync whose mark is on disk.
    pub(crate) synced_durable: Epoch,
    /// By former coordinator: until when a promise of this server to it binds.
    pub(crate) promises: BTreeMap<ServerId, Time>,
    /// By member: until when a read lease that this server gave may run there (section 7), by this server's clock.
    pub(crate) read_grants: BTreeMap<ServerId, Time>,
    pub(crate) role: Role,
    pub(crate) pending: Waiting<Pending>,
    /// Requests that wait for this coordinator to become active, or for the pending writes to become fewer.
    pub(crate) parked: Waiting<Stray>,
    /// The log was written to in this batch.
    pub(crate) written: bool,
    unlisted_since: Option<Time>,
    pub(crate) dropping: bool,
    /// The mark of a failed copy is on disk; and when the ECS was told last.
    pub(crate) failed_noted: bool,
    pub(crate) failed_told: Option<Time>,
    /// The install record of a copy of the state is being written: nothing else may touch the log, whatever role a
    /// new view gives.
    pub(crate) installing: bool,
    /// The first entry that the commit log was asked to keep.
    pinned: Option<Seq>,
    /// The last state copy that was put in place: its sender and number.
    pub(crate) installed: Option<(ServerId, u64)>,
    /// What is kept for those who watch.
    pub(crate) watches: Watches,
}

impl PartitionCopy {
    pub(crate) fn new(id: PartitionId, found: RecoveredCopy) -> Self {
        Self {
            id,
            epoch: Epoch::default(),
            log: Log::recovered(found.base, found.runs, found.last),
            // Only what the records contain is known to be committed.
            commit: found.applied,
            applied: found.applied,
            applying: 0,
            applying_in_vain: 0,
            reading_back: false,
            synced_durable: found.mark.synced,
            failed_noted: found.mark.failed,
            failed_told: None,
            mark: found.mark,
            promises: BTreeMap::new(),
            read_grants: BTreeMap::new(),
            role: Role::Unlisted,
            pending: Waiting::new(),
            parked: Waiting::new(),
            written: false,
            unlisted_since: None,
            dropping: false,
            installing: false,
            pinned: None,
            installed: None,
            watches: Watches::new(found.applied),
        }
    }

    /// Takes the role that a newer epoch gives. `resting`: a former process of this server had it.
    pub(crate) fn enter(&mut self, env: &mut Env, assignment: &Assignment, resting: bool) {
        self.epoch = assignment.epoch;
        let me = env.my_member();
        let in_sync = assignment.in_sync.contains(&me);
        let before = std::mem::replace(&mut self.role, Role::Unlisted);
        if in_sync && env.is_me(assignment.coordinator) {
            let resumes = env.mutated(Mutation::RestartResumesRole);
            if resting && !resumes {
                self.role = Role::Resting;
                return;
            }
            if env.mutated(Mutation::NewCoordinatorCutsToCommit) && self.commit < self.log.last() {
                self.cut(env, self.commit.max(self.log.base().seq));
            }
            let former = match before {
                Role::Coordinator(former) => Some(*former),
                Role::Replica(mut replica) => {
                    stray_reads(env, replica.take_reads());
                    None
                }
                Role::Unlisted | Role::Resting => None,
            };
            let coordinator = Coordinator::new(env, self.id, assignment, former, self.log.last());
            self.role = Role::Coordinator(Box::new(coordinator));
        } else {
            self.leave_coordination(env, before, assignment);
            if env.mutated(Mutation::MemberCutsToCommit) && in_sync && self.commit < self.log.last() {
                self.cut(env, self.commit.max(self.log.base().seq).max(self.reaching()));
            }
        }
        self.unlisted_since = matches!(self.role, Role::Unlisted).then_some(env.now.time);
        self.part_with_failed(env, assignment);
        self.drop_if_forced(env);
        env.touched.insert(self.id);
    }

    /// Becomes a follower or nothing; what was asked here goes to the next coordinator (J5).
    fn leave_coordination(&mut self, env: &mut Env, before: Role, assignment: &Assignment) {
        let me = env.my_member();
        let mut reads = Vec::new();
        let receiving = match before {
            Role::Coordinator(mut coordinator) => {
                coordinator.close_transfers(env, self.id);
                reads.extend(coordinator.take_reads());
                None
            }
            Role::Replica(mut replica) => {
                reads.extend(replica.take_reads());
                replica.keep_receiving(assignment.coordinator)
            }
            Role::Unlisted | Role::Resting => None,
        };
        if assignment.in_sync.contains(&me) || assignment.joining.contains(&me) {
            self.role =
                Role::Replica(Box::new(Replica::new(assignment.coordinator, receiving, self.log.last())));
        }
        for pending in self.pending.take(&mut env.pending) {
            self.stray(env, pending);
        }
        let parked = self.parked.take(&mut env.parked);
        env.strays.extend(parked);
        stray_reads(env, reads);
    }

    /// The view lists other joining members; the epoch is the same.
    pub(crate) fn relist(&mut self, env: &mut Env, assignment: &Assignment) {
        let me = env.my_member();
        let listed = assignment.in_sync.contains(&me) || assignment.joining.contains(&me);
        match &mut self.role {
            Role::Coordinator(coordinator) => coordinator.relist(env, self.id, assignment),
            Role::Unlisted if listed => {
                self.role =
                    Role::Replica(Box::new(Replica::new(assignment.coordinator, None, self.log.last())));
                self.unlisted_since = None;
            }
            Role::Replica(_) if !listed => {
                let before = std::mem::replace(&mut self.role, Role::Unlisted);
                self.leave_coordination(env, before, assignment);
                self.unlisted_since = Some(env.now.time);
            }
            Role::Unlisted | Role::Replica(_) | Role::Resting => {}
        }
        self.part_with_failed(env, assignment);
        self.drop_if_forced(env);
        env.touched.insert(self.id);
    }

    /// A write that is in this log and perhaps in others: the next coordinator is asked with the same origin.
    fn stray(&mut self, env: &mut Env, Pending { seq, to, since }: Pending) {
        if let ReplyTo::Read(id) = to {
            if let Some(read) = env.reads.remove(&id) {
                let ask = Ask::Read(read.query);
                env.strays.push(Stray { to: read.to, ask, since: read.since, maybe_done: false });
            }
            return;
        }
        if env.mutated(Mutation::IndeterminateRefused) {
            return env.reply(to, Reply::Busy { reason: "the coordinator changed".to_owned() });
        }
        let entry = self.log.in_memory(seq, 1).and_then(|mut entries| entries.pop());
        let command = entry.and_then(|entry| Command::from_wire(entry.body).ok());
        match command {
            Some(Command { origin: origin @ Some(_), operation, .. }) => {
                let ask = Ask::Write { origin, age_ms: 0, operation };
                env.strays.push(Stray { to, ask, since, maybe_done: true });
            }
            _ => env.reply(to, Reply::Unknown { reason: "the coordinator changed".to_owned() }),
        }
    }

    /// The last entry that is applied or being applied.
    pub(crate) fn reaching(&self) -> Seq {
        Seq(self.applied.0 + self.applying as u64)
    }

    /// Adds an entry to the log, here and on disk.
    pub(crate) fn append(&mut self, env: &mut Env, entry: Entry) {
        env.touched.insert(self.id);
        self.log.append(entry.clone());
        env.out.persist(LogRecord::Entry { partition: self.id, entry });
        self.written = true;
    }

    /// Voids the entries after a place, here and on disk.
    pub(crate) fn cut(&mut self, env: &mut Env, after: Seq) {
        if after >= self.log.last() {
            return;
        }
        if after < self.reaching() {
            let (partition, applied) = (self.id, self.reaching());
            env.fatal(format!(
                "partition {partition}: cutting the log after {after} would undo entries applied up to {applied}; \
                 this copy is not a prefix of its coordinator's. Keep the storage directory and report this"
            ));
            return;
        }
        self.log.cut(after);
        env.out.persist(LogRecord::Cut { partition: self.id, after });
        self.written = true;
    }

    /// Writes the mark as it is now.
    pub(crate) fn persist_mark(&mut self, env: &mut Env) {
        env.out.persist(LogRecord::Mark { partition: self.id, mark: self.mark.encode() });
    }

    /// Ends a batch: what the inputs made possible is done now, once.
    pub(crate) fn settle(&mut self, env: &mut Env) {
        match &self.role {
            Role::Coordinator(_) => self.settle_coordinator(env),
            Role::Replica(_) => {
                self.drop_if_forced(env);
                self.settle_replica(env);
            }
            Role::Unlisted | Role::Resting => {}
        }
        self.report_failed(env);
        let hold = match &self.role {
            Role::Coordinator(coordinator) => coordinator.hold(),
            _ => None,
        };
        if hold != self.pinned && !(hold.is_none() && env.mutated(Mutation::PinNotReleased)) {
            self.pinned = hold;
            env.out.effect(Effect::PinLog { partition: self.id, from: hold });
        }
        if self.written {
            self.written = false;
            let after = After::Entries { partition: self.id, cuts: self.log.cuts(), last: self.log.last() };
            env.out.after(after);
        }
        self.advance_apply(env);
        self.tell(env);
        let needed = match &self.role {
            Role::Coordinator(coordinator) => coordinator.needs_from(self.reaching()),
            _ => self.reaching().next(),
        };
        self.log.evict(needed, self.reaching(), TAIL_BYTES_MAX);
    }

    /// It coordinates, and orders writes.
    fn is_active(&self) -> bool {
        matches!(&self.role, Role::Coordinator(coordinator) if coordinator.active)
    }

    /// Whether time alone may bring something to do.
    pub(crate) fn is_busy(&self) -> bool {
        let waiting = !self.pending.is_empty() || !self.parked.is_empty() || self.mark.failed;
        waiting
            || match &self.role {
                Role::Coordinator(coordinator) => coordinator.is_busy(self.log.last(), self.commit),
                Role::Replica(replica) => replica.is_busy(),
                Role::Unlisted => !self.log.is_empty(),
                Role::Resting => false,
            }
    }

    /// Time has passed.
    pub(crate) fn on_tick(&mut self, env: &mut Env) {
        let now = env.now.time;
        while self.parked.front().is_some_and(|parked| now.since(parked.since) > env.config.park) {
            let parked = self.parked.pop(&mut env.parked).expect("there is one");
            let reason = if self.is_active() {
                format!("partition {} has too many writes under way, retry", self.id)
            } else {
                format!("partition {} waits for its coordinator to become active, retry", self.id)
            };
            parked.put_off(env, reason);
        }
        match &mut self.role {
            Role::Coordinator(_) => self.coordinator_tick(env),
            Role::Replica(_) => self.replica_tick(env),
            Role::Unlisted => self.drop_if_unwanted(env),
            Role::Resting => {}
        }
        if self.mark.failed {
            env.touched.insert(self.id);
        }
    }

    /// Removes a copy that no view has listed for long, when the view has enough others.
    fn drop_if_unwanted(&mut self, env: &mut Env) {
        let since = *self.unlisted_since.get_or_insert(env.now.time);
        let Some(assignment) = env.view.assignment(self.id) else { return };
        let wanted = env.view.servers.len().min(common::limits::COPIES);
        let enough = assignment.in_sync.len() >= wanted;
        if self.dropping
            || self.installing
            || self.log.is_empty()
            || !enough
            || env.now.time.since(since) < UNLISTED_KEPT
        {
            return;
        }
        self.dropping = true;
        env.out.persist(LogRecord::Drop { partition: self.id });
        env.out.after(After::Dropped { partition: self.id });
    }

    /// R7: an operator let the partition begin anew from another copy. What this one has besides, even applied, is
    /// void, so it joins as an empty one.
    fn drop_if_forced(&mut self, env: &mut Env) {
        let Some(&forced) = env.view.forced.get(&self.id) else { return };
        let joining = env.view.assignment(self.id).is_some_and(|now| now.joining.contains(&env.my_member()));
        let older = self.mark.synced < forced && !self.log.is_empty();
        if joining && older && !self.dropping && !self.installing {
            self.dropping = true;
            env.out.persist(LogRecord::Drop { partition: self.id });
            env.out.after(After::Dropped { partition: self.id });
        }
    }

    /// The drop record is on disk.
    pub(crate) fn on_dropped(&mut self, env: &mut Env) {
        env.out.effect(Effect::Drop { partition: self.id });
        let (epoch, role) = (self.epoch, std::mem::replace(&mut self.role, Role::Unlisted));
        self.forget_changes(env, Seq(0));
        let promises = std::mem::take(&mut self.promises);
        let read_grants = std::mem::take(&mut self.read_grants);
        let parked = self.parked.take(&mut env.parked);
        env.strays.extend(parked);
        for pending in self.pending.take(&mut env.pending) {
            self.stray(env, pending);
        }
        let applying_in_vain = self.applying_in_vain + usize::from(self.applying > 0);
        // What was written before the drop, in the same batch perhaps, says nothing of the log that begins now.
        let mut log = std::mem::take(&mut self.log);
        log.install(LogId::default());
        let new = Self::new(self.id, RecoveredCopy::default());
        *self = Self { epoch, role, promises, read_grants, applying_in_vain, log, ..new };
    }

    /// For people.
    pub(crate) fn status(&self, env: &Env) -> CopyStatus {
        let assignment = env.view.assignment(self.id);
        let joining = assignment.is_some_and(|a| a.joining_member(env.me.server).is_some());
        let (role, active) = match &self.role {
            Role::Coordinator(coordinator) => (RoleName::Coordinator, coordinator.active),
            Role::Resting => (RoleName::Coordinator, false),
            Role::Replica(_) if joining => (RoleName::Joining, self.synced_durable == self.epoch),
            Role::Replica(_) => (RoleName::Replica, self.synced_durable == self.epoch),
            Role::Unlisted => (RoleName::None, false),
        };
        CopyStatus {
            partition: self.id.0,
            epoch: self.epoch,
            role,
            active,
            last: self.log.last().0,
            commit: self.commit.0,
            applied: self.applied.0,
        }
    }

    /// What must hold after every step.
    pub(crate) fn invariants(&self) {
        assert!(self.log.base().seq <= self.log.durable() && self.log.durable() <= self.log.last());
        assert!(self.log.base().seq <= self.applied, "partition {}: trimmed before it was applied", self.id);
        assert!(
            self.reaching() <= self.commit.min(self.log.durable()),
            "partition {}: applied early",
            self.id
        );
        assert!(self.synced_durable <= self.mark.synced.max(self.epoch));
        if let Role::Coordinator(coordinator) = &self.role {
            coordinator.invariants(self.log.last());
        }
    }

    /// What the log holds, for its coordinator.
    pub(crate) fn sync_reply(&self) -> PeerMessage {
        // Only what is on disk may be counted.
        let last = self.log.durable_id();
        let runs = self.log.runs().iter().copied().filter(|run| run.first <= last.seq).collect();
        PeerMessage::SyncReply {
            partition: self.id,
            epoch: self.epoch,
            base: self.log.base(),
            last,
            commit: self.commit,
            runs,
        }
    }
}

/// Reads that lost their role here look for the coordinator.
fn stray_reads(env: &mut Env, reads: Vec<ReadId>) {
    for id in reads {
        if let Some(read) = env.reads.remove(&id) {
            let ask = Ask::Read(read.query);
            env.strays.push(Stray { to: read.to, ask, since: read.since, maybe_done: false });
        }
    }
}
