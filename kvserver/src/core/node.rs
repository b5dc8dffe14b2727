//! A server's core: all its copies, the view it uses, and the requests that it passes on.
//!
//! One batch: any number of [`Node::step`]s, then [`Node::effects`]. Every message is first dropped if it is old
//! (each reason is named at its place), then handed to the copy that it is about.

mod early;
mod peer;
mod read_leases;
mod route;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{ClusterId, Epoch, Incarnation, LogId, PartitionId, RebuildId, ServerId, StoreId};
use common::messages::{CopyState, Digest, LogTail, Promised, Sender, ServerReport};
use common::ring::Partitions;
use common::status::{CaughtUp, ComparedStatus, CopyStatus, TransferStatus};
use common::time::{Now, Time};
use common::view::View;

pub use route::ask_of;

use early::Early;
use route::Forward;

use super::ask::Answer;
use super::compare::Turns;
use super::copy::{Mark, PartitionCopy, RecoveredCopy, Role};
use super::env::{After, Config, Env, first_number};
use super::io::{Effect, Input, ReadId, Reader, Ticket};
use super::mutation::Mutation;
use super::partition_set::PartitionSet;

/// See the module's text.
#[derive(Debug)]
pub struct Node {
    env: Env,
    copies: Vec<PartitionCopy>,
    /// Copies found on disk, before a view has told how many partitions there are.
    recovered: BTreeMap<PartitionId, RecoveredCopy>,
    /// The newest process of each server's store that was heard of.
    incarnations: BTreeMap<(ServerId, StoreId), Incarnation>,
    /// The number of the newest view that is known, though perhaps not on disk yet.
    newest: Epoch,
    /// The rebuild of the ECS that it comes of.
    rebuild: Option<RebuildId>,
    /// Messages of epochs that no view has told of yet.
    early: Early,
    forwards: BTreeMap<u64, Forward>,
    last_forward: u64,
    /// When a newer view was last asked for.
    wanted: BTreeMap<ServerId, Time>,
    /// Questions for read leases: their numbers, and when they left.
    read_questions: VecDeque<(u64, Time)>,
    next_ping: Time,
    next_heartbeat: Time,
    next_watch_look: Time,
    /// Copies that time alone may give something to do.
    busy: PartitionSet,
    /// What the last heartbeats said of each copy.
    told: BTreeMap<PartitionId, CopyState>,
    changed: PartitionSet,
    /// Copies that are being settled; empty between batches.
    settling: PartitionSet,
    /// The last report of transfers named some.
    told_transfers: bool,
    turns: Turns,
}

/// What a checker may know of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFacts {
    /// The epoch that the copy is in.
    pub epoch: Epoch,
    /// It coordinates and may acknowledge.
    pub active: bool,
    /// It coordinates and may read at the time asked for.
    pub may_read: bool,
    /// The last log entry.
    pub last: u64,
    /// The last log entry on disk.
    pub durable: u64,
    /// The last log entry known to be committed.
    pub commit: u64,
    /// The last log entry applied.
    pub applied: u64,
    /// It is a replica with a read lease at the time asked for.
    pub has_read_lease: bool,
}

impl Node {
    /// A core that begins with what was found on disk.
    #[must_use]
    pub fn new(
        config: Config,
        me: Sender,
        view: Option<Arc<View>>,
        recovered: BTreeMap<PartitionId, RecoveredCopy>,
        now: Now,
    ) -> Self {
        let none = Arc::new(View::new(ClusterId(0), Epoch::default(), Partitions::default()));
        let mut node = Self {
            env: Env::new(config, me, none, now),
            copies: Vec::new(),
            recovered,
            incarnations: BTreeMap::new(),
            newest: Epoch::default(),
            rebuild: None,
            early: Early::default(),
            forwards: BTreeMap::new(),
            last_forward: first_number(me),
            wanted: BTreeMap::new(),
            read_questions: VecDeque::new(),
            next_ping: now.time,
            next_heartbeat: now.time,
            next_watch_look: now.time,
            busy: PartitionSet::default(),
            told: BTreeMap::new(),
            changed: PartitionSet::default(),
            settling: PartitionSet::default(),
            told_transfers: false,
            turns: Turns::default(),
        };
        if let Some(view) = view {
            (node.newest, node.rebuild) = (view.number, view.rebuild);
            node.use_view(view, true);
        }
        node
    }

    /// With what was promised to an ECS that was rebuilt, as found on disk.
    #[must_use]
    pub fn promised(mut self, promised: Option<Promised>) -> Self {
        self.env.promised = promised;
        self
    }

