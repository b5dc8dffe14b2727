//! `admin wait`: waits, for scripts, until the cluster is in a wanted state.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use common::status::ClusterStatus;
use common::view::ServerState;
use serde_json::json;
use tokio::time::timeout;

use super::answer::{print, wait};
use crate::commands::ecs::Ecs;
use crate::frame::failure::{Exit, Failure};
use crate::frame::session::Session;
use crate::limits::WAIT_LOOKS_EVERY;

/// The wanted state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// At least so many servers are up.
    pub(super) servers: Option<usize>,
    /// The verdict is `healthy`.
    pub(super) healthy: bool,
    /// How long to wait; `None`: for ever.
    pub(super) timeout: Option<Duration>,
}

/// Waits for the state. A cluster that does not answer is asked again, as servers may be restarting.
pub(super) async fn run(
    session: &mut Session,
    ecs: Option<Ecs>,
    wanted: Wanted,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut why = String::new();
    let waiting = until(session, ecs, wanted, &mut why);
    let status = match wanted.timeout {
        None => waiting.await?,
        Some(limit) => match timeout(limit, waiting).await {
            Ok(status) => status?,
            Err(_over) => {
                let message = format!("it was not so within {limit:?}: {why}");
                return Err(Failure::new(Exit::NotHealthy, message));
            }
        },
    };
    let up = up(&status);
    let answer = json!({ "healthy": status.healthy, "verdict": status.verdict, "servers_up": up });
    let text = if status.verdict.is_empty() { format!("{up} servers are up") } else { status.verdict };
    print(out, as_json, &answer, &format!("OK: {text}\n"))
}

/// Returns the status once it is as wanted. `why`: what is still missing.
async fn until(
    session: &mut Session,
    ecs: Option<Ecs>,
    wanted: Wanted,
    why: &mut String,
) -> Result<ClusterStatus, Failure> {
    let shows = io::stderr().is_terminal();
    loop {
        let missing = match look(session, ecs.as_ref()).await {
            Ok(status) => match missing(&status, up(&status), wanted) {
                None => return Ok(status),
                Some(missing) => missing,
            },
            Err(failure) if failure.exit == Exit::Unavailable => failure.message,
            Err(failure) => return Err(failure),
        };
        if shows && missing != *why {
            eprintln!("waiting: {missing}");
        }
        *why = missing;
        wait(WAIT_LOOKS_EVERY).await;
    }
}

async fn look(session: &mut Session, ecs: Option<&Ecs>) -> Result<ClusterStatus, Failure> {
    let ecs = match ecs {
        Some(ecs) => ecs.clone(),
        None => Ecs::of(session).await?,
    };
    let status = ecs.get("/api/v1/status").await?;
    serde_json::from_value(status)
        .map_err(|error| Failure::usage(format!("the status cannot be read: {error}; use one version")))
}

fn up(status: &ClusterStatus) -> usize {
    status.servers.iter().filter(|server| server.state == ServerState::Up).count()
}

/// What is missing from the wanted state, with `up` servers that are up.
fn missing(status: &ClusterStatus, up: usize, wanted: Wanted) -> Option<String> {
    match wanted.servers {
        Some(servers) if up < servers => Some(format!("{up} of {servers} servers are up")),
        _ if wanted.healthy && !status.healthy => Some(status.verdict.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let status =
            |healthy| ClusterStatus { healthy, verdict: "a verdict".to_owned(), ..ClusterStatus::default() };
        let wanted = |servers, healthy| Wanted { servers, healthy, timeout: None };
        let unwell = status(false);
        assert_eq!(missing(&unwell, 2, wanted(Some(3), true)).unwrap(), "2 of 3 servers are up");
        assert_eq!(missing(&unwell, 2, wanted(Some(2), true)).unwrap(), "a verdict");
        assert_eq!(missing(&unwell, 2, wanted(Some(2), false)), None);
        assert_eq!(missing(&unwell, 2, wanted(None, true)).unwrap(), "a verdict");
        assert_eq!(missing(&status(true), 3, wanted(Some(2), true)), None, "more is as good");
    }
}
