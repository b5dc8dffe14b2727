//! A server around its core: the inbox, the disk, the store and the clock, as the real shell has them, but by events.
//!
//! Inputs are taken in batches. What the core wants of the store is done in order, one thing after the other, each
//! after a delay. A crash forgets all but the disk; a pause delays all that happens here.

pub(crate) mod clients;
mod losses;
mod storing;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::{ClientId, Epoch, Incarnation, LogId, Nonce, PartitionId, Seq, ServerId, StoreId};
use common::messages::{ProcessId, ServerReport};
use common::status::Health;
use common::time::{Now, Time, WallTime};
use common::view::View;
use kvserver_core::{Config, CopyFacts, Effect, First, Input, Later, Node, PlantedBug, TICK};

use super::disk::{Disk, Image};
use super::net::Place;
use super::process::Process;
use super::scenario::Scenario;
use super::timeline::{Event, MS, Micros, SECOND, Timeline};
use super::truth::Truth;

/// What a server reports about its disk, whatever the state of the disk.
#[derive(Debug, Default)]
pub(crate) struct Gray {
    pub(crate) slow_until: Micros,
    pub(crate) full_until: Micros,
}

impl Gray {
    fn reported(&self, now: Micros) -> (Health, u64) {
        const RESERVE: u64 = 1000;
        let (slow, disk_full) = (now < self.slow_until, now < self.full_until);
        let sync_us = Some(if slow { 300 * MS } else { 2 * MS });
        let free_bytes = if disk_full { RESERVE } else { 4 * RESERVE };
        let health = Health { disk_full, reserve_bytes: Some(RESERVE), sync_us, ..Health::default() };
        (health, free_bytes)
    }
}

/// Times that the timer is slower than the core wants, at most.
const TICKS_MAX: u64 = 4;

/// What is reported about a bad disk.
pub(crate) const FLIPPED_BIT: &str = "a flipped bit";

/// The wall clock at the beginning.
pub(crate) const WALL_BEGIN_MS: u64 = 1_700_000_000_000;

/// What a right wall clock says, in milliseconds.
fn right(now: Micros) -> u64 {
    WALL_BEGIN_MS + now / MS
}

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

/// No partition has this epoch.
const NEVER: Epoch = Epoch { generation: u32::MAX, version: 0 };

