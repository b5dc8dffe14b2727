//! A connection that is a binary link: of a client library, of another server, or of the ECS with its views.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, take_frame_up_to, take_preface};
use common::ids::ServerId;
use common::limits::HELLO_BYTES_MAX;
use common::messages::{ClientMessage, Hello, PeerMessage, Promised, Reply, Request, Sender, ServerMessage};
use common::stream::{ReadHalf, Stream};
use common::view::View;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

use super::intake::Intake;
use super::window::{self, Looks, Window};
use super::{Place, Shared};
use crate::driver::replies::{Deliver, Outbox, Replies};
use crate::driver::{Event, Events};
use crate::limits::{
    DECODED_AT_ONCE, HELLO_FOR, PEER_FRAME_BYTES, PEER_INTAKE_BYTES_MAX, PEER_REFUSED_PAUSE, PIPELINE_MAX,
};
use crate::net::rope::Rope;
use crate::net::send_buffer::SendBuffer;
use crate::server::shutdown::hear_out;
use kvserver_core::{Ask, Input, Query, ask_of, check_message, check_sender};

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// The next frame; `None` at the end of the link.
pub(crate) async fn next_frame(
    stream: &mut (impl AsyncRead + Unpin),
    intake: &mut Intake,
) -> std::io::Result<Option<Bytes>> {
    loop {
        if let Some(frame) = take_frame(&mut intake.bytes).map_err(invalid)? {
            return Ok(Some(frame));
        }
        if intake.read(stream, 0).await? == 0 {
            return Ok(None);
        }
    }
}

