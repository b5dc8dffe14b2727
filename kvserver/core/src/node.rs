//! A server's core: all its copies, the view it uses, and the requests that it passes on.
//!
//! One batch: any number of [`Node::step`]s, then [`Node::effects`]. A message is first dropped if it is old (each
//! reason is named where it is judged), then handed to its copy.

mod forwards;
mod future_epochs;
mod peer;
mod read_leases;
mod reports;
mod route;
mod unheard;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use common::ids::{ClusterId, Epoch, PartitionId, RebuildId, ServerId};
use common::leaps::{generation_leaps, view_leaps};
use common::messages::{CopyState, ProcessId, Promised, Refusal};
use common::ring::Partitions;
use common::time::{Now, Time};
use common::view::View;

use forwards::{Foreign, Forwards};
use future_epochs::FutureEpochs;
use unheard::Unheard;

use super::ask::Answer;
use super::compare::Turns;
use super::config::Config;
use super::context::{first_number, named_process};
use super::coordinator::state::Coordinator;
use super::env::Env;
use super::io::{Effect, Input, Later, ReadId, Ticket};
use super::limits::SHOW_VIEW_AGAIN;
use super::out::After;
use super::partition::Partition;
use super::partition::recovered::RecoveredCopy;
use super::partition_set::PartitionSet;
use super::planted::PlantedBug;
use super::process::{Anew, Processes};
use super::requests::ReadKind;

/// The newest view that is known, though perhaps not on disk yet.
#[derive(Debug, Default)]
struct Newest {
    number: Epoch,
    /// The rebuild of the ECS that it comes from.
    rebuild: Option<RebuildId>,
}

/// When something is done next.
#[derive(Debug)]
struct Next {
    ping: Time,
    heartbeat: Time,
    watch_look: Time,
}

/// What the last heartbeats and reports said.
#[derive(Debug, Default)]
struct Reported {
    /// The state of each copy as the last heartbeats reported it.
    copies: BTreeMap<PartitionId, CopyState>,
    /// Copies that changed since.
    changed: PartitionSet,
    /// Whether the last report of transfers named any.
    transfers: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Node {
    env: Env,
    copies: Vec<Partition>,
    /// Copies found on disk, before a view has said how many partitions there are.
    recovered: BTreeMap<PartitionId, RecoveredCopy>,
    processes: Processes,
    newest: Newest,
    /// Messages of epochs that no view has named yet.
    future_epochs: FutureEpochs,
    unheard: Unheard,
    forwards: Forwards,
    /// When a newer view was last asked for, by server.
    wanted: BTreeMap<ServerId, Time>,
    /// Questions for read leases: their numbers, and when they left.
    read_questions: VecDeque<(u64, Time)>,
    next: Next,
    /// Copies that the passing of time alone may give something to do.
    busy: PartitionSet,
    reported: Reported,
    /// Copies that are being settled; empty between batches.
    settling: PartitionSet,
    turns: Turns,
}

/// Facts of a copy, for checkers.
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
    /// A core with the copies that were found on disk.
    #[must_use]
    pub fn new(
        config: Config,
        me: ProcessId,
        view: Option<Arc<View>>,
        recovered: BTreeMap<PartitionId, RecoveredCopy>,
        now: Now,
    ) -> Self {
        let none = Arc::new(View::new(ClusterId(0), Epoch::default(), Partitions::default()));
        let mut node = Self {
            env: Env::new(config, me, none, now),
            copies: Vec::new(),
            recovered,
            processes: Processes::default(),
            newest: Newest::default(),
            future_epochs: FutureEpochs::default(),
            unheard: Unheard::default(),
            forwards: Forwards::after(first_number(me)),
            wanted: BTreeMap::new(),
            read_questions: VecDeque::new(),
            next: Next { ping: now.time, heartbeat: now.time, watch_look: now.time },
            busy: PartitionSet::default(),
            reported: Reported::default(),
            settling: PartitionSet::default(),
            turns: Turns::default(),
        };
        if let Some(view) = view {
            node.newest = Newest { number: view.number, rebuild: view.rebuild };
            node.use_view(view);
        }
        node
    }

