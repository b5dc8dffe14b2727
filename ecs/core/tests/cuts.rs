//! Links between servers are cut while the ECS hears all of them (V7): an ECS, and servers as far as it sees them, in
//! virtual time. Servers ping and answer by the views that they have, complain of those that they do not hear, and
//! bring joining copies up to date where both hear each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::ids::{ClusterId, Epoch, Incarnation, Nonce, PartitionId, ServerId, StoreId};
use common::messages::{ProcessId, ServerReport};
use common::ring::Partitions;
use common::status::Health;
use common::time::Time;
use common::view::{Assignment, View};
use ecs_core::{Config, Ecs, Effect, Input, State, rules};

const SERVERS: usize = 5;
const PARTITIONS: u32 = 32;

/// Between two steps: as often servers ping.
const STEP: Duration = Duration::from_millis(100);

/// What a copy takes, from when it is listed.
const COPY_TAKES: Duration = Duration::from_millis(300);

struct Server {
    sender: ProcessId,
    view: Arc<View>,
    /// By server that is expected to say something: when it was last heard, or since when it is expected.
    heard: BTreeMap<ServerId, Time>,
    reported: Time,
}

struct Cluster {
    ecs: Ecs,
    disk: State,
    now: Time,
    servers: Vec<Server>,
    /// Whether the first hears the second.
    hears: Vec<Vec<bool>>,
    /// When copies were first seen joining.
    joining: BTreeMap<(PartitionId, ServerId, Epoch), Time>,
    /// Views that were made.
    views: usize,
}

impl Cluster {
    /// All servers are up, and each partition has its three copies.
    fn new() -> Self {
        let disk = State::new(ClusterId(1), Partitions::try_from(PARTITIONS).unwrap());
        let now = Time(1_000_000);
        let server = |index: usize| {
            let number = index as u128 + 1;
            let (server, store) = (ServerId(number), StoreId(number));
            let sender = ProcessId { server, store, incarnation: Incarnation(1), nonce: Nonce(1) };
            Server { sender, view: Arc::clone(&disk.view), heard: BTreeMap::new(), reported: now }
        };
        let mut cluster = Self {
            servers: (0..SERVERS).map(server).collect(),
            ecs: Ecs::new(Config::default(), disk.clone(), now),
            disk,
            now,
            hears: vec![vec![true; SERVERS]; SERVERS],
            joining: BTreeMap::new(),
            views: 0,
        };
        for index in 0..SERVERS {
            let address = format!("127.0.0.1:{index}");
            let (view, rebuild, tails) = (Epoch::default(), None, Vec::new());
            cluster.report(index, ServerReport::Hello { address, weight: 1, view, rebuild, tails });
        }
        cluster.run(10_000);
        cluster.check_whole();
        cluster
    }

    fn report(&mut self, index: usize, report: ServerReport) {
        let sender = self.servers[index].sender;
        self.step(Input::Report { sender, report });
    }

    fn step(&mut self, input: Input) {
        self.ecs.step(self.now, input);
        self.ecs.invariants();
        let mut durable = None;
        for effect in self.ecs.effects() {
            match effect {
                Effect::Persist { ticket, state } => {
                    rules::check(&self.disk.view, &state.view, &Default::default()).unwrap();
                    self.check_copies(&state.view);
                    self.disk = state;
                    durable = Some(ticket);
                }
                Effect::Publish { to, view, .. } => self.servers[to.0 as usize - 1].view = view,
                Effect::Made(_) => self.views += 1,
                Effect::Refused { refusal, .. } => panic!("{refusal}"),
                _ => {}
            }
        }
        if let Some(ticket) = durable {
            self.step(Input::Durable { ticket });
        }
    }

    /// No server dies here: a partition that had two copies keeps two.
    fn check_copies(&self, next: &View) {
        for (partition, now) in next.iter() {
            let before = self.disk.view.assignment(partition).map_or(0, |before| before.in_sync.len());
            assert!(before < 2 || now.in_sync.len() >= 2, "partition {partition} is left with one copy");
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now = self.now + STEP;
            self.ping();
            for index in 0..SERVERS {
                let view = self.servers[index].view.number;
                let (copies, requests, keys, bytes, free_bytes) = (Vec::new(), 0, 0, 0, 0);
                let health = Health::default();
                self.report(
                    index,
                    ServerReport::Heartbeat { view, copies, requests, keys, bytes, free_bytes, health },
                );
                self.complain(index);
                self.propose(index);
            }
            self.step(Input::Tick);
        }
    }

