//! Runs one script.

mod asks;
mod says;
mod views;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use common::ids::{ClusterId, Epoch, Incarnation, Nonce, RebuildId, Seq, ServerId, StoreId};
use common::messages::{PeerMessage, ProcessId, Promised};
use common::operation::{Condition, Operation};
use common::ring::Partitions;
use common::time::{Time, WallTime};
use common::view::View;
use kvserver_core::{Ask, COPY_FROM, Effect, First, Input, PlantedBug, Query, Reads, TICK};

use super::host::{Host, P};
use super::show;
use words::{epoch, number, option, put, server};

/// Rounds of `settle`, at most: more means that it never comes to rest.
const SETTLE_ROUNDS_MAX: usize = 200;

/// The store of a server that has lost the one that the views name.
const WIPED: StoreId = StoreId(1000);

/// Planted bugs that scripts show.
const PLANTED: [PlantedBug; 8] = [
    PlantedBug::RebuildNoPromise,
    PlantedBug::ActsBeforeHello,
    PlantedBug::RoleByTable,
    PlantedBug::OnlyOwnPromises,
    PlantedBug::FetchedNotDurable,
    PlantedBug::StaleSyncCounted,
    PlantedBug::LargestBySeqAlone,
    PlantedBug::ReadLeaseToShorter,
];

struct Script {
    now: Time,
    hosts: BTreeMap<ServerId, Host>,
    view: Arc<View>,
    auto_disk: bool,
    reads: Reads,
    requests: u64,
    /// By direction: what was delivered last.
    delivered: BTreeMap<(ServerId, ServerId), PeerMessage>,
    /// By direction: the number of the last ping, and its sender's view.
    pings: BTreeMap<(ServerId, ServerId), u64>,
    /// By direction: the number of the last question for a read lease.
    questions: BTreeMap<(ServerId, ServerId), u64>,
    /// Servers that speak without the disk they had.
    wiped: BTreeSet<ServerId>,
    /// Servers that speak as another process of their store.
    restarted: BTreeSet<ServerId>,
    out: String,
}

/// The text of a script with what comes of it.
pub(crate) fn run(text: &str) -> String {
    let number = Epoch::default();
    let none = View::new(ClusterId(1), number, Partitions::try_from(1).expect("one"));
    let mut script = Script {
        now: Time(10_000_000),
        hosts: BTreeMap::new(),
        view: Arc::new(none),
        auto_disk: false,
        reads: Reads::Lease,
        requests: 0,
        delivered: BTreeMap::new(),
        pings: BTreeMap::new(),
        questions: BTreeMap::new(),
        wiped: BTreeSet::new(),
        restarted: BTreeSet::new(),
        out: String::new(),
    };
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        let _ = writeln!(script.out, "{line}");
        if !line.is_empty() && !line.starts_with('#') {
            script.line(line);
        }
    }
    script.out
}