/// What a copy of a directory lacks while its original may still acknowledge something.
const OPEN: LogId = LogId { tag: NEVER, seq: Seq(u64::MAX) };

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
    /// Until then no sync succeeds, and no process starts.
    pub(crate) fails_until: Micros,
    /// It is noted that the store failed: it is not used again (R3).
    pub(crate) condemned: bool,
    /// Its process waits with a store that failed or is damaged.
    pub(crate) waits: bool,
    /// The ECS has said that the store with which it waits is to be kept.
    pub(crate) keeps: bool,
    incarnation: Incarnation,
    nonce: Nonce,
    config: Config,
    clock_offset: Micros,
    /// Parts per million that its clock is fast.
    clock_drift: i64,
    wall_offset_ms: u64,
    /// How far its wall clock has jumped.
    pub(crate) wall_jump_ms: i64,
    /// When its process started.
    pub(crate) started: Micros,
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
    pub(crate) gray: Gray,
    /// The ECS refuses the process: its directory is an older copy of itself.
    pub(crate) refused: bool,
    /// The number of the last view that it used and that named its process.
    pub(crate) named_in: Epoch,
    /// The view before which others that were named with its id are known.
    pub(crate) judged_in: Epoch,
    /// It has left as planned, or is to.
    pub(crate) gone: bool,
    pub(crate) leaving: bool,
    /// Its disk is lost.
    pub(crate) lost: bool,
    /// The number of the newest view that it used, over restarts.
    used: Epoch,
    /// By partition, over restarts.
    epochs: Vec<Epoch>,
    /// Earlier moments of its disk, with the incarnation of each, that it may go back to.
    saved: Vec<(Incarnation, Image)>,
    saves: f64,
    /// Partitions in which its disk has lost entries that it had acknowledged, perhaps: the newest epoch then, and the
    /// last entry of its log. It is whole again when it has that entry, or is in step in a later epoch.
    hollow: BTreeMap<PartitionId, (Epoch, LogId)>,
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
            fails_until: 0,
            condemned: false,
            waits: false,
            keeps: false,
            incarnation: Incarnation(0),
            nonce: Nonce(0),
            config,
            clock_offset: line.between(0, 1_000 * SECOND),
            clock_drift: drift - drift_max as i64,
            wall_offset_ms: line.between(0, 400),
            wall_jump_ms: 0,
            started: 0,
            slow: scenario.slow,
            trims: scenario.trims,
            compares: scenario.compares,
            tick: line.between(1, TICKS_MAX) * u64::try_from(TICK.as_micros()).expect("short"),
            life: 0,
            process: None,
            disk: Disk::new(scenario.batches_kept),
            paused: false,
            held: Vec::new(),
            misreads_until: 0,
            gray: Gray::default(),
            refused: false,
            named_in: Epoch::default(),
            judged_in: Epoch::default(),
            gone: false,
            leaving: false,
            lost: false,
            used: Epoch::default(),
            epochs: Vec::new(),
            saved: Vec::new(),
            saves: scenario.saves,
            hollow: BTreeMap::new(),
            readers: Vec::new(),
            lone: Vec::new(),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("s{}:1", self.index)
    }

    pub(crate) fn sender(&self) -> ProcessId {
        ProcessId { server: self.id, store: self.store, incarnation: self.incarnation, nonce: self.nonce }
    }

    pub(crate) fn time(&self, now: Micros) -> Time {
        let skew = now as i64 / 1_000 * self.clock_drift / 1_000;
        Time(self.clock_offset + now.saturating_add_signed(skew))
    }

    fn now(&self, now: Micros) -> Now {
        let wall = right(now) + self.wall_offset_ms;
        Now { time: self.time(now), wall: WallTime(wall.saturating_add_signed(self.wall_jump_ms)) }
    }

    pub(crate) fn facts(&self, partition: PartitionId, now: Micros) -> Option<CopyFacts> {
        self.process.as_ref().and_then(|process| process.node.facts(partition, self.time(now)))
    }

    /// A new process starts with the data on disk.
    pub(crate) fn start(&mut self, line: &mut Timeline) {
        assert!(self.process.is_none() && !self.waits, "started twice");
        self.life += 1;
        // A machine that starts has set its clock.
        (self.wall_jump_ms, self.started) = (0, line.now);
        // A new process takes a wish to leave back.
        self.leaving = false;
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        self.nonce = Nonce(self.life << 6 | self.index as u64);
        if self.must_wait() {
            return self.wait(line);
        }
        let (copies, trees) = self.disk.recover();
        let view = self.disk.durable.view.clone();
        let known = view.as_ref().map_or(Epoch::default(), |view| view.number);
        assert!(known >= self.used, "I1: the view in use was not on disk before its use");
        let session = u128::from(line.rng.u64(..)) << 8 | self.index as u128;
        let config = Config { session: ClientId(session), ..self.config.clone() };
        let node = Node::new(config, self.sender(), view, copies, self.now(line.now));
        let applies_again = self.config.bug == Some(PlantedBug::RetryAppliedAgain);
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
        (self.paused, self.waits) = (false, false);
        (self.disk_fault, self.failed) = (None, None);
        self.held.clear();
        self.disk.crash(&mut line.rng);
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
        self.check_progress(line.now, truth);
    }

    /// I1 and I4 at this server: nothing goes back. Notes what may be read.
    fn check_progress(&mut self, now: Micros, truth: &mut Truth) {
        let time = self.time(now);
        let Some(process) = &mut self.process else { return };
        let partitions = process.node.view().assignments.len();
        self.epochs.resize(partitions, Epoch::default());
        process.seen.resize(partitions, (0, 0));
        for (index, partition) in process.node.view().partitions.all().take(partitions).enumerate() {
            let Some(facts) = process.node.facts(partition, time) else { continue };
            if facts.active {
                truth.on_active(partition, facts.epoch);
            }
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
            Effect::First(First::Persist { ticket, records }) => self.persist(line, truth, ticket, records),
            Effect::First(First::PersistView { ticket, view }) => {
                self.disk.write_view(ticket, view);
                self.sync(line);
            }
            Effect::Later(Later::Adopted { view }) => self.on_adopted(truth, &view),
            Effect::First(First::Send { to, message }) => {
                // Where the view says that it listens; a server that no view names is where it was first.
                let view = self.process.as_ref().map(|process| process.node.view());
                let info = view.and_then(|view| view.servers.get(&to));
                let to = info.map_or(home_of(to), |info| place_of(&info.address));
                let event = Event::Peer { to, from: self.sender(), message };
                line.send(Place::Server(self.index), Place::Server(to), event);
            }
            Effect::Later(Later::Report { report }) => {
                truth.copies_failed += u64::from(matches!(report, ServerReport::CopyFailed { .. }));
                self.report(line, report);
            }
            Effect::Later(Later::Reply { token, reply }) => self.reply(line, truth, token, reply),
            Effect::Later(Later::PinLog { partition, from }) => {
                let Some(process) = &mut self.process else { return };
                match from {
                    Some(from) => process.pins.insert(partition, from),
                    None => process.pins.remove(&partition),
                };
            }
            // Copies are never different here: only a wrong digest, or a bad disk, may make a server say so.
            Effect::Later(Later::Alarm { reason }) => {
                let harmless = ["wall clock", "has left the cluster", "an old copy of its directory"];
                let is_harmless = harmless.iter().any(|part| reason.contains(part));
                let is_kept_aside = reason.contains("joins no more with this directory");
                assert!(
                    is_harmless || is_kept_aside || truth.misread || truth.goes_back,
                    "server {}: {reason}",
                    self.index
                );
                assert!(!reason.starts_with("COPIES DISAGREE"), "P2: {reason}");
                if is_kept_aside {
                    truth.kept_aside.push(reason);
                }
            }
            Effect::Later(Later::Warn { reason }) if reason.contains("wall clock") => {}
            Effect::Later(Later::Condemn { .. }) => self.failed = Some(DiskFault::Rot),
            Effect::Later(Later::Stop { reason }) => {
                assert!(truth.goes_back, "server {} stops: {reason}", self.index);
                self.refused = true;
            }
            Effect::Later(Later::Fatal { reason }) => panic!("server {} stops: {reason}", self.index),
            work => self.enqueue(line, work),
        }
    }

    fn on_adopted(&mut self, truth: &mut Truth, view: &Arc<View>) {
        truth.on_view(view);
        assert!(view.number > self.used || self.used == view.number, "I1: the view went back");
        let durable = self.disk.durable.view.as_ref().map(|view| view.number);
        assert!(durable >= Some(view.number), "I1: a view is used before it is on disk");
        self.used = view.number;
        if view.servers.get(&self.id).is_some_and(|info| info.process(self.id) == self.sender()) {
            self.named_in = view.number;
            self.on_named(view);
        }
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

    fn report(&mut self, line: &mut Timeline, mut report: ServerReport) {
        if let ServerReport::Heartbeat { health, free_bytes, .. } = &mut report {
            (*health, *free_bytes) = self.gray.reported(line.now);
        }
        if self.process.as_ref().is_some_and(|process| process.linked.is_some()) {
            if matches!(report, ServerReport::Propose { .. }) {
                line.after(0, Event::Proposed { server: self.index });
            }
            let event = Event::Report { sender: self.sender(), report };
            line.send_in_order(Place::Server(self.index), Place::Ecs, event);
        }
    }
}

/// The place of a server that was given its id there: indices are in the lower half of the ids.
pub(crate) fn home_of(server: ServerId) -> usize {
    (server.0 & u128::from(u64::MAX)) as usize - 1
}

/// The place with an address.
pub(crate) fn place_of(address: &str) -> usize {
    let digits = address.strip_prefix('s').and_then(|rest| rest.split(':').next());
    digits.and_then(|digits| digits.parse().ok()).expect("an address as servers give it")
}
