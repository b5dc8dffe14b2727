//! A put and a get through three servers in one thread, the same each time: `bench/instructions` counts their
//! instructions, a figure that is free of the machine's noise.
//!
//! Everything is real but sockets, threads and clocks: frames of clients and peers are written and read, cores decide,
//! the log is appended to and synced, trees are applied to and read. A round is what 64 clients have asked at once, or
//! one client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, write_frame};
use common::ids::{ClientId, ClusterId, Epoch, Incarnation, Nonce, RequestNumber, ServerId, StoreId};
use common::messages::{ClientMessage, PeerMessage, ProcessId, Reply, Request, ServerMessage};
use common::operation::{Condition, Operation, Origin, Outcome};
use common::ring::Partitions;
use common::time::{Now, Time, WallTime};
use common::view::{Assignment, Member, ServerInfo, ServerState, View};
use storage::{LogWriter, Opened, Store};
use tempfile::TempDir;

use crate::store::log_writer::append;
use crate::store::state_machine::StateMachine;
use kvserver_core::{
    Ask, Config, Effect, First, Input, Later, LogRecord, Node, Ticket, Token, ask_of, check_message,
};

const SERVERS: u128 = 3;
/// Rounds that are counted; `bench/instructions` reads the number here.
const COUNTED_ROUNDS: u64 = 300;
const KEYS: u64 = 20_000;
const VALUE_BYTES: usize = 100;
/// The time that passes with each round.
const ROUND: Duration = Duration::from_millis(2);

struct Server {
    me: ProcessId,
    node: Node,
    machine: StateMachine,
    log: LogWriter,
    _dir: TempDir,
}

/// The output of a server after a batch: frames for other servers, and frames of replies.
#[derive(Default)]
struct Output {
    to_peers: BTreeMap<ServerId, Vec<u8>>,
    to_clients: Vec<u8>,
}

struct Cluster {
    servers: Vec<Server>,
    view: Arc<View>,
    now: Now,
    requests: u64,
}

fn sender(server: u128) -> ProcessId {
    ProcessId {
        server: ServerId(server),
        store: StoreId(server),
        incarnation: Incarnation(1),
        nonce: Nonce(1),
    }
}

fn view() -> View {
    let number = Epoch { generation: 1, version: 1 };
    let mut view = View::new(ClusterId(1), number, Partitions::default());
    for server in 0..SERVERS {
        let info = ServerInfo {
            store: StoreId(server),
            incarnation: Incarnation(1),
            nonce: Nonce(1),
            address: format!("localhost:{}", 7000 + server),
            weight: 1,
            state: ServerState::Up,
        };
        view.servers.insert(ServerId(server), info);
    }
    let member = |server: u128| Member { server: ServerId(server), store: StoreId(server) };
    view.assignments = (0..view.partitions.count() as u128)
        .map(|partition| Assignment {
            epoch: number,
            coordinator: ServerId(partition % SERVERS),
            in_sync: (0..SERVERS).map(|next| member((partition + next) % SERVERS)).collect(),
            joining: Vec::new(),
        })
        .collect();
    view
}

