//! Runs one script.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{
    ClientId, ClusterId, Epoch, Incarnation, LogId, Nonce, RebuildId, RequestId, RequestNumber, Seq,
    ServerId, StoreId,
};
use common::messages::{
    Digest, Entry, PeerMessage, ProcessId, Promised, ReadGrant, Reply, Request, Run, Selection,
    ToCoordinator, ToReplica,
};
use common::operation::{Command, Condition, Operation, Origin};
use common::ring::Partitions;
use common::time::{Time, WallTime};
use common::view::{Assignment, Member, ServerInfo, ServerState, View};
use kvserver_core::{
    Ask, COPY_FROM, Effect, First, Input, PlantedBug, Query, Reads, State, TICK, Token, WatchAsk,
};

use super::host::{Host, P};
use super::show;

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

fn server(text: &str) -> ServerId {
    ServerId(u128::from(u32::from(text.chars().next().expect("a server"))))
}

fn servers(text: &str) -> Vec<ServerId> {
    text.chars().map(|letter| ServerId(u128::from(u32::from(letter)))).collect()
}

fn member(server: ServerId) -> Member {
    Member { server, store: StoreId(server.0) }
}

fn epoch(text: &str) -> Epoch {
    let (generation, version) = text.split_once('/').unwrap_or(("0", text));
    Epoch { generation: u32::try_from(number(generation)).expect("a generation"), version: number(version) }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

fn place(text: &str) -> LogId {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no place in a log"))
}

fn put(key: &str, value: &str) -> Operation {
    Operation::put(key.to_owned(), value.to_owned())
}

/// `key=value` among the words.
fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
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

    fn view(&mut self, version: &str, coordinator: &str, in_sync: &str, options: &[&str]) {
        let joining = option(options, "join").map(servers).unwrap_or_default();
        let number = epoch(version);
        let assignment = Assignment {
            epoch: option(options, "epoch").map_or(number, epoch),
            coordinator: server(coordinator),
            in_sync: servers(in_sync).into_iter().map(member).collect(),
            joining: joining.iter().copied().map(member).collect(),
        };
        // The ECS has heard of all processes that run, unless the script says otherwise.
        let unnamed = option(options, "unnamed").map(servers).unwrap_or_default();
        let started = |id: &ServerId| self.hosts.get(id).filter(|_| !unnamed.contains(id)).map(Host::sender);
        let former = |id: &ServerId| self.view.servers.get(id).map(|info| info.process(*id));
        let twins = option(options, "twin").map(servers).unwrap_or_default();
        let process = |id: ServerId| {
            let other =
                ProcessId { server: id, store: StoreId(id.0), incarnation: Incarnation(1), nonce: Nonce(1) };
            started(&id).or(former(&id)).unwrap_or(other)
        };
        let info = |id: ServerId| ServerInfo {
            store: StoreId(id.0),
            incarnation: process(id).incarnation,
            nonce: if twins.contains(&id) { Nonce(99) } else { process(id).nonce },
            address: format!("{}:1", show::name(id)),
            weight: 1,
            state: ServerState::Up,
        };
        let mut view = View { number, assignments: vec![assignment], ..View::clone(&self.view) };
        view.servers.extend(servers(in_sync).into_iter().chain(joining).map(|id| (id, info(id))));
        view.paused = options.contains(&"paused");
        view.min_copies = option(options, "min").map_or(1, |text| text.parse().expect("few copies"));
        view.rebuild = option(options, "rebuild").map(|text| RebuildId(u128::from(self::number(text))));
        let counted = option(options, "counted").map(servers).unwrap_or_default();
        view.counted = counted.into_iter().map(|id| StoreId(id.0)).collect();
        view.forced.extend(option(options, "forced").map(|version| (P, epoch(version))));
        view.resumed.extend(option(options, "resumed").map(|version| (P, epoch(version))));
        self.view = Arc::new(view);
        let running = |(&id, host): (&ServerId, &Host)| host.node.is_some().then_some(id);
        let all: Vec<ServerId> = self.hosts.iter().filter_map(running).collect();
        for to in option(options, "to").map_or(all, servers) {
            let view = Arc::clone(&self.view);
            self.step(to, Input::View(view));
        }
    }

    fn write(&mut self, at: &str, operation: Operation, options: &[&str]) {
        let origin = option(options, "as").map(|text| {
            let number = RequestNumber(number(text));
            Origin { client: ClientId(9), number, first_unanswered: number }
        });
        self.ask(at, Ask::Write { origin, age_ms: 0, operation }, options);
    }

    fn watch(&mut self, at: &str, keys: &str, options: &[&str]) {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let selection = match keys.strip_suffix('*') {
            Some(prefix) => Selection::Prefix { prefix: bytes(prefix) },
            None => Selection::Key { key: bytes(keys) },
        };
        let after = option(options, "after").map(place);
        let bytes_max = option(options, "up-to").map_or(10_000, |bytes| number(bytes) as usize);
        let hold = Duration::from_millis(option(options, "hold").map_or(1000, number));
        self.ask(at, Ask::Watch(WatchAsk { partition: P, after, selection, bytes_max, hold }), options);
    }

    fn ask(&mut self, at: &str, ask: Ask, options: &[&str]) {
        self.requests += 1;
        let token = Token(self.requests);
        let _ = writeln!(self.out, "    request {}", self.requests);
        if options.contains(&"trace") {
            let number = match &ask {
                Ask::Write { origin: Some(origin), .. } => origin.number,
                _ => RequestNumber(self.requests),
            };
            let request = RequestId { client: ClientId(9), number };
            self.step(server(at), Input::Trace { token, request });
        }
        let anywhere = options.contains(&"anywhere");
        let input =
            if anywhere { Input::ClientAnywhere { token, ask } } else { Input::Client { token, ask } };
        self.step(server(at), input);
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

    /// A server that is no core speaks.
    fn say(&mut self, from: ServerId, to: ServerId, what: &[&str]) {
        let partition = P;
        let epoch = option(what, "epoch").map_or(self.view.assignments[0].epoch, epoch);
        let message = match what {
            ["ack", seq, ..] => ToCoordinator::Ack { seq: Seq(number(seq)), clean: true, bound: vec![] }
                .about(partition, epoch),
            ["sync_request", ..] => ToReplica::SyncRequest {}.about(partition, epoch),
            ["ping"] => {
                self.requests += 1;
                PeerMessage::Ping { n: self.requests, view: self.view.number }
            }
            ["pong"] => {
                let n = self.pings.get(&(to, from)).copied().expect("it was pinged");
                PeerMessage::Pong { n, view: self.view.number }
            }
            ["read_lease_request", ..] => PeerMessage::ReadLeaseRequest {
                n: 1,
                view: self.view.number,
                partitions: vec![(partition, epoch)],
            },
            ["read_lease", milliseconds, ..] => {
                let n = self.questions.get(&(to, from)).copied().expect("it was asked");
                let for_us = number(milliseconds) * 1000;
                PeerMessage::ReadLease { n, partitions: vec![ReadGrant { partition, epoch, for_us }] }
            }
            ["forward", n, key, value, ..] => {
                let n = number(n);
                let number = RequestNumber(n);
                let origin = Origin { client: ClientId(9), number, first_unanswered: number };
                PeerMessage::Forward {
                    n,
                    request: Request::Write { origin, age_ms: 0, operation: put(key, value) },
                }
            }
            ["relay", n, key] => PeerMessage::Relay {
                n: number(n),
                request: Request::Get { key: Bytes::copy_from_slice(key.as_bytes()) },
            },
            ["relay", n, key, value] => {
                let n = number(n);
                let number = RequestNumber(n);
                let origin = Origin { client: ClientId(9), number, first_unanswered: number };
                let operation = put(key, value);
                PeerMessage::Relay { n, request: Request::Write { origin, age_ms: 0, operation } }
            }
            ["read_index", n] => ToCoordinator::ReadIndex { n: number(n) }.about(partition, epoch),
            ["refuses", n] => {
                let reason = "the value is too long here".to_owned();
                PeerMessage::ForwardReply { n: number(n), reply: Reply::Refused { reason } }
            }
            ["digest_request", at] => ToReplica::DigestRequest { at: place(at) }.about(partition, epoch),
            ["digest_reply", at, "none"] => {
                let (digest, equal_with) = (None, vec![]);
                ToCoordinator::DigestReply { at: place(at), digest, equal_with }.about(partition, epoch)
            }
            ["digest_reply", at, sum] => {
                let digest = Some(Digest { sum: number(sum).into(), records: 0, bytes: 0 });
                let equal_with = vec![];
                ToCoordinator::DigestReply { at: place(at), digest, equal_with }.about(partition, epoch)
            }
            ["differs", at, sum] => {
                let digest = Digest { sum: number(sum).into(), records: 0, bytes: 0 };
                ToReplica::Differs { at: place(at), digest }.about(partition, epoch)
            }
            ["snapshot_begin", base] => {
                ToReplica::SnapshotBegin { transfer: 1, base: place(base) }.about(partition, epoch)
            }
            ["snapshot_chunk", index, state, ..] => ToReplica::SnapshotChunk {
                transfer: 1,
                index: number(index),
                state: match *state {
                    "empty" => State::default().encode(),
                    bytes => Bytes::copy_from_slice(bytes.as_bytes()),
                },
                pairs: vec![],
                done: what.contains(&"done"),
            }
            .about(partition, epoch),
            ["snapshot_ack", next] => {
                let (transfer, installed) = (1 << 32 | 1, false);
                ToCoordinator::SnapshotAck { transfer, next: number(next), installed }.about(partition, epoch)
            }
            ["view"] => {
                let json = serde_json::to_vec(&*self.view).expect("a view");
                PeerMessage::View { number: self.view.number, json: json.into() }
            }
            ["fetch_request", prev] => ToReplica::FetchRequest { prev: place(prev) }.about(partition, epoch),
            ["fetch_reply", prev, entries @ ..] => {
                let entries = entries.iter().map(|word| entry(place(word))).collect();
                ToCoordinator::FetchReply { prev: place(prev), entries }.about(partition, epoch)
            }
            ["ahead", commit] => ToCoordinator::Ahead { commit: Seq(number(commit)) }.about(partition, epoch),
            ["no_newer_view", version] => {
                let to = self.hosts.get(&to).map(|host| host.sender().nonce).unwrap_or_default();
                PeerMessage::NoNewerView { number: self::epoch(version), to }
            }
            ["sync_reply", base, last, runs @ ..] => {
                let (base, last) = (place(base), place(last));
                let run = |word: &&str| Run { tag: place(word).tag, first: place(word).seq };
                let runs: Vec<&&str> = runs.iter().filter(|word| !word.starts_with("epoch=")).collect();
                let runs = if !runs.is_empty() {
                    runs.into_iter().map(run).collect()
                } else if last.seq > base.seq {
                    vec![Run { tag: last.tag, first: base.seq.next() }]
                } else {
                    vec![]
                };
                ToCoordinator::SyncReply { base, last, commit: base.seq, runs }.about(partition, epoch)
            }
            ["append", prev, rest @ ..] => {
                let entries = rest.iter().filter_map(|word| word.parse::<LogId>().ok());
                let commit = Seq(option(rest, "commit").map_or(0, number));
                let process = self.hosts.get(&to).map(|host| host.sender().nonce);
                let sync = process.filter(|_| rest.contains(&"sync"));
                ToReplica::Append { sync, prev: place(prev), commit, entries: entries.map(entry).collect() }
                    .about(partition, epoch)
            }
            _ => panic!("nobody says {what:?}"),
        };
        self.receive(from, to, message);
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

fn entry(id: LogId) -> Entry {
    let operation = put("k", &format!("v{}", id.seq));
    let body: Bytes = Command { origin: None, stamp: WallTime(1), operation }.to_wire();
    Entry { id, body }
}
