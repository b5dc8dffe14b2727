//! A connection that speaks the Redis protocol.
//!
//! The connection's task reads and decodes; the core's thread, which has the replies, writes them, in the order of the
//! commands ([`pipeline`]). What needs several steps is carried out by the task with nothing else under way ([`wide`]).

mod pipeline;
mod registry;
mod wide;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::messages::Reply;
use common::stream::{ReadHalf, Stream};
use common::time::WallTime;
use common::view::View;
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;

use self::pipeline::{Gather, RespOutbox, too_much};
use self::registry::Registered;
pub(crate) use self::registry::Registry;
use super::Shared;
use super::intake::Intake;
use super::window::{Looks, Window};
use crate::driver::Event;
use crate::driver::replies::Outbox;
use crate::limits::{ASKS_AT_ONCE_MAX, DECODED_AT_ONCE, GET_BYTES_FIRST, REPLY_BYTES_MAX};
use crate::net::rope::Rope;
use crate::net::send_buffer::SendBuffer;
use crate::protocol::resp::{
    Call, ClientFacts, Host, Kill, Part, RespDecoder, Session, Step, Version, Wide, error_line,
};
use crate::server::shutdown::hear_out;
use kvserver_core::{Ask, Query};

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

struct Connection {
    shared: Shared,
    local: SocketAddr,
    outbox: Arc<RespOutbox>,
    registered: Registered,
    decoder: RespDecoder,
    session: Session,
}

/// Whether more commands are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    On,
    Over,
}

pub(super) async fn serve(stream: Stream, shared: Shared, input: BytesMut) -> std::io::Result<()> {
    let (local, address) = (stream.local_addr()?, stream.peer_addr()?);
    let (mut reading, stream) = stream.into_split();
    let stream = Arc::new(stream);
    let send_buffer = SendBuffer::open(Arc::clone(&stream), shared.open_bytes.clone());
    let outbox =
        Arc::new(RespOutbox::new(send_buffer, Window::new(shared.open_bytes.clone()), shared.agreed.clone()));
    let (events, last_call) = (shared.events.clone(), shared.last_call.clone());
    let registered = shared.resp.add(address, local, shared.agreed.now());
    let decoder = RespDecoder::new(shared.value_bytes_max);
    let session = Session::default();
    let mut connection =
        Connection { shared, local, outbox: Arc::clone(&outbox), registered, decoder, session };
    let killed = connection.registered.killed();
    let ended = tokio::select! {
        error = outbox.send_buffer.drain(&stream) => Err(error),
        ended = connection.run(&mut reading, input) => ended,
        () = killed => Ok(()),
        never = outbox.keep_asking(&events) => match never {},
    };
    // Commands that wait keep the outbox alive: the socket must not stay open with it.
    outbox.send_buffer.disconnect();
    drop(stream);
    if ended.is_ok() && last_call.is_called() {
        hear_out(reading).await;
    }
    ended
}

