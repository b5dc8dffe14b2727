//! One partition: its state and the role that this server has in it. [`Partition::settle`] does once for a batch what
//! its inputs made possible, in the role: `coordinator/writes`, `replica/following`.

use common::ids::{PartitionId, ServerId};
use common::status::{CopyStatus, Role as RoleName};
use common::time::Time;
use common::view::Assignment;

use super::super::coordinator::state::Coordinator;
use super::super::env::Env;
use super::super::failed::{part_with_failed, report_failed};
use super::super::planted::PlantedBug;
use super::super::replica::state::Replica;
use super::super::transfer::receiver::Receiving;
use super::super::watch::Watches;
use super::recovered::RecoveredCopy;
use super::removal::{drop_if_forced, drop_if_unwanted};
use super::state::{Busy, PartitionState};

/// The role that this server has in a partition.
#[derive(Debug)]
enum Role {
    /// None: no view lists this copy.
    Unlisted {
        /// Since when.
        since: Time,
    },
    /// The view names another process of this server as coordinator: this one waits for a newer epoch (S3).
    Resting,
    /// Orders and acknowledges writes.
    Coordinator(Box<Coordinator>),
    /// Follows: an in-sync replica or a joining one.
    Replica(Box<Replica>),
}

/// A partition at this server: its state and its role.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(super) state: PartitionState,
    role: Role,
    /// Changes and questions of clients that watch.
    pub(super) watches: Watches,
}

/// S3: whether this process may coordinate in an epoch that names its server: the view names it and no other process.
/// An epoch older than a rebuild of the ECS names a process of that time. One that has not coordinated in that epoch
/// may follow one that has, and would assign numbers again that are in use.
fn may_coordinate(assignment: &Assignment, env: &Env) -> bool {
    let is_of_before = assignment.epoch.generation < env.cx.view.number.generation;
    let is_meant = env.promises.vows.is_named && !is_of_before;
    is_meant || env.cx.planted(PlantedBug::RestartResumesRole)
}

/// Planted bugs: a new epoch cuts the log to the commit, before anything was heard of it.
fn cut_by_mistake(p: &mut PartitionState, env: &mut Env, bug: PlantedBug) {
    if env.cx.planted(bug) && p.commit() < p.log().last() {
        p.cut(env, p.commit().max(p.log().base().seq).max(p.reaching()));
    }
}

impl Partition {
    pub(crate) fn new(id: PartitionId, found: RecoveredCopy, now: Time) -> Self {
        let watches = Watches::new(found.applied);
        Self { state: PartitionState::new(id, found), role: Role::Unlisted { since: now }, watches }
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.state.id()
    }

    pub(crate) fn state(&self) -> &PartitionState {
        &self.state
    }

    pub(crate) fn watches(&self) -> &Watches {
        &self.watches
    }

    /// What coordinates the partition, if this server does.
    pub(crate) fn coordinator(&self) -> Option<&Coordinator> {
        match &self.role {
            Role::Coordinator(coordinator) => Some(coordinator),
            _ => None,
        }
    }

