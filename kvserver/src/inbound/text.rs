//! A connection that speaks the text protocol. Requests may be pipelined; those of one key are carried out in their
//! order, and replies leave in the order of the requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::messages::Reply;
use common::operation::{Condition, Operation, Outcome};
use common::stream::Stream;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Shared;
use super::intake::Intake;
use super::order::KeyOrder;
use super::window::Window;
use crate::driver::Event;
use crate::driver::replies::{Deliver, Outbox, Replies};
use crate::limits::{DECODED_AT_ONCE, PIPELINE_MAX, ROOM_LOOK};
use crate::net::send_buffer::write_all;
use crate::protocol::text::{
    LINE_END, TextAnswer, TextCommand, TextDecoder, TextProblem, TextRequest, encode_parts, greeting,
    line_bytes_max,
};
use crate::server::shutdown::hear_out;
use kvserver_core::{Ask, Query};

/// Answers a connection beyond the limit with an error line.
pub(super) async fn refuse(mut stream: Stream) {
    let line = b"error too many connections, close some or try again later (see --max-connections)\r\n";
    // Best effort: the client may be gone.
    let _gone = stream.try_write(line);
    let _gone = stream.shutdown().await;
}

/// Sends the line that a server sends first where clients of this family wait for one.
pub(super) async fn greet(stream: &mut Stream) -> std::io::Result<()> {
    let mut line = Vec::new();
    greeting(stream.local_addr()?, &mut line);
    stream.write_all(&line).await
}

/// A request whose reply is owed, in the order of arrival.
enum Owed {
    /// A command, its answer if it is there, and the bytes that it has open.
    Command(TextCommand, Option<TextAnswer>, usize),
    Problem(TextProblem),
    /// The line that ends a connection whose request did not come in time.
    Late(String),
}

/// Replies go to the connection's task: it puts them into the order of the requests.
struct TextOutbox(UnboundedSender<Replies>);

impl Deliver for TextOutbox {
    fn deliver(&self, replies: Replies) {
        // A connection that is gone has no use for its replies.
        let _gone = self.0.send(replies);
    }
}

struct Connection {
    shared: Shared,
    decoder: TextDecoder,
    owed: VecDeque<Owed>,
    /// The number of the first request in `owed`.
    first: u64,
    outbox: Outbox,
    order: KeyOrder,
    window: Window,
    /// Gets whose values are larger than they were asked for, by number: they are asked again when there is room.
    large: BTreeMap<u64, (Bytes, u64)>,
    /// The next request, which waits for earlier ones of its key.
    held: Option<TextCommand>,
    /// No more requests are taken: the client has quit, or has sent bytes after which nothing can be understood.
    closing: bool,
    /// More has come than is decoded at once: other connections have their turn.
    pauses: bool,
}

pub(super) async fn serve(mut stream: Stream, shared: Shared, input: BytesMut) -> std::io::Result<()> {
    let mut intake = Intake::new(input, &shared.input);
    let (sender, mut replies) = unbounded_channel();
    let value_bytes_max = shared.value_bytes_max;
    let decoder = TextDecoder::new(line_bytes_max(value_bytes_max), value_bytes_max);
    let window = Window::new(shared.open_bytes.clone());
    let mut connection = Connection {
        shared,
        decoder,
        owed: VecDeque::new(),
        first: 0,
        outbox: Arc::new(TextOutbox(sender)),
        order: KeyOrder::default(),
        window,
        large: BTreeMap::new(),
        held: None,
        closing: false,
        pauses: false,
    };
    let mut out = Vec::new();
    let (mut at_end, mut last_call) = (false, connection.shared.last_call.clone());
    loop {
        let took_all = connection.take_requests(&mut intake.bytes);
        connection.write_ready(&mut stream, &mut out).await?;
        connection.ask_again();
        if connection.pauses {
            yield_now().await;
            continue;
        }
        if connection.owed.is_empty() {
            if took_all && (at_end || connection.closing) {
                stream.shutdown().await?;
                if connection.shared.last_call.is_called() {
                    hear_out(stream).await;
                }
                return Ok(());
            }
            if !took_all {
                continue;
            }
        }
        tokio::select! {
            read = intake.read(&mut stream, 0), if took_all && !at_end && !connection.closing => {
                at_end = match read {
                    Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                        connection.owed.push_back(Owed::Late(format!("error {error}\r\n")));
                        // The decoder has a part of the line, so nothing else may be decoded after it.
                        connection.closing = true;
                        intake.bytes.clear();
                        true
                    }
                    read => read? == 0,
                };
                connection.shared.traffic.on_heard();
            }
            () = last_call.called(), if !at_end => at_end = true,
            Some(batch) = replies.recv() => {
                for (id, reply) in batch {
                    connection.on_reply(id, reply);
                }
            }
            // Large values wait for room that other connections have.
            _ = timeout(ROOM_LOOK.1, std::future::pending::<()>()), if !connection.large.is_empty() => {}
        }
    }
}

