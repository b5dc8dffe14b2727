//! One cluster from one seed: the ECS, the servers, the clients, the faults, and the checks after every step.
//!
//! First faults come and go, and only what is safe is looked at. Then all of them end, and the cluster must recover
//! within a bound of virtual time (I8): every partition active, with all its copies, and every operation answered.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytes::Bytes;
use common::ids::{ClientId, PartitionId, ServerId};
use common::limits::COPIES;
use common::view::{Member, ServerState};
use ecs::core::Input as EcsInput;
use kvserver::core::{COPY_FROM, Config, Input};

use super::client::Client;
use super::ecs_host::EcsHost;
use super::history::{self, Operated};
use super::net::Place;
use super::scenario::Scenario;
use super::search::{self, Verdict};
use super::server::Server;
use super::timeline::{Event, MS, Micros, SECOND, Timeline};
use super::truth::Truth;

/// After the faults have ended, the cluster is whole again within this time: a silent copy is not tried again for a few
/// seconds, and then states are copied one after the other.
const RECOVERY_MAX: Micros = 30 * SECOND;

/// And then all operations are answered within this time.
const ANSWERS_MAX: Micros = 10 * SECOND;

/// Between two looks at the recovery.
const LOOK_EVERY: Micros = 100 * MS;

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
pub(crate) fn run(scenario: Scenario, seed: u64, printing: bool) -> Summary {
    let mut world = World::new(scenario, seed, printing);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = outcome {
        world.line.note(|| "stopped here".to_owned());
        resume_unwind(panic);
    }
    world.finish()
}

/// Bytes of a handful of writes.
const FEW_BYTES: usize = 300;

