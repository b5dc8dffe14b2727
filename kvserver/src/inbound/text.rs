//! Clients that speak the text protocol. Requests may be pipelined; replies leave in the order of the requests.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use common::codec::Sink;
use common::messages::Reply;
use common::operation::{Condition, Operation, Outcome};
use common::stream::Stream;
use kvserver_core::{Ask, Query};
use tokio::io::AsyncWriteExt;

use super::connection::{self, Connection, Protocol, Taken};
use super::in_flight::{Charge, InFlight, Wanted};
use super::order::KeyUses;
use super::reply_queue::{Answers, State};
use super::shared::Shared;
use crate::net::rope::Rope;
use crate::protocol::text::{
    LINE_END, TextAnswer, TextCommand, TextDecoder, TextProblem, TextRequest, encode_parts, greeting,
    line_bytes_max,
};

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

pub(super) async fn serve(stream: Stream, shared: Shared, input: BytesMut) -> std::io::Result<()> {
    let value_bytes_max = shared.value_bytes_max;
    let decoder = TextDecoder::new(line_bytes_max(value_bytes_max), value_bytes_max);
    let lines = Lines { decoder };
    connection::serve(stream, shared, input, lines, InOrder::default(), std::future::pending()).await
}

/// Reads requests, one per line.
struct Lines {
    decoder: TextDecoder,
}

impl Protocol for Lines {
    type Answers = InOrder;
    const ANYWHERE: bool = false;
    const ANSWERS_AFTER_END: bool = true;

    async fn take(
        &mut self,
        connection: &mut Connection<InOrder>,
        input: &mut BytesMut,
    ) -> std::io::Result<Taken> {
        match self.decoder.decode(input) {
            None => Ok(Taken::All),
            Some(Ok(command)) => Ok(begin(connection, command).await),
            Some(Err(problem)) => {
                let taken = if problem.closes() { Taken::Last } else { Taken::Request };
                connection.state().answers.owed.push_back(Owed::Problem(problem));
                Ok(taken)
            }
        }
    }

    fn on_late(
        &mut self,
        connection: &mut Connection<InOrder>,
        error: std::io::Error,
    ) -> std::io::Result<()> {
        connection.state().answers.owed.push_back(Owed::Late(format!("error {error}\r\n")));
        Ok(())
    }
}

async fn begin(connection: &mut Connection<InOrder>, command: TextCommand) -> Taken {
    let answer = match &command.request {
        TextRequest::Ping { .. } => Some(TextAnswer::Pong),
        TextRequest::Quit => Some(TextAnswer::Bye),
        TextRequest::Keyrange | TextRequest::KeyrangeRead => {
            connection.shared.ranges.borrow().answer(&command)
        }
        _ if !connection.shared.serves() => Some(TextAnswer::Stopped),
        _ => None,
    };
    let taken = if command.request == TextRequest::Quit { Taken::Last } else { Taken::Request };
    if let Some(answer) = answer {
        connection.state().answers.owed.push_back(Owed::Known { command, answer });
        return taken;
    }
    let Some((ask, uses)) = ask_of(&command.request) else { return taken };
    let kept = ask.bytes();
    // A server that does not order the writes of a key does not carry them out either.
    connection.begin(&uses, |_| true).await;
    let number = connection.state().answers.next();
    connection.ask(std::iter::once((number, ask)), |State { in_flight, answers }, asks| {
        let asks = asks.iter_mut().map(|(_, ask)| ask);
        // The request is kept as well, as a refusal repeats it.
        let charge = in_flight.begin(asks, kept, Wanted::UpTo(u64::MAX));
        answers.owed.push_back(Owed::Asked { command, answer: None, uses, charge });
    });
    taken
}

/// A request whose reply is owed, in the order of arrival.
enum Owed {
    /// A request of the data.
    Asked {
        command: TextCommand,
        answer: Option<TextAnswer>,
        uses: KeyUses,
        charge: Charge,
    },
    /// A request with its answer.
    Known {
        command: TextCommand,
        answer: TextAnswer,
    },
    Problem(TextProblem),
    /// The line that ends a connection whose request did not come in time.
    Late(String),
}

/// Replies in the order of the requests.
#[derive(Default)]
struct InOrder {
    owed: VecDeque<Owed>,
    /// The number of the first request in `owed`.
    first: u64,
    /// A line that is encoded.
    line: Vec<u8>,
}

impl InOrder {
    /// The number of the next request.
    fn next(&self) -> u64 {
        self.first + self.owed.len() as u64
    }

    /// The position of a request in `owed`.
    fn position(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}

impl Answers for InOrder {
    fn len(&self) -> usize {
        self.owed.len()
    }

    fn on_reply(&mut self, number: u64, reply: Reply, in_flight: &mut InFlight) {
        let asked = self.position(number).and_then(|position| self.owed.get_mut(position));
        let Some(Owed::Asked { command, answer, uses, charge }) = asked else { return };
        let Some(reply) = in_flight.accept(number, reply, charge) else { return };
        if answer.replace(answer_of(command, reply)).is_none() {
            in_flight.order.end(uses);
        }
    }

    fn find(&mut self, number: u64, _large: usize) -> Option<(&mut Charge, bool)> {
        let position = self.position(number)?;
        match self.owed.get_mut(position)? {
            Owed::Asked { charge, .. } => Some((charge, position == 0)),
            _ => None,
        }
    }

    fn has_next(&self) -> bool {
        !matches!(self.owed.front(), None | Some(Owed::Asked { answer: None, .. }))
    }

    fn write_next(&mut self, out: &mut Rope, in_flight: &mut InFlight) {
        while self.has_next()
            && let Some(owed) = self.owed.pop_front()
        {
            self.first += 1;
            self.line.clear();
            let large = match &owed {
                Owed::Asked { command, answer: Some(answer), charge, .. } => {
                    in_flight.end(charge);
                    encode_parts(command, answer, &mut self.line)
                }
                Owed::Known { command, answer } => encode_parts(command, answer, &mut self.line),
                Owed::Problem(problem) => {
                    problem.encode(&mut self.line);
                    None
                }
                Owed::Late(line) => {
                    self.line.extend_from_slice(line.as_bytes());
                    None
                }
                Owed::Asked { answer: None, .. } => None,
            };
            out.put(&self.line);
            if let Some(large) = large {
                out.share(&large);
                out.put(LINE_END);
            }
        }
    }
}

/// What the core is asked for a request of the data, and the key that it uses. The key is copied out of the read
/// buffer, which would stay in memory with it otherwise; a value shares the buffer until it is written.
fn ask_of(request: &TextRequest) -> Option<(Ask, KeyUses)> {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let write = |operation| Ask::Write { origin: None, age_ms: 0, operation };
    let (key, ask) = match request {
        TextRequest::Put { key, value } => (key, write(Operation::put(copy(key), value.clone()))),
        TextRequest::Delete { key } => {
            (key, write(Operation::Delete { key: copy(key), condition: Condition::Always {} }))
        }
        TextRequest::Get { key } => (key, Ask::Read(Query::get(copy(key)))),
        _ => return None,
    };
    let uses = KeyUses::one(key, matches!(ask, Ask::Write { .. }));
    Some((ask, uses))
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
