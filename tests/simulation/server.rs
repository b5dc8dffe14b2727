//! A server around its core: the inbox, the disk, the store and the clock, as the real shell has them, but by events.
//!
//! Inputs are taken in batches. What the core wants of the store is done in order, one thing after the other, each
//! after a delay. A crash forgets all but the disk; a pause delays all that happens here.

use std::sync::Arc;

use common::ids::{ClientId, Epoch, Incarnation, LogId, PartitionId, Seq, ServerId, StoreId};
use common::messages::{Reply, Sender, ServerReport};
use common::operation::{Outcome, PartOutcome};
use common::time::{Now, Time, WallTime};
use common::view::View;
use kvserver::core::{
    Answer, Ask, Config, CopyFacts, Effect, Input, LogRecord, Mutation, Node, Query, TICK, Ticket, Token,
};

use super::disk::Disk;
use super::net::Place;
use super::process::{Process, Waiting};
use super::scenario::Scenario;
use super::timeline::{Event, MS, Micros, SECOND, Timeline};
use super::truth::Truth;

/// Times that the timer is slower than the core wants, at most.
const TICKS_MAX: u64 = 4;

/// What is told of a bad disk.
pub(crate) const FLIPPED_BIT: &str = "a flipped bit";

/// The wall clock at the beginning.
pub(crate) const WALL_BEGIN_MS: u64 = 1_700_000_000_000;

/// How a server's disk is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// The next write finds no room: the process stops and may come back with all that was synced.
    Full,
    /// The next sync fails: the process stops, and its store is not used again (R3).
    Sync,
    /// What is read next is not what was written: the same.
    Rot,
}

/// See the module's text.
pub(crate) struct Server {
    pub(crate) index: usize,
    pub(crate) id: ServerId,
    pub(crate) store: StoreId,
    /// Stores that it has had.
    stores: u128,
    /// Its disk is to fail, or has failed and the process is about to stop.
    pub(crate) disk_fault: Option<DiskFault>,
    pub(crate) failed: Option<DiskFault>,
    incarnation: Incarnation,
    config: Config,
    clock_offset: Micros,
    /// Parts per million that its clock is fast.
    clock_drift: i64,
    wall_offset_ms: u64,
    /// Share of syncs and of the store's works that are slow.
    pub(crate) slow: f64,
    trims: bool,
    compares: f64,
    /// Between two of its timer's events: under load a timer is late.
    tick: Micros,
    /// Counts starts and stops: events of a former process are dropped.
    pub(crate) life: u64,
    pub(crate) process: Option<Process>,
    pub(crate) disk: Disk,
    pub(crate) paused: bool,
    /// What happened to it during a pause.
    held: Vec<Event>,
    /// Until then the digests of its copies come out wrong.
    pub(crate) misreads_until: Micros,
    /// It has left as planned, or is to.
    pub(crate) gone: bool,
    pub(crate) leaving: bool,
    /// Its disk is lost.
    pub(crate) lost: bool,
    /// The number of the newest view that it used, over restarts.
    used: Epoch,
    /// By partition, over restarts.
    epochs: Vec<Epoch>,
    /// After the last batch: partitions that it may read as their coordinator, and how far they are applied.
    pub(crate) readers: Vec<(PartitionId, u64)>,
    /// And those that it may read alone as a replica.
    pub(crate) lone: Vec<PartitionId>,
}