impl Connection {
    /// Decodes what has arrived and passes it on; false when some of it has to wait.
    fn take_requests(&mut self, input: &mut BytesMut) -> bool {
        let mut asks = Vec::new();
        let mut decoded = 0;
        let took_all = loop {
            decoded += 1;
            self.pauses = decoded > DECODED_AT_ONCE;
            if self.pauses {
                break false;
            }
            if self.owed.len() == PIPELINE_MAX || !self.window.has_room(0) {
                break false;
            }
            let next = self.held.take().map(Ok);
            let next = next.or_else(|| if self.closing { None } else { self.decoder.decode(input) });
            match next {
                None => break true,
                Some(Ok(command)) => {
                    if let Some((key, write)) = key_of(&command.request)
                        && !self.order.admits(key, write)
                    {
                        self.held = Some(command);
                        break false;
                    }
                    self.on_command(command, &mut asks);
                }
                Some(Err(problem)) => {
                    self.closing |= problem.closes();
                    self.owed.push_back(Owed::Problem(problem));
                }
            }
        };
        if !asks.is_empty() {
            // The core's thread ends only with the server.
            let _gone = self.shared.events.send(Event::Asks(self.outbox.clone(), asks));
        }
        took_all
    }

    fn on_command(&mut self, command: TextCommand, asks: &mut Vec<(u64, Ask)>) {
        let id = self.first + self.owed.len() as u64;
        let (mut answer, mut price) = (None, 0);
        match &command.request {
            TextRequest::Ping { .. } => answer = Some(TextAnswer::Pong),
            TextRequest::Quit => {
                answer = Some(TextAnswer::Bye);
                self.closing = true;
            }
            TextRequest::Keyrange | TextRequest::KeyrangeRead => {
                answer = self.shared.ranges.borrow().answer(&command)
            }
            _ if !self.shared.serves() => answer = Some(TextAnswer::Stopped),
            request => {
                if let Some((key, write)) = key_of(request) {
                    self.order.begin(key, write);
                }
                if let Some(mut ask) = ask_of(request) {
                    // The request is kept as well, as a refusal repeats it.
                    price = Window::price(&mut ask, self.window.expected()) + ask.bytes();
                    asks.push((id, ask));
                }
            }
        }
        self.window.open(price);
        self.owed.push_back(Owed::Command(command, answer, price));
    }

    fn on_reply(&mut self, id: u64, reply: Reply) {
        let Some(index) = id.checked_sub(self.first).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        if let Some(Owed::Command(command, answer, _)) = self.owed.get_mut(index) {
            match reply {
                Reply::TooLarge { key, bytes } => {
                    self.window.learn(bytes);
                    self.large.insert(id, (key, bytes));
                    return;
                }
                Reply::Value { found: Some(ref found) } => self.window.learn(found.value.len() as u64),
                _ => {}
            }
            if let Some((key, write)) = key_of(&command.request) {
                self.order.end(key, write);
            }
            *answer = Some(answer_of(command, reply));
        }
    }

