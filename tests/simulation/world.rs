//! One cluster from one seed: the ECS, the servers, the clients, the faults, and the checks after every step.
//!
//! First faults come and go, and only safety is checked. Then all of them end, and the cluster must recover
//! within a bound of virtual time (I8): every partition active, with all its copies, and every operation answered.

mod checks;
mod recovery;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytes::Bytes;
use common::ids::{PartitionId, ServerId};
use ecs_core::Input as EcsInput;
use kvserver_core::{COPY_FROM, Config, Input};

use super::client::Client;
use super::ecs_host::EcsHost;
use super::history::{self, Operated};
use super::net::Place;
use super::scenario::Scenario;
use super::search::{self, Verdict};
use super::server::{Server, home_of};
use super::timeline::{Event, MS, Micros, SECOND, Timeline};
use super::trace::Trace;
use super::truth::{Counts, Truth};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Faults,
    /// All faults ended at this time.
    Recovery(Micros),
    /// All is well since this time; the last operations are to be answered.
    Answers(Micros),
    Over,
}

/// What a run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Of all that happened.
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) operations: usize,
    pub(crate) committed: usize,
    /// Reports of copies that have failed.
    pub(crate) copies_failed: u64,
    pub(crate) counts: Counts,
    /// Keys whose search was given up as too large.
    pub(crate) unsearched: usize,
    /// Virtual time at the end.
    pub(crate) ended: Micros,
    /// It ended because a partition's last disk was lost.
    pub(crate) is_lost: bool,
}

/// See the module's text.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) line: Timeline,
    pub(crate) truth: Truth,
    pub(crate) ecs: EcsHost,
    pub(crate) servers: Vec<Server>,
    clients: Vec<Client>,
    /// Coordinators that are to be struck when they propose a member.
    pub(crate) strikes: u64,
    phase: Phase,
}