impl Connection {
    async fn run(&mut self, stream: &mut ReadHalf, input: BytesMut) -> std::io::Result<()> {
        let mut intake = Intake::new(input, &self.shared.input);
        loop {
            let reading = self.take_commands(&mut intake.bytes).await;
            if reading == Reading::Over {
                self.outbox.all_answered().await;
                self.outbox.all_sent().await;
                return Ok(());
            }
            self.decoder.release();
            let read = tokio::select! {
                read = intake.read(stream, self.decoder.kept_bytes()) => match read {
                    Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                        let mut line = Rope::default();
                        error_line(&mut line, &format!("ERR {error}"));
                        self.outbox.push_ready(line);
                        0
                    }
                    read => read?,
                },
                // The connection is to end: a command that has come in part is not carried out.
                () = self.shared.last_call.called() => 0,
            };
            self.shared.traffic.on_heard();
            if read == 0 {
                // A client that has sent all may close its half and still read the replies.
                self.outbox.all_answered().await;
                self.outbox.all_sent().await;
                return Ok(());
            }
        }
    }

    /// Takes all commands that have arrived. Calls are passed on many at a time.
    async fn take_commands(&mut self, input: &mut BytesMut) -> Reading {
        let mut asks: Vec<(u64, Ask)> = Vec::new();
        let mut at_once = Vec::new();
        let mut decoded = 0;
        loop {
            decoded += 1;
            if decoded % DECODED_AT_ONCE == 0 {
                // Other connections have their turn.
                self.send(&mut asks);
                yield_now().await;
            }
            match self.decoder.decode(input) {
                Ok(true) => {}
                Ok(false) => {
                    self.send(&mut asks);
                    self.outbox.flush();
                    return Reading::On;
                }
                Err(problem) => {
                    self.send(&mut asks);
                    error_line(&mut at_once, &format!("ERR {problem}"));
                    self.outbox.push_ready(std::mem::take(&mut at_once).into());
                    return Reading::Over;
                }
            }
            let host = RespHost { shared: &self.shared, registered: &self.registered };
            let step = self.session.take(self.decoder.words(), &host, &mut at_once);
            self.shared.resp.count_command();
            let (version, mute) = (self.session.version(), self.session.is_mute());
            let reading = if matches!(step, Step::Close) { Reading::Over } else { Reading::On };
            match step {
                Step::Done | Step::Close => {
                    if mute {
                        at_once.clear();
                    }
                    if !at_once.is_empty() {
                        self.outbox.push_ready(std::mem::take(&mut at_once).into());
                    }
                }
                Step::Call(call) if call.len() <= PARTS_BESIDE_OTHERS_MAX => {
                    self.begin(call, version, mute, &mut asks).await;
                }
                Step::Call(call) => {
                    self.send(&mut asks);
                    self.outbox.all_answered().await;
                    self.carry_out_alone(call, version, mute).await;
                }
                Step::Wide(wide) => {
                    self.send(&mut asks);
                    self.outbox.all_answered().await;
                    let mut reply = self.carry_out_wide(wide, version).await;
                    if mute {
                        reply.clear();
                    }
                    self.outbox.push_ready(reply.into());
                }
            }
            if reading == Reading::Over {
                self.send(&mut asks);
                return reading;
            }
            if !self.outbox.has_room() {
                self.send(&mut asks);
                self.outbox.flush();
                self.outbox.room().await;
            }
        }
    }

    fn send(&self, asks: &mut Vec<(u64, Ask)>) {
        if !asks.is_empty() {
            let outbox: Outbox = Arc::clone(&self.outbox) as Outbox;
            // The core's thread ends only with the server.
            let _gone = self.shared.events.send(Event::AsksAnywhere(outbox, std::mem::take(asks)));
        }
    }

    /// Whether this server orders the writes of a key.
    fn coordinates(&self, key: &[u8]) -> bool {
        let view = self.shared.views.borrow();
        let coordinator = view.as_ref().and_then(|view| view.assignment(view.partitions.of_key(key)));
        coordinator.is_some_and(|assignment| assignment.coordinator == self.shared.me.server)
    }

    /// Begins a call beside those that are under way, as soon as it may pass them.
    async fn begin(&mut self, call: Call, version: Version, mute: bool, asks: &mut Vec<(u64, Ask)>) {
        let Call { first, rest, form } = call;
        let mut looks = Looks::new();
        loop {
            let parts = std::iter::once(&first).chain(&rest);
            match self.outbox.try_begin(parts, version, mute, |key| self.coordinates(key)) {
                Some(id) => {
                    let parts = std::iter::once(first).chain(rest);
                    let begun = asks.len();
                    asks.extend((id..).zip(parts.map(ask_of)));
                    self.outbox.set_form(id, form, &mut asks[begun..]);
                    return;
                }
                None => {
                    // The calls that it waits for must have been passed on.
                    self.send(asks);
                    self.outbox.flush();
                    self.outbox.changed(&mut looks).await;
                }
            }
        }
    }

    /// Asks all, [`ASKS_AT_ONCE_MAX`] at a time, and waits for all replies.
    async fn gather(&self, asks: Vec<Ask>) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(asks.len());
        let mut asks = asks.into_iter().peekable();
        while asks.peek().is_some() {
            let some = asks.by_ref().take(ASKS_AT_ONCE_MAX).collect();
            replies.extend(self.gather_some(some).await);
        }
        replies
    }

    /// Asks all at once, and waits for all replies.
    async fn gather_some(&self, asks: Vec<Ask>) -> Vec<Reply> {
        let gather = Gather::new(asks.len());
        let outbox: Outbox = Arc::clone(&gather) as Outbox;
        let _gone = self.shared.events.send(Event::AsksAnywhere(outbox, (0..).zip(asks).collect()));
        gather.all().await
    }

    /// Asks the parts of a call, and waits for all replies; no more than fit into one are kept.
    async fn gather_call(&self, asks: Vec<Ask>, needs_values: bool) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(asks.len());
        let mut bytes = 0;
        let mut asks = asks.into_iter().map(bounded).peekable();
        while asks.peek().is_some() {
            for mut reply in self.gather_some(asks.by_ref().take(ASKS_AT_ONCE_MAX).collect()).await {
                while needs_values && let Reply::TooLarge { key, bytes: more } = reply {
                    reply = match u32::try_from(more) {
                        Ok(more) if bytes + more as usize <= REPLY_BYTES_MAX => {
                            let again = Ask::Read(Query::Get { key, bytes_max: more });
                            self.gather_some(vec![again]).await.pop().unwrap_or_else(too_much)
                        }
                        _ => too_much(),
                    };
                }
                if let Reply::Value { found: Some(found) } = &reply {
                    bytes += found.value.len();
                }
                if bytes > REPLY_BYTES_MAX {
                    reply = too_much();
                }
                replies.push(reply);
            }
        }
        replies
    }

    /// A call of many parts.
    async fn carry_out_alone(&mut self, call: Call, version: Version, mute: bool) {
        let parts = std::iter::once(call.first).chain(call.rest);
        let needs_values = call.form.needs_values();
        let replies = self.gather_call(parts.map(ask_of).collect(), needs_values).await;
        let mut out = Rope::default();
        if !mute {
            call.form.answer(&replies, self.shared.agreed.now(), &mut out, version);
        }
        self.outbox.push_ready(out);
    }

    async fn carry_out_wide(&mut self, wide: Wide, version: Version) -> Vec<u8> {
        let Wide::Watch { keys } = wide else { return self.wide(wide, version).await };
        let read = |key: &Bytes| Ask::Read(Query::get(key.clone()));
        let mut replies = Vec::with_capacity(keys.len());
        for some in keys.chunks(WATCHED_AT_ONCE) {
            for mut reply in self.gather_some(some.iter().map(read).collect()).await {
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

/// Gives a get the bound of the first try, so that it returns no large value.
fn bounded(mut ask: Ask) -> Ask {
    if let Ask::Read(Query::Get { bytes_max, .. }) = &mut ask {
        *bytes_max = GET_BYTES_FIRST;
    }
    ask
}

fn ask_of(part: Part) -> Ask {
    match part {
        Part::Read(key) => Ask::Read(Query::get(key)),
        Part::Change(operation) => Ask::Write { origin: None, age_ms: 0, operation },
    }
}