    /// Asks for the large values for which there is room now; the first one is asked even without room.
    fn ask_again(&mut self) {
        let mut asks = Vec::new();
        while let Some((&id, &(_, bytes))) = self.large.first_key_value() {
            if !self.window.has_room(0) && (id > self.first || !self.window.goes_beyond(0)) {
                break;
            }
            let index = usize::try_from(id - self.first).unwrap_or(usize::MAX);
            let Some((_, (key, _))) = self.large.pop_first() else { break };
            if let Some(Owed::Command(_, _, price)) = self.owed.get_mut(index) {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                *price += bytes as usize;
                self.window.open(bytes as usize);
                asks.push((id, Ask::Read(Query::Get { key, bytes_max: bytes })));
            }
        }
        if !asks.is_empty() {
            let _gone = self.shared.events.send(Event::Asks(self.outbox.clone(), asks));
        }
    }

    /// Writes the answers that are next.
    async fn write_ready(&mut self, stream: &mut Stream, out: &mut Vec<u8>) -> std::io::Result<()> {
        out.clear();
        loop {
            match self.owed.front() {
                Some(Owed::Problem(problem)) => problem.encode(out),
                Some(Owed::Late(line)) => out.extend_from_slice(line.as_bytes()),
                Some(Owed::Command(command, Some(answer), price)) => {
                    let price = *price;
                    if let Some(large) = encode_parts(command, answer, out) {
                        write_all(stream, out, self.window.all()).await?;
                        write_all(stream, &large, self.window.all()).await?;
                        out.clear();
                        out.extend_from_slice(LINE_END);
                    }
                    self.window.close(price);
                }
                Some(Owed::Command(_, None, _)) | None => break,
            }
            self.owed.pop_front();
            self.first += 1;
        }
        write_all(stream, out, self.window.all()).await
    }
}

/// The key of a request of the data, and whether it is a write.
fn key_of(request: &TextRequest) -> Option<(&Bytes, bool)> {
    match request {
        TextRequest::Put { key, .. } | TextRequest::Delete { key } => Some((key, true)),
        TextRequest::Get { key } => Some((key, false)),
        _ => None,
    }
}

/// The core's question for a text request. Keys and values are copied out of the read buffer, which would stay in
/// memory with them otherwise.
fn ask_of(request: &TextRequest) -> Option<Ask> {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let write = |operation| Ask::Write { origin: None, age_ms: 0, operation };
    Some(match request {
        TextRequest::Put { key, value } => write(Operation::put(copy(key), value.clone())),
        TextRequest::Delete { key } => {
            write(Operation::Delete { key: copy(key), condition: Condition::Always {} })
        }
        TextRequest::Get { key } => Ask::Read(Query::get(copy(key))),
        _ => return None,
    })
}

fn answer_of(command: &TextCommand, reply: Reply) -> TextAnswer {
    let is_read = matches!(command.request, TextRequest::Get { .. });
    match reply {
        Reply::Outcome { outcome } => match outcome {
            Outcome::Written { replaced, .. } => TextAnswer::Written { replaced },
            Outcome::Deleted { .. } => TextAnswer::Deleted,
            Outcome::NotFound {} => TextAnswer::NotFound,
            other => TextAnswer::Unknown { reason: format!("unexpected outcome {other:?}; report this") },
        },
        Reply::Value { found: Some(found) } => TextAnswer::Found(found.value),
        Reply::Value { found: None } => TextAnswer::NotFound,
        Reply::Moved { .. } => TextAnswer::NotResponsible,
        // Nothing was done, and the condition passes: clients of this family back off at these words.
        Reply::Busy { .. } if is_read => TextAnswer::Stopped,
        Reply::Busy { .. } => TextAnswer::WriteLock,
        Reply::Unknown { reason } => TextAnswer::Unknown { reason },
        Reply::Refused { reason } => TextAnswer::Failed { reason },
        Reply::TooLarge { .. }
        | Reply::Page { .. }
        | Reply::Keys { .. }
        | Reply::Changes { .. }
        | Reply::View { .. }
        | Reply::Status { .. }
        | Reply::Digest { .. } => TextAnswer::Failed { reason: "unexpected answer; report this".to_owned() },
    }
}
