//! Connections to the one port. The first byte distinguishes binary links from HTTP.
//!
//! Reports are one-way: nothing is ever written to a server's report link.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use common::address::HostNames;
use common::codec::Wire as _;
use common::frame::{PREFACE, write_frame};
use common::ids::{ClusterId, Epoch};
use common::limits::FRAME_BYTES_MAX;
use common::messages::{ClientMessage, Hello, ProcessId, Reply, Request, ServerMessage, ServerReport};
use common::shown;
use common::stream::Stream;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::driver::{Command, Handle};
use super::http;
use super::permits::{Kind, Permit};
use super::wire::{LinkError, Wire};
use crate::limits::{
    ASIDE_STORES_MAX, CLIENT_FRAME_BYTES_MAX, CLIENT_LINK_IDLE_MAX, FIRST_BYTES_WITHIN, REASON_BYTES_MAX,
    REPORT_LINK_IDLE_MAX, UNKNOWN_REPORTS_TOLD_MAX,
};
use ecs_core::Input;

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: Stream,
    handle: &Handle,
    names: Arc<HostNames>,
    mut permit: Permit,
    large: Arc<Semaphore>,
) {
    let peer = stream.peer_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let mut first = [0];
    match timeout(FIRST_BYTES_WITHIN, stream.peek(&mut first)).await {
        Ok(Ok(1)) => (),
        _ => return,
    }
    if first[0] != PREFACE[0] {
        permit.becomes(Kind::Http);
        http::serve(stream, handle.clone(), names).await;
        return;
    }
    if let Err(error) = serve_link(Wire::new(stream, large), handle, permit).await {
        debug!(peer, %error, "a link ended");
    }
}

async fn serve_link(mut wire: Wire, handle: &Handle, mut permit: Permit) -> Result<(), LinkError> {
    let hello = read_json(&wire.hello(FIRST_BYTES_WITHIN).await?)?;
    match hello {
        Hello::Report { cluster, sender } => {
            let own = handle.view().cluster;
            if cluster.is_some_and(|cluster| cluster != own) {
                let is_new = handle.view().servers.is_empty();
                handle.input(Input::Foreign { sender, cluster: cluster.unwrap_or_default() }).await;
                return Err(refuse_cluster(sender, cluster.unwrap_or_default(), own, is_new));
            }
            permit.becomes(Kind::Report);
            let ended = handle.linked(sender).await;
            let result = tokio::select! {
                result = take_reports(&mut wire, cluster.is_some(), sender, handle, &mut permit) => result,
                Ok(()) = ended => Err(LinkError::NoMember),
            };
            handle.input(Input::LinkEnded { sender }).await;
            result
        }
        Hello::Client {} => {
            permit.becomes(Kind::Client);
            serve_client(&mut wire, handle, &mut permit).await
        }
        Hello::Peer { .. }
        | Hello::Views { .. }
        | Hello::Rebuild { .. }
        | Hello::Refused { .. }
        | Hello::StoreVerdict { .. } => {
            Err(LinkError::Content("such a link goes to a server, and this is the ECS".to_owned()))
        }
    }
}

fn refuse_cluster(sender: ProcessId, cluster: ClusterId, own: ClusterId, is_new: bool) -> LinkError {
    let server = sender.server.short();
    if is_new {
        warn!(
            server,
            "it belongs to the cluster {cluster}, and this ECS began a new one in an empty directory. If that \
             cluster's ECS has lost its disk, stop this one and start it with --rebuild {cluster}: nothing is taken \
             over by itself. If not, start the server with the address of its own ECS"
        );
        return LinkError::Content("it belongs to another cluster".to_owned());
    }
    warn!(
        server,
        "it belongs to the cluster {cluster}, this ECS to {own}: start the server with the address of its own ECS, \
         or with an empty directory to join this cluster"
    );
    LinkError::Content("it belongs to another cluster".to_owned())
}

/// What kind of report it is.
#[derive(Deserialize)]
struct Named {
    report: String,
}

