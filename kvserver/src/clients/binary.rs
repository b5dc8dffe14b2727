//! A connection that is a binary link: of a client library, of another server, or of the ECS with its views.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, take_preface, write_frame};
use common::ids::ServerId;
use common::messages::{ClientMessage, Hello, PeerMessage, Reply, Request, Sender, ServerMessage};
use common::view::View;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;

use super::Shared;
use crate::core::{Input, ask_of};
use crate::driver::{Event, Outbox};
use crate::limits::{HELLO_FOR, PIPELINE_MAX, READ_BYTES};

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

pub(super) async fn serve(mut stream: TcpStream, shared: Shared) -> std::io::Result<()> {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let hello = tokio::time::timeout(HELLO_FOR, hello(&mut stream, &mut input)).await??;
    match hello {
        Hello::Client {} => clients(stream, input, shared).await,
        Hello::Peer { cluster, sender, to } => {
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if to != shared.me.server || own.is_some_and(|own| own != cluster) {
                return Err(invalid("this link was meant for another server or cluster"));
            }
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
            views(stream, input, shared, to).await
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

async fn clients(mut stream: TcpStream, mut input: BytesMut, shared: Shared) -> std::io::Result<()> {
    let (outbox, mut replies) = unbounded_channel();
    let mut open = 0;
    let mut out = Vec::new();
    loop {
        while open < PIPELINE_MAX
            && let Some(frame) = take_frame(&mut input).map_err(invalid)?
        {
            open += requests(frame, &shared, &outbox).await?;
        }
        input.reserve(READ_BYTES);
        let may_read = open < PIPELINE_MAX;
        let mut batch = tokio::select! {
            read = stream.read_buf(&mut input), if may_read => {
                if read? == 0 {
                    return Ok(());
                }
                continue;
            }
            Some(batch) = replies.recv() => batch,
        };
        while let Ok(more) = replies.try_recv() {
            batch.extend(more);
        }
        open -= batch.len();
        out.clear();
        let mut batch = batch.into_iter().peekable();
        while batch.peek().is_some() {
            write_frame(&mut out, |payload| {
                let start = payload.len();
                while payload.len() - start < crate::limits::PEER_FRAME_BYTES
                    && let Some((id, reply)) = batch.next()
                {
                    ServerMessage { id, reply }.write(payload);
                }
            });
        }
        stream.write_all(&out).await?;
        if out.capacity() > 4 * crate::limits::PEER_FRAME_BYTES {
            out = Vec::new();
        }
    }
}

/// Passes a frame's requests on; how many replies are owed.
async fn requests(mut frame: Bytes, shared: &Shared, outbox: &Outbox) -> std::io::Result<usize> {
    let mut asks = Vec::new();
    let mut answered = Vec::new();
    while !frame.is_empty() {
        let ClientMessage { id, request } = ClientMessage::read(&mut frame).map_err(invalid)?;
        match request {
            Request::View {} => answered.push((id, view_reply(shared))),
            Request::Status {} => {
                let json = shared.status().await.ok_or(std::io::ErrorKind::BrokenPipe)?;
                answered.push((id, Reply::Status { json: json.into() }));
            }
            request => asks.extend(ask_of(request).map(|ask| (id, ask))),
        }
    }
    let owed = asks.len() + answered.len();
    if !answered.is_empty() {
        let _gone = outbox.send(answered);
    }
    if !asks.is_empty() {
        let _gone = shared.events.send(Event::Asks(outbox.clone(), asks));
    }
    Ok(owed)
}

fn view_reply(shared: &Shared) -> Reply {
    match &*shared.views.borrow() {
        Some(view) => Reply::View { json: serde_json::to_vec(&**view).expect("a view is JSON").into() },
        None => Reply::Busy { reason: "the server is in no view yet, retry".to_owned() },
    }
}