impl Server {
    pub(crate) fn new(index: usize, config: Config, scenario: &Scenario, line: &mut Timeline) -> Self {
        let drift_max = scenario.drift_max;
        let drift = i64::try_from(line.between(0, 2 * drift_max)).expect("small");
        let random = u128::from(line.rng.u64(..));
        Self {
            index,
            id: ServerId((random << 64) | (index as u128 + 1)),
            store: StoreId(index as u128 + 1),
            stores: 0,
            disk_fault: None,
            failed: None,
            incarnation: Incarnation(0),
            config,
            clock_offset: line.between(0, 1_000 * SECOND),
            clock_drift: drift - drift_max as i64,
            wall_offset_ms: line.between(0, 400),
            slow: scenario.slow,
            trims: scenario.trims,
            compares: scenario.compares,
            tick: line.between(1, TICKS_MAX) * u64::try_from(TICK.as_micros()).expect("short"),
            life: 0,
            process: None,
            disk: Disk::default(),
            paused: false,
            held: Vec::new(),
            misreads_until: 0,
            gone: false,
            leaving: false,
            lost: false,
            used: Epoch::default(),
            epochs: Vec::new(),
            readers: Vec::new(),
            lone: Vec::new(),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("s{}:1", self.index)
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender { server: self.id, store: self.store, incarnation: self.incarnation }
    }

    pub(crate) fn time(&self, now: Micros) -> Time {
        let skew = now as i64 / 1_000 * self.clock_drift / 1_000;
        Time(self.clock_offset + now.saturating_add_signed(skew))
    }

    fn now(&self, now: Micros) -> Now {
        Now { time: self.time(now), wall: WallTime(WALL_BEGIN_MS + self.wall_offset_ms + now / MS) }
    }

    pub(crate) fn facts(&self, partition: PartitionId, now: Micros) -> Option<CopyFacts> {
        self.process.as_ref().and_then(|process| process.node.facts(partition, self.time(now)))
    }

    /// A new process finds what is on disk.
    pub(crate) fn start(&mut self, line: &mut Timeline) {
        assert!(self.process.is_none(), "started twice");
        self.life += 1;
        // A new process takes a wish to leave back.
        self.leaving = false;
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        let (copies, trees) = self.disk.recover();
        let view = self.disk.durable.view.clone();
        let known = view.as_ref().map_or(Epoch::default(), |view| view.number);
        assert!(known >= self.used, "I1: the view in use was not on disk before its use");
        let session = u128::from(line.rng.u64(..)) << 8 | self.index as u128;
        let config = Config { session: ClientId(session), ..self.config.clone() };
        let node = Node::new(config, self.sender(), view, copies, self.now(line.now));
        let applies_again = self.config.mutation == Some(Mutation::RetryAppliedAgain);
        self.process = Some(Process::new(node, trees, applies_again));
        line.note(|| format!("  s{} starts, view {known}", self.index));
        let (server, life) = (self.index, self.life);
        self.wake(line);
        let first = line.between(0, 10 * MS);
        line.after(first, Event::Tick { server, life });
        let first = line.between(10 * MS, 300 * MS);
        line.after(first, Event::Housekeeping { server, life });
    }

    /// The process dies; what was not synced may be gone.
    pub(crate) fn crash(&mut self, line: &mut Timeline) {
        self.process = None;
        self.life += 1;
        self.paused = false;
        (self.disk_fault, self.failed) = (None, None);
        self.held.clear();
        self.disk.crash(&mut line.rng);
    }

    /// The store is lost, or must not be used again: what comes back has nothing, and says so by another store id.
    pub(crate) fn wipe(&mut self) {
        assert!(self.process.is_none(), "wiped under a running process");
        self.disk = Disk::default();
        // What was used before is of the former store.
        (self.used, self.epochs) = (Epoch::default(), Vec::new());
        if self.config.mutation != Some(Mutation::WipedKeepsIdentity) {
            self.stores += 1;
            self.store = StoreId((self.stores << 64) | (self.index as u128 + 1));
        }
    }

    /// The process finds that its disk has failed: it does nothing more.
    fn fail(&mut self, fault: DiskFault) -> bool {
        let fails = self.disk_fault == Some(fault) && self.process.is_some();
        if fails {
            self.failed = self.disk_fault.take();
        }
        fails
    }

    /// Keeps an event for the end of a pause.
    pub(crate) fn hold(&mut self, event: Event) {
        self.held.push(event);
    }

    pub(crate) fn resume(&mut self, line: &mut Timeline) {
        self.paused = false;
        for event in std::mem::take(&mut self.held) {
            line.after(0, event);
        }
    }

    /// Something came in.
    pub(crate) fn take(&mut self, line: &mut Timeline, input: Input) {
        if let Some(process) = &mut self.process {
            process.inbox.push(input);
            self.wake(line);
        }
    }

    /// A client asks; nobody answers while there is no process.
    pub(crate) fn take_request(&mut self, line: &mut Timeline, client: usize, call: u64, ask: Ask) {
        let Some(process) = &mut self.process else {
            let delay = line.net.delay(&mut line.rng);
            return line.after(delay, Event::Response { client, call, reply: None });
        };
        process.last_token += 1;
        let token = Token(process.last_token);
        let key = match &ask {
            Ask::Write { operation, .. } => operation.key(),
            Ask::Read(Query::Get { key, .. }) => Some(key),
            Ask::Read(_) | Ask::Watch(_) => None,
        };
        let view = process.node.view();
        let scanned = match &ask {
            Ask::Read(Query::Scan { partition, .. }) => Some(*partition),
            _ => None,
        };
        let partition = scanned.or(key.map(|key| view.partitions.of_key(key)));
        let partition = partition.filter(|_| !view.assignments.is_empty());
        process.waiting.insert(token, Waiting { client, call, partition });
        process.inbox.push(Input::Client { token, ask });
        self.wake(line);
    }

    fn wake(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        if let Some(process) = &mut self.process
            && !std::mem::replace(&mut process.running, true)
        {
            // Mostly at once; some times more comes in until then.
            if line.chance(0.3) {
                let delay = line.between(0, 150);
                line.after(delay, Event::Run { server, life });
            } else {
                line.ready.push(server);
            }
        }
    }

    /// One batch.
    pub(crate) fn run(&mut self, line: &mut Timeline, truth: &mut Truth) {
        let now = self.now(line.now);
        self.readers.clear();
        self.lone.clear();
        let Some(process) = &mut self.process else { return };
        process.running = false;
        let mut only_ticks = true;
        for input in process.inbox.drain(..) {
            only_ticks &= matches!(input, Input::Tick);
            process.node.step(now, input);
        }
        let effects = process.node.effects();
        if only_ticks && effects.is_empty() {
            // Nothing has come of it, so nothing can have become wrong.
            return;
        }
        process.node.invariants();
        for effect in effects {
            self.carry_out(line, truth, effect);
        }
        self.check_progress(line.now);
    }

    /// I1 and I4 at this server: nothing goes back. Notes what may be read.
    fn check_progress(&mut self, now: Micros) {
        let time = self.time(now);
        let Some(process) = &mut self.process else { return };
        let partitions = process.node.view().assignments.len();
        self.epochs.resize(partitions, Epoch::default());
        process.seen.resize(partitions, (0, 0));
        for (index, partition) in process.node.view().partitions.all().take(partitions).enumerate() {
            let Some(facts) = process.node.facts(partition, time) else { continue };
            if facts.may_read {
                self.readers.push((partition, facts.applied));
            }
            if facts.has_read_lease {
                self.lone.push(partition);
            }
            let epoch = &mut self.epochs[index];
            assert!(facts.epoch >= *epoch, "I1: the epoch of partition {partition} went back");
            *epoch = facts.epoch;
            assert!(facts.applied <= facts.commit, "I4: applied and not committed");
            let seen = &mut process.seen[index];
            let back = facts.commit < seen.0 || facts.applied < seen.1;
            // A dropped copy begins anew.
            assert!(!back || facts.last == 0, "I4: commit or applied of partition {partition} went back");
            *seen = (facts.commit, facts.applied);
        }
    }

    fn carry_out(&mut self, line: &mut Timeline, truth: &mut Truth, effect: Effect) {
        if self.failed.is_some() {
            return;
        }
        line.note(|| format!("    s{}: {effect:?}", self.index));
        match effect {
            Effect::Persist { ticket, records } => self.persist(line, truth, ticket, records),
            Effect::PersistView { ticket, view } => {
                self.disk.write_view(ticket, view);
                self.sync(line);
            }
            Effect::Adopted { view } => self.on_adopted(truth, &view),
            Effect::Send { to, message } => {
                // Indices are in the lower half of the ids.
                let to = (to.0 & u128::from(u64::MAX)) as usize - 1;
                let event = Event::Peer { to, from: self.sender(), message };
                line.send(Place::Server(self.index), Place::Server(to), event);
            }
            Effect::Report { report } => {
                truth.copies_failed += u64::from(matches!(report, ServerReport::CopyFailed { .. }));
                self.report(line, report);
            }
            Effect::Reply { token, reply } => self.reply(line, truth, token, reply),
            Effect::PinLog { partition, from } => {
                let Some(process) = &mut self.process else { return };
                match from {
                    Some(from) => process.pins.insert(partition, from),
                    None => process.pins.remove(&partition),
                };
            }
            // Copies are never different here: only a wrong digest, or a bad disk, may make a server say so.
            Effect::Alarm { reason } => assert!(truth.misread, "server {}: {reason}", self.index),
            Effect::Condemn { .. } => self.failed = Some(DiskFault::Rot),
            Effect::Fatal { reason } => panic!("server {} stops: {reason}", self.index),
            work => self.enqueue(line, work),
        }
    }

    fn on_adopted(&mut self, truth: &mut Truth, view: &Arc<View>) {
        truth.on_view(view);
        assert!(view.number > self.used || self.used == view.number, "I1: the view went back");
        let durable = self.disk.durable.view.as_ref().map(|view| view.number);
        assert!(durable >= Some(view.number), "I1: a view is used before it is on disk");
        self.used = view.number;
    }

    fn persist(&mut self, line: &mut Timeline, truth: &mut Truth, ticket: Ticket, records: Vec<LogRecord>) {
        for (index, record) in records.iter().enumerate() {
            if let LogRecord::Entry { partition, entry } = record {
                let previous = previous_of(&self.disk, *partition, &records[..index], entry.id.seq);
                truth.on_written(*partition, previous, entry);
            }
        }
        if self.fail(DiskFault::Full) {
            return;
        }
        self.disk.write_records(ticket, records);
        self.sync(line);
    }

    /// Asks the disk to sync what is written, if it does not yet.
    fn sync(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        let Some(process) = &mut self.process else { return };
        let Some((first, last)) = self.disk.unsynced() else { return };
        if std::mem::replace(&mut process.syncing, true) {
            return;
        }
        // Two writes of one batch may be synced one after the other.
        let upto = if line.chance(0.2) { line.between(first, last) } else { last };
        let delay = if line.chance(self.slow) { line.between(1, 60) * MS } else { line.between(80, 900) };
        line.after(delay, Event::Synced { server, life, upto });
    }

    pub(crate) fn on_synced(&mut self, line: &mut Timeline, upto: u64) {
        if self.fail(DiskFault::Sync) {
            return;
        }
        let tickets = self.disk.sync(upto);
        let Some(process) = &mut self.process else { return };
        process.syncing = false;
        process.inbox.extend(tickets.into_iter().map(|ticket| Input::Durable { ticket }));
        self.wake(line);
        self.sync(line);
    }

    pub(crate) fn on_tick(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        line.after(self.tick, Event::Tick { server, life });
        self.take(line, Input::Tick);
    }

    /// Says hello to the ECS over a new link.
    pub(crate) fn link(&mut self, line: &mut Timeline, ecs_life: u64) {
        let address = self.address();
        let Some(process) = &mut self.process else { return };
        process.linked = Some(ecs_life);
        let hello = process.node.hello(address, 1);
        self.report(line, hello);
    }

    fn report(&mut self, line: &mut Timeline, report: ServerReport) {
        if self.process.as_ref().is_some_and(|process| process.linked.is_some()) {
            if matches!(report, ServerReport::Propose { .. }) {
                line.after(0, Event::Proposed { server: self.index });
            }
            let event = Event::Report { sender: self.sender(), report };
            line.send_in_order(Place::Server(self.index), Place::Ecs, event);
        }
    }

    fn reply(&mut self, line: &mut Timeline, truth: &mut Truth, token: Token, reply: Reply) {
        let Some(process) = &mut self.process else { return };
        let Some(Waiting { client, call, partition }) = process.waiting.remove(&token) else {
            panic!("server {}: a second answer to {token:?}", self.index)
        };
        if let (Reply::Outcome { outcome }, Some(partition)) = (&reply, partition)
            && let Some(version) = version_of(outcome)
        {
            truth.on_acknowledged(partition, version);
        }
        let coordinates = |partition: &PartitionId| {
            let assignment = process.node.view().assignment(*partition);
            assignment.is_some_and(|assignment| assignment.coordinator == self.id)
        };
        if let Reply::Moved { view } = reply
            && view == process.node.view().number
        {
            assert!(!partition.as_ref().is_some_and(coordinates), "a coordinator sends a client to itself");
        }
        let event = Event::Response { client, call, reply: Some(reply) };
        if line.net.passes(Place::Server(self.index), Place::Clients) {
            let delay = line.net.delay(&mut line.rng);
            line.after(delay, event);
        }
    }

    fn enqueue(&mut self, line: &mut Timeline, work: Effect) {
        let Some(process) = &mut self.process else { return };
        process.work.push_back(work);
        self.work_on(line);
    }

    fn work_on(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        let Some(process) = &mut self.process else { return };
        if process.work.is_empty() || std::mem::replace(&mut process.working, true) {
            return;
        }
        let delay = if line.chance(self.slow) { line.between(1, 80) * MS } else { line.between(0, 60) };
        line.after(delay, Event::Work { server, life });
    }

    /// The store does the next thing.
    pub(crate) fn on_work(&mut self, line: &mut Timeline, truth: &mut Truth) {
        let Some(process) = &mut self.process else { return };
        process.working = false;
        let Some(work) = process.work.pop_front() else { return };
        if matches!(work, Effect::ReadLog { .. }) && self.fail(DiskFault::Rot) {
            return;
        }
        let misreads = line.now < self.misreads_until;
        let rotten = self.disk_fault == Some(DiskFault::Rot);
        let Some(process) = &mut self.process else { return };
        let mut found = process.execute(&mut self.disk, truth, work, misreads);
        let reason = || FLIPPED_BIT.to_owned();
        match &mut found {
            Some(Input::Answered { answer, .. }) if rotten => *answer = Answer::Damaged(reason()),
            // Where the server goes on, a second reading is right.
            Some(Input::SnapshotRead { .. }) if rotten => {
                process.inbox.push(Input::Damaged { reason: reason() });
            }
            _ => {}
        }
        if matches!(found, Some(Input::Answered { .. } | Input::SnapshotRead { .. })) && rotten {
            (self.disk_fault, truth.misread) = (None, true);
        }
        process.inbox.extend(found);
        if line.chance(0.3) {
            process.finish_digest();
        }
        self.wake(line);
        self.work_on(line);
    }

    /// Flushes a tree, and drops the log below it, at random.
    pub(crate) fn on_housekeeping(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        let next = line.between(20 * MS, 400 * MS);
        line.after(next, Event::Housekeeping { server, life });
        let Some(process) = &mut self.process else { return };
        process.finish_digest();
        if process.trees.is_empty() {
            return;
        }
        let nth = line.rng.usize(0..process.trees.len());
        let (&partition, tree) = process.trees.iter().nth(nth).expect("within the map");
        if line.chance(self.compares) {
            process.inbox.push(Input::Compare { partition });
        }
        self.disk.flush(partition, tree.clone());
        if !self.trims || line.chance(0.3) {
            return;
        }
        let mut seq = tree.applied.seq;
        if let Some(pin) = process.pins.get(&partition) {
            seq = seq.min(Seq(pin.0.saturating_sub(1)));
        }
        if self.disk.trim(partition, seq) {
            process.inbox.push(Input::Trimmed { partition, seq });
            self.wake(line);
        }
        self.sync(line);
    }
}

/// The entry before place `seq`, when the records `before` it in its batch are written.
fn previous_of(disk: &Disk, partition: PartitionId, before: &[LogRecord], seq: Seq) -> LogId {
    let in_batch = before.iter().rev().find_map(|record| match record {
        LogRecord::Entry { partition: other, entry } if *other == partition && entry.id.seq.next() == seq => {
            Some(entry.id)
        }
        _ => None,
    });
    let log = disk.written.logs.get(&partition);
    in_batch.unwrap_or_else(|| {
        let before = Seq(seq.0 - 1);
        let known = log.and_then(|log| log.entries.get(&before).map(|entry| entry.id));
        known.unwrap_or_else(|| log.map(|log| log.base).unwrap_or_default())
    })
}

/// The entry that an outcome names as its own.
pub(crate) fn version_of(outcome: &Outcome) -> Option<LogId> {
    match outcome {
        Outcome::Written { version, .. }
        | Outcome::Appended { version, .. }
        | Outcome::Deleted { version }
        | Outcome::Changed { version, .. }
        | Outcome::Sum { version, .. } => Some(*version),
        Outcome::All { results } => results.iter().find_map(|PartOutcome(outcome)| version_of(outcome)),
        _ => None,
    }
}