    /// Sets the promise to a rebuilt ECS that was found on disk.
    #[must_use]
    pub fn promised(mut self, promised: Option<Promised>) -> Self {
        self.env.cx.promised = promised;
        self
    }

    /// Takes one input. Effects are collected until [`Node::effects`].
    pub fn step(&mut self, now: Now, input: Input) {
        self.env.set_now(now);
        match input {
            Input::View(view) => self.on_view(view),
            Input::Promise(asked) => self.on_promise(asked),
            Input::Refused(refusal) => self.on_refused(refusal),
            Input::Peer { from, message } => self.on_peer(from, message),
            Input::PeerLinked { server } => self.on_peer_linked(server, Anew::Link),
            Input::Client { token, ask } => self.on_client(token, ask, Foreign::SendAway),
            Input::Trace { token, request } => self.env.trace_client(token, request),
            Input::ClientAnywhere { token, ask } => self.on_client(token, ask, Foreign::PassOn),
            Input::Durable { ticket } => self.on_durable(ticket),
            Input::Applied { partition, outcomes, changes } => {
                self.with(partition, |copy, env| copy.on_applied(env, outcomes, changes));
            }
            Input::Answered { read, answer } => self.on_answered(read, answer),
            Input::LogRead { partition, reader, entries } => {
                self.with(partition, |copy, env| copy.on_log_read(env, reader, entries));
            }
            Input::Trimmed { partition, seq } => self.with(partition, |copy, _| copy.on_trimmed(seq)),
            Input::SnapshotOpened { partition, transfer, state, bytes } => {
                self.with(partition, |copy, env| copy.on_snapshot_opened(env, transfer, &state, bytes));
            }
            Input::SnapshotRead { partition, transfer, index, pairs, done } => {
                self.with(partition, |copy, _| copy.on_snapshot_read(transfer, index, pairs, done));
            }
            Input::Staged { partition, staging, index, generation } => {
                self.with(partition, |copy, env| copy.on_staged(env, staging, index, generation));
            }
            Input::Damaged { reason } => _ = self.env.goes_on_damaged(&reason),
            Input::Digested { partition, at, digest } => {
                self.env.integrity.digests.on_made((partition, at), digest);
                self.with(partition, |copy, env| copy.on_digested(env, at));
            }
            Input::Compare { partition } => self.turns.add(partition),
            Input::Expiring { partition } => self.with(partition, Partition::on_expiring),
            Input::Tick => self.on_tick(),
        }
    }

    /// Ends the batch, and returns its effects.
    pub fn effects(&mut self) -> Vec<Effect> {
        loop {
            for unrouted in std::mem::take(&mut self.env.requests.unrouted) {
                self.route(unrouted);
            }
            std::mem::swap(&mut self.settling, &mut self.env.touched);
            if self.settling.is_empty() && self.env.requests.unrouted.is_empty() {
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
                self.reported.changed.insert(partition);
            }
        }
        assert!(self.env.touched.is_empty(), "all that was touched is settled");
        self.confirm();
        self.env.out.take()
    }

