//! The link of a client library: requests in frames, each with the client's number, answered in any order.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::take_frame;
use common::messages::{ClientMessage, Reply, Request, ServerMessage};
use common::stream::Stream;
use kvserver_core::{Ask, Query, ask_of};

use super::connection::{self, Connection, Protocol, Taken};
use super::in_flight::{Charge, InFlight, Wanted};
use super::reply_queue::{Answers, State};
use super::shared::Shared;
use crate::limits::PEER_FRAME_BYTES;
use crate::net::rope::Rope;

pub(super) fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// Serves a link whose hello was read.
pub(super) async fn serve(stream: Stream, input: BytesMut, shared: Shared) -> std::io::Result<()> {
    let frames = Frames { frame: Bytes::new() };
    connection::serve(stream, shared, input, frames, ByNumber::default(), std::future::pending()).await
}

/// Reads requests out of frames.
struct Frames {
    /// The rest of a frame: it may have millions of small requests, which are passed on some at a time.
    frame: Bytes,
}

impl Protocol for Frames {
    type Answers = ByNumber;
    const ANYWHERE: bool = false;
    const ANSWERS_AFTER_END: bool = false;

    async fn take(
        &mut self,
        connection: &mut Connection<ByNumber>,
        input: &mut BytesMut,
    ) -> std::io::Result<Taken> {
        while self.frame.is_empty() {
            match take_frame(input).map_err(invalid)? {
                Some(frame) => self.frame = frame,
                None => return Ok(Taken::All),
            }
        }
        let ClientMessage { id, request } = ClientMessage::read(&mut self.frame).map_err(invalid)?;
        let reply = match request {
            Request::Trace { request } if !self.frame.is_empty() => {
                let ClientMessage { id, request: next } =
                    ClientMessage::read(&mut self.frame).map_err(invalid)?;
                let mut ask = ask_of(next).ok_or_else(|| invalid("only requests for data are traced"))?;
                let number = note(&mut connection.state(), id, &mut ask);
                connection.trace(number, ask, request);
                return Ok(Taken::Request);
            }
            Request::View {} | Request::Status {} | Request::Digest { .. } => {
                facts(connection, request).await?
            }
            request => {
                if let Some(ask) = ask_of(request) {
                    let number = connection.state().answers.last + 1;
                    connection.ask(std::iter::once((number, ask)), |state, asks| {
                        asks.iter_mut().for_each(|(_, ask)| _ = note(state, id, ask));
                    });
                }
                return Ok(Taken::Request);
            }
        };
        connection.state().answers.ready.push(ServerMessage { id, reply });
        Ok(Taken::Request)
    }
}

/// Notes a request; returns our number of it.
fn note(state: &mut State<ByNumber>, id: u64, ask: &mut Ask) -> u64 {
    let bytes_max = match ask {
        Ask::Read(Query::Get { bytes_max, .. }) => *bytes_max,
        _ => u32::MAX,
    };
    let State { in_flight, answers } = state;
    let wanted = Wanted::UpTo(bytes_max.into());
    let charge = in_flight.begin(std::iter::once(ask), 0, wanted);
    answers.last += 1;
    answers.open.insert(answers.last, Open { id, charge });
    answers.last
}

/// The reply to a question about the server.
async fn facts(connection: &Connection<ByNumber>, request: Request) -> std::io::Result<Reply> {
    let shared = match connection.facts() {
        Ok(shared) => shared,
        Err(denied) => return Ok(denied.into()),
    };
    Ok(match request {
        Request::Status {} => {
            let json = shared.status().await.ok_or(std::io::ErrorKind::BrokenPipe)?;
            Reply::Status { json: json.into() }
        }
        Request::Digest { partition, at } => shared.digest(partition, at).await,
        _ => match shared.view_json() {
            Some(json) => Reply::View { json },
            None => Reply::Busy { reason: "the server is in no view yet, retry".to_owned() },
        },
    })
}

/// A request that is not answered.
struct Open {
    /// The client's number of the request.
    id: u64,
    charge: Charge,
}

/// Replies in the order in which they come, with the clients' numbers of their requests.
#[derive(Default)]
struct ByNumber {
    /// The requests that are not answered, by our number.
    open: BTreeMap<u64, Open>,
    last: u64,
    /// Replies that are to be written.
    ready: Vec<ServerMessage>,
}

impl Answers for ByNumber {
    fn len(&self) -> usize {
        self.open.len() + self.ready.len()
    }

    fn on_reply(&mut self, number: u64, reply: Reply, in_flight: &mut InFlight) {
        let Some(Open { charge, .. }) = self.open.get_mut(&number) else { return };
        let Some(reply) = in_flight.accept(number, reply, charge) else { return };
        if let Some(Open { id, charge }) = self.open.remove(&number) {
            in_flight.end(&charge);
            self.ready.push(ServerMessage { id, reply });
        }
    }

    fn find(&mut self, number: u64, large: usize) -> Option<(&mut Charge, bool)> {
        let alone = large == self.open.len();
        self.open.get_mut(&number).map(|open| (&mut open.charge, alone))
    }

    fn has_next(&self) -> bool {
        !self.ready.is_empty()
    }

    fn write_next(&mut self, out: &mut Rope, _in_flight: &mut InFlight) {
        encode(&mut self.ready, out);
    }
}

/// Frames of replies, none much larger than [`PEER_FRAME_BYTES`] unless one reply is.
fn encode(replies: &mut Vec<ServerMessage>, out: &mut Rope) {
    let mut replies = replies.drain(..).peekable();
    while replies.peek().is_some() {
        out.frame(|payload| {
            let start = payload.len();
            while payload.len() - start < PEER_FRAME_BYTES
                && let Some(message) = replies.next()
            {
                message.write(payload);
            }
        });
    }
}