impl Server {
    fn new(server: u128, now: Now) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::Options { background: false, ..storage::Options::default() };
        let Opened { log, reader, trees, recovered, .. } = Store::open(dir.path(), &options).unwrap();
        let (machine, copies) = StateMachine::new(trees, reader, recovered).unwrap();
        let config = Config { session: ClientId(server), ..Config::for_tests() };
        let me = sender(server);
        Self { me, node: Node::new(config, me, None, copies, now), machine, log, _dir: dir }
    }

    /// Carries out the core's effects, as the driver does.
    fn carry_out(&mut self, now: Now, output: &mut Output) {
        loop {
            let effects = self.node.effects();
            if effects.is_empty() {
                return;
            }
            let mut persist: Vec<(Ticket, Vec<LogRecord>)> = Vec::new();
            let mut messages: BTreeMap<ServerId, Vec<PeerMessage>> = BTreeMap::new();
            let mut replies = Vec::new();
            let mut inputs = Vec::new();
            for effect in effects {
                match effect {
                    Effect::First(First::Persist { ticket, records }) => persist.push((ticket, records)),
                    Effect::First(First::PersistView { ticket, .. })
                    | Effect::First(First::PersistPromise { ticket, .. }) => {
                        persist.push((ticket, Vec::new()));
                    }
                    Effect::First(First::Send { to, message }) => {
                        messages.entry(to).or_default().push(message)
                    }
                    Effect::Later(Later::Apply { partition, entries, with_changes }) => {
                        let outcomes = self.machine.apply(partition, entries, with_changes).unwrap();
                        self.node.step(
                            now,
                            Input::Applied { partition, outcomes, changes: self.machine.take_changes() },
                        );
                    }
                    Effect::Later(Later::Read { read, partition, query }) => {
                        let answer = self.machine.read(partition, &query).unwrap();
                        inputs.push(Input::Answered { read, answer });
                    }
                    Effect::Later(Later::Reply { token, reply }) => {
                        replies.push(ServerMessage { id: token.0, reply })
                    }
                    Effect::Later(Later::PinLog { partition, from }) => self.machine.pin(partition, from),
                    Effect::Later(Later::Adopted { .. }) | Effect::Later(Later::Report { .. }) => {}
                    other => panic!("no request leads to {other:?}"),
                }
            }
            for (to, messages) in messages {
                let out = output.to_peers.entry(to).or_default();
                write_frame(out, |payload| messages.iter().for_each(|message| message.write(payload)));
            }
            // Each client has a link of its own.
            for reply in replies {
                write_frame(&mut output.to_clients, |payload| reply.write(payload));
            }
            let newest = persist.last().map(|(ticket, _)| *ticket);
            for (_, records) in persist {
                append(&mut self.log, records).unwrap();
            }
            if let Some(ticket) = newest {
                self.log.sync().unwrap();
                self.node.step(now, Input::Durable { ticket });
            }
            for input in inputs {
                self.node.step(now, input);
            }
        }
    }

    fn on_peer(&mut self, now: Now, from: ProcessId, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        while let Some(mut frame) = take_frame(&mut input).unwrap() {
            while !frame.is_empty() {
                let message = PeerMessage::read(&mut frame).unwrap();
                check_message(&message).unwrap();
                self.node.step(now, Input::Peer { from, message });
            }
        }
    }

    fn on_client(&mut self, now: Now, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        while let Some(mut frame) = take_frame(&mut input).unwrap() {
            let ClientMessage { id, request } = ClientMessage::read(&mut frame).unwrap();
            let ask: Ask = ask_of(request).unwrap();
            self.node.step(now, Input::Client { token: Token(id), ask });
        }
    }
}

impl Cluster {
    fn start() -> Self {
        let now = Now { time: Time::default(), wall: WallTime(1) };
        let servers = (0..SERVERS).map(|server| Server::new(server, now)).collect();
        let mut cluster = Self { servers, view: Arc::new(view()), now, requests: 0 };
        for server in &mut cluster.servers {
            server.node.step(now, Input::View(Arc::clone(&cluster.view)));
        }
        // Promises of a former process must have run out, and leases must have been given.
        for _ in 0..2000 {
            assert!(cluster.round(&[]).is_empty());
        }
        cluster
    }

