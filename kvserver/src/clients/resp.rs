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
use common::clock;
use common::messages::Reply;
use common::time::WallTime;
use common::view::View;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use self::pipeline::{Gather, RespOutbox, too_much};
use self::registry::Registered;
pub(crate) use self::registry::Registry;
use super::Shared;
use super::window::Window;
use crate::core::{Ask, Query};
use crate::driver::Event;
use crate::limits::{ASKS_AT_ONCE_MAX, GET_BYTES_FIRST, READ_BYTES, REPLY_BYTES_MAX};
use crate::outlet::Outlet;
use crate::protocol::resp::{
    Call, ClientFacts, Host, Kill, Part, RespDecoder, Session, Step, Version, Wide, error_line,
};
use crate::replies::Outbox;

/// Parts of one command beyond which it is carried out by itself.
const PARTS_BESIDE_OTHERS_MAX: usize = 64;

/// Keys to be watched whose values are read at the same time: they may be large.
const WATCHED_AT_ONCE: usize = 4;

/// A connection that is one too many is told so.
pub(super) async fn refuse(mut stream: TcpStream) {
    // Best effort: who is gone needs no line.
    let _gone = stream.try_write(b"-ERR max number of clients reached\r\n");
    let _gone = stream.shutdown().await;
}

/// What a command may ask of its server.
struct RespHost<'a> {
    shared: &'a Shared,
    registered: &'a Registered,
}

impl Host for RespHost<'_> {
    fn now(&self) -> WallTime {
        clock::wall()
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

pub(super) async fn serve(stream: TcpStream, shared: Shared, input: BytesMut) -> std::io::Result<()> {
    let (local, address) = (stream.local_addr()?, stream.peer_addr()?);
    let (reading, stream) = stream.into_split();
    let stream = Arc::new(stream);
    let outlet = Outlet::open(Arc::clone(&stream), shared.open_bytes.clone());
    let outbox = Arc::new(RespOutbox::new(outlet, Window::new(shared.open_bytes.clone())));
    let events = shared.events.clone();
    let registered = shared.resp.add(address, local);
    let decoder = RespDecoder::new(shared.value_bytes_max);
    let session = Session::default();
    let mut connection =
        Connection { shared, local, outbox: Arc::clone(&outbox), registered, decoder, session };
    let killed = connection.registered.killed();
    let ended = tokio::select! {
        error = outbox.outlet.drain(&stream) => Err(error),
        ended = connection.run(reading, input) => ended,
        () = killed => Ok(()),
        never = outbox.keep_asking(&events) => match never {},
    };
    // Calls that wait hold the outbox for as long as they wait: the socket must not stay open with it.
    outbox.outlet.disconnect();
    ended
}

impl Connection {
    async fn run(&mut self, mut stream: OwnedReadHalf, mut input: BytesMut) -> std::io::Result<()> {
        loop {
            let reading = self.take_commands(&mut input).await;
            if reading == Reading::Over {
                self.outbox.all_answered().await;
                self.outbox.all_sent().await;
                return Ok(());
            }
            self.decoder.release();
            input.reserve(READ_BYTES);
            let read = stream.read_buf(&mut input).await?;
            self.shared.traffic.on_heard();
            if read == 0 {
                // Who has said all may close its half and still read the replies.
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
        loop {
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
                    self.outbox.push_ready(std::mem::take(&mut at_once));
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
                        self.outbox.push_ready(std::mem::take(&mut at_once));
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
                    self.outbox.push_ready(reply);
                }
            }
            if reading == Reading::Over {
                self.send(&mut asks);
                return reading;
            }
            if asks.len() >= ASKS_AT_ONCE_MAX {
                self.send(&mut asks);
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
                    // Those that it waits for must be on their way.
                    self.send(asks);
                    self.outbox.flush();
                    self.outbox.changed().await;
                }
            }
        }
    }

    /// Asks, and waits for all replies.
    async fn gather(&self, asks: Vec<Ask>) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(asks.len());
        let mut asks = asks.into_iter().peekable();
        while asks.peek().is_some() {
            let some = asks.by_ref().take(ASKS_AT_ONCE_MAX).collect();
            replies.extend(self.gather_some(some).await);
        }
        replies
    }

    /// Asks all at once.
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
        let mut out = Vec::new();
        if !mute {
            call.form.answer(&replies, clock::wall(), &mut out, version);
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
                    // Its version is enough.
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

/// A get gets no large value at first.
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
