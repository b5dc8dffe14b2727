//! A connection that is a binary link: of a client library, of another server, or of the ECS with its views.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, take_preface, write_frame};
use common::ids::ServerId;
use common::messages::{ClientMessage, Hello, PeerMessage, Promised, Reply, Request, Sender, ServerMessage};
use common::view::View;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{Notify, Semaphore};

use super::window::{self, Window};
use super::{Place, Shared};
use crate::core::{Ask, Input, Query, ask_of, check_message};
use crate::driver::{Event, Events};
use crate::limits::{
    ASKS_AT_ONCE_MAX, CLIENT_OPEN_BYTES_MAX, HELLO_FOR, PEER_FRAME_BYTES, PEER_INTAKE_BYTES_MAX,
    PEER_REFUSED_PAUSE, PIPELINE_MAX, READ_BYTES, ROOM_LOOK,
};
use crate::outlet::Outlet;
use crate::replies::{Deliver, Outbox, Replies};

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// The next frame; `None` at the end of the link.
async fn next_frame(stream: &mut TcpStream, input: &mut BytesMut) -> std::io::Result<Option<Bytes>> {
    loop {
        if let Some(frame) = take_frame(input).map_err(invalid)? {
            return Ok(Some(frame));
        }
        input.reserve(READ_BYTES);
        if stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    }
}