    /// Gives each server frames of clients, and runs until all is done. Returns the replies.
    fn round(&mut self, frames: &[Vec<u8>]) -> Vec<ServerMessage> {
        self.now.time = Time(self.now.time.0 + ROUND.as_micros() as u64);
        self.now.wall = WallTime(self.now.wall.0 + ROUND.as_millis() as u64);
        let now = self.now;
        for (server, bytes) in self.servers.iter_mut().zip(frames) {
            server.on_client(now, bytes);
        }
        if self.now.time.0.is_multiple_of(20_000) {
            for server in &mut self.servers {
                server.node.step(now, Input::Tick);
                server.machine.make_tree();
                server.machine.seal_due().unwrap();
            }
        }
        let mut replies = BytesMut::new();
        loop {
            let mut outputs: Vec<(ProcessId, Output)> = Vec::new();
            for server in &mut self.servers {
                let mut output = Output::default();
                server.carry_out(now, &mut output);
                outputs.push((server.me, output));
            }
            let mut quiet = true;
            for (from, output) in outputs {
                replies.extend_from_slice(&output.to_clients);
                for (to, bytes) in output.to_peers {
                    quiet = false;
                    self.servers[to.0 as usize].on_peer(now, from, &bytes);
                }
            }
            if quiet {
                break;
            }
        }
        let mut messages = Vec::new();
        while let Some(mut frame) = take_frame(&mut replies).unwrap() {
            messages.push(ServerMessage::read(&mut frame).unwrap());
        }
        messages
    }

    /// Runs a round of requests, each sent to the coordinator of its key.
    fn ask(&mut self, clients: u64, request: impl Fn(u64, u64, Bytes) -> Request) -> Vec<Reply> {
        let mut frames = vec![Vec::new(); self.servers.len()];
        for client in 0..clients {
            self.requests += 1;
            // Spread like a hash, the same each time.
            let key = Bytes::from(format!("key{:08}", self.requests.wrapping_mul(0x9E37_79B9) % KEYS));
            let partition = self.view.partitions.of_key(&key);
            let to = self.view.assignment(partition).unwrap().coordinator;
            let message = ClientMessage { id: client, request: request(client, self.requests, key) };
            write_frame(&mut frames[to.0 as usize], |payload| message.write(payload));
        }
        let replies = self.round(&frames);
        assert_eq!(replies.len() as u64, clients, "every request is answered");
        replies.into_iter().map(|message| message.reply).collect()
    }

    fn puts(&mut self, rounds: u64, clients: u64) {
        for _ in 0..rounds {
            let replies = self.ask(clients, |client, number, key| {
                let number = RequestNumber(number);
                let origin =
                    Origin { client: ClientId(100 + u128::from(client)), number, first_unanswered: number };
                let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
                let operation = Operation::Put { key, value, expires: None, condition: Condition::Always {} };
                Request::Write { origin, age_ms: 0, operation }
            });
            let is_written =
                |reply: &Reply| matches!(reply, Reply::Outcome { outcome: Outcome::Written { .. } });
            assert!(replies.iter().all(is_written), "{:?}", replies.first());
        }
    }

    fn gets(&mut self, rounds: u64, clients: u64) {
        for _ in 0..rounds {
            let replies = self.ask(clients, |_, _, key| Request::GetUpTo { key, bytes_max: 64 << 10 });
            let is_value = |reply: &Reply| matches!(reply, Reply::Value { .. });
            assert!(replies.iter().all(is_value), "{:?}", replies.first());
        }
    }
}

// The functions in which `bench/instructions` counts, by their names.

#[inline(never)]
fn counted_puts_of_64_clients(cluster: &mut Cluster, rounds: u64) {
    cluster.puts(rounds, 64);
}

#[inline(never)]
fn counted_puts_of_1_client(cluster: &mut Cluster, rounds: u64) {
    cluster.puts(rounds, 1);
}

#[inline(never)]
fn counted_gets_of_64_clients(cluster: &mut Cluster, rounds: u64) {
    cluster.gets(rounds, 64);
}

#[inline(never)]
fn counted_gets_of_1_client(cluster: &mut Cluster, rounds: u64) {
    cluster.gets(rounds, 1);
}

fn run(rounds: u64) {
    let mut cluster = Cluster::start();
    cluster.puts(rounds, 64);
    counted_puts_of_64_clients(&mut cluster, rounds);
    counted_puts_of_1_client(&mut cluster, rounds);
    counted_gets_of_64_clients(&mut cluster, rounds);
    counted_gets_of_1_client(&mut cluster, rounds);
}

#[test]
fn puts_and_gets_go_their_way() {
    run(3);
}

#[test]
#[ignore = "for bench/instructions"]
fn counted() {
    run(COUNTED_ROUNDS);
}