    fn hears(&self, one: ServerId, other: ServerId) -> bool {
        self.hears[one.0 as usize - 1][other.0 as usize - 1]
    }

    fn hear_each_other(&self, one: ServerId, other: ServerId) -> bool {
        self.hears(one, other) && self.hears(other, one)
    }

    /// Coordinators ping their members, by their own views; those answer.
    fn ping(&mut self) {
        let now = self.now;
        let mut heard: Vec<BTreeMap<ServerId, Time>> = vec![BTreeMap::new(); SERVERS];
        let mut said: Vec<(usize, ServerId)> = Vec::new();
        for (index, server) in self.servers.iter().enumerate() {
            let me = server.sender.server;
            let before = |other: ServerId| server.heard.get(&other).copied().unwrap_or(now);
            for (_, assignment) in server.view.iter() {
                let members: Vec<ServerId> = members(assignment).filter(|&member| member != me).collect();
                if assignment.coordinator == me {
                    for member in members {
                        heard[index].insert(member, before(member));
                        if self.hears(member, me) {
                            said.push((member.0 as usize - 1, me));
                            if self.hears(me, member) {
                                said.push((index, member));
                            }
                        }
                    }
                } else if members.len() < assignment.in_sync.len() + assignment.joining.len() {
                    heard[index].insert(assignment.coordinator, before(assignment.coordinator));
                }
            }
        }
        for (index, from) in said {
            if let Some(last) = heard[index].get_mut(&from) {
                *last = now;
            }
        }
        for (server, heard) in self.servers.iter_mut().zip(heard) {
            server.heard = heard;
        }
    }

    fn complain(&mut self, index: usize) {
        let report = self.ecs.config().timers.report;
        let server = &mut self.servers[index];
        let late = |last: &Time| self.now.since(*last) >= report;
        let servers: Vec<ServerId> =
            server.heard.iter().filter(|(_, last)| late(last)).map(|(&other, _)| other).collect();
        if !servers.is_empty() && late(&server.reported) {
            server.reported = self.now;
            self.report(index, ServerReport::Unheard { servers });
        }
    }

    /// A coordinator that all in-sync members answer proposes a joining copy after a while.
    fn propose(&mut self, index: usize) {
        let view = Arc::clone(&self.servers[index].view);
        let me = self.servers[index].sender.server;
        for (partition, assignment) in view.iter().filter(|(_, assignment)| assignment.coordinator == me) {
            let epoch = assignment.epoch;
            for &member in &assignment.joining {
                let since = *self.joining.entry((partition, member.server, epoch)).or_insert(self.now);
                let reached = self.is_writable(assignment) && self.hear_each_other(me, member.server);
                if reached && self.now.since(since) >= COPY_TAKES {
                    let incarnation = Incarnation(1);
                    self.report(index, ServerReport::Propose { partition, epoch, member, incarnation });
                }
            }
        }
    }

    /// The coordinator and all in-sync members hear each other.
    fn is_writable(&self, assignment: &Assignment) -> bool {
        let others = assignment.replicas();
        others.into_iter().all(|member| self.hear_each_other(assignment.coordinator, member.server))
    }

    /// Cuts links or mends them: whether the first hears the second.
    fn set(&mut self, one: usize, other: usize, hears: bool) {
        self.hears[one][other] = hears;
    }

    fn cut(&mut self, one: usize, other: usize) {
        self.set(one, other, false);
        self.set(other, one, false);
    }

    fn mend(&mut self) {
        self.hears = vec![vec![true; SERVERS]; SERVERS];
    }

    fn copies_of(&self, index: usize) -> usize {
        let server = ServerId(index as u128 + 1);
        let holds = |assignment: &&Assignment| assignment.in_sync_member(server).is_some();
        self.disk.view.assignments.iter().filter(holds).count()
    }

    fn check_writable(&self) {
        for (partition, assignment) in self.disk.view.iter() {
            assert!(self.is_writable(assignment), "partition {partition}: {assignment:?}");
        }
    }

    fn check_whole(&self) {
        self.check_writable();
        for (partition, assignment) in self.disk.view.iter() {
            assert_eq!((assignment.in_sync.len(), assignment.joining.len()), (3, 0), "partition {partition}");
        }
        assert!((0..SERVERS).all(|index| self.copies_of(index) >= 18), "the copies are not balanced");
    }

    /// The faults end: after the pauses everything is as it was.
    fn check_recovers(mut self, within_ms: u64) {
        self.mend();
        self.run(within_ms);
        self.check_whole();
    }
}