    /// The view in use; number 0 before the first.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.env.cx.view
    }

    /// Asserts what must be true after every step; for tests and simulations.
    pub fn invariants(&self) {
        self.copies.iter().for_each(Partition::invariants);
        let waiting = self.copies.iter().map(|copy| copy.state().waiting.bytes());
        let (pending, parked) = waiting.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        assert_eq!((pending, parked), (self.env.budgets.pending.bytes(), self.env.budgets.parked.bytes()));
        self.watch_invariants();
    }

    fn with(&mut self, partition: PartitionId, act: impl FnOnce(&mut Partition, &mut Env)) {
        if let Some(copy) = self.copies.get_mut(usize::from(partition.0)) {
            act(copy, &mut self.env);
            self.env.touched.insert(partition);
        }
    }

    /// S1: adopts a view, if it is newer and of the same cluster. It is on disk before anything is done by it.
    fn on_view(&mut self, view: Arc<View>) {
        let same_cluster = self.newest.number == Epoch::default() || view.cluster == self.env.cx.view.cluster;
        let same_ring = self.copies.is_empty() || view.partitions == self.env.cx.view.partitions;
        if view_leaps(self.newest.number, view.number) {
            let (said, own) = (view.number, self.newest.number);
            return self.env.out.alarm(format!(
                "a view with the number {said} was refused: no ECS can have made it, as the newest known one is {own}"
            ));
        }
        let wrong = !same_cluster || !same_ring || view.check().is_err();
        if view.number <= self.newest.number || wrong || !self.is_allowed(&view) {
            return;
        }
        self.newest = Newest { number: view.number, rebuild: view.rebuild };
        self.env.out.persist_view(Arc::clone(&view));
        if self.env.cx.planted(PlantedBug::ViewUsedBeforeFsync) {
            self.use_view(view);
        }
    }

    /// N1: this process has done nothing yet (S4), so it can stop without harm.
    fn on_refused(&mut self, refusal: Refusal) {
        let renew = "`kvserver new-store -d DIR` gives the directory a new store id; what it holds is then brought up \
                     to date as a new copy";
        let beside = "`kvserver new-store --new-server -d DIR` makes the directory another server's";
        let own = self.env.cx.me.incarnation.0;
        let reason = match refusal {
            Refusal::OlderProcess { known } => format!(
                "the ECS knows start {} of this store, and this is start {own}: the directory is an older copy of \
                 itself. Start the newer directory, or, if that is gone, {renew}",
                known.0
            ),
            Refusal::Twin { address } => format!(
                "another process of this store is alive at {address}: this directory is a copy of its directory. Stop \
                 one of the two. To run both, {beside}"
            ),
            Refusal::Other { reason } => {
                return self.env.out.alarm(format!("the ECS refuses this server: {reason}"));
            }
        };
        self.env.out.effect(Later::Stop { reason });
    }

    /// R6: whether a view may be adopted. After a promise, only views of that rebuild which count this server's report,
    /// as perhaps no other server knows its present view. Without a promise, views of the same ECS.
    fn is_allowed(&self, view: &View) -> bool {
        match self.env.cx.promised {
            None => self.newest.number == Epoch::default() || view.rebuild == self.newest.rebuild,
            Some(promised) => {
                view.rebuild == Some(promised.rebuild)
                    && view.number.generation == promised.generation
                    && view.counted.contains(&self.env.cx.me.store)
            }
        }
    }

    /// R6: gives the promise, and sends the report when the promise is on disk. From now on no older view is adopted
    /// and no member is proposed in an older epoch, as the report would lack it.
    fn on_promise(&mut self, asked: Promised) {
        if self.env.cx.planted(PlantedBug::RebuildNoPromise) {
            return self.report_holdings(Some(asked));
        }
        let known =
            self.env.cx.promised.map_or(0, |promised| promised.generation).max(self.newest.number.generation);
        if generation_leaps(known, asked.generation) {
            let said = asked.generation;
            return self.env.out.alarm(format!(
                "a question of a rebuilt ECS for generation {said} was refused: {known} is the last that is known \
                 here, and there cannot have been so many rebuilds"
            ));
        }
        if asked.generation > known {
            self.env.cx.promised = Some(asked);
        }
        self.env.out.persist_promise(self.env.cx.promised);
    }

    fn use_view(&mut self, view: Arc<View>) {
        if view.number <= self.env.cx.view.number {
            return;
        }
        if self.copies.is_empty() && !view.assignments.is_empty() {
            let recovered = &mut self.recovered;
            let now = self.env.cx.now.time;
            let found = |id| Partition::new(id, recovered.remove(&id).unwrap_or_default(), now);
            self.copies = view.partitions.all().map(found).collect();
        }
        let old = Arc::clone(&self.env.cx.view);
        self.env.set_view(Arc::clone(&view));
        self.note_named_processes(&view);
        assert!(self.copies.len() >= view.assignments.len(), "each partition has its state");
        let time = self.env.cx.now.time;
        let mut givers = BTreeSet::new();
        for (partition, assignment) in view.iter() {
            let copy = &mut self.copies[usize::from(partition.0)];
            // P3b: promises to a process that does not coordinate any more.
            let former =
                old.assignment(partition).and_then(|old_one| named_process(&old, old_one.coordinator));
            let present = named_process(&view, assignment.coordinator);
            if let Some(former) =
                former.filter(|former| !self.env.cx.is_me(former.server) && Some(*former) != present)
                && let Some(until) = self.env.promises.leases.bound_until(former.into())
            {
                copy.note_promise(former.into(), until);
            }
            if assignment.epoch > copy.state().epoch() && copy.has_read_lease(time) {
                givers.extend(old.assignment(partition).map(|old| old.coordinator));
            }
            if assignment.epoch > copy.state().epoch() {
                copy.enter(&mut self.env, assignment);
            } else {
                copy.relist(&mut self.env, assignment);
            }
        }
        self.env.out.effect(Later::Adopted { view });
        self.expect_by_view();
        self.forward_anew();
        self.give_back_read_leases(givers);
        // L1: leases in a new epoch need pings sent after it was adopted.
        self.ping();
        for (from, message) in self.future_epochs.take() {
            self.on_peer(from, message);
        }
    }

    /// S2: the processes that a view names count as if they had been heard.
    fn note_named_processes(&mut self, view: &View) {
        for (&server, info) in &view.servers {
            if !self.env.cx.is_me(server) && self.processes.name(info.process(server), view.number) {
                self.on_restarted(server);
            }
        }
    }

    /// S4: asks the other servers whether they know a newer view, as this process waits for the ECS and that is silent.
    fn ask_for_newer_views(&mut self) {
        if !self.env.promises.vows.asks(self.env.cx.now.time) {
            return;
        }
        let (view, me) = (Arc::clone(&self.env.cx.view), self.env.cx.me.server);
        for &server in view.servers.keys().filter(|server| **server != me) {
            self.want_view_within(server, SHOW_VIEW_AGAIN);
        }
    }

    fn on_durable(&mut self, ticket: Ticket) {
        for after in self.env.out.on_durable(ticket) {
            match after {
                After::View(view) => self.use_view(view),
                After::Promised(promised) => self.report_holdings(promised),
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
                        copy.on_installed(env, staging, generation, (base, state))
                    });
                }
                After::Failed { partition } => self.with(partition, |copy, env| copy.on_failed(env)),
                After::Dropped { partition } => self.with(partition, |copy, env| copy.on_dropped(env)),
            }
        }
    }

    fn on_answered(&mut self, read: ReadId, answer: Answer) {
        let Some(pending) = self.env.requests.reads.get(&read) else { return };
        let (partition, kind) = (pending.partition, pending.kind);
        if !self.env.admits(&answer) {
            // The process ends: the client finds another server.
            return;
        }
        if let ReadKind::ByIndex | ReadKind::UnderLease = kind {
            return self.with(partition, |copy, env| copy.on_indexed_answer(env, read, answer));
        }
        // Most answers do not change the copy; it marks itself as touched when one does.
        if let Some(copy) = self.copies.get_mut(usize::from(partition.0)) {
            copy.on_answered(&mut self.env, read, answer);
        }
    }

    fn on_tick(&mut self) {
        let now = self.env.cx.now.time;
        self.env.look_at_clocks();
        if now >= self.next.ping {
            self.ping();
        }
        if now >= self.next.heartbeat {
            self.next.heartbeat = now + self.env.cx.config.timers.heartbeat;
            self.heartbeat();
        }
        for partition in self.busy.iter() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            copy.on_tick(&mut self.env);
        }
        self.look_at_watches();
        self.retry_forwards();
        self.ask_for_newer_views();
        self.env.traces.forget_old(now);
        self.compare_next();
    }

    /// Begins the next comparison, when the last one has ended.
    fn compare_next(&mut self) {
        let copy = |now: PartitionId| self.copies.get(usize::from(now.0));
        let is_comparing = |copy: &Partition| copy.coordinator().is_some_and(Coordinator::is_comparing);
        if self.turns.now.and_then(copy).is_some_and(is_comparing) {
            return;
        }
        while let Some(partition) = self.turns.next() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            if copy.begin_comparison(&mut self.env) {
                return;
            }
        }
    }
}