/// Reads the preface and the hello of a link. What came behind them stays in the intake.
pub(crate) async fn read_hello(stream: &mut Stream, intake: &mut Intake) -> std::io::Result<Hello> {
    let mut begun = false;
    loop {
        begun = begun || take_preface(&mut intake.bytes).map_err(invalid)?;
        if begun && let Some(frame) = take_frame_up_to(&mut intake.bytes, HELLO_BYTES_MAX).map_err(invalid)? {
            return serde_json::from_slice(&frame).map_err(invalid);
        }
        if intake.read(stream, 0).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

pub(super) async fn serve(mut stream: Stream, shared: Shared, place: Place) -> std::io::Result<()> {
    let mut intake = Intake::new(BytesMut::new(), &shared.input);
    let hello = tokio::time::timeout(HELLO_FOR, read_hello(&mut stream, &mut intake)).await??;
    let input = std::mem::take(&mut intake.bytes);
    drop(intake);
    match hello {
        Hello::Client {} => match place {
            Place::Client(_) => clients(stream, input, shared).await,
            Place::Stranger(_) => Err(invalid("too many connections (--max-connections)")),
        },
        Hello::Peer { cluster, sender, to, port, bulk } => {
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if to != shared.me.server || own.is_some_and(|own| own != cluster) {
                return Err(invalid("this link was meant for another server or cluster"));
            }
            drop(place);
            known_sender(&shared, sender)?;
            if !bulk {
                let host = stream.peer_addr()?.ip();
                let listens = (port != 0).then(|| SocketAddr::new(host, port).to_string());
                if let Some(address) = listens.clone() {
                    let _gone = shared.events.send(Event::Incoming(sender.server, address));
                }
                let events = shared.events.clone();
                let result = peer(stream, input, shared, sender).await;
                if listens.is_some() {
                    let _gone = events.send(Event::IncomingEnded(sender.server));
                }
                return result;
            }
            // Large messages are read and checked by a thread of their own.
            let stream = stream.detach()?;
            let thread = shared.bulk.clone();
            thread.spawn(async move {
                let served = async { peer(stream.attach()?, input, shared, sender).await };
                if let Err(error) = served.await {
                    tracing::debug!(peer = %sender.server, "a link for large messages ended: {error}");
                }
            });
            Ok(())
        }
        Hello::Views { cluster, to } => {
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if let Some(own) = own.filter(|own| *own != cluster) {
                tracing::error!(
                    "this storage directory belongs to cluster {own}, but the ECS is that of cluster {cluster}: \
                     start with another directory (-d) or another ECS (-b)"
                );
                return Err(invalid("the ECS of another cluster"));
            }
            drop(place);
            views(stream, input, shared, to).await
        }
        Hello::Rebuild { cluster, to, promise } => {
            // Another cluster's ECS must not make this server refuse its own.
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if to != shared.me.server || own.is_some_and(|own| own != cluster) {
                return Err(invalid("this server has nothing of that cluster"));
            }
            let Promised { generation, rebuild } = promise;
            tracing::warn!(
                generation,
                rebuild = rebuild.short(),
                "the ECS is being rebuilt, and asks what is here"
            );
            let _gone = shared.events.send(Event::Core(Input::Promise(promise)));
            Ok(())
        }
        Hello::Refused { cluster, to, refusal } => {
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if to != shared.me || own.is_some_and(|own| own != cluster) {
                return Err(invalid("this refusal was meant for another process or cluster"));
            }
            let _gone = shared.events.send(Event::Core(Input::Refused(refusal)));
            Ok(())
        }
        // It answers a former process of this server.
        Hello::StoreVerdict { .. } => Ok(()),
        Hello::Report { .. } => Err(invalid("reports go to the ECS; this is a server")),
    }
}

/// Checks whether messages of a peer are taken. A peer that is in no view may have left a moment ago, or be new.
fn known_sender(shared: &Shared, sender: Sender) -> std::io::Result<()> {
    let checked = check_sender(shared.views.borrow().as_deref(), sender);
    checked.map_err(|reason| {
        tracing::warn!("the link of a server was refused, and nothing of it was taken: {reason}");
        invalid(reason)
    })
}

async fn views(mut stream: Stream, input: BytesMut, shared: Shared, to: ServerId) -> std::io::Result<()> {
    let mut intake = Intake::new(input, &shared.members_input);
    if to != shared.me.server {
        return Err(invalid("these views are meant for another server"));
    }
    while let Some(frame) = next_frame(&mut stream, &mut intake).await? {
        let view: View = serde_json::from_slice(&frame).map_err(invalid)?;
        view.check().map_err(invalid)?;
        let _gone = shared.events.send(Event::Core(Input::View(Arc::new(view))));
    }
    Ok(())
}

async fn peer(mut stream: Stream, input: BytesMut, shared: Shared, from: Sender) -> std::io::Result<()> {
    let mut intake = Intake::new(input, &shared.members_input);
    let room = Arc::new(Semaphore::new(PEER_INTAKE_BYTES_MAX));
    while let Some(frame) = next_frame(&mut stream, &mut intake).await? {
        // While the core has much to process, the link is not read.
        let bytes = u32::try_from(frame.len()).map_err(invalid)?;
        let taken = Arc::clone(&room).acquire_many_owned(bytes).await.map_err(invalid)?;
        match peer_messages(frame) {
            Ok(messages) => _ = shared.events.send(Event::Peer(from, messages, taken)),
            Err(reason) => {
                tracing::error!(
                    "server {} has sent what no server of this version sends: {reason}. Nothing of it was taken, and \
                     its link is closed. Check that all servers run the same version, and that server's memory",
                    from.server
                );
                // The peer connects again at once, and would send the same.
                let _over = tokio::time::timeout(PEER_REFUSED_PAUSE, std::future::pending::<()>()).await;
                return Err(invalid(reason));
            }
        }
    }
    Ok(())
}

/// A frame's messages, all of them or none.
fn peer_messages(mut frame: Bytes) -> Result<Vec<PeerMessage>, String> {
    let mut messages = Vec::new();
    while !frame.is_empty() {
        let message = PeerMessage::read(&mut frame).map_err(|error| error.to_string())?;
        check_message(&message)?;
        messages.push(message);
    }
    Ok(messages)
}

/// A request that is not answered.
struct Open {
    /// The client's number of the request.
    id: u64,
    /// Bytes that the request has open.
    price: usize,
    /// The largest value that the client itself asked for, in bytes.
    bytes_max: u32,
}

/// The requests that a link has under way.
struct Requests {
    /// The requests that are not answered, by our number.
    open: BTreeMap<u64, Open>,
    next: u64,
    window: Window,
    /// Gets whose values are larger than they were asked for, by our number: they are asked again when there is room.
    large: BTreeMap<u64, (Bytes, u64)>,
}

/// A client's link as the driver sees it.
struct ClientOutbox {
    send_buffer: SendBuffer,
    requests: Mutex<Requests>,
    /// The connection's task waits for room.
    waiting: AtomicBool,
    /// Notified when a request was answered.
    changed: Notify,
    /// Notified when there are gets to be asked again.
    again: Notify,
}

impl ClientOutbox {
    fn new(send_buffer: SendBuffer, window: Window) -> Self {
        let (open, large) = (BTreeMap::new(), BTreeMap::new());
        let requests = Mutex::new(Requests { open, next: 0, window, large });
        let waiting = AtomicBool::new(false);
        Self { send_buffer, requests, waiting, changed: Notify::new(), again: Notify::new() }
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        let requests = self.requests();
        requests.open.len() < PIPELINE_MAX && requests.window.has_room(self.send_buffer.waiting())
    }

    /// Waits until there is room for a request.
    async fn room(&self) {
        let mut looks = Looks::new();
        loop {
            self.waiting.store(true, Ordering::Release);
            if self.has_room() {
                break;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = looks.next(&self.send_buffer) => {}
            }
        }
        self.waiting.store(false, Ordering::Release);
    }

    /// Waits until all requests are answered and the answers are sent.
    async fn all_answered(&self) {
        let mut looks = Looks::new();
        loop {
            self.waiting.store(true, Ordering::Release);
            if self.requests().open.is_empty() && self.send_buffer.waiting() == 0 {
                break;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = looks.next(&self.send_buffer) => {}
            }
        }
        self.waiting.store(false, Ordering::Release);
    }

    /// Notes a request; returns our number of it.
    fn begin(&self, id: u64, ask: &mut Ask) -> u64 {
        let bytes_max = match ask {
            Ask::Read(Query::Get { bytes_max, .. }) => *bytes_max,
            _ => u32::MAX,
        };
        let mut requests = self.requests();
        let price = Window::price(ask, requests.window.expected());
        requests.window.open(price);
        requests.next += 1;
        let number = requests.next;
        requests.open.insert(number, Open { id, price, bytes_max });
        number
    }

    /// Sends replies that need no core.
    fn answer(&self, replies: Vec<ServerMessage>) {
        // A link that broke has no use for its replies; its task ends.
        let _sent = self.send_buffer.send(usize::MAX, |out| encode(replies, out));
    }

    /// The gets of large values for which there is room now. If nothing else is under way, the first one is asked in
    /// any case.
    fn ask_again(&self) -> Vec<(u64, Ask)> {
        let mut asks = Vec::new();
        let waiting = self.send_buffer.waiting();
        let mut requests = self.requests();
        let Requests { open, window, large, .. } = &mut *requests;
        while let Some((&number, &(_, bytes))) = large.first_key_value() {
            let alone = large.len() == open.len() && asks.is_empty() && window.goes_beyond(waiting);
            if !window.has_room(waiting) && !alone {
                break;
            }
            let Some((_, (key, _))) = large.pop_first() else { break };
            let Some(request) = open.get_mut(&number) else { continue };
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            request.price += bytes as usize;
            window.open(bytes as usize);
            asks.push((number, Ask::Read(Query::Get { key, bytes_max: bytes })));
        }
        asks
    }

    /// Asks gets of large values again when there is room, for as long as the link lasts.
    async fn keep_asking(self: &Arc<Self>, events: &Events) -> Infallible {
        window::keep_asking(&self.again, &self.send_buffer, || {
            let asks = self.ask_again();
            let asked = !asks.is_empty();
            if asked {
                let outbox: Outbox = Arc::clone(self) as Outbox;
                // The core's thread ends only with the server.
                let _gone = events.send(Event::Asks(outbox, asks));
            }
            (asked, !self.requests().large.is_empty())
        })
        .await
    }
}

impl Deliver for ClientOutbox {
    fn deliver(&self, replies: Replies) {
        let mut messages = Vec::with_capacity(replies.len());
        let mut requests = self.requests();
        let Requests { open, window, large, .. } = &mut *requests;
        for (number, reply) in replies {
            let Some(request) = open.get_mut(&number) else { continue };
            match &reply {
                Reply::TooLarge { key, bytes } if *bytes <= u64::from(request.bytes_max) => {
                    window.learn(*bytes);
                    // The reply has no value, so its bytes are free again; the next try is counted when it is asked.
                    window.close(std::mem::take(&mut request.price));
                    large.insert(number, (key.clone(), *bytes));
                    continue;
                }
                Reply::Value { found } => {
                    window.learn(found.as_ref().map_or(0, |found| found.value.len() as u64));
                }
                _ => {}
            }
            if let Some(Open { id, price, .. }) = open.remove(&number) {
                window.close(price);
                messages.push(ServerMessage { id, reply });
            }
        }
        let wants_again = !large.is_empty();
        drop(requests);
        self.answer(messages);
        if wants_again {
            self.again.notify_one();
        }
        if self.waiting.load(Ordering::Acquire) {
            self.changed.notify_one();
        }
    }
}

/// Frames of replies, none much larger than [`PEER_FRAME_BYTES`] unless one reply is.
fn encode(replies: Vec<ServerMessage>, out: &mut Rope) {
    let mut replies = replies.into_iter().peekable();
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

async fn clients(stream: Stream, input: BytesMut, shared: Shared) -> std::io::Result<()> {
    let (mut reading, stream) = stream.into_split();
    let stream = Arc::new(stream);
    let send_buffer = SendBuffer::open(Arc::clone(&stream), shared.open_bytes.clone());
    let outbox = Arc::new(ClientOutbox::new(send_buffer, Window::new(shared.open_bytes.clone())));
    let ended = tokio::select! {
        error = outbox.send_buffer.drain(&stream) => Err(error),
        ended = read_requests(&mut reading, input, &shared, &outbox) => ended,
        never = outbox.keep_asking(&shared.events) => match never {},
    };
    // Writes that wait keep the outbox alive: the socket must not stay open with it.
    outbox.send_buffer.disconnect();
    drop(stream);
    if ended.is_ok() && shared.last_call.is_called() {
        hear_out(reading).await;
    }
    ended
}

async fn read_requests(
    stream: &mut ReadHalf,
    input: BytesMut,
    shared: &Shared,
    outbox: &Arc<ClientOutbox>,
) -> std::io::Result<()> {
    let mut last_call = shared.last_call.clone();
    let mut intake = Intake::new(input, &shared.input);
    loop {
        let frame = tokio::select! {
            frame = next_frame(stream, &mut intake) => frame?,
            () = last_call.called() => {
                outbox.all_answered().await;
                None
            }
        };
        let Some(frame) = frame else { return Ok(()) };
        // Until all requests of the frame are passed on, it counts as unfinished input.
        requests(frame, shared, outbox).await?;
    }
}

/// Passes a frame's requests on, some at a time: a frame may have millions of small ones.
async fn requests(mut frame: Bytes, shared: &Shared, outbox: &Arc<ClientOutbox>) -> std::io::Result<()> {
    shared.traffic.on_heard();
    while !frame.is_empty() {
        outbox.room().await;
        let mut asks = Vec::new();
        let mut answered = Vec::new();
        let mut traced = None;
        while !frame.is_empty() && asks.len() + answered.len() < DECODED_AT_ONCE && outbox.has_room() {
            let ClientMessage { id, request } = ClientMessage::read(&mut frame).map_err(invalid)?;
            match request {
                // A traced request is passed on by itself.
                Request::Trace { request } if !frame.is_empty() => {
                    let ClientMessage { id, request: next } =
                        ClientMessage::read(&mut frame).map_err(invalid)?;
                    let mut ask = ask_of(next).ok_or_else(|| invalid("only requests for data are traced"))?;
                    traced = Some((outbox.begin(id, &mut ask), ask, request));
                    break;
                }
                Request::View {} => answered.push(ServerMessage { id, reply: view_reply(shared) }),
                Request::Status {} => {
                    let json = shared.status().await.ok_or(std::io::ErrorKind::BrokenPipe)?;
                    answered.push(ServerMessage { id, reply: Reply::Status { json: json.into() } });
                }
                Request::Digest { partition, at } => {
                    answered.push(ServerMessage { id, reply: shared.digest(partition, at).await });
                }
                request => asks.extend(ask_of(request).map(|mut ask| (outbox.begin(id, &mut ask), ask))),
            }
        }
        if !answered.is_empty() {
            outbox.answer(answered);
        }
        if !asks.is_empty() {
            let outbox: Outbox = Arc::clone(outbox) as Outbox;
            let _gone = shared.events.send(Event::Asks(outbox, asks));
        }
        if let Some((number, ask, request)) = traced {
            let outbox: Outbox = Arc::clone(outbox) as Outbox;
            let _gone = shared.events.send(Event::Traced(outbox, number, ask, request));
        }
        if !frame.is_empty() {
            // Other connections have their turn.
            yield_now().await;
        }
    }
    Ok(())
}

fn view_reply(shared: &Shared) -> Reply {
    match shared.view_json() {
        Some(json) => Reply::View { json },
        None => Reply::Busy { reason: "the server is in no view yet, retry".to_owned() },
    }
}
