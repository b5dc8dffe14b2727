//! Clients that speak the Redis protocol. Replies leave in the order of the commands ([`pipeline`]). What needs several
//! steps is carried out by the connection's task with nothing else under way ([`steps`], [`wide`]).

mod pipeline;
mod registry;
mod steps;
mod wide;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::messages::Reply;
use common::stream::Stream;
use common::time::WallTime;
use common::view::View;
use kvserver_core::{Ask, Query};
use tokio::io::AsyncWriteExt;

use self::pipeline::Pipeline;
use self::registry::Registered;
pub(crate) use self::registry::Registry;
use self::steps::Steps;
use super::connection::{self, Connection, Protocol, Taken};
use super::order::KeyUses;
use super::reply_queue::State;
use super::shared::Shared;
use crate::net::rope::Rope;
use crate::protocol::resp::{
    Call, ClientFacts, Host, Kill, Part, RespDecoder, Session, Step, Version, Wide, error_line,
};

/// Parts of a command beyond which it is carried out with nothing else of its connection under way.
const PARTS_BESIDE_OTHERS_MAX: usize = 64;

/// Keys of one `WATCH` whose values are read at the same time: they may be large.
const WATCHED_AT_ONCE: usize = 4;

/// Answers a connection beyond the limit with an error.
pub(super) async fn refuse(mut stream: Stream) {
    // Best effort: the client may be gone.
    let _gone = stream.try_write(b"-ERR max number of clients reached\r\n");
    let _gone = stream.shutdown().await;
}

/// The server, as commands of a connection see it.
struct RespHost<'a> {
    shared: &'a Shared,
    registered: &'a Registered,
}

impl Host for RespHost<'_> {
    fn now(&self) -> WallTime {
        self.shared.agreed.now()
    }

    fn me(&self) -> ClientFacts {
        self.shared.resp.facts(self.registered.id())
    }

    fn set_me(&self, facts: ClientFacts) {
        self.shared.resp.set(facts);
    }

    fn clients(&self) -> Vec<ClientFacts> {
        self.shared.resp.all()
    }

    fn kill(&self, kill: &Kill) -> usize {
        self.shared.resp.kill(kill, self.registered.id())
    }

    fn copies(&self) -> usize {
        let view = self.shared.views.borrow();
        let copies =
            |view: &Arc<View>| view.iter().map(|(_, assignment)| assignment.replicas().count()).min();
        view.as_ref().and_then(copies).unwrap_or(0)
    }
}

/// Reads commands.
struct Commands {
    /// The port that the client has connected to.
    port: u16,
    registered: Registered,
    decoder: RespDecoder,
    session: Session,
    /// The reply to a command that is known at once.
    known: Vec<u8>,
}

pub(super) async fn serve(stream: Stream, shared: Shared, input: BytesMut) -> std::io::Result<()> {
    let (local, address) = (stream.local_addr()?, stream.peer_addr()?);
    let registered = shared.resp.add(address, local, shared.agreed.now());
    let killed = registered.killed();
    let decoder = RespDecoder::new(shared.value_bytes_max);
    let (session, known) = (Session::default(), Vec::new());
    let commands = Commands { port: local.port(), registered, decoder, session, known };
    let pipeline = Pipeline::new(shared.agreed.clone());
    connection::serve(stream, shared, input, commands, pipeline, killed).await
}

impl Protocol for Commands {
    type Answers = Pipeline;
    const ANYWHERE: bool = true;
    const ANSWERS_AFTER_END: bool = true;

    async fn take(
        &mut self,
        connection: &mut Connection<Pipeline>,
        input: &mut BytesMut,
    ) -> std::io::Result<Taken> {
        match self.decoder.decode(input) {
            Ok(true) => {}
            Ok(false) => {
                self.decoder.release();
                return Ok(Taken::All);
            }
            Err(problem) => {
                error_line(&mut self.known, &format!("ERR {problem}"));
                push(connection, std::mem::take(&mut self.known).into());
                return Ok(Taken::Last);
            }
        }
        let host = RespHost { shared: &connection.shared, registered: &self.registered };
        let step = self.session.take(self.decoder.words(), &host, &mut self.known);
        connection.shared.resp.count_command();
        let (version, mute) = (self.session.version(), self.session.is_mute());
        let taken = if matches!(step, Step::Close) { Taken::Last } else { Taken::Request };
        match step {
            Step::Done | Step::Close => {
                if mute {
                    self.known.clear();
                }
                if !self.known.is_empty() {
                    push(connection, std::mem::take(&mut self.known).into());
                }
            }
            Step::Call(call) if call.len() <= PARTS_BESIDE_OTHERS_MAX => {
                begin(connection, call, version, mute).await;
            }
            Step::Call(call) => {
                connection.all_answered().await;
                let reply = self.call(connection, call, version, mute).await;
                push(connection, reply);
            }
            Step::Wide(wide) => {
                connection.all_answered().await;
                let mut reply = self.wide(connection, wide, version).await;
                if mute {
                    reply.clear();
                }
                push(connection, reply.into());
            }
        }
        Ok(taken)
    }