async fn take_reports(
    wire: &mut Wire,
    names_cluster: bool,
    sender: ProcessId,
    handle: &Handle,
    permit: &mut Permit,
) -> Result<(), LinkError> {
    let mut skipped = BTreeSet::new();
    loop {
        let frame = wire.frame(REPORT_LINK_IDLE_MAX, FRAME_BYTES_MAX).await?;
        permit.on_heard();
        let mut report: ServerReport = read_json(&frame)?;
        if let ServerReport::Unknown = report {
            let Named { report } = read_json(&frame)?;
            let report: String = report.chars().take(REASON_BYTES_MAX).collect();
            if skipped.len() < UNKNOWN_REPORTS_TOLD_MAX && skipped.insert(report.clone()) {
                let server = sender.server.short();
                warn!(
                    server,
                    "it reports `{report}`, which this ECS does not know, and skips: upgrade the ECS"
                );
            }
            continue;
        }
        if let ServerReport::Hello { view, .. } = &report
            && *view != Epoch::default()
            && !names_cluster
        {
            // Servers that have a view name its cluster.
            return Err(LinkError::Content(format!(
                "it has the view {view} of a cluster that it does not name"
            )));
        }
        match &mut report {
            ServerReport::Suspect { suspicion } => {
                make_showable(&mut suspicion.dir);
                make_showable(&mut suspicion.reason);
            }
            ServerReport::Aside { stores } => {
                stores.truncate(ASIDE_STORES_MAX);
                for store in stores {
                    make_showable(&mut store.dir);
                    make_showable(&mut store.folder);
                    make_showable(&mut store.reason);
                }
            }
            _ => {}
        }
        if let ServerReport::StoreFailed { reason } = &report {
            let reason: String = reason.chars().take(REASON_BYTES_MAX).collect();
            warn!(server = sender.server.short(), reason, "its store failed");
        }
        if let ServerReport::Figures { figures } = report {
            handle.board().on_figures(sender.server, figures);
            continue;
        }
        handle.input(Input::Report { sender, report }).await;
    }
}

/// Makes a server's text fit to be shown: bounded, in one line, and harmless on a terminal.
fn make_showable(text: &mut String) {
    let short: String = text.chars().take(REASON_BYTES_MAX).collect();
    *text = shown::one_line(short.as_bytes()).to_string();
}

async fn serve_client(wire: &mut Wire, handle: &Handle, permit: &mut Permit) -> Result<(), LinkError> {
    loop {
        let mut frame = wire.frame(CLIENT_LINK_IDLE_MAX, CLIENT_FRAME_BYTES_MAX).await?;
        permit.on_heard();
        let mut answers = Vec::new();
        while !frame.is_empty() {
            let message = ClientMessage::read(&mut frame);
            let ClientMessage { id, request } =
                message.map_err(|error| LinkError::Content(error.to_string()))?;
            let reply = answer(request, handle).await;
            write_frame(&mut answers, |out| ServerMessage { id, reply }.write(out));
        }
        wire.write(&answers, CLIENT_LINK_IDLE_MAX).await?;
    }
}

async fn answer(request: Request, handle: &Handle) -> Reply {
    match request {
        Request::Status {} => match handle.ask(Command::Status).await {
            Ok(status) => Reply::Status { json: json(&status) },
            Err(_) => Reply::Busy { reason: "the ECS is stopping or far behind".to_owned() },
        },
        Request::View {} => Reply::View { json: json(&*handle.view()) },
        Request::Write { .. }
        | Request::Get { .. }
        | Request::GetUpTo { .. }
        | Request::Scan { .. }
        | Request::Keys { .. }
        | Request::Count { .. }
        | Request::Watch { .. }
        | Request::Digest { .. }
        | Request::Trace { .. } => {
            Reply::Refused { reason: "this is the ECS, which holds no keys: ask a server".to_owned() }
        }
    }
}

fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).expect("what the ECS says of itself is JSON").into()
}

fn read_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, LinkError> {
    serde_json::from_slice(bytes).map_err(|error| LinkError::Content(error.to_string()))
}
