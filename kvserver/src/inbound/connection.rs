//! A client's connection, whatever protocol it speaks: what is read and when, what the client may ask for, and how it
//! ends.
//!
//! `accept` makes one for each socket. The protocol (`text`, `resp`, `binary`) decodes ([`Protocol`]) and puts its
//! replies in order ([`Answers`]). All else is here and is the same for all: the requests of a connection are submitted
//! to the driver many at a time (`driver/run`), and no more of them are taken than there is room for
//! ([`super::window`]); those of one key keep their order ([`super::order`]); each is checked against the rights of the
//! [`Principal`] that asks. Replies come back by [`super::reply_queue`].

use std::io;
use std::sync::{Arc, MutexGuard};

use bytes::BytesMut;
use common::ids::RequestId;
use common::stream::{ReadHalf, Stream};
use kvserver_core::Ask;
use tokio::task::yield_now;

use super::intake::Intake;
use super::order::KeyUses;
use super::principal::{Access, Denied, Principal};
use super::reply_queue::{Answers, ReplyQueue, State};
use super::shared::Shared;
use super::window::{Looks, Window};
use crate::driver::replies::Outbox;
use crate::driver::{Event, Events};
use crate::limits::DECODED_AT_ONCE;
use crate::net::send_buffer::SendBuffer;
use crate::server::shutdown::discard_rest;

/// What became of the bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A request was taken.
    Request,
    /// More must come first.
    All,
    /// No more is to be read: the client has quit, or has sent bytes after which nothing can be understood.
    Last,
}

/// How a protocol reads requests.
pub(super) trait Protocol: Send {
    /// The protocol's replies.
    type Answers: Answers;

    /// Requests for partitions that other servers coordinate are passed on to them.
    const ANYWHERE: bool;

    /// A client that has sent all may close its half and still read the replies.
    const ANSWERS_AFTER_END: bool;

    /// Takes the next request off `input`.
    fn take(
        &mut self,
        connection: &mut Connection<Self::Answers>,
        input: &mut BytesMut,
    ) -> impl Future<Output = io::Result<Taken>> + Send;

    /// Bytes of the unfinished request that were taken off the input.
    fn kept_bytes(&self) -> usize {
        0
    }

    /// The rest of a request did not come in time: sends the client an error.
    ///
    /// # Errors
    /// `error`, if the protocol has no word for it.
    fn on_late(&mut self, _connection: &mut Connection<Self::Answers>, error: io::Error) -> io::Result<()> {
        Err(error)
    }
}

/// Passes requests on to the core, in the name of a principal.
#[derive(Clone)]
struct Gate {
    events: Events,
    principal: Principal,
    anywhere: bool,
}

impl Gate {
    /// Passes requests on that the principal may make; the others are answered with the reason.
    fn pass_on(&self, outbox: Outbox, mut asks: Vec<(u64, Ask)>) {
        let mut denied = Vec::new();
        asks.retain(|(number, ask)| match self.principal.check(Access::Data(ask)) {
            Ok(()) => true,
            Err(reason) => {
                denied.push((*number, reason.into()));
                false
            }
        });
        if !denied.is_empty() {
            outbox.deliver(denied);
        }
        // The core's thread ends only with the server.
        let _gone = self.events.send(match self.anywhere {
            true => Event::AsksAnywhere(outbox, asks),
            false => Event::Asks(outbox, asks),
        });
    }
}

/// A connection as its task sees it.
pub(super) struct Connection<A> {
    pub(super) shared: Shared,
    gate: Gate,
    queue: Arc<ReplyQueue<A>>,
    /// Requests that are not passed on yet.
    asks: Vec<(u64, Ask)>,
}

/// Serves a connection to its end, or until `killed` completes.
pub(super) async fn serve<P: Protocol>(
    stream: Stream,
    shared: Shared,
    input: BytesMut,
    mut protocol: P,
    answers: P::Answers,
    killed: impl Future<Output = ()>,
) -> io::Result<()> {
    let (mut reading, writing) = stream.into_split();
    let writing = Arc::new(writing);
    let send_buffer = SendBuffer::open(Arc::clone(&writing), shared.open_bytes.clone());
    let queue = Arc::new(ReplyQueue::new(send_buffer, Window::new(shared.open_bytes.clone()), answers));
    let gate = Gate { events: shared.events.clone(), principal: Principal::Anyone, anywhere: P::ANYWHERE };
    let ask_again = |asks| gate.pass_on(Arc::clone(&queue) as Outbox, asks);
    let mut connection =
        Connection { shared, gate: gate.clone(), queue: Arc::clone(&queue), asks: Vec::new() };
    let ended = tokio::select! {
        error = queue.send_buffer.drain(&writing) => Err(error),
        ended = connection.run(&mut protocol, &mut reading, input) => ended,
        () = killed => Ok(()),
        never = queue.keep_asking(ask_again) => match never {},
    };
    // Requests that wait keep the queue alive: the socket must not stay open with it.
    queue.send_buffer.disconnect();
    drop(writing);
    if ended.is_ok() && connection.shared.last_call.is_called() {
        discard_rest(reading).await;
    }
    ended
}