async fn hello(stream: &mut TcpStream, input: &mut BytesMut) -> std::io::Result<Hello> {
    while !take_preface(input).map_err(invalid)? {
        if stream.read_buf(input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let frame = next_frame(stream, input).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    serde_json::from_slice(&frame).map_err(invalid)
}

pub(super) async fn serve(mut stream: TcpStream, shared: Shared, place: Place) -> std::io::Result<()> {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let hello = tokio::time::timeout(HELLO_FOR, hello(&mut stream, &mut input)).await??;
    match hello {
        Hello::Client {} => match place {
            Place::Client(_) => clients(stream, input, shared).await,
            Place::Stranger(_) => Err(invalid("too many connections (--max-connections)")),
        },
        Hello::Peer { cluster, sender, to } => {
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if to != shared.me.server || own.is_some_and(|own| own != cluster) {
                return Err(invalid("this link was meant for another server or cluster"));
            }
            drop(place);
            peer(stream, input, shared, sender).await
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
            // Another cluster's ECS must not make it refuse its own.
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if to != shared.me.server || own.is_some_and(|own| own != cluster) {
                return Err(invalid("this server holds nothing of that cluster"));
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
        Hello::Report { .. } => Err(invalid("reports go to the ECS; this is a server")),
    }
}

async fn views(
    mut stream: TcpStream,
    mut input: BytesMut,
    shared: Shared,
    to: ServerId,
) -> std::io::Result<()> {
    if to != shared.me.server {
        return Err(invalid("these views are meant for another server"));
    }
    while let Some(frame) = next_frame(&mut stream, &mut input).await? {
        let view: View = serde_json::from_slice(&frame).map_err(invalid)?;
        view.check().map_err(invalid)?;
        let _gone = shared.events.send(Event::Core(Input::View(Arc::new(view))));
    }
    Ok(())
}

async fn peer(
    mut stream: TcpStream,
    mut input: BytesMut,
    shared: Shared,
    from: Sender,
) -> std::io::Result<()> {
    let room = Arc::new(Semaphore::new(PEER_INTAKE_BYTES_MAX));
    while let Some(frame) = next_frame(&mut stream, &mut input).await? {
        // While the core has much to take the link is not read.
        let bytes = u32::try_from(frame.len()).map_err(invalid)?;
        let taken = Arc::clone(&room).acquire_many_owned(bytes).await.map_err(invalid)?;
        match peer_messages(frame) {
            Ok(messages) => _ = shared.events.send(Event::Peer(from, messages, taken)),
            Err(reason) => {
                tracing::error!(
                    "server {} has sent what no server of this version sends: {reason}. Nothing of it was taken, and its \
                     link is closed. Check that all servers run the same version, and that server's memory",
                    from.server
                );
                // It links again at once, and would say the same.
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
    /// The client's number of it.
    id: u64,
    /// Bytes that it has open.
    price: usize,
    /// Bytes of a value that the client itself wants at most.
    bytes_max: u32,
}

/// What a link has under way.
struct Requests {
    /// By our number.
    open: BTreeMap<u64, Open>,
    next: u64,
    window: Window,
    /// Gets whose values are larger than they were asked for, by our number: they are asked again when there is room.
    large: BTreeMap<u64, (Bytes, u64)>,
}

/// A client's link as the driver sees it.
struct ClientOutbox {
    outlet: Outlet,
    requests: Mutex<Requests>,
    /// The task waits for room.
    waiting: AtomicBool,
    /// Something was answered since.
    changed: Notify,
    /// There are gets to be asked again.
    again: Notify,
}

impl ClientOutbox {
    fn new(outlet: Outlet, window: Window) -> Self {
        let (open, large) = (BTreeMap::new(), BTreeMap::new());
        let requests = Mutex::new(Requests { open, next: 0, window, large });
        let waiting = AtomicBool::new(false);
        Self { outlet, requests, waiting, changed: Notify::new(), again: Notify::new() }
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        let requests = self.requests();
        requests.open.len() < PIPELINE_MAX && requests.window.has_room(self.outlet.waiting())
    }

    /// Until there is room for a request. A socket that takes nothing is looked at again after a moment.
    async fn room(&self) {
        loop {
            self.waiting.store(true, Ordering::Release);
            if self.has_room() {
                break;
            }
            let _waited = tokio::time::timeout(ROOM_LOOK, self.changed.notified()).await;
        }
        self.waiting.store(false, Ordering::Release);
    }

    /// Notes a request; our number of it.
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

    /// Sends what this task knows by itself.
    fn answer(&self, replies: Vec<ServerMessage>) {
        // A link that broke has no use for its replies; its task ends.
        let _sent = self.outlet.send(usize::MAX, |out| encode(replies, out));
    }

    /// Gets whose values are larger than they were asked for, as far as there is room for them now. If nothing else is
    /// under way the first one is asked in any case.
    fn ask_again(&self) -> Vec<(u64, Ask)> {
        let mut asks = Vec::new();
        let waiting = self.outlet.waiting();
        let mut requests = self.requests();
        let Requests { open, window, large, .. } = &mut *requests;
        while let Some((&number, &(_, bytes))) = large.first_key_value() {
            let alone = large.len() == open.len() && asks.is_empty() && waiting < CLIENT_OPEN_BYTES_MAX;
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
        window::keep_asking(&self.again, || {
            let asks = self.ask_again();
            if !asks.is_empty() {
                let outbox: Outbox = Arc::clone(self) as Outbox;
                // The core's thread ends only with the server.
                let _gone = events.send(Event::Asks(outbox, asks));
            }
            !self.requests().large.is_empty()
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
                    // The reply that was expected does not come: the next one is counted when it is asked for.
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
fn encode(replies: Vec<ServerMessage>, out: &mut Vec<u8>) {
    let mut replies = replies.into_iter().peekable();
    while replies.peek().is_some() {
        write_frame(out, |payload| {
            let start = payload.len();
            while payload.len() - start < PEER_FRAME_BYTES
                && let Some(message) = replies.next()
            {
                message.write(payload);
            }
        });
    }
}

async fn clients(stream: TcpStream, input: BytesMut, shared: Shared) -> std::io::Result<()> {
    let (reading, stream) = stream.into_split();
    let stream = Arc::new(stream);
    let outlet = Outlet::open(Arc::clone(&stream), shared.open_bytes.clone());
    let outbox = Arc::new(ClientOutbox::new(outlet, Window::new(shared.open_bytes.clone())));
    let ended = tokio::select! {
        error = outbox.outlet.drain(&stream) => Err(error),
        ended = read_requests(reading, input, &shared, &outbox) => ended,
        never = outbox.keep_asking(&shared.events) => match never {},
    };
    // Writes that wait hold the outbox for as long as they wait: the socket must not stay open with it.
    outbox.outlet.disconnect();
    ended
}

async fn read_requests(
    mut stream: OwnedReadHalf,
    mut input: BytesMut,
    shared: &Shared,
    outbox: &Arc<ClientOutbox>,
) -> std::io::Result<()> {
    loop {
        while let Some(frame) = take_frame(&mut input).map_err(invalid)? {
            requests(frame, shared, outbox).await?;
        }
        input.reserve(READ_BYTES);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        shared.traffic.on_heard();
    }
}

/// Passes a frame's requests on, some at a time: a frame holds millions of small ones.
async fn requests(mut frame: Bytes, shared: &Shared, outbox: &Arc<ClientOutbox>) -> std::io::Result<()> {
    while !frame.is_empty() {
        outbox.room().await;
        let mut asks = Vec::new();
        let mut answered = Vec::new();
        let mut traced = None;
        while !frame.is_empty() && asks.len() + answered.len() < ASKS_AT_ONCE_MAX && outbox.has_room() {
            let ClientMessage { id, request } = ClientMessage::read(&mut frame).map_err(invalid)?;
            match request {
                // The next one of this frame goes its way alone.
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
    }
    Ok(())
}

fn view_reply(shared: &Shared) -> Reply {
    match shared.view_json() {
        Some(json) => Reply::View { json },
        None => Reply::Busy { reason: "the server is in no view yet, retry".to_owned() },
    }
}
