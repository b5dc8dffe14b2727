//! One partition at this server: its log, how far it is committed and applied, and the role that the view gives.
//!
//! `applied <= min(commit, durable)`: only what every in-sync copy has, and what is on this disk, reaches the
//! records. So cutting a log never undoes anything applied; where it would, the process stops.

mod apply;
mod mark;

use std::collections::BTreeMap;

use common::codec::Wire;
use common::ids::{Epoch, LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, PeerMessage, Reply, Run, ToCoordinator};
use common::operation::Command;
use common::status::{CopyStatus, Role as RoleName};
use common::time::Time;
use common::view::Assignment;

pub use mark::Mark;

use super::ask::Ask;
use super::bounded_queue::BoundedQueue;
use super::coordinator::Coordinator;
use super::env::Env;
use super::io::{Later, LogRecord, ReadId};
use super::limits::{TAIL_BYTES_MAX, UNLISTED_KEPT};
use super::log::Log;
use super::out::After;
use super::planted::PlantedBug;
use super::process::Process;
use super::replica::Replica;
use super::requests::{ClientRequest, ReplyTo};
use super::watch::Watches;

/// A copy of a partition as it was found on disk.
#[derive(Clone, Debug, Default)]
pub struct RecoveredCopy {
    /// The entry before the first one in the log.
    pub base: LogId,
    /// Changes of the tag after `base`.
    pub runs: Vec<Run>,
    /// The last entry.
    pub last: Seq,
    /// The last entry that the records contain.
    pub applied: Seq,
    /// See [`Mark`].
    pub mark: Mark,
}

impl RecoveredCopy {
    pub(crate) fn last_id(&self) -> LogId {
        Log::recovered(self.base, self.runs.clone(), self.last).last_id()
    }

    pub(crate) fn holds_something(&self) -> bool {
        self.last != Seq::default() || self.mark != Mark::default()
    }
}

/// An entry that was ordered here and is not applied yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) seq: Seq,
    pub(crate) to: ReplyTo,
    pub(crate) since: Time,
}

/// The role that this server has in a partition.
#[derive(Debug)]
pub(crate) enum Role {
    /// None: no view lists this copy.
    Unlisted,
    /// The view names another process of this server as coordinator: this one waits for a newer epoch (S3).
    Resting,
    /// Orders and acknowledges writes.
    Coordinator(Box<Coordinator>),
    /// Follows: an in-sync replica or a joining one.
    Replica(Box<Replica>),
}

/// What the shell is doing for a copy.
#[derive(Debug, Default)]
struct ShellWork {
    /// Entries that the shell is applying.
    applying: usize,
    /// Batches that the shell is applying to records which are to be replaced: their outcomes are ignored.
    applying_unused: usize,
    /// The shell is reading entries back for the state machine.
    reading_back: bool,
    /// The first entry that the commit log is to keep.
    pinned: Option<Seq>,
}

/// What of a copy is on disk, or on its way there.
#[derive(Debug)]
pub(crate) struct OnDisk {
    pub(crate) mark: Mark,
    /// The newest sync whose mark is on disk.
    pub(crate) synced_durable: Epoch,
    /// The log was written to in this batch.
    pub(crate) written: bool,
    pub(crate) dropping: bool,
    /// The install record of a copy of the state is being written: nothing else may touch the log, whatever role a
    /// new view gives.
    pub(crate) installing: bool,
    /// The last state copy that was put in place: its sender and number.
    pub(crate) installed: Option<(ServerId, u64)>,
}

/// Promises and read leases that this server gave for a partition.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Promises of this server to former coordinators, and until when each binds.
    pub(crate) promises: BTreeMap<Process, Time>,
    /// Read leases that this server gave (7.2), by member, and until when each may run, by this server's clock.
    pub(crate) read_grants: BTreeMap<Process, Time>,
}

