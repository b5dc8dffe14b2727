//! A connection that is a binary link: of a client library, of another server, or of the ECS with its views.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, take_preface, write_frame};
use common::ids::ServerId;
use common::messages::{ClientMessage, Hello, PeerMessage, Promised, Reply, Request, Sender, ServerMessage};
use common::view::View;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;

use super::{Place, Shared};
use crate::core::{Input, ask_of};
use crate::driver::Event;
use crate::limits::{
    ASKS_AT_ONCE_MAX, CLIENT_QUEUE_BYTES_MAX, HELLO_FOR, PEER_FRAME_BYTES, PIPELINE_MAX, READ_BYTES,
    ROOM_LOOK,
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
    while let Some(mut frame) = next_frame(&mut stream, &mut input).await? {
        let mut messages = Vec::new();
        while !frame.is_empty() {
            messages.push(PeerMessage::read(&mut frame).map_err(invalid)?);
        }
        let _gone = shared.events.send(Event::Peer(from, messages));
    }
    Ok(())
}

/// A client's link as the driver sees it.
struct ClientOutbox {
    outlet: Outlet,
    /// Requests that are not answered.
    open: AtomicUsize,
    /// There is room for requests again.
    room: Notify,
}

impl ClientOutbox {
    fn has_room(&self) -> bool {
        self.open.load(Ordering::Acquire) < PIPELINE_MAX && self.outlet.waiting() < CLIENT_QUEUE_BYTES_MAX
    }
}

impl Deliver for ClientOutbox {
    fn deliver(&self, replies: Replies) {
        let count = replies.len();
        // A link that broke has no use for its replies; its task ends.
        let _sent = self.outlet.send(usize::MAX, |out| encode(replies, out));
        if self.open.fetch_sub(count, Ordering::AcqRel) >= PIPELINE_MAX {
            self.room.notify_one();
        }
    }
}

/// Frames of replies, none much larger than [`PEER_FRAME_BYTES`] unless one reply is.
fn encode(replies: Replies, out: &mut Vec<u8>) {
    let mut replies = replies.into_iter().peekable();
    while replies.peek().is_some() {
        write_frame(out, |payload| {
            let start = payload.len();
            while payload.len() - start < PEER_FRAME_BYTES
                && let Some((id, reply)) = replies.next()
            {
                ServerMessage { id, reply }.write(payload);
            }
        });
    }
}

async fn clients(stream: TcpStream, input: BytesMut, shared: Shared) -> std::io::Result<()> {
    let (reading, stream) = stream.into_split();
    let stream = Arc::new(stream);
    let outlet = Outlet::open(Arc::clone(&stream));
    let outbox = Arc::new(ClientOutbox { outlet, open: AtomicUsize::new(0), room: Notify::new() });
    let ended = tokio::select! {
        error = outbox.outlet.drain(&stream) => Err(error),
        ended = read_requests(reading, input, &shared, &outbox) => ended,
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
        while !outbox.has_room() {
            // Told when requests are answered; a socket that takes nothing is looked at again after a moment.
            let _waited = tokio::time::timeout(ROOM_LOOK, outbox.room.notified()).await;
        }
        let mut asks = Vec::new();
        let mut answered = Vec::new();
        while !frame.is_empty() && asks.len() + answered.len() < ASKS_AT_ONCE_MAX {
            let ClientMessage { id, request } = ClientMessage::read(&mut frame).map_err(invalid)?;
            match request {
                Request::View {} => answered.push((id, view_reply(shared))),
                Request::Status {} => {
                    let json = shared.status().await.ok_or(std::io::ErrorKind::BrokenPipe)?;
                    answered.push((id, Reply::Status { json: json.into() }));
                }
                Request::Digest { partition, at } => {
                    answered.push((id, shared.digest(partition, at).await));
                }
                request => asks.extend(ask_of(request).map(|ask| (id, ask))),
            }
        }
        outbox.open.fetch_add(asks.len() + answered.len(), Ordering::AcqRel);
        if !answered.is_empty() {
            outbox.deliver(answered);
        }
        if !asks.is_empty() {
            let outbox: Outbox = Arc::clone(outbox) as Outbox;
            let _gone = shared.events.send(Event::Asks(outbox, asks));
        }
    }
    Ok(())
}

fn view_reply(shared: &Shared) -> Reply {
    match &*shared.views.borrow() {
        Some(view) => Reply::View { json: serde_json::to_vec(&**view).expect("a view is JSON").into() },
        None => Reply::Busy { reason: "the server is in no view yet, retry".to_owned() },
    }
}