impl Script {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["disk", "auto"] => self.auto_disk = true,
            ["reads", "barrier"] => self.reads = Reads::Barrier,
            ["start", name, ..] => {
                let (now, reads) = (self.now, self.reads);
                let host = self.hosts.entry(server(name)).or_insert_with_key(|&id| Host::new(id));
                host.transfer_rate = option(&words, "rate").map_or(0, number);
                host.copy_from = option(&words, "copy-from").map_or(COPY_FROM, number);
                host.waiting_bytes_max =
                    option(&words, "waiting").map_or(usize::MAX, |bytes| number(bytes) as usize);
                host.start(now, reads);
                self.step(server(name), Input::Tick);
            }
            ["promise", name, generation, rebuild] => {
                let generation = epoch(&format!("{generation}/1")).generation;
                let rebuild = RebuildId(u128::from(number(rebuild)));
                self.step(server(name), Input::Promise(Promised { generation, rebuild }));
            }
            ["bug", name, bug] => {
                let host = self.hosts.entry(server(name)).or_insert_with_key(|&id| Host::new(id));
                let known = PLANTED.into_iter().find(|planted| format!("{planted:?}") == *bug);
                host.bug = Some(known.expect("a planted bug"));
            }
            ["restarted", name] => _ = self.restarted.insert(server(name)),
            ["hold", name, "staged"] => self.host(server(name)).held = Some(VecDeque::new()),
            ["staged", name] => {
                let held = self.host(server(name)).held.as_mut().and_then(VecDeque::pop_front);
                self.step(server(name), held.expect("something was staged"));
            }
            ["lost-view", name] => self.host(server(name)).lose_view(),
            ["crash", name] => self.host(server(name)).crash(),
            ["view", version, coordinator, in_sync, ..] => {
                self.view(version, coordinator, in_sync, &words[4..])
            }
            ["put", at, key, value, ..] => self.write(at, put(key, value), &words[4..]),
            ["append", at, key, value, ..] => {
                let (key, value) = (key.to_owned().into(), value.to_owned().into());
                self.write(at, Operation::Append { key, value }, &words[4..]);
            }
            ["get", at, key, "up-to", bytes] => {
                let bytes_max = bytes.parse().expect("a number of bytes");
                self.ask(at, Ask::Read(Query::Get { key: key.to_owned().into(), bytes_max }), &[]);
            }
            ["get", at, key, ref options @ ..] => {
                self.ask(at, Ask::Read(Query::get(key.to_owned().into())), options);
            }
            ["delete", at, key, ..] => {
                let key = key.to_owned().into();
                self.write(at, Operation::Delete { key, condition: Condition::Always {} }, &words[3..]);
            }
            ["put-absent", at, key, value, ..] => {
                let (key, value) = (key.to_owned().into(), value.to_owned().into());
                let condition = Condition::Absent {};
                self.write(at, Operation::Put { key, value, expires: None, condition }, &words[4..]);
            }
            ["expire", at, key, until] => {
                let expires = Some(WallTime(number(until)));
                self.write(at, Operation::Expire { key: key.to_owned().into(), expires }, &[]);
            }
            ["watch", at, keys, ..] => self.watch(at, keys, &words[3..]),
            ["durable", name] => self.durable(server(name)),
            ["deliver", from, to, ref count @ ..] => self.deliver(server(from), server(to), count, true),
            ["drop", from, to, ref count @ ..] => self.deliver(server(from), server(to), count, false),
            ["again", from, to] => {
                let key = (server(from), server(to));
                let message = self.delivered.get(&key).expect("something was delivered").clone();
                self.receive(key.0, key.1, message);
            }
            ["say", from, to, ref what @ ..] => self.say(server(from), server(to), what),
            ["wiped", name] => _ = self.wiped.insert(server(name)),
            ["settle"] => self.settle(),
            ["stopped", milliseconds] => self.now = self.now + Duration::from_millis(number(milliseconds)),
            ["run", milliseconds] => self.run_for(Duration::from_millis(number(milliseconds))),
            ["flush", name] => self.host(server(name)).flush(),
            ["trim", name, seq] => {
                let input = self.host(server(name)).trim(Seq(number(seq)));
                self.step(server(name), input);
            }
            ["compare", name] => self.step(server(name), Input::Compare { partition: P }),
            ["rot", name, key, value] => {
                self.host(server(name)).rot(key.to_owned().into(), value.to_owned().into());
            }
            ["misread", name] => self.host(server(name)).misreads = true,
            ["bad", name, key] => _ = self.host(server(name)).bad.insert(key.to_owned().into()),
            ["damaged", name] => {
                let reason = "file 7 is damaged at byte 9".to_owned();
                self.step(server(name), Input::Damaged { reason });
            }
            ["facts", name] => self.facts(server(name)),
            _ => panic!("no such line: {line}"),
        }
    }

    fn host(&mut self, id: ServerId) -> &mut Host {
        self.hosts.get_mut(&id).expect("a server that was started")
    }

    /// One input at a core, and all that the store answers to it at once.
    fn step(&mut self, at: ServerId, input: Input) {
        let now = self.now;
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            for input in std::mem::take(&mut inputs) {
                for effect in self.host(at).step(now, input) {
                    if let Some(line) = show::effect(&effect) {
                        let _ = writeln!(self.out, "    {} {line}", show::name(at));
                    }
                    if let Effect::First(First::Send { to, message: PeerMessage::Ping { n, .. } }) = &effect {
                        self.pings.insert((at, *to), *n);
                    }
                    if let Effect::First(First::Send {
                        to,
                        message: PeerMessage::ReadLeaseRequest { n, .. },
                    }) = &effect
                    {
                        self.questions.insert((at, *to), *n);
                    }
                    inputs.extend(self.host(at).carry_out(effect));
                }
            }
            if self.auto_disk {
                inputs.extend(self.host(at).sync());
            }
        }
    }

    fn durable(&mut self, at: ServerId) {
        if let Some(input) = self.host(at).sync() {
            self.step(at, input);
        }
    }

    fn deliver(&mut self, from: ServerId, to: ServerId, count: &[&str], arrives: bool) {
        let waiting = self.host(from).outgoing.entry(to).or_default();
        let count = count.first().map_or(waiting.len(), |text| number(text) as usize);
        let messages: Vec<PeerMessage> = waiting.drain(..count.min(waiting.len())).collect();
        for message in messages {
            if arrives {
                self.delivered.insert((from, to), message.clone());
                self.receive(from, to, message);
            }
        }
    }

    fn receive(&mut self, from: ServerId, to: ServerId, message: PeerMessage) {
        let sender = self.hosts.get(&from).map(Host::sender);
        let store = if self.wiped.contains(&from) { WIPED } else { StoreId(from.0) };
        let start = if self.restarted.contains(&from) { 2 } else { 1 };
        let other = ProcessId { server: from, store, incarnation: Incarnation(start), nonce: Nonce(start) };
        if self.hosts.get(&to).is_some_and(|host| host.node.is_some()) {
            self.step(to, Input::Peer { from: sender.unwrap_or(other), message });
        }
    }

    fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            let ids: Vec<ServerId> = self.hosts.keys().copied().collect();
            let mut busy = false;
            for &id in &ids {
                if self.host(id).has_unsynced() {
                    busy = true;
                    self.durable(id);
                }
                for &to in &ids {
                    if self.host(id).outgoing.get(&to).is_some_and(|waiting| !waiting.is_empty()) {
                        busy = true;
                        self.deliver(id, to, &[], true);
                    }
                }
            }
            if !busy {
                return;
            }
        }
        panic!("it never settles");
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + TICK;
            let ids: Vec<ServerId> = self.hosts.keys().copied().collect();
            for id in ids {
                if self.host(id).node.is_some() {
                    self.step(id, Input::Tick);
                }
            }
        }
    }

    fn facts(&mut self, id: ServerId) {
        let now = self.now;
        let facts = self.host(id).node.as_ref().and_then(|node| node.facts(P, now));
        let Some(facts) = facts else { return };
        let _ = writeln!(
            self.out,
            "    epoch {}, {}active, {} read{}, last {}, on disk {}, commit {}, applied {}",
            facts.epoch,
            if facts.active { "" } else { "not " },
            if facts.may_read { "may" } else { "may not" },
            if facts.has_read_lease { " but has a read lease" } else { "" },
            facts.last,
            facts.durable,
            facts.commit,
            facts.applied
        );
    }
}
