//! Binary links by their hello: of a client library, of another server, or of the ECS with its views. What another
//! server sends becomes `Event::Peer` for `driver/run`, and goes to `kvserver/core/src/node/peer.rs` from there.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, take_frame_up_to, take_preface};
use common::ids::ServerId;
use common::limits::HELLO_BYTES_MAX;
use common::messages::{Hello, PeerMessage, ProcessId, Promised};
use common::stream::Stream;
use common::view::View;
use kvserver_core::{Input, check_message, check_sender};
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;

use super::binary::{self, invalid};
use super::intake::Intake;
use super::permit::Permit;
use super::shared::Shared;
use crate::driver::Event;
use crate::limits::{HELLO_FOR, PEER_INTAKE_BYTES_MAX, PEER_REFUSED_PAUSE};

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

pub(super) async fn serve(mut stream: Stream, shared: Shared, permit: Permit) -> std::io::Result<()> {
    let mut intake = Intake::new(BytesMut::new(), &shared.input);
    let hello = tokio::time::timeout(HELLO_FOR, read_hello(&mut stream, &mut intake)).await??;
    let input = std::mem::take(&mut intake.bytes);
    drop(intake);
    match hello {
        Hello::Client {} => match permit {
            Permit::Client(_) => binary::serve(stream, input, shared).await,
            Permit::Stranger(_) => Err(invalid("too many connections (--max-connections)")),
        },
        Hello::Peer { cluster, sender, to, port, bulk } => {
            let own = shared.views.borrow().as_ref().map(|view| view.cluster);
            if to != shared.me.server || own.is_some_and(|own| own != cluster) {
                return Err(invalid("this link was meant for another server or cluster"));
            }
            drop(permit);
            known_sender(&shared, sender)?;
            if bulk {
                bulk_link(stream, input, shared, sender)
            } else {
                peer_link(stream, input, shared, sender, port).await
            }
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
            drop(permit);
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

/// The link of a peer for what is small or urgent. `port`: where the peer listens, 0 if that is not to be noted.
async fn peer_link(
    stream: Stream,
    input: BytesMut,
    shared: Shared,
    from: ProcessId,
    port: u16,
) -> std::io::Result<()> {
    let host = stream.peer_addr()?.ip();
    let listens = (port != 0).then(|| SocketAddr::new(host, port).to_string());
    if let Some(address) = listens.clone() {
        let _gone = shared.events.send(Event::Incoming(from.server, address));
    }
    let events = shared.events.clone();
    let result = peer(stream, input, shared, from).await;
    if listens.is_some() {
        let _gone = events.send(Event::IncomingEnded(from.server));
    }
    result
}

/// The link of a peer for large messages, which a thread of their own reads and checks.
fn bulk_link(stream: Stream, input: BytesMut, shared: Shared, from: ProcessId) -> std::io::Result<()> {
    let stream = stream.detach()?;
    let thread = shared.bulk.clone();
    thread.spawn(async move {
        let served = async { peer(stream.attach()?, input, shared, from).await };
        if let Err(error) = served.await {
            tracing::debug!(peer = %from.server, "a link for large messages ended: {error}");
        }
    });
    Ok(())
}

/// Checks whether messages of a peer are taken. A peer that is in no view may have left a moment ago, or be new.
fn known_sender(shared: &Shared, sender: ProcessId) -> std::io::Result<()> {
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

async fn peer(mut stream: Stream, input: BytesMut, shared: Shared, from: ProcessId) -> std::io::Result<()> {
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