    /// What follows the coordinator, if this server has an in-sync or a joining copy.
    pub(crate) fn replica(&self) -> Option<&Replica> {
        match &self.role {
            Role::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    pub(super) fn as_coordinator(&mut self) -> Option<(&mut Coordinator, &mut PartitionState)> {
        match &mut self.role {
            Role::Coordinator(coordinator) => Some((coordinator, &mut self.state)),
            _ => None,
        }
    }

    pub(super) fn as_replica(&mut self) -> Option<(&mut Replica, &mut PartitionState)> {
        match &mut self.role {
            Role::Replica(replica) => Some((replica, &mut self.state)),
            _ => None,
        }
    }

    /// Whether no view lists this copy and it has nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self.role, Role::Unlisted { .. }) && self.state.log().is_empty()
    }

    /// Takes the role that a newer epoch gives.
    pub(crate) fn enter(&mut self, env: &mut Env, assignment: &Assignment) {
        self.state.enter_epoch(assignment.epoch);
        let in_sync = assignment.in_sync.contains(&env.cx.my_member());
        let before = std::mem::replace(&mut self.role, Role::Unlisted { since: env.cx.now.time });
        let p = &mut self.state;
        if in_sync && env.cx.is_me(assignment.coordinator) {
            if !may_coordinate(assignment, env) {
                _ = self.give_up(env, before, assignment.coordinator);
                self.role = Role::Resting;
                env.touched.insert(self.id());
                return;
            }
            cut_by_mistake(p, env, PlantedBug::NewCoordinatorCutsToCommit);
            let former = match before {
                Role::Coordinator(former) => Some(*former),
                Role::Replica(mut replica) => {
                    env.requests.reroute_reads(replica.take_reads());
                    None
                }
                Role::Unlisted { .. } | Role::Resting => None,
            };
            let coordinator = Coordinator::new(env, p.id(), assignment, former, p.log().last_id());
            if coordinator.is_short(env) {
                // Ordered writes are applied, so that they can be read, but not acknowledged here: they are when the
                // client asks again and another copy has them.
                p.reroute_pending(env);
            }
            self.role = Role::Coordinator(Box::new(coordinator));
        } else {
            self.leave_coordination(env, before, assignment);
            if in_sync {
                cut_by_mistake(&mut self.state, env, PlantedBug::MemberCutsToCommit);
            }
        }
        self.on_listed(env, assignment);
    }

    /// Follows another coordinator, if the view lists this copy.
    fn leave_coordination(&mut self, env: &mut Env, before: Role, assignment: &Assignment) {
        let me = env.cx.my_member();
        let receiving = self.give_up(env, before, assignment.coordinator);
        if assignment.in_sync.contains(&me) || assignment.joining.contains(&me) {
            let replica = Replica::new(assignment.coordinator, receiving, self.state.log().last());
            self.role = Role::Replica(Box::new(replica));
        }
    }

    /// Gives a role up; requests that wait here are passed on to the next coordinator (J5). Returns the copy that is
    /// being received, if the next coordinator goes on sending it.
    fn give_up(&mut self, env: &mut Env, before: Role, next: ServerId) -> Option<Receiving> {
        let p = &mut self.state;
        let mut reads = Vec::new();
        let receiving = match before {
            Role::Coordinator(mut coordinator) => {
                coordinator.close_transfers(env, p.id());
                reads.extend(coordinator.take_reads());
                None
            }
            Role::Replica(mut replica) => {
                reads.extend(replica.take_reads());
                replica.keep_receiving(next)
            }
            Role::Unlisted { .. } | Role::Resting => None,
        };
        p.reroute_pending(env);
        p.waiting.reroute_parked(env);
        assert!(p.waiting.is_empty(), "partition {}: requests that wait are passed on", p.id());
        env.requests.reroute_reads(reads);
        receiving
    }

    /// Takes over a view's joining members in the same epoch.
    pub(crate) fn relist(&mut self, env: &mut Env, assignment: &Assignment) {
        let me = env.cx.my_member();
        let listed = assignment.in_sync.contains(&me) || assignment.joining.contains(&me);
        match &mut self.role {
            Role::Coordinator(coordinator) => coordinator.relist(env, self.state.id(), assignment),
            Role::Unlisted { .. } if listed => {
                let replica = Replica::new(assignment.coordinator, None, self.state.log().last());
                self.role = Role::Replica(Box::new(replica));
            }
            Role::Replica(_) if !listed => {
                let unlisted = Role::Unlisted { since: env.cx.now.time };
                let before = std::mem::replace(&mut self.role, unlisted);
                self.leave_coordination(env, before, assignment);
            }
            Role::Unlisted { .. } | Role::Replica(_) | Role::Resting => {}
        }
        self.on_listed(env, assignment);
    }

    fn on_listed(&mut self, env: &mut Env, assignment: &Assignment) {
        part_with_failed(&mut self.state, env, assignment);
        drop_if_forced(&mut self.state, env);
        env.touched.insert(self.id());
    }

    /// Ends a batch: does once what its inputs made possible.
    pub(crate) fn settle(&mut self, env: &mut Env) {
        let p = &mut self.state;
        match &mut self.role {
            Role::Coordinator(coordinator) => coordinator.settle(p, env),
            Role::Replica(replica) => {
                drop_if_forced(p, env);
                replica.settle(p, env);
            }
            Role::Unlisted { .. } | Role::Resting => {}
        }
        report_failed(p, env);
        let retained = self.coordinator().and_then(Coordinator::retained_from);
        let p = &mut self.state;
        p.pin_log(env, retained);
        p.await_written(env);
        p.advance_apply(env, self.watches.is_open());
        self.answer_watches(env);
        let reaching = self.state.reaching();
        let needed =
            self.coordinator().map_or(reaching.next(), |coordinator| coordinator.needs_from(reaching));
        self.state.evict(needed);
    }

    fn answer_watches(&mut self, env: &mut Env) {
        if !self.watches.is_awaited() {
            return;
        }
        if self.coordinator().is_none() {
            self.watches.send_away(env);
        } else if self.shows_changes() {
            self.watches.answer(&self.state, env);
        }
    }

    /// Whether changes may be shown to clients: this server coordinates, and its records have all that a former
    /// coordinator may have acknowledged.
    pub(super) fn shows_changes(&self) -> bool {
        let p = &self.state;
        let is_whole = self.coordinator().is_some_and(|coordinator| coordinator.has_applied_all(p.applied()));
        is_whole && !p.is_failed() && p.busy() != Busy::Dropping
    }

    /// Whether the passing of time alone may give it something to do.
    pub(crate) fn is_busy(&self) -> bool {
        let p = &self.state;
        let by_role = match &self.role {
            Role::Coordinator(coordinator) => coordinator.is_busy(p.log().last(), p.commit()),
            Role::Replica(replica) => replica.is_busy(),
            Role::Unlisted { .. } => !p.log().is_empty(),
            Role::Resting => false,
        };
        by_role || !p.waiting.is_empty() || p.is_failed()
    }

    /// Time has passed.
    pub(crate) fn on_tick(&mut self, env: &mut Env) {
        while let Some(parked) = self.state.waiting.pop_late(env) {
            let reason = self.why_parked(env);
            env.reject_busy(parked, reason);
        }
        let p = &mut self.state;
        match &mut self.role {
            Role::Coordinator(coordinator) => coordinator.on_tick(p, env),
            Role::Replica(replica) => replica.on_tick(p, env),
            Role::Unlisted { since } => drop_if_unwanted(p, env, *since),
            Role::Resting => {}
        }
        if p.is_failed() {
            env.touched.insert(p.id());
        }
    }

    /// What requests that wait here wait for.
    fn why_parked(&self, env: &Env) -> String {
        let id = self.id();
        if self.coordinator().is_some_and(|coordinator| coordinator.is_short(env)) {
            let least = env.cx.view.min_copies;
            format!("partition {id} has fewer than {least} copies in sync and writes wait, retry")
        } else if self.coordinator().is_some_and(Coordinator::is_active) {
            format!("partition {id} has too many writes under way, retry")
        } else {
            format!("partition {id} waits for its coordinator to become active, retry")
        }
    }

    /// The copy's state, for the status.
    pub(crate) fn status(&self, env: &Env) -> CopyStatus {
        let p = &self.state;
        let assignment = env.cx.view.assignment(p.id());
        let joining = assignment.is_some_and(|a| a.joining_member(env.cx.me.server).is_some());
        let in_step = p.synced_durable() == p.epoch();
        let (role, active) = match &self.role {
            Role::Coordinator(coordinator) => (RoleName::Coordinator, coordinator.is_active()),
            Role::Resting => (RoleName::Coordinator, false),
            Role::Replica(_) if joining => (RoleName::Joining, in_step),
            Role::Replica(_) => (RoleName::Replica, in_step),
            Role::Unlisted { .. } => (RoleName::None, false),
        };
        CopyStatus {
            partition: p.id().0,
            epoch: p.epoch(),
            role,
            active,
            last: p.log().last().0,
            commit: p.commit().0,
            applied: p.applied().0,
        }
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, env: &Env) {
        let (p, id) = (&self.state, self.id());
        p.invariants(env);
        self.watches.invariants(p.applied());
        match &self.role {
            Role::Coordinator(coordinator) => coordinator.invariants(p, env),
            Role::Replica(replica) => replica.invariants(p, env),
            Role::Unlisted { .. } | Role::Resting => {}
        }
        let waits = p.waiting.last().is_some();
        assert!(self.coordinator().is_some() || !waits, "partition {id}: a write waits at no coordinator");
        let Some(assignment) = env.cx.view.assignment(id) else { return };
        let me = env.cx.my_member();
        let (in_sync, joins) = (assignment.in_sync.contains(&me), assignment.joining.contains(&me));
        let leads = in_sync && env.cx.is_me(assignment.coordinator);
        assert_eq!(p.epoch(), assignment.epoch, "partition {id}: it is in the epoch of the view");
        match &self.role {
            Role::Coordinator(_) | Role::Resting => {
                assert!(leads, "partition {id}: another server coordinates")
            }
            Role::Replica(replica) => {
                assert!((in_sync || joins) && !leads, "partition {id}: it is no replica");
                assert_eq!(
                    replica.coordinator(),
                    assignment.coordinator,
                    "partition {id}: it follows another"
                );
            }
            Role::Unlisted { .. } => assert!(!in_sync && !joins, "partition {id}: a view lists the copy"),
        }
    }
}