impl<A: Answers> Connection<A> {
    async fn run<P: Protocol<Answers = A>>(
        &mut self,
        protocol: &mut P,
        reading: &mut ReadHalf,
        input: BytesMut,
    ) -> io::Result<()> {
        let mut intake = Intake::new(input, &self.shared.input);
        let mut last_call = self.shared.last_call.clone();
        while self.take_all(protocol, &mut intake.bytes).await? == Taken::All {
            let read = tokio::select! {
                read = intake.read(reading, protocol.kept_bytes()) => match read {
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        protocol.on_late(self, error)?;
                        0
                    }
                    read => read?,
                },
                // The connection is to end: a request that has come in part is not carried out.
                () = last_call.called() => 0,
            };
            self.shared.traffic.on_received();
            if read == 0 {
                if !P::ANSWERS_AFTER_END && !last_call.is_called() {
                    return Ok(());
                }
                break;
            }
        }
        self.queue.all_answered().await;
        self.queue.all_sent().await;
        Ok(())
    }

    /// Takes all requests that have arrived.
    async fn take_all<P: Protocol<Answers = A>>(
        &mut self,
        protocol: &mut P,
        input: &mut BytesMut,
    ) -> io::Result<Taken> {
        let mut taken = 0;
        loop {
            taken += 1;
            if taken % DECODED_AT_ONCE == 0 {
                // Other connections have their turn.
                self.pass_on();
                self.queue.flush();
                yield_now().await;
            }
            let last = protocol.take(self, input).await?;
            if last != Taken::Request {
                self.pass_on();
                self.queue.flush();
                return Ok(last);
            }
            if !self.queue.has_room() {
                self.pass_on();
                self.queue.flush();
                self.queue.room().await;
            }
        }
    }

    /// What the task and the core's thread share.
    pub(super) fn state(&self) -> MutexGuard<'_, State<A>> {
        self.queue.state()
    }

    /// Begins a request for keys as soon as it passes none of them that is under way. `ordered`: whether writes to its
    /// keys keep their order by themselves.
    pub(super) async fn begin(&mut self, uses: &KeyUses, ordered: impl Fn(&Shared) -> bool) {
        let mut looks = Looks::new();
        while !self.queue.try_begin(uses, || ordered(&self.shared)) {
            // The requests that it waits for must have been passed on.
            self.pass_on();
            self.queue.flush();
            self.queue.changed(&mut looks).await;
        }
    }

    /// Adds the parts of a request to what is passed on next, after `note` has noted them.
    pub(super) fn ask(
        &mut self,
        parts: impl Iterator<Item = (u64, Ask)>,
        note: impl FnOnce(&mut State<A>, &mut [(u64, Ask)]),
    ) {
        let begun = self.asks.len();
        self.asks.extend(parts);
        note(&mut self.queue.state(), &mut self.asks[begun..]);
    }

    /// Passes requests on whose replies go to this connection.
    fn pass_on(&mut self) {
        if !self.asks.is_empty() {
            let outbox: Outbox = Arc::clone(&self.queue) as Outbox;
            self.gate.pass_on(outbox, std::mem::take(&mut self.asks));
        }
    }

    /// Passes a traced request on, behind all others.
    pub(super) fn trace(&mut self, number: u64, ask: Ask, request: RequestId) {
        self.pass_on();
        let outbox: Outbox = Arc::clone(&self.queue) as Outbox;
        match self.gate.principal.check(Access::Data(&ask)) {
            Ok(()) => _ = self.shared.events.send(Event::Traced(outbox, number, ask, request)),
            Err(denied) => outbox.deliver(vec![(number, denied.into())]),
        }
    }

    /// Passes requests on whose replies go elsewhere.
    pub(super) fn ask_for(&self, outbox: Outbox, asks: Vec<(u64, Ask)>) {
        self.gate.pass_on(outbox, asks);
    }

    /// Passes on what was asked, and waits until nothing is under way.
    pub(super) async fn all_answered(&mut self) {
        self.pass_on();
        self.queue.all_answered().await;
    }

    /// The facts that the server reports about itself, to those that may know them.
    pub(super) fn facts(&self) -> Result<&Shared, Denied> {
        self.gate.principal.check(Access::Facts).map(|()| &self.shared)
    }
}