    /// Takes one input. Effects are collected until [`Node::effects`].
    pub fn step(&mut self, now: Now, input: Input) {
        self.env.set_now(now);
        match input {
            Input::View(view) => self.on_view(view),
            Input::Promise(asked) => self.on_promise(asked),
            Input::Peer { from, message } => self.on_peer(from, message),
            Input::PeerLinked { server } => self.on_peer_linked(server, false),
            Input::Client { token, ask } => self.on_client(token, ask, false),
            Input::Trace { token, request } => self.env.trace_client(token, request),
            Input::ClientAnywhere { token, ask } => self.on_client(token, ask, true),
            Input::Durable { ticket } => self.on_durable(ticket),
            Input::Applied { partition, outcomes, changes } => {
                self.with(partition, |copy, env| copy.on_applied(env, outcomes, changes));
            }
            Input::Answered { read, answer } => self.on_answered(read, answer),
            Input::LogRead { partition, reader: Reader::Apply, entries } => {
                self.with(partition, |copy, env| copy.on_read_back(env, entries));
            }
            Input::LogRead { partition, reader: Reader::Member(server), entries } => {
                self.with(partition, |copy, env| copy.on_read_for_member(env, server, entries));
            }
            Input::LogRead { partition, reader: Reader::Watch, entries } => {
                self.with(partition, |copy, env| copy.on_read_for_watch(env, entries));
            }
            Input::Trimmed { partition, seq } => self.with(partition, |copy, _| copy.on_trimmed(seq)),
            Input::SnapshotOpened { partition, transfer, state, bytes } => {
                self.with(partition, |copy, env| copy.on_snapshot_opened(env, transfer, &state, bytes));
            }
            Input::SnapshotRead { partition, transfer, index, pairs, done } => {
                self.with(partition, |copy, env| copy.on_snapshot_read(env, transfer, index, pairs, done));
            }
            Input::Staged { partition, staging, index, generation } => {
                self.with(partition, |copy, env| copy.on_staged(env, staging, index, generation));
            }
            Input::Damaged { reason } => _ = self.env.goes_on_damaged(&reason),
            Input::Digested { partition, at, digest } => {
                self.env.digests.on_made((partition, at), digest);
                self.with(partition, |copy, env| copy.on_digested(env, at));
            }
            Input::Compare { partition } => self.turns.add(partition),
            Input::Tick => self.on_tick(),
        }
    }

    /// Ends the batch: what is to be done now.
    pub fn effects(&mut self) -> Vec<Effect> {
        loop {
            for stray in std::mem::take(&mut self.env.strays) {
                self.route(stray);
            }
            std::mem::swap(&mut self.settling, &mut self.env.touched);
            if self.settling.is_empty() && self.env.strays.is_empty() {
                break;
            }
            while let Some(partition) = self.settling.pop_first() {
                let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
                copy.settle(&mut self.env);
                if copy.is_busy() {
                    self.busy.insert(partition);
                } else {
                    self.busy.remove(partition);
                }
                self.changed.insert(partition);
            }
        }
        self.confirm();
        self.env.out.take()
    }