    fn kept_bytes(&self) -> usize {
        self.decoder.kept_bytes()
    }

    fn on_late(
        &mut self,
        connection: &mut Connection<Pipeline>,
        error: std::io::Error,
    ) -> std::io::Result<()> {
        let mut line = Rope::default();
        error_line(&mut line, &format!("ERR {error}"));
        push(connection, line);
        Ok(())
    }
}

/// Appends a reply that is known; it leaves after those before it.
fn push(connection: &Connection<Pipeline>, reply: Rope) {
    let State { in_flight, answers } = &mut *connection.state();
    answers.push_ready(reply, in_flight);
}

/// Begins a call beside those that are under way, as soon as it may pass them.
async fn begin(connection: &mut Connection<Pipeline>, call: Call, version: Version, mute: bool) {
    let mut uses = KeyUses::default();
    for part in std::iter::once(&call.first).chain(&call.rest) {
        part.keys(|key, write| uses.add(key, write));
    }
    connection.begin(&uses, |shared| coordinates(shared, &call)).await;
    let Call { first, rest, form } = call;
    let next = connection.state().answers.next();
    let asks = (next..).zip(std::iter::once(first).chain(rest).map(ask_of));
    connection.ask(asks, |State { in_flight, answers }, asks| {
        answers.push_call(form, version, mute, uses, asks, in_flight);
    });
}

/// Whether this server orders the writes of all keys of a call.
fn coordinates(shared: &Shared, call: &Call) -> bool {
    let view = shared.views.borrow();
    let coordinator = |key: &[u8]| {
        let assignment = view.as_ref().and_then(|view| view.assignment(view.partitions.of_key(key)));
        assignment.is_some_and(|assignment| assignment.coordinator == shared.me.server)
    };
    let mut all = true;
    for part in std::iter::once(&call.first).chain(&call.rest) {
        part.keys(|key, write| all &= !write || coordinator(key));
    }
    all
}

impl Commands {
    fn steps<'a>(&self, connection: &'a Connection<Pipeline>) -> Steps<'a> {
        Steps { connection, port: self.port }
    }

    /// The reply to a call of many parts.
    async fn call(
        &self,
        connection: &Connection<Pipeline>,
        call: Call,
        version: Version,
        mute: bool,
    ) -> Rope {
        let parts = std::iter::once(call.first).chain(call.rest);
        let needs_values = call.form.needs_values();
        let replies = self.steps(connection).gather_call(parts.map(ask_of).collect(), needs_values).await;
        let mut out = Rope::default();
        if !mute {
            call.form.answer(&replies, connection.shared.agreed.now(), &mut out, version);
        }
        out
    }

    /// The reply to a command that needs several steps.
    async fn wide(&mut self, connection: &Connection<Pipeline>, wide: Wide, version: Version) -> Vec<u8> {
        let steps = self.steps(connection);
        let Wide::Watch { keys } = wide else { return steps.wide(wide, version).await };
        let read = |key: &Bytes| Ask::Read(Query::get(key.clone()));
        let mut replies = Vec::with_capacity(keys.len());
        for some in keys.chunks(WATCHED_AT_ONCE) {
            for mut reply in steps.gather_some(some.iter().map(read).collect()).await {
                if let Reply::Value { found: Some(found) } = &mut reply {
                    // The version is enough.
                    found.value = Bytes::new();
                }
                replies.push(reply);
            }
        }
        let mut out = Vec::new();
        match self.session.on_watched(keys, &replies) {
            Ok(()) => out.extend_from_slice(b"+OK\r\n"),
            Err(error) => error_line(&mut out, &error),
        }
        out
    }
}

fn ask_of(part: Part) -> Ask {
    match part {
        Part::Read(key) => Ask::Read(Query::get(key)),
        Part::Change(operation) => Ask::Write { origin: None, age_ms: 0, operation },
    }
}