fn members(assignment: &Assignment) -> impl Iterator<Item = ServerId> + '_ {
    assignment.in_sync.iter().chain(&assignment.joining).map(|member| member.server)
}

/// Longer than one pause and the copies after it.
const ONE_PAUSE_MS: u64 = 30_000;

#[test]
fn a_server_that_no_other_reaches_loses_its_parts_and_no_copy_is_missing() {
    let mut cluster = Cluster::new();
    (1..SERVERS).for_each(|other| cluster.cut(0, other));
    cluster.run(2_000);
    cluster.check_writable();
    cluster.run(3_000);
    assert_eq!(cluster.copies_of(0), 0);
    let whole = |now: &&Assignment| now.in_sync.len() == 3;
    assert_eq!(cluster.disk.view.assignments.iter().filter(whole).count(), 32, "the others hold them all");
    cluster.run(60_000);
    cluster.check_writable();
    cluster.check_recovers(2 * ONE_PAUSE_MS);
}

#[test]
fn a_deaf_or_a_mute_server_loses_its_parts() {
    for deaf in [true, false] {
        let mut cluster = Cluster::new();
        for other in 1..SERVERS {
            let (one, two) = if deaf { (0, other) } else { (other, 0) };
            cluster.set(one, two, false);
        }
        cluster.run(3_000);
        cluster.check_writable();
        assert_eq!(cluster.copies_of(0), 0, "deaf: {deaf}");
        cluster.check_recovers(2 * ONE_PAUSE_MS);
    }
}

#[test]
fn one_cut_link_costs_no_copy() {
    for both in [true, false] {
        let mut cluster = Cluster::new();
        let before: Vec<usize> = (0..SERVERS).map(|index| cluster.copies_of(index)).collect();
        cluster.set(0, 1, false);
        cluster.set(1, 0, !both);
        for _ in 0..20 {
            cluster.run(1_000);
            let now: Vec<usize> = (0..SERVERS).map(|index| cluster.copies_of(index)).collect();
            assert_eq!(now, before);
        }
        cluster.run(5_000);
        cluster.check_writable();
        cluster.check_recovers(2 * ONE_PAUSE_MS);
    }
}

#[test]
fn in_a_ring_of_cuts_all_is_served_and_no_server_is_out() {
    let mut cluster = Cluster::new();
    (0..SERVERS).for_each(|one| cluster.cut(one, (one + 1) % SERVERS));
    cluster.run(4_000);
    cluster.check_writable();
    assert!((0..SERVERS).all(|index| cluster.copies_of(index) > 0));
    cluster.check_recovers(2 * ONE_PAUSE_MS);
}

#[test]
fn halves_serve_what_they_hold_most_of() {
    let mut cluster = Cluster::new();
    for one in 0..2 {
        (2..SERVERS).for_each(|other| cluster.cut(one, other));
    }
    cluster.run(4_000);
    cluster.check_writable();
    cluster.check_recovers(2 * ONE_PAUSE_MS);
}

#[test]
fn over_a_bridge_all_is_served() {
    let mut cluster = Cluster::new();
    for one in 0..2 {
        (3..SERVERS).for_each(|other| cluster.cut(one, other));
    }
    cluster.run(4_000);
    cluster.check_writable();
    cluster.check_recovers(2 * ONE_PAUSE_MS);
}

#[test]
fn links_that_flap_for_a_minute_make_few_views() {
    // Both times of each turn in milliseconds, and the views that a minute of it may make.
    for (cut, well, most) in [(500, 500, 80), (2_000, 2_000, 120), (1_500, 8_000, 120)] {
        let mut cluster = Cluster::new();
        let before = cluster.views;
        for _ in 0..60_000 / (cut + well) {
            (1..SERVERS).for_each(|other| cluster.cut(0, other));
            cluster.run(cut);
            cluster.mend();
            cluster.run(well);
        }
        let views = cluster.views - before;
        assert!(views <= most, "{views} views in a minute of {cut} and {well} ms");
        cluster.check_recovers(120_000);
    }
}

#[test]
fn a_stall_of_less_than_the_time_of_a_dead_server_changes_nothing() {
    let mut cluster = Cluster::new();
    let before = cluster.views;
    for _ in 0..10 {
        (1..SERVERS).for_each(|other| cluster.cut(0, other));
        cluster.run(600);
        cluster.mend();
        cluster.run(2_000);
    }
    assert_eq!(cluster.views, before);
}
