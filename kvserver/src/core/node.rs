//! A server's core: all its copies, the view it uses, and the requests that it passes on.
//!
//! One batch: any number of [`Node::step`]s, then [`Node::effects`]. Every message is first dropped if it is old
//! (each reason is named at its place), then handed to the copy that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{ClusterId, Epoch, Incarnation, PartitionId, ServerId, StoreId};
use common::messages::{CopyState, LogTail, PeerMessage, Reply, Request, Sender, ServerReport};
use common::ring::Partitions;
use common::status::CopyStatus;
use common::time::{Now, Time};
use common::view::View;

use super::copy::{Mark, PartitionCopy, RecoveredCopy, Role};
use super::env::{After, Config, Env, ReplyTo, Stray, first_number};
use super::io::{Answer, Ask, Effect, Input, Query, ReadId, Reader, Ticket, Token};
use super::limits::{FORWARD_AGAIN, STRAY_FOR, WANT_VIEW_AGAIN};
use super::member::Append;
use super::mutation::Mutation;

/// A request that was passed on.
#[derive(Debug)]
struct Forward {
    stray: Stray,
    to: ServerId,
    sent: Time,
}

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
    forwards: BTreeMap<u64, Forward>,
    last_forward: u64,
    /// When a newer view was last asked for.
    wanted: BTreeMap<ServerId, Time>,
    next_ping: Time,
    next_heartbeat: Time,
    /// Copies that time alone may give something to do.
    busy: BTreeSet<PartitionId>,
    /// What the last heartbeats said of each copy.
    told: BTreeMap<PartitionId, CopyState>,
    changed: BTreeSet<PartitionId>,
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
            forwards: BTreeMap::new(),
            last_forward: first_number(me),
            wanted: BTreeMap::new(),
            next_ping: now.time,
            next_heartbeat: now.time,
            busy: BTreeSet::new(),
            told: BTreeMap::new(),
            changed: BTreeSet::new(),
        };
        if let Some(view) = view {
            node.newest = view.number;
            node.use_view(view, true);
        }
        node
    }

    /// Takes one input. Effects are collected until [`Node::effects`].
    pub fn step(&mut self, now: Now, input: Input) {
        self.env.now = now;
        match input {
            Input::View(view) => self.on_view(view),
            Input::Peer { from, message } => self.on_peer(from, message),
            Input::PeerLinked { server } => self.on_peer_linked(server, false),
            Input::Client { token, ask } => self.on_client(token, ask),
            Input::Durable { ticket } => self.on_durable(ticket),
            Input::Applied { partition, outcomes } => {
                self.with(partition, |copy, env| copy.on_applied(env, outcomes));
            }
            Input::Answered { read, answer } => self.on_answered(read, answer),
            Input::LogRead { partition, reader: Reader::Apply, entries } => {
                self.with(partition, |copy, env| copy.on_read_back(env, entries));
            }
            Input::LogRead { partition, reader: Reader::Member(server), entries } => {
                self.with(partition, |copy, env| copy.on_read_for_member(env, server, entries));
            }
            Input::Trimmed { partition, seq } => self.with(partition, |copy, _| copy.on_trimmed(seq)),
            Input::SnapshotOpened { partition, transfer, state } => {
                self.with(partition, |copy, env| copy.on_snapshot_opened(env, transfer, state));
            }
            Input::SnapshotRead { partition, transfer, index, pairs, done } => {
                self.with(partition, |copy, env| copy.on_snapshot_read(env, transfer, index, pairs, done));
            }
            Input::Staged { partition, transfer, index, generation } => {
                self.with(partition, |copy, env| copy.on_staged(env, transfer, index, generation));
            }
            Input::Tick => self.on_tick(),
        }
    }

    /// Ends the batch: what is to be done now.
    pub fn effects(&mut self) -> Vec<Effect> {
        loop {
            for stray in std::mem::take(&mut self.env.strays) {
                self.route(stray);
            }
            let touched = std::mem::take(&mut self.env.touched);
            if touched.is_empty() && self.env.strays.is_empty() {
                break;
            }
            for partition in touched {
                let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
                copy.settle(&mut self.env);
                if copy.is_busy() {
                    self.busy.insert(partition);
                } else {
                    self.busy.remove(&partition);
                }
                self.changed.insert(partition);
            }
        }
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
        let tail = |partition: PartitionId, last, mark: &Mark| LogTail {
            partition,
            last,
            proposed: mark.proposed.clone(),
            epoch: mark.proposed_in,
        };
        let held = self.copies.iter().filter(|copy| !copy.log.is_empty() || copy.mark != Mark::default());
        let tails = held.map(|copy| tail(copy.id, copy.log.durable_id(), &copy.mark)).collect();
        ServerReport::Hello { address, weight, view: self.env.view.number, tails }
    }

    /// All copies that are listed or hold something, for people.
    #[must_use]
    pub fn status(&self) -> Vec<CopyStatus> {
        let present = |copy: &&PartitionCopy| !matches!(copy.role, Role::Unlisted) || !copy.log.is_empty();
        self.copies.iter().filter(present).map(|copy| copy.status(&self.env)).collect()
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
        })
    }

    /// What must hold after every step; for tests and simulations.
    pub fn invariants(&self) {
        self.copies.iter().for_each(PartitionCopy::invariants);
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
        if view.number <= self.newest || !same_cluster || !same_ring || view.check().is_err() {
            return;
        }
        self.newest = view.number;
        self.env.out.persist_view(view);
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
            if assignment.epoch > copy.epoch {
                copy.enter(&mut self.env, assignment, starting);
            } else {
                copy.relist(&mut self.env, assignment);
            }
        }
        self.env.out.effect(Effect::Adopted { view });
        self.forward_anew();
        // L1: leases in a new epoch need pings sent after it was adopted.
        self.ping();
    }

    /// Requests that were passed to a server that coordinates no longer look for the next one.
    fn forward_anew(&mut self) {
        let view = &self.env.view;
        let misled = |forward: &Forward| coordinator_of(view, &forward.stray.ask) != Some(forward.to);
        let misled: Vec<u64> =
            self.forwards.iter().filter(|(_, forward)| misled(forward)).map(|(n, _)| *n).collect();
        for n in misled {
            if let Some(forward) = self.forwards.remove(&n) {
                self.env.strays.push(forward.stray);
            }
        }
    }

    fn ping(&mut self) {
        let now = self.env.now.time;
        self.next_ping = now + self.env.config.timers.ping;
        let granters: BTreeSet<ServerId> = self
            .copies
            .iter()
            .filter_map(|copy| match &copy.role {
                Role::Coordinator(coordinator) => Some(coordinator.granters()),
                _ => None,
            })
            .flatten()
            .collect();
        let view = self.env.view.number;
        for server in granters {
            let n = self.env.leases.on_ping_sent(server, now);
            self.env.out.send(server, PeerMessage::Ping { n, view });
        }
    }

    fn on_durable(&mut self, ticket: Ticket) {
        for after in self.env.out.on_durable(ticket) {
            match after {
                After::View(view) => self.use_view(view, false),
                After::Entries { partition, cuts, last } => {
                    self.with(partition, |copy, env| copy.on_durable(env, last, cuts));
                }
                After::Synced { partition, epoch } => {
                    self.with(partition, |copy, env| copy.on_synced(env, epoch));
                }
                After::Proposed { partition, epoch, member } => {
                    self.with(partition, |copy, env| copy.on_proposal_noted(env, epoch, member));
                }
                After::Installed { partition, transfer, generation, base, state } => {
                    self.with(partition, |copy, env| {
                        copy.on_installed(env, transfer, generation, base, state)
                    });
                }
                After::Dropped { partition } => self.with(partition, |copy, env| copy.on_dropped(env)),
            }
        }
    }

    fn on_client(&mut self, token: Token, ask: Ask) {
        let to = ReplyTo::Client { token, session: None };
        if let Err(reason) = check(&ask, self.env.config.value_bytes_max, &self.env.view) {
            return self.env.reply(to, Reply::Refused { reason });
        }
        let Some(partition) = partition_of(&self.env.view, &ask) else {
            let reason = "the server is in no view yet, retry".to_owned();
            return self.env.reply(to, Reply::Busy { reason });
        };
        let now = self.env.now.time;
        let copy = &mut self.copies[usize::from(partition.0)];
        if self.env.view.assignment(partition).is_some_and(|a| self.env.is_me(a.coordinator)) {
            return copy.on_ask(&mut self.env, Stray { to, ask, since: now, maybe_done: false });
        }
        if let Ask::Read(query) = &ask {
            if copy.on_replica_read(&mut self.env, to, query, now) {
                return;
            }
            let me = self.env.me.server;
            if self.env.view.assignment(partition).is_some_and(|a| a.in_sync_member(me).is_some()) {
                // It has a copy, as the view tells everybody, but is not in step in this epoch yet.
                return self.env.strays.push(Stray { to, ask, since: now, maybe_done: false });
            }
        }
        let view = self.env.view.number;
        self.env.reply(to, Reply::Moved { view });
    }

    fn on_answered(&mut self, read: ReadId, answer: Answer) {
        let Some(pending) = self.env.reads.get(&read) else { return };
        let (partition, indexed) = (pending.partition, pending.indexed);
        self.with(partition, |copy, env| {
            if indexed {
                copy.on_indexed_answer(env, read, answer);
            } else {
                copy.on_answered(env, read, answer);
            }
        });
    }

    /// A request that lost its coordinator.
    fn route(&mut self, mut stray: Stray) {
        let now = self.env.now.time;
        let Some(coordinator) = coordinator_of(&self.env.view, &stray.ask) else { return };
        if let ReplyTo::Peer { .. } = stray.to {
            // Whoever passed it on asks the next one.
            let view = self.env.view.number;
            return self.env.reply(stray.to, Reply::Moved { view });
        }
        if now.since(stray.since) > STRAY_FOR {
            return self.give_up(stray);
        }
        if self.env.is_me(coordinator) {
            let partition = partition_of(&self.env.view, &stray.ask).expect("it has a coordinator");
            return self.with(partition, |copy, env| copy.on_ask(env, stray));
        }
        let elapsed = u64::try_from(now.since(stray.since).as_millis()).unwrap_or(u64::MAX);
        if let (Ask::Write { origin: origin @ None, .. }, ReplyTo::Client { session, .. }) =
            (&mut stray.ask, &mut stray.to)
        {
            let given = self.env.session_origin();
            (*origin, *session) = (Some(given), Some(given.number));
        }
        let Some(request) = request_of(&stray.ask, elapsed) else { return };
        stray.maybe_done = true;
        self.last_forward += 1;
        let n = self.last_forward;
        self.forwards.insert(n, Forward { stray, to: coordinator, sent: now });
        self.env.out.send(coordinator, PeerMessage::Forward { n, request });
    }

    /// Sends a request that was passed on again, under its number: an answer to any of the tries is good.
    fn forward_again(&mut self, n: u64) {
        let now = self.env.now.time;
        let Some(forward) = self.forwards.get_mut(&n) else { return };
        let elapsed = now.since(forward.stray.since);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        match request_of(&forward.stray.ask, elapsed_ms).filter(|_| elapsed <= STRAY_FOR) {
            Some(request) => {
                forward.sent = now;
                self.env.out.send(forward.to, PeerMessage::Forward { n, request });
            }
            None => {
                let stray = self.forwards.remove(&n).expect("looked up above").stray;
                self.give_up(stray);
            }
        }
    }

    fn give_up(&mut self, stray: Stray) {
        stray.put_off(&mut self.env, "no coordinator has answered in time, retry".to_owned());
    }

    fn on_forward_reply(&mut self, from: ServerId, n: u64, reply: Reply) {
        match reply {
            Reply::Moved { view } => {
                if view > self.newest {
                    self.want_view(from);
                }
            }
            // Asked again after a moment.
            Reply::Busy { .. } | Reply::Unknown { .. } => {}
            reply => {
                if let Some(forward) = self.forwards.remove(&n) {
                    self.env.reply(forward.stray.to, reply);
                }
            }
        }
    }

    fn on_peer_linked(&mut self, server: ServerId, restarted: bool) {
        for copy in &mut self.copies {
            copy.on_peer_linked(&mut self.env, server, restarted);
        }
    }

    fn want_view(&mut self, from: ServerId) {
        let now = self.env.now.time;
        if self.wanted.get(&from).is_none_or(|&at| now.since(at) >= WANT_VIEW_AGAIN) {
            self.wanted.insert(from, now);
            self.env.out.send(from, PeerMessage::WantView { have: self.env.view.number });
        }
    }

    fn on_peer(&mut self, from: Sender, message: PeerMessage) {
        let known = self.incarnations.entry((from.server, from.store)).or_insert(from.incarnation);
        // Of a former process.
        if from.incarnation < *known {
            return;
        }
        if from.incarnation > *known {
            *known = from.incarnation;
            self.on_peer_linked(from.server, true);
        }
        match message {
            PeerMessage::Ping { n, view } => self.on_ping(from.server, n, view),
            PeerMessage::Pong { n, view } => self.on_pong(from.server, n, view),
            PeerMessage::View { json } => {
                if let Ok(view) = serde_json::from_slice::<View>(&json) {
                    self.on_view(Arc::new(view));
                }
            }
            PeerMessage::WantView { have } => {
                if have < self.env.view.number {
                    self.env.send_view(from.server);
                }
            }
            PeerMessage::Forward { n, request } => self.on_forward(from.server, n, request),
            PeerMessage::ForwardReply { n, reply } => self.on_forward_reply(from.server, n, reply),
            message => self.on_partition_message(from, message),
        }
    }

    /// L1: no promise while a newer view is known than the one that the holder acts by.
    fn on_ping(&mut self, from: ServerId, n: u64, view: Epoch) {
        let own = self.env.view.number;
        if view < self.newest && !self.env.mutated(Mutation::PromiseToOldView) {
            if view < own {
                self.env.send_view(from);
            }
            return;
        }
        if view > self.newest {
            self.want_view(from);
        }
        self.env.leases.on_promise(from, self.env.now.time);
        self.env.out.send(from, PeerMessage::Pong { n, view: own });
    }

    fn on_pong(&mut self, from: ServerId, n: u64, view: Epoch) {
        if view > self.env.view.number && !self.env.mutated(Mutation::PromiseToOldView) {
            return self.want_view(from);
        }
        self.env.leases.on_pong(from, n, view, self.env.now.time);
        self.env.touched.extend(self.busy.iter().copied());
    }

    fn on_forward(&mut self, from: ServerId, n: u64, request: Request) {
        let to = ReplyTo::Peer { server: from, n };
        let Some(ask) = ask_of(request) else {
            let reason = "only requests for data are passed on".to_owned();
            return self.env.reply(to, Reply::Refused { reason });
        };
        let now = self.env.now.time;
        match (coordinator_of(&self.env.view, &ask), partition_of(&self.env.view, &ask)) {
            (Some(coordinator), Some(partition)) if self.env.is_me(coordinator) => {
                let stray = Stray { to, ask, since: now, maybe_done: false };
                self.with(partition, |copy, env| copy.on_ask(env, stray));
            }
            _ => {
                let view = self.env.view.number;
                self.env.reply(to, Reply::Moved { view });
            }
        }
    }

    /// Messages about one partition: of an older epoch, the sender is told the newer view; of a newer one, it is
    /// asked for it.
    fn on_partition_message(&mut self, from: Sender, message: PeerMessage) {
        let Some((partition, epoch)) = subject(&message) else { return };
        let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else {
            return self.want_view(from.server);
        };
        if epoch > copy.epoch {
            return self.want_view(from.server);
        }
        let asks = !matches!(
            message,
            PeerMessage::Ack { .. }
                | PeerMessage::Gap { .. }
                | PeerMessage::SyncReply { .. }
                | PeerMessage::SnapshotAck { .. }
                | PeerMessage::ReadIndexReply { .. }
        );
        if epoch < copy.epoch && !self.env.mutated(Mutation::OldEpochAccepted) {
            if asks {
                self.env.send_view(from.server);
            }
            return;
        }
        let assignment = self.env.view.assignment(partition);
        let is_coordinator = assignment.is_some_and(|a| a.coordinator == from.server);
        let env = &mut self.env;
        env.touched.insert(partition);
        let foreign = !is_coordinator && !env.mutated(Mutation::OldEpochAccepted);
        match message {
            PeerMessage::SyncReply { base, last, runs, .. } => {
                copy.on_sync_reply(env, from, base, last, &runs)
            }
            PeerMessage::Ack { seq, clean, .. } => copy.on_ack(env, from, seq, clean),
            PeerMessage::Gap { last, .. } => copy.on_gap(env, from, last),
            PeerMessage::ReadIndex { n, .. } => copy.on_read_index(env, from.server, n),
            PeerMessage::SnapshotAck { transfer, next, installed, .. } => {
                copy.on_snapshot_ack(env, from.server, transfer, next, installed);
            }
            // The rest comes from the coordinator of the epoch or from nobody.
            _ if foreign => {}
            PeerMessage::SyncRequest { .. } => copy.on_sync_request(env, from.server),
            PeerMessage::Append { sync, prev, commit, entries, .. } => {
                copy.on_append(env, from, Append { sync, prev, commit, entries });
            }
            PeerMessage::SnapshotBegin { transfer, base, state, .. } => {
                copy.on_snapshot_begin(env, from.server, transfer, base, state);
            }
            PeerMessage::SnapshotChunk { transfer, index, pairs, done, .. } => {
                copy.on_snapshot_chunk(env, from.server, (transfer, index, pairs, done));
            }
            PeerMessage::ReadIndexReply { n, commit, .. } => copy.on_read_index_reply(env, n, commit),
            _ => {}
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
        for &partition in &self.busy {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            copy.on_tick(&mut self.env);
        }
        let due = |forward: &Forward| now.since(forward.sent) >= FORWARD_AGAIN;
        let due: Vec<u64> =
            self.forwards.iter().filter(|(_, forward)| due(forward)).map(|(n, _)| *n).collect();
        for n in due {
            self.forward_again(n);
        }
    }

    /// One way: what has changed since the last one. The shell adds load figures.
    fn heartbeat(&mut self) {
        let mut copies = Vec::new();
        for partition in std::mem::take(&mut self.changed) {
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
    }
}

/// What a partition's message is about.
fn subject(message: &PeerMessage) -> Option<(PartitionId, Epoch)> {
    match message {
        PeerMessage::SyncRequest { partition, epoch }
        | PeerMessage::SyncReply { partition, epoch, .. }
        | PeerMessage::Append { partition, epoch, .. }
        | PeerMessage::Ack { partition, epoch, .. }
        | PeerMessage::Gap { partition, epoch, .. }
        | PeerMessage::SnapshotBegin { partition, epoch, .. }
        | PeerMessage::SnapshotChunk { partition, epoch, .. }
        | PeerMessage::SnapshotAck { partition, epoch, .. }
        | PeerMessage::ReadIndex { partition, epoch, .. }
        | PeerMessage::ReadIndexReply { partition, epoch, .. } => Some((*partition, *epoch)),
        _ => None,
    }
}

/// The partition that a request is about; none before the first view.
fn partition_of(view: &View, ask: &Ask) -> Option<PartitionId> {
    if view.assignments.is_empty() {
        return None;
    }
    match ask {
        Ask::Write { operation, .. } => operation.key().map(|key| view.partitions.of_key(key)),
        Ask::Read(Query::Get { key }) => Some(view.partitions.of_key(key)),
        Ask::Read(Query::Scan { partition, .. }) => Some(*partition),
        Ask::Read(Query::Nothing) => None,
    }
}

fn coordinator_of(view: &View, ask: &Ask) -> Option<ServerId> {
    partition_of(view, ask).and_then(|partition| view.assignment(partition)).map(|found| found.coordinator)
}

/// What is refused before anything else is looked at.
fn check(ask: &Ask, value_bytes_max: usize, view: &View) -> Result<(), String> {
    match ask {
        Ask::Write { operation, .. } if operation.key().is_none() => {
            Err("this is no operation on a key".to_owned())
        }
        Ask::Write { operation, .. } => operation.check(value_bytes_max).map_err(|error| error.to_string()),
        Ask::Read(Query::Get { key }) => common::operation::check_key(key).map_err(|error| error.to_string()),
        Ask::Read(Query::Scan { partition, .. })
            if !view.assignments.is_empty() && usize::from(partition.0) >= view.partitions.count() =>
        {
            Err(format!("partition {partition} does not exist; there are {}", view.partitions.count()))
        }
        Ask::Read(_) => Ok(()),
    }
}

/// What a client's request asks of the data; none for requests about the server.
#[must_use]
pub fn ask_of(request: Request) -> Option<Ask> {
    Some(match request {
        Request::Write { origin, age_ms, operation } => {
            Ask::Write { origin: Some(origin), age_ms, operation }
        }
        Request::Get { key } => Ask::Read(Query::Get { key }),
        Request::Scan { partition, after, prefix, limit } => {
            Ask::Read(Query::Scan { partition, after, prefix, limit })
        }
        Request::View {} | Request::Status {} => return None,
    })
}

/// The request that passes an ask on.
fn request_of(ask: &Ask, elapsed_ms: u64) -> Option<Request> {
    Some(match ask.clone() {
        Ask::Write { origin, age_ms, operation } => {
            Request::Write { origin: origin?, age_ms: age_ms.saturating_add(elapsed_ms), operation }
        }
        Ask::Read(Query::Get { key }) => Request::Get { key },
        Ask::Read(Query::Scan { partition, after, prefix, limit }) => {
            Request::Scan { partition, after, prefix, limit }
        }
        Ask::Read(Query::Nothing) => return None,
    })
}

/// Stored pairs, as transfers carry them.
pub type StoredPairs = Vec<(Bytes, Bytes)>;
