//! A connection that speaks the text protocol. Requests may be pipelined; those of one key are carried out in their
//! order, and replies leave in the order of the requests.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::messages::Reply;
use common::operation::{Condition, Operation, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Shared;
use super::order::KeyOrder;
use super::window::Window;
use crate::core::{Ask, Query};
use crate::driver::Event;
use crate::limits::{PIPELINE_MAX, READ_BYTES};
use crate::protocol::text::{
    LINE_END, TextAnswer, TextCommand, TextDecoder, TextProblem, TextRequest, encode_parts, greeting,
    line_bytes_max,
};
use crate::replies::{Deliver, Outbox, Replies};

/// A connection that is one too many gets a line that says so.
pub(super) async fn refuse(mut stream: TcpStream) {
    let line = b"error too many connections, close some or try again later (see --max-connections)\r\n";
    // Best effort: who is gone needs no line.
    let _gone = stream.try_write(line);
    let _gone = stream.shutdown().await;
}

/// A request whose reply is owed, in the order of arrival.
enum Owed {
    /// A command, its answer if it is there, and the bytes that it has open.
    Command(TextCommand, Option<TextAnswer>, usize),
    Problem(TextProblem),
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
    /// The number of the first one owed.
    first: u64,
    outbox: Outbox,
    order: KeyOrder,
    window: Window,
    /// Gets whose values are larger than they were asked for, by number: they are asked again when there is room.
    large: BTreeMap<u64, (Bytes, u64)>,
    /// The next request, which waits for earlier ones of its key.
    held: Option<TextCommand>,
    /// Nothing more is taken: the client has quit, or said something after which nothing can be understood.
    closing: bool,
}

pub(super) async fn serve(
    mut stream: TcpStream,
    shared: Shared,
    greet_at: Option<SocketAddr>,
    mut input: BytesMut,
) -> std::io::Result<()> {
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
    };
    let mut out = Vec::new();
    if let Some(local) = greet_at {
        greeting(local, &mut out);
        stream.write_all(&out).await?;
    }
    input.reserve(READ_BYTES);
    let mut at_end = false;
    loop {
        let took_all = connection.take_requests(&mut input);
        connection.write_ready(&mut stream, &mut out).await?;
        connection.ask_again();
        if connection.owed.is_empty() {
            if took_all && (at_end || connection.closing) {
                return stream.shutdown().await;
            }
            if !took_all {
                continue;
            }
        }
        tokio::select! {
            read = stream.read_buf(&mut input), if took_all && !at_end && !connection.closing => {
                at_end = read? == 0;
                connection.shared.traffic.on_heard();
            }
            Some(batch) = replies.recv() => {
                for (id, reply) in batch {
                    connection.on_reply(id, reply);
                }
            }
        }
    }
}

impl Connection {
    /// Decodes what has arrived and passes it on; false when some of it has to wait.
    fn take_requests(&mut self, input: &mut BytesMut) -> bool {
        let mut asks = Vec::new();
        let took_all = loop {
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
                    // The request is kept besides, as a refusal repeats it.
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

    /// Asks for large values as far as there is room for them now; for the first one in any case.
    fn ask_again(&mut self) {
        let mut asks = Vec::new();
        while let Some((&id, &(_, bytes))) = self.large.first_key_value() {
            if !self.window.has_room(0) && id > self.first {
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
    async fn write_ready(&mut self, stream: &mut TcpStream, out: &mut Vec<u8>) -> std::io::Result<()> {
        out.clear();
        loop {
            match self.owed.front() {
                Some(Owed::Problem(problem)) => problem.encode(out),
                Some(Owed::Command(command, Some(answer), price)) => {
                    let price = *price;
                    if let Some(large) = encode_parts(command, answer, out) {
                        stream.write_all(out).await?;
                        stream.write_all(&large).await?;
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
        if out.is_empty() { Ok(()) } else { stream.write_all(out).await }
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

/// What a text request asks of the data. Keys and values are copied out of the read buffer, which would stay in
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
        // Nothing was done, and it passes: clients of this family back off at these words.
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