/// The run of a seed. A violation panics.
pub(crate) fn run(scenario: Scenario, seed: u64, trace: Trace) -> Summary {
    let mut world = World::new(scenario, seed, trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = outcome {
        world.line.note(|| "stopped here".to_owned());
        resume_unwind(panic);
    }
    world.finish()
}

/// Bytes of a handful of writes.
const FEW_BYTES: usize = 300;

/// Parts per million that a clock may be off by where stamps are to be right: stamps take up no more.
const CLOCK_DRIFT_MAX: u64 = 47_000;

impl World {
    fn new(scenario: Scenario, seed: u64, trace: Trace) -> Self {
        let mut line = Timeline::new(seed, trace);
        line.net.weather = scenario.weather;
        let config = Config {
            timers: scenario.timers,
            park: std::time::Duration::from_millis(line.between(300, 3_000)),
            reads: scenario.reads,
            // In some runs few writes fill what may wait. Not drawn: all else is as in the other runs.
            pending_bytes_max: if seed.is_multiple_of(5) { FEW_BYTES } else { usize::MAX },
            // Few writes are made for each partition; in some runs they are enough. Not drawn either.
            copy_from: match seed % 16 {
                11 => 2,
                13 => 12,
                _ => COPY_FROM,
            },
            bug: scenario.bug,
            ..Config::for_tests()
        };
        let first = line.rng.usize(scenario.servers.0..=scenario.servers.1);
        let all = first + scenario.spares;
        let servers: Vec<Server> =
            (0..all).map(|index| Server::new(index, config.clone(), &scenario, &mut line)).collect();
        let ecs = EcsHost::new(&scenario, &mut line);
        let keys: Vec<Bytes> = (0..scenario.keys).map(|key| format!("key{key}").into()).collect();
        let clients: Vec<Client> = (0..scenario.clients)
            .map(|index| Client::new(index, keys.clone(), &scenario, &mut line))
            .collect();
        line.after(0, Event::EcsStart);
        for server in 0..first {
            let at = line.between(0, 300 * MS);
            line.after(at, Event::Start { server });
        }
        for client in 0..clients.len() {
            let at = line.between(100 * MS, SECOND);
            line.after(at, Event::Wake { client });
        }
        let at = line.between(300 * MS, 2 * SECOND);
        line.after(at, Event::Fault);
        line.after(scenario.heal_at, Event::Heal);
        if scenario.stores_wait {
            line.after(SECOND, Event::TakeStoresBack);
        }
        let mut truth = Truth::default();
        truth.no_server_fails = scenario.no_server_fails;
        truth.clocks_run_right = scenario.drift_max <= CLOCK_DRIFT_MAX;
        Self { scenario, line, truth, ecs, servers, clients, strikes: 0, phase: Phase::Faults }
    }

    fn run(&mut self) {
        // Beyond the promise nothing more is to be shown but that it was said.
        while self.phase != Phase::Over && !self.truth.is_beyond {
            let event = self.line.next().expect("timers never end");
            self.handle(event);
            while let Some(server) = self.line.ready.pop() {
                self.run_server(server);
            }
            for server in 0..self.servers.len() {
                self.on_disk_failed(server);
                self.on_refused(server);
            }
            self.replace_those_aside();
            self.check_rests();
            self.check_copies();
        }
    }

    /// A server takes what came in, unless it stopped meanwhile.
    fn run_server(&mut self, server: usize) {
        self.servers[server].run(&mut self.line, &mut self.truth);
        self.check_readers(server);
        self.check_lone_readers(server);
    }

    /// Whom a pause keeps from an event.
    fn concerns(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Peer { to, .. }
            | Event::Linked { to, .. }
            | Event::View { to, .. }
            | Event::Refused { to, .. }
            | Event::Verdict { to, .. }
            | Event::Request { to, .. } => Some(*to),
            Event::Run { server, .. }
            | Event::Work { server, .. }
            | Event::Synced { server, .. }
            | Event::Tick { server, .. }
            | Event::Housekeeping { server, .. } => Some(*server),
            _ => None,
        }
    }

    /// It is about a process that is gone.
    fn is_stale(&self, event: &Event) -> bool {
        match event {
            Event::Run { server, life }
            | Event::Work { server, life }
            | Event::Synced { server, life, .. }
            | Event::Tick { server, life }
            | Event::AskVerdict { server, life }
            | Event::Housekeeping { server, life } => self.servers[*server].life != *life,
            Event::EcsTick { life, .. } | Event::EcsSynced { life, .. } => self.ecs.life != *life,
            _ => false,
        }
    }

    fn handle(&mut self, event: Event) {
        if let Some(server) = self.concerns(&event)
            && self.servers[server].paused
        {
            return self.servers[server].hold(event);
        }
        if self.is_stale(&event) {
            return;
        }
        if self.ecs.paused
            && matches!(
                event,
                Event::Report { .. }
                    | Event::LinkEnded { .. }
                    | Event::EcsTick { .. }
                    | Event::EcsSynced { .. }
            )
        {
            return self.ecs.held.push(event);
        }
        let Self { line, truth, servers, .. } = self;
        match event {
            Event::Peer { to, from, message } => servers[to].take(line, Input::Peer { from, message }),
            Event::Linked { to, other } => {
                let server = servers[other].id;
                servers[to].take(line, Input::PeerLinked { server });
            }
            Event::View { to, view } => servers[to].take(line, Input::View(view)),
            Event::Refused { to, process, refusal } => {
                if servers[to].sender() == process {
                    servers[to].take(line, Input::Refused(refusal));
                }
            }
            Event::Request { to, client, call, ask } => servers[to].take_request(line, client, call, ask),
            Event::Run { server, .. } => self.run_server(server),
            Event::Work { server, .. } => {
                self.servers[server].on_work(&mut self.line, &mut self.truth);
            }
            Event::Synced { server, upto, .. } => {
                self.servers[server].on_synced(&mut self.line, upto);
            }
            Event::Tick { server, .. } => self.on_tick(server),
            Event::Housekeeping { server, .. } => {
                self.servers[server].on_housekeeping(&mut self.line);
            }
            Event::Report { sender, report } => {
                self.ecs.step(line, truth, EcsInput::Report { sender, report });
            }
            Event::LinkEnded { sender } => self.ecs.step(line, truth, EcsInput::LinkEnded { sender }),
            Event::EcsTick { tick, .. } => self.ecs.on_tick(line, truth, tick),
            Event::EcsSynced { ticket, .. } => {
                self.ecs.on_synced(line, truth, ticket);
                self.stop_those_that_left();
            }
            Event::EcsRestored => self.ecs.restore(line, truth),
            Event::EcsStart => {
                if self.ecs.core.is_none() {
                    self.ecs.start(line, truth);
                }
            }
            Event::Response { client, call, reply } => {
                if self.clients[client].on_response(&mut self.line, call, reply) {
                    self.fetch_view(client);
                }
            }
            Event::Timeout { client, call } => {
                self.fetch_view(client);
                let servers = self.servers.len();
                self.clients[client].on_timeout(&mut self.line, servers, call);
            }
            Event::Wake { client } => {
                let servers = self.servers.len();
                self.clients[client].on_wake(&mut self.line, servers);
            }
            Event::Verdict { to, process, verdict } => self.on_verdict(to, process, &verdict),
            Event::AskVerdict { server, .. } => servers[server].on_ask_verdict(line),
            Event::TakeStoresBack => self.take_stores_back(),
            Event::Start { server } => self.on_start(server),
            Event::Resume { server } => self.servers[server].resume(&mut self.line),
            Event::EcsResume => self.ecs.resume(&mut self.line),
            Event::Proposed { server } => self.on_proposed(server),
            Event::LoseEcs { server, lasts } => self.lose_ecs(server, lasts),
            Event::CrashAt { server, away } => self.crash_at(server, away),
            Event::Fault => self.on_fault(),
            Event::Cut { cuts, lasts } if self.phase == Phase::Faults => self.cut(cuts, lasts),
            Event::Cut { .. } => {}
            Event::Mend { cuts } => self.mend(&cuts),
            Event::Hasten { server } => self.line.net.slow_down(Place::Server(server), 0),
            // After all faults have ended the weather stays as it is then.
            Event::Calm if self.phase == Phase::Faults => self.line.net.weather = self.scenario.weather,
            Event::Calm => {}
            Event::ClockRight { server } => self.servers[server].wall_jump_ms = 0,
            Event::LetGo => self.ecs.hold(line, truth, false),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
    }

    /// A server starts, if it does not run and its disk lets it.
    fn on_start(&mut self, server: usize) {
        let starting = &mut self.servers[server];
        if starting.process.is_some() || starting.waits || starting.gone {
            return;
        }
        if self.line.now < starting.fails_until {
            // The count of starts is not to be written: the process ends at once, and is started again.
            let again = self.line.between(100 * MS, SECOND);
            return self.line.after(again, Event::Start { server });
        }
        starting.start(&mut self.line);
    }

    fn on_tick(&mut self, server: usize) {
        let place = Place::Server(server);
        let net = &self.line.net;
        let reaches = net.passes(place, Place::Ecs) && net.passes(Place::Ecs, place);
        let sender = self.servers[server].sender();
        let links = self.ecs.ended.len();
        self.ecs.ended.retain(|ended| *ended != sender);
        if let Some(process) = self.servers[server].process.as_mut().filter(|_| self.ecs.ended.len() < links)
        {
            process.linked = None;
        }
        let linked = self.servers[server].process.as_ref().and_then(|process| process.linked);
        if self.ecs.core.is_some() && reaches && linked != Some(self.ecs.life) && self.line.chance(0.3) {
            let life = self.ecs.life;
            self.servers[server].link(&mut self.line, life);
        }
        self.servers[server].on_tick(&mut self.line);
    }

    /// A client asks some server for its view.
    fn fetch_view(&mut self, client: usize) {
        let server = self.line.rng.usize(0..self.servers.len());
        if let Some(process) = self.servers[server].process.as_ref().filter(|_| !self.servers[server].paused)
            && !process.node.view().assignments.is_empty()
        {
            self.clients[client].view = Some(process.node.view().clone());
        }
    }

    /// Servers that have left as planned stop.
    fn stop_those_that_left(&mut self) {
        let Some(view) = self.truth.newest().cloned() else { return };
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            if server.leaving && !view.servers.contains_key(&server.id) && server.process.is_some() {
                self.stop(index);
                self.servers[index].gone = true;
            }
        }
    }

    /// A server's process ends.
    pub(crate) fn stop(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let sender = server.sender();
        server.crash(&mut self.line);
        self.line.note(|| format!("  s{index} stops"));
        self.line.send_in_order(Place::Server(index), Place::Ecs, Event::LinkEnded { sender });
    }

    pub(crate) fn index_of(&self, server: ServerId) -> usize {
        // The process that the newest view names, where there are two of one server, or the one that was named last.
        let named = self.truth.newest().and_then(|view| view.servers.get(&server));
        let named = named.map(|info| info.process(server));
        let present = self.servers.iter().find(|other| other.id == server && Some(other.sender()) == named);
        let last =
            || self.servers.iter().filter(|other| other.id == server).max_by_key(|other| other.named_in);
        present.or_else(last).map_or_else(|| home_of(server), |server| server.index)
    }

    /// The checks of what the clients saw.
    fn finish(self) -> Summary {
        let all: Vec<&Operated> = self.clients.iter().flat_map(|client| &client.history).collect();
        let partitions = self.truth.newest().expect("it has recovered").partitions;
        let none = super::truth::Partition::default();
        let mut by_partition: BTreeMap<PartitionId, Vec<&Operated>> = BTreeMap::new();
        let mut by_key: BTreeMap<&Bytes, Vec<&Operated>> = BTreeMap::new();
        for &operated in &all {
            by_partition.entry(partitions.of_key(&operated.key)).or_default().push(operated);
            by_key.entry(&operated.key).or_default().push(operated);
        }
        for (partition, operations) in by_partition {
            let history = self.truth.partition(partition).unwrap_or(&none);
            if let Err(violation) = history::check_partition(&operations, &history.model) {
                panic!("partition {partition} is not linearizable: {violation}");
            }
        }
        let mut unsearched = 0;
        let expires_or_counts = |operated: &&Operated| operated.expires() || operated.counts();
        for (key, operations) in by_key {
            if operations.iter().any(expires_or_counts) {
                // The search knows no time, and values by themselves alone; the check by versions knows more.
                continue;
            }
            match search::check_key(&operations) {
                Verdict::Linearizable => {}
                Verdict::Impossible => panic!("no order explains what clients saw of {key:?}"),
                Verdict::TooLarge => unsearched += 1,
            }
        }
        Summary {
            ended: self.line.now,
            is_lost: self.is_lost(),
            hash: self.line.hash(),
            events: self.line.happened,
            operations: all.len(),
            committed: self.truth.committed(),
            copies_failed: self.truth.copies_failed,
            counts: self.truth.counts,
            unsearched,
        }
    }
}