impl World {
    fn new(scenario: Scenario, seed: u64, printing: bool) -> Self {
        let mut line = Timeline::new(seed, printing);
        line.net.weather = scenario.weather;
        let config = Config {
            timers: scenario.timers,
            park: std::time::Duration::from_millis(line.between(300, 3_000)),
            reads: scenario.reads,
            value_bytes_max: common::limits::VALUE_BYTES_MAX,
            // In some runs few writes fill what may wait. Not drawn: all else is as in the other runs.
            pending_bytes_max: if seed.is_multiple_of(5) { FEW_BYTES } else { usize::MAX },
            parked_bytes_max: usize::MAX,
            session: ClientId(0),
            transfer_rate: 0,
            // Few writes are made for each partition; in some runs they are enough. Not drawn either.
            copy_from: match seed % 16 {
                11 => 2,
                13 => 12,
                _ => COPY_FROM,
            },
            mutation: scenario.mutation,
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
        let mut truth = Truth::default();
        truth.nobody_fails = scenario.nobody_fails;
        Self { scenario, line, truth, ecs, servers, clients, strikes: 0, phase: Phase::Faults }
    }

    fn run(&mut self) {
        while self.phase != Phase::Over {
            let event = self.line.next().expect("timers never end");
            self.handle(event);
            while let Some(server) = self.line.ready.pop() {
                self.run_server(server);
            }
            for server in 0..self.servers.len() {
                self.on_disk_failed(server);
            }
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
            Event::Start { server } => {
                if self.servers[server].process.is_none() && !self.servers[server].gone {
                    self.servers[server].start(&mut self.line);
                }
            }
            Event::Resume { server } => self.servers[server].resume(&mut self.line),
            Event::EcsResume => self.ecs.resume(&mut self.line),
            Event::Proposed { server } => self.on_proposed(server),
            Event::LoseEcs { server, lasts } => self.lose_ecs(server, lasts),
            Event::CrashAt { server, away } => self.crash_at(server, away),
            Event::Fault => self.on_fault(),
            Event::Mend { cuts } => self.mend(&cuts),
            Event::Hasten { server } => self.line.net.slow_down(Place::Server(server), 0),
            // After all faults have ended the weather stays as it is then.
            Event::Calm if self.phase == Phase::Faults => self.line.net.weather = self.scenario.weather,
            Event::Calm => {}
            Event::LetGo => self.ecs.hold(line, truth, false),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
    }

    fn on_tick(&mut self, server: usize) {
        let place = Place::Server(server);
        let net = &self.line.net;
        let reaches = net.passes(place, Place::Ecs) && net.passes(Place::Ecs, place);
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
        // Indices are in the lower half of the ids.
        (server.0 & u128::from(u64::MAX)) as usize - 1
    }

    /// I2: looked at whenever an entry is committed, members change, or a disk loses entries.
    fn check_copies(&mut self) {
        let lost_some = self.servers.iter().any(|server| !server.disk.lost.is_empty());
        if self.truth.fresh.is_empty() && self.truth.changed.is_empty() && !lost_some {
            return;
        }
        let Some(view) = self.truth.newest().cloned() else { return };
        for (partition, id) in std::mem::take(&mut self.truth.fresh) {
            for index in self.in_sync(partition) {
                let log = self.servers[index].disk.durable.logs.get(&partition);
                self.truth.check_held(partition, id, index, log);
            }
        }
        let changed = std::mem::take(&mut self.truth.changed);
        if changed.is_empty() && !lost_some {
            return;
        }
        for partition in view.partitions.all().take(view.assignments.len()) {
            for index in self.in_sync(partition) {
                let lost = self.servers[index].disk.lost.contains(&partition);
                if lost || changed.contains(&partition) {
                    let log = self.servers[index].disk.durable.logs.get(&partition);
                    self.truth.check_held_all(partition, index, log);
                }
            }
        }
        self.servers.iter_mut().for_each(|server| server.disk.lost.clear());
    }

    /// The servers of the in-sync set in the newest view that have not lost what they had.
    pub(crate) fn in_sync(&self, partition: PartitionId) -> Vec<usize> {
        let assignment = self.truth.newest().and_then(|view| view.assignment(partition));
        let members = assignment.map(|assignment| assignment.in_sync.as_slice()).unwrap_or_default();
        let present = |index: &usize| !self.servers[*index].lost;
        let same_store = |member: &&Member| self.servers[self.index_of(member.server)].store == member.store;
        members.iter().filter(same_store).map(|member| self.index_of(member.server)).filter(present).collect()
    }

    /// I5: at most one reader, and it has all that was acknowledged.
    fn check_readers(&mut self, acted: usize) {
        let now = self.line.now;
        for &(partition, applied) in &self.servers[acted].readers {
            let reads = |server: &&Server| {
                server.index != acted && server.facts(partition, now).is_some_and(|facts| facts.may_read)
            };
            let other = self.servers.iter().find(reads).map(|server| (acted, server.index));
            self.truth.on_reader(partition, applied, other);
        }
    }

    /// I6: a replica that may read alone has all that was acknowledged, applied or pending. Looked at for the server
    /// that acted, and for all when something was acknowledged.
    fn check_lone_readers(&mut self, acted: usize) {
        let now = self.line.now;
        for &partition in &self.servers[acted].lone {
            let log = self.servers[acted].disk.written.logs.get(&partition);
            self.truth.on_lone_reader(partition, acted, log);
        }
        for partition in std::mem::take(&mut self.truth.told) {
            for server in &self.servers {
                if server.facts(partition, now).is_some_and(|facts| facts.has_read_lease) {
                    let log = server.disk.written.logs.get(&partition);
                    self.truth.on_lone_reader(partition, server.index, log);
                }
            }
        }
    }

    /// All faults end.
    fn heal(&mut self) {
        self.phase = Phase::Recovery(self.line.now);
        self.line.net.mend_all();
        self.line.net.weather = super::net::Weather::CALM;
        if self.ecs.core.is_none() {
            self.ecs.start(&mut self.line, &mut self.truth);
        }
        self.ecs.resume(&mut self.line);
        self.end_orders();
        self.ecs.slow = 0.0;
        self.strikes = 0;
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            server.slow = 0.0;
            server.disk_fault = None;
            if server.paused {
                server.resume(&mut self.line);
            }
            if server.process.is_none() && server.life > 0 && !server.gone {
                server.start(&mut self.line);
            }
        }
        self.clients.iter_mut().for_each(Client::slow_down);
        self.line.after(LOOK_EVERY, Event::Look);
    }

    /// I8: how far is it?
    fn look(&mut self) {
        self.line.after(LOOK_EVERY, Event::Look);
        let now = self.line.now;
        if self.is_lost() {
            self.phase = Phase::Over;
        }
        if let Phase::Recovery(_) = self.phase {
            // Who came back after it stands by again.
            self.all_serve();
        }
        match self.phase {
            Phase::Recovery(since) => match self.missing() {
                None => {
                    self.phase = Phase::Answers(now);
                    self.clients.iter_mut().for_each(|client| client.stopped = true);
                    self.clients[0].probe(&mut self.line);
                }
                Some(missing) => {
                    assert!(now - since < RECOVERY_MAX, "I8: the cluster has not recovered: {missing}");
                }
            },
            Phase::Answers(since) => {
                if self.clients.iter().all(Client::is_idle) {
                    self.phase = Phase::Over;
                }
                assert!(now - since < ANSWERS_MAX, "I8: operations are not answered: {:?}", self.clients[0]);
            }
            Phase::Faults | Phase::Over => {}
        }
    }

    /// The last in-sync copy of a partition is lost with its disk (R7), as others were taken out before: nobody can
    /// bring it back.
    fn is_lost(&self) -> bool {
        let Some(view) = self.truth.newest() else { return false };
        view.iter().any(|(partition, _)| self.in_sync(partition).is_empty())
    }

    /// What is not yet as it should be.
    fn missing(&self) -> Option<String> {
        let Some(view) = self.truth.newest() else { return Some("a view".to_owned()) };
        if view.assignments.is_empty() {
            return Some("a server".to_owned());
        }
        let up = view.servers.values().filter(|info| info.state == ServerState::Up).count();
        // One that left and was taken in again by what it had said before stays as down, and holds nothing.
        let gone = |server: &&Server| server.gone && view.servers.contains_key(&server.id);
        let gone: Vec<ServerId> = self.servers.iter().filter(gone).map(|server| server.id).collect();
        if up + gone.len() < view.servers.len() {
            return Some(format!("servers that are up, in view {}: {:?}", view.number, view.servers));
        }
        for server in
            self.servers.iter().filter(|server| view.servers.contains_key(&server.id) && !server.gone)
        {
            let used = server.process.as_ref().map(|process| process.node.view().number);
            if used != Some(view.number) {
                return Some(format!("view {} at server {}, it has {used:?}", view.number, server.index));
            }
        }
        for (partition, assignment) in view.iter() {
            if assignment.in_sync.len() != up.min(COPIES) || !assignment.joining.is_empty() {
                return Some(format!("copies of partition {partition}: {assignment:?}"));
            }
            let coordinator = self.index_of(assignment.coordinator);
            let facts = self.servers[coordinator].facts(partition, self.line.now);
            if facts.is_none_or(|facts| !facts.active) {
                return Some(format!("activity of partition {partition} at server {coordinator}: {facts:?}"));
            }
        }
        let pinned = |server: &&Server| server.process.as_ref().is_some_and(|process| process.has_pins());
        self.servers
            .iter()
            .find(pinned)
            .map(|server| format!("release of the log of server {}", server.index))
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
            unsearched,
        }
    }
}