    /// The view in use; number 0 before the first.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.env.view
    }

    /// What to say to the ECS when a link to it is new.
    #[must_use]
    pub fn hello(&self, address: String, weight: u32) -> ServerReport {
        let (view, rebuild) = (self.env.view.number, self.env.view.rebuild);
        ServerReport::Hello { address, weight, view, rebuild, tails: self.tails() }
    }

    fn tails(&self) -> Vec<LogTail> {
        let tail = |partition: PartitionId, last, mark: &Mark| LogTail {
            partition,
            last,
            proposed: mark.proposed.clone(),
            epoch: mark.proposed_in,
        };
        let held = self.copies.iter().filter(|copy| !copy.log.is_empty() || copy.mark != Mark::default());
        held.map(|copy| tail(copy.id, copy.log.durable_id(), &copy.mark)).collect()
    }

    /// All copies that are listed or hold something, for people.
    #[must_use]
    pub fn status(&self) -> Vec<CopyStatus> {
        let present = |copy: &&PartitionCopy| !matches!(copy.role, Role::Unlisted) || !copy.log.is_empty();
        self.copies.iter().filter(present).map(|copy| copy.status(&self.env)).collect()
    }

    /// Copies of partitions that this server sends now.
    #[must_use]
    pub fn transfers(&self) -> Vec<TransferStatus> {
        let (now, me) = (self.env.now.time, self.env.me.server);
        let sending = |copy: &PartitionCopy| match &copy.role {
            Role::Coordinator(coordinator) => coordinator.transfers(now, copy.id, me),
            _ => Vec::new(),
        };
        self.busy.iter().filter_map(|id| self.copies.get(usize::from(id.0))).flat_map(sending).collect()
    }

    /// What it has sent to members that were behind.
    #[must_use]
    pub fn caught_up(&self) -> CaughtUp {
        self.env.caught_up
    }

    /// What it has found by comparing copies. What could not be told apart is another's to say when that one coordinates.
    #[must_use]
    pub fn compared(&self) -> ComparedStatus {
        let mut compared = self.env.compared.clone();
        let coordinates = |partition: u16| {
            let copy = self.copies.get(usize::from(partition));
            copy.is_some_and(|copy| matches!(copy.role, Role::Coordinator(_)))
        };
        compared.differences.retain(|one| !one.wrong.is_empty() || coordinates(one.partition));
        compared
    }

    /// The digest of the copy here as it was at an entry, if it is made.
    #[must_use]
    pub fn digest(&self, partition: PartitionId, at: LogId) -> Option<Digest> {
        self.env.digests.get((partition, at))
    }

    /// What a checker may know of a copy at `time`.
    #[must_use]
    pub fn facts(&self, partition: PartitionId, time: Time) -> Option<CopyFacts> {
        let copy = self.copies.get(usize::from(partition.0))?;
        let (active, may_read) = match &copy.role {
            Role::Coordinator(coordinator) => {
                (coordinator.active, coordinator.may_read_at(&self.env, copy.epoch, copy.applied, time))
            }
            _ => (false, false),
        };
        Some(CopyFacts {
            epoch: copy.epoch,
            active,
            may_read,
            last: copy.log.last().0,
            durable: copy.log.durable().0,
            commit: copy.commit.0,
            applied: copy.applied.0,
            has_read_lease: copy.has_read_lease(time),
        })
    }

    /// What must hold after every step; for tests and simulations.
    pub fn invariants(&self) {
        self.copies.iter().for_each(PartitionCopy::invariants);
        let pending: usize = self.copies.iter().map(|copy| copy.pending.bytes()).sum();
        let parked: usize = self.copies.iter().map(|copy| copy.parked.bytes()).sum();
        assert_eq!((pending, parked), (self.env.pending.bytes(), self.env.parked.bytes()));
        self.watch_invariants();
    }

    fn with(&mut self, partition: PartitionId, act: impl FnOnce(&mut PartitionCopy, &mut Env)) {
        if let Some(copy) = self.copies.get_mut(usize::from(partition.0)) {
            act(copy, &mut self.env);
            self.env.touched.insert(partition);
        }
    }

    /// S1: only a newer view of the same cluster is taken, and it is on disk before anything is done by it.
    fn on_view(&mut self, view: Arc<View>) {
        let same_cluster = self.newest == Epoch::default() || view.cluster == self.env.view.cluster;
        let same_ring = self.copies.is_empty() || view.partitions == self.env.view.partitions;
        let wrong = !same_cluster || !same_ring || view.check().is_err();
        if view.number <= self.newest || wrong || !self.is_allowed(&view) {
            return;
        }
        (self.newest, self.rebuild) = (view.number, view.rebuild);
        self.env.out.persist_view(Arc::clone(&view));
        if self.env.mutated(Mutation::ViewUsedBeforeFsync) {
            self.use_view(view, false);
        }
    }

    /// R6: after a promise, only views that it was given for, and that count what was reported with it: nobody else may
    /// know of the present view. Without one, those of the same ECS.
    fn is_allowed(&self, view: &View) -> bool {
        match self.env.promised {
            None => self.newest == Epoch::default() || view.rebuild == self.rebuild,
            Some(promised) => {
                view.rebuild == Some(promised.rebuild)
                    && view.number.generation == promised.generation
                    && view.counted.contains(&self.env.me.store)
            }
        }
    }

    /// R6: first the promise is on disk, then what there is is reported. From now on no older view is taken and no
    /// member is proposed in an older epoch: the report would lack it.
    fn on_promise(&mut self, asked: Promised) {
        if self.env.mutated(Mutation::RebuildNoPromise) {
            return self.report_holdings(Some(asked));
        }
        let known = self.env.promised.map_or(0, |promised| promised.generation).max(self.newest.generation);
        if asked.generation > known {
            self.env.promised = Some(asked);
        }
        self.env.out.persist_promise(self.env.promised);
    }

    fn report_holdings(&mut self, promised: Option<Promised>) {
        let (view, tails) = (Arc::clone(&self.env.view), self.tails());
        self.env.out.report(ServerReport::Holdings { promised, view, tails });
    }

    fn use_view(&mut self, view: Arc<View>, starting: bool) {
        if view.number <= self.env.view.number {
            return;
        }
        if self.copies.is_empty() && !view.assignments.is_empty() {
            let recovered = &mut self.recovered;
            let found = |id| PartitionCopy::new(id, recovered.remove(&id).unwrap_or_default());
            self.copies = view.partitions.all().map(found).collect();
        }
        let old = Arc::clone(&self.env.view);
        self.env.set_view(Arc::clone(&view));
        let time = self.env.now.time;
        let mut givers = BTreeSet::new();
        for (partition, assignment) in view.iter() {
            let copy = &mut self.copies[usize::from(partition.0)];
            // P3b: what was promised to a coordinator that is one no longer.
            if let Some(former) = old.assignment(partition).map(|old| old.coordinator)
                && !self.env.is_me(former)
                && former != assignment.coordinator
                && let Some(until) = self.env.leases.bound_until(former)
            {
                let known = copy.promises.entry(former).or_insert(until);
                *known = until.max(*known);
            }
            if assignment.epoch > copy.epoch && copy.has_read_lease(time) {
                givers.extend(old.assignment(partition).map(|old| old.coordinator));
            }
            if assignment.epoch > copy.epoch {
                copy.enter(&mut self.env, assignment, starting);
            } else {
                copy.relist(&mut self.env, assignment);
            }
        }
        self.env.out.effect(Effect::Adopted { view });
        self.forward_anew();
        self.give_back_read_leases(givers);
        // L1: leases in a new epoch need pings sent after it was adopted.
        self.ping();
        for (from, message) in self.early.take() {
            self.on_peer(from, message);
        }
    }

    fn on_durable(&mut self, ticket: Ticket) {
        for after in self.env.out.on_durable(ticket) {
            match after {
                After::View(view) => self.use_view(view, false),
                After::Promised => self.report_holdings(self.env.promised),
                After::Entries { partition, cuts, last } => {
                    self.with(partition, |copy, env| copy.on_durable(env, last, cuts));
                }
                After::Synced { partition, epoch } => {
                    self.with(partition, |copy, env| copy.on_synced(env, epoch));
                }
                After::Proposed { partition, epoch, member } => {
                    self.with(partition, |copy, env| copy.on_proposal_noted(env, epoch, member));
                }
                After::Installed { partition, staging, generation, base, state } => {
                    self.with(partition, |copy, env| {
                        copy.on_installed(env, staging, generation, base, state)
                    });
                }
                After::Failed { partition } => self.with(partition, |copy, env| copy.on_failed(env)),
                After::Dropped { partition } => self.with(partition, |copy, env| copy.on_dropped(env)),
            }
        }
    }

    fn on_answered(&mut self, read: ReadId, answer: Answer) {
        let Some(pending) = self.env.reads.get(&read) else { return };
        let (partition, indexed) = (pending.partition, pending.indexed);
        if !self.env.admits(&answer) {
            // The process ends: whoever asked finds another server.
            return;
        }
        if indexed {
            return self.with(partition, |copy, env| copy.on_indexed_answer(env, read, answer));
        }
        // Most answers change nothing of the copy: it says so itself when one does.
        if let Some(copy) = self.copies.get_mut(usize::from(partition.0)) {
            copy.on_answered(&mut self.env, read, answer);
        }
    }

    fn on_tick(&mut self) {
        let now = self.env.now.time;
        if now >= self.next_ping {
            self.ping();
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + self.env.config.timers.heartbeat;
            self.heartbeat();
        }
        for partition in self.busy.iter() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            copy.on_tick(&mut self.env);
        }
        self.look_at_watches();
        self.retry_forwards();
        self.env.traces.forget_old(now);
        self.compare_next();
    }

    /// Comparisons, one after the other.
    fn compare_next(&mut self) {
        let copy = |now: PartitionId| self.copies.get(usize::from(now.0));
        if self.turns.now.and_then(copy).is_some_and(PartitionCopy::is_comparing) {
            return;
        }
        while let Some(partition) = self.turns.next() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            if copy.begin_comparison(&mut self.env) {
                return;
            }
        }
    }

    /// One way: what has changed since the last one. The shell adds load figures.
    fn heartbeat(&mut self) {
        let mut copies = Vec::new();
        while let Some(partition) = self.changed.pop_first() {
            let Some(facts) = self.facts(partition, self.env.now.time) else { continue };
            let CopyFacts { epoch, active, durable, applied, .. } = facts;
            let state = CopyState { partition, epoch, active, last: durable, applied };
            if self.told.get(&partition) != Some(&state) {
                self.told.insert(partition, state.clone());
                copies.push(state);
            }
        }
        let view = self.env.view.number;
        let report = ServerReport::Heartbeat { view, copies, requests: 0, keys: 0, bytes: 0, free_bytes: 0 };
        self.env.out.report(report);
        let transfers = self.transfers();
        if !transfers.is_empty() || self.told_transfers {
            self.told_transfers = !transfers.is_empty();
            self.env.out.report(ServerReport::Transfers { transfers });
        }
    }
}

/// Stored pairs, as transfers carry them.
pub type StoredPairs = Vec<(Bytes, Bytes)>;
