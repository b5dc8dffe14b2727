//! A server that is to leave: it hands everything over first.

use std::sync::Arc;
use std::time::Duration;

use common::messages::{ProcessId, ServerReport};
use common::view::{ServerState, View};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::options::Options;

/// Asks the ECS to move everything away and waits until no view lists this server, for as long as is allowed. Where no
/// other server is up, it does not wait: a whole cluster that is stopped at once stops at once. Returns whether
/// everything was handed over.
pub(super) async fn drain(
    options: &Options,
    reports: &UnboundedSender<ServerReport>,
    mut views: watch::Receiver<Option<Arc<View>>>,
    me: &ProcessId,
) -> bool {
    let is_member = |view: &View| view.servers.contains_key(&me.server);
    let has_heir = |view: &View| {
        view.servers.iter().any(|(server, info)| *server != me.server && info.state == ServerState::Up)
    };
    let waits =
        |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| is_member(view) && has_heir(view));
    if options.drain_ms == 0 || !waits(&views.borrow()) {
        return false;
    }
    tracing::info!("leaving: handing everything over (again to stop at once)");
    let _gone = reports.send(ServerReport::Leave {});
    let limit = Duration::from_millis(options.drain_ms);
    match tokio::time::timeout(limit, views.wait_for(|view| !waits(view))).await {
        Ok(Ok(view)) if view.as_ref().is_some_and(|view| is_member(view)) => {
            tracing::info!(
                "no other server stays: stopping. What is here is on disk and counts again at the next start"
            );
            return false;
        }
        Ok(_) => {
            tracing::info!("everything is handed over");
            return true;
        }
        Err(_) => tracing::warn!(
            "not everything was handed over within {} ms (--drain-ms): the other servers have not caught up, or the \
             ECS does not answer. Stopping; what is here is on disk and counts again at the next start",
            options.drain_ms
        ),
    }
    false
}