/// Where the failure of a copy is known.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The mark of a failed copy is on disk.
    pub(crate) noted: bool,
    /// When the failure was last reported to the ECS.
    pub(crate) told: Option<Time>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct PartitionCopy {
    pub(crate) id: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) log: Log,
    pub(crate) commit: Seq,
    pub(crate) applied: Seq,
    shell: ShellWork,
    pub(crate) disk: OnDisk,
    pub(crate) given: Given,
    /// V4a: this process was in step in an epoch whose coordinator became active.
    pub(crate) proved: bool,
    pub(crate) role: Role,
    pub(crate) pending: BoundedQueue<Pending>,
    /// Requests that wait until this coordinator is active, or until there are fewer pending writes.
    pub(crate) parked: BoundedQueue<ClientRequest>,
    unlisted_since: Option<Time>,
    pub(crate) failed: Failed,
    /// Changes and questions of clients that watch.
    pub(crate) watches: Watches,
}

/// S3: whether an epoch is older than a rebuild of the ECS. Then the view does not name the process that it was made
/// for. A process that has not coordinated in that epoch may follow one that has, and would assign numbers again that
/// are in use.
fn is_of_before(assignment: &Assignment, env: &Env) -> bool {
    assignment.epoch.generation < env.cx.view.number.generation
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
            shell: ShellWork::default(),
            failed: Failed { noted: found.mark.failed, told: None },
            disk: OnDisk {
                synced_durable: found.mark.synced,
                mark: found.mark,
                written: false,
                dropping: false,
                installing: false,
                installed: None,
            },
            given: Given::default(),
            proved: false,
            role: Role::Unlisted,
            pending: BoundedQueue::new(),
            parked: BoundedQueue::new(),
            unlisted_since: None,
            watches: Watches::new(found.applied),
        }
    }

    /// Takes the role that a newer epoch gives.
    pub(crate) fn enter(&mut self, env: &mut Env, assignment: &Assignment) {
        self.epoch = assignment.epoch;
        let me = env.cx.my_member();
        let in_sync = assignment.in_sync.contains(&me);
        let before = std::mem::replace(&mut self.role, Role::Unlisted);
        if in_sync && env.cx.is_me(assignment.coordinator) {
            let resumes = env.cx.planted(PlantedBug::RestartResumesRole);
            if (!env.promises.vows.is_named || is_of_before(assignment, env)) && !resumes {
                self.role = Role::Resting;
                return;
            }
            if env.cx.planted(PlantedBug::NewCoordinatorCutsToCommit) && self.commit < self.log.last() {
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
            let coordinator = Coordinator::new(env, self.id, assignment, former, self.log.last_id());
            if coordinator.is_short(env) {
                // Ordered writes are applied, so that they can be read, but not acknowledged here: they are when the
                // client asks again and another copy has them.
                for pending in self.pending.take(&mut env.budgets.pending) {
                    self.reroute(env, pending);
                }
            }
            self.role = Role::Coordinator(Box::new(coordinator));
        } else {
            self.leave_coordination(env, before, assignment);
            if env.cx.planted(PlantedBug::MemberCutsToCommit) && in_sync && self.commit < self.log.last() {
                self.cut(env, self.commit.max(self.log.base().seq).max(self.reaching()));
            }
        }
        self.unlisted_since = matches!(self.role, Role::Unlisted).then_some(env.cx.now.time);
        self.part_with_failed(env, assignment);
        self.drop_if_forced(env);
        env.touched.insert(self.id);
    }

    /// Gives the coordinator's role up; requests that wait here are passed on to the next coordinator (J5).
    fn leave_coordination(&mut self, env: &mut Env, before: Role, assignment: &Assignment) {
        let me = env.cx.my_member();
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
        for pending in self.pending.take(&mut env.budgets.pending) {
            self.reroute(env, pending);
        }
        let parked = self.parked.take(&mut env.budgets.parked);
        env.requests.unrouted.extend(parked);
        stray_reads(env, reads);
    }

    /// Takes over a view's joining members in the same epoch.
    pub(crate) fn relist(&mut self, env: &mut Env, assignment: &Assignment) {
        let me = env.cx.my_member();
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
                self.unlisted_since = Some(env.cx.now.time);
            }
            Role::Unlisted | Role::Replica(_) | Role::Resting => {}
        }
        self.part_with_failed(env, assignment);
        self.drop_if_forced(env);
        env.touched.insert(self.id);
    }

    /// Passes a read on, or a write that is in this log and perhaps in others: the next coordinator is asked with the
    /// same origin.
    fn reroute(&mut self, env: &mut Env, Pending { seq, to, since }: Pending) {
        if let ReplyTo::Read(id) = to {
            if let Some(read) = env.requests.reads.remove(&id) {
                let ask = Ask::Read(read.query);
                env.requests.unrouted.push(ClientRequest {
                    to: read.to,
                    ask,
                    since: read.since,
                    maybe_done: false,
                });
            }
            return;
        }
        if env.cx.planted(PlantedBug::IndeterminateRefused) {
            return env.reply(to, Reply::Busy { reason: "the coordinator changed".to_owned() });
        }
        let entry = self.log.in_memory(seq, 1).and_then(|mut entries| entries.pop());
        let command = entry.and_then(|entry| Command::from_wire(entry.body).ok());
        match command {
            Some(Command { origin: origin @ Some(_), operation, .. }) => {
                let ask = Ask::Write { origin, age_ms: 0, operation };
                env.requests.unrouted.push(ClientRequest { to, ask, since, maybe_done: true });
            }
            _ => env.reply(to, Reply::Unknown { reason: "the coordinator changed".to_owned() }),
        }
    }

    /// The last entry that is applied or being applied.
    pub(crate) fn reaching(&self) -> Seq {
        Seq(self.applied.0 + self.shell.applying as u64)
    }

    /// Adds an entry to the log, here and on disk.
    pub(crate) fn append(&mut self, env: &mut Env, entry: Entry) {
        env.touched.insert(self.id);
        self.log.append(entry.clone());
        env.out.persist(LogRecord::Entry { partition: self.id, entry });
        self.disk.written = true;
    }

    /// Voids the entries after a place, here and on disk.
    pub(crate) fn cut(&mut self, env: &mut Env, after: Seq) {
        if after >= self.log.last() {
            return;
        }
        assert!(after >= self.reaching(), "partition {}: applied entries are never cut", self.id);
        self.log.cut(after);
        env.out.persist(LogRecord::Cut { partition: self.id, after });
        self.disk.written = true;
    }

    /// Writes the mark as it is now.
    pub(crate) fn persist_mark(&mut self, env: &mut Env) {
        env.out.persist(LogRecord::Mark { partition: self.id, mark: self.disk.mark.encode() });
    }

    /// Ends a batch: does once what its inputs made possible.
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
        if hold != self.shell.pinned && !(hold.is_none() && env.cx.planted(PlantedBug::PinNotReleased)) {
            self.shell.pinned = hold;
            env.out.effect(Later::PinLog { partition: self.id, from: hold });
        }
        if self.disk.written {
            self.disk.written = false;
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

    /// Whether this server coordinates the partition and orders writes.
    fn is_active(&self) -> bool {
        matches!(&self.role, Role::Coordinator(coordinator) if coordinator.active)
    }

    /// Whether the passing of time alone may give it something to do.
    pub(crate) fn is_busy(&self) -> bool {
        let waiting = !self.pending.is_empty() || !self.parked.is_empty() || self.disk.mark.failed;
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
        let now = env.cx.now.time;
        while self.parked.front().is_some_and(|parked| now.since(parked.since) > env.cx.config.park) {
            let parked = self.parked.pop(&mut env.budgets.parked).expect("there is one");
            let reason = if self.is_short(env) {
                let least = env.cx.view.min_copies;
                format!("partition {} has fewer than {least} copies in sync and writes wait, retry", self.id)
            } else if self.is_active() {
                format!("partition {} has too many writes under way, retry", self.id)
            } else {
                format!("partition {} waits for its coordinator to become active, retry", self.id)
            };
            env.reject_busy(parked, reason);
        }
        match &mut self.role {
            Role::Coordinator(_) => self.coordinator_tick(env),
            Role::Replica(_) => self.replica_tick(env),
            Role::Unlisted => self.drop_if_unwanted(env),
            Role::Resting => {}
        }
        if self.disk.mark.failed {
            env.touched.insert(self.id);
        }
    }

    /// Removes a copy that no view has listed for long, when the view has enough others.
    fn drop_if_unwanted(&mut self, env: &mut Env) {
        let since = *self.unlisted_since.get_or_insert(env.cx.now.time);
        let Some(assignment) = env.cx.view.assignment(self.id) else { return };
        let wanted = env.cx.view.servers.len().min(common::limits::COPIES);
        let enough = assignment.in_sync.len() >= wanted;
        if self.disk.dropping
            || self.disk.installing
            || self.log.is_empty()
            || !enough
            || env.cx.now.time.since(since) < UNLISTED_KEPT
            || self.may_hold_more(env)
        {
            return;
        }
        self.disk.dropping = true;
        env.out.persist(LogRecord::Drop { partition: self.id });
        env.out.after(After::Dropped { partition: self.id });
    }

    /// R7: drops the copy if an operator let the partition begin anew from another one. What this copy has besides,
    /// even applied, is void, so it joins as an empty one.
    fn drop_if_forced(&mut self, env: &mut Env) {
        let Some(&forced) = env.cx.view.forced.get(&self.id) else { return };
        let joining =
            env.cx.view.assignment(self.id).is_some_and(|now| now.joining.contains(&env.cx.my_member()));
        let older = self.disk.mark.synced < forced && !self.log.is_empty();
        if joining && older && !self.disk.dropping && !self.disk.installing {
            self.disk.dropping = true;
            env.out.persist(LogRecord::Drop { partition: self.id });
            env.out.after(After::Dropped { partition: self.id });
        }
    }

    /// The drop record is on disk.
    pub(crate) fn on_dropped(&mut self, env: &mut Env) {
        env.out.effect(Later::Drop { partition: self.id });
        let (epoch, role) = (self.epoch, std::mem::replace(&mut self.role, Role::Unlisted));
        self.forget_changes(env, Seq(0));
        let given = std::mem::take(&mut self.given);
        let parked = self.parked.take(&mut env.budgets.parked);
        env.requests.unrouted.extend(parked);
        for pending in self.pending.take(&mut env.budgets.pending) {
            self.reroute(env, pending);
        }
        let applying_unused = self.shell.applying_unused + usize::from(self.shell.applying > 0);
        // Writes before the drop, perhaps in the same batch, say nothing about the log that begins now.
        let mut log = std::mem::take(&mut self.log);
        log.install(LogId::default());
        let new = Self::new(self.id, RecoveredCopy::default());
        let shell = ShellWork { applying_unused, ..ShellWork::default() };
        *self = Self { epoch, role, given, shell, log, ..new };
    }

    /// The copy's state, for the status.
    pub(crate) fn status(&self, env: &Env) -> CopyStatus {
        let assignment = env.cx.view.assignment(self.id);
        let joining = assignment.is_some_and(|a| a.joining_member(env.cx.me.server).is_some());
        let (role, active) = match &self.role {
            Role::Coordinator(coordinator) => (RoleName::Coordinator, coordinator.active),
            Role::Resting => (RoleName::Coordinator, false),
            Role::Replica(_) if joining => (RoleName::Joining, self.disk.synced_durable == self.epoch),
            Role::Replica(_) => (RoleName::Replica, self.disk.synced_durable == self.epoch),
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

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert!(self.log.base().seq <= self.log.durable() && self.log.durable() <= self.log.last());
        assert!(self.log.base().seq <= self.applied, "partition {}: trimmed before it was applied", self.id);
        assert!(
            self.reaching() <= self.commit.min(self.log.durable()),
            "partition {}: applied early",
            self.id
        );
        assert!(self.disk.synced_durable <= self.disk.mark.synced.max(self.epoch));
        if let Role::Coordinator(coordinator) = &self.role {
            coordinator.invariants(self.log.last());
        }
    }

    /// The message to the coordinator that says what the log has.
    pub(crate) fn sync_reply(&self) -> PeerMessage {
        // Only what is on disk may be counted.
        let last = self.log.durable_id();
        let runs = self.log.runs().iter().copied().filter(|run| run.first <= last.seq).collect();
        ToCoordinator::SyncReply { base: self.log.base(), last, commit: self.commit, runs }
            .about(self.id, self.epoch)
    }
}

/// Passes reads on to the coordinator, as this copy has lost the role to answer them.
fn stray_reads(env: &mut Env, reads: Vec<ReadId>) {
    for id in reads {
        if let Some(read) = env.requests.reads.remove(&id) {
            let ask = Ask::Read(read.query);
            env.requests.unrouted.push(ClientRequest {
                to: read.to,
                ask,
                since: read.since,
                maybe_done: false,
            });
        }
    }
}
