//! The stream that feeds the dashboard: server-sent events (WHATWG HTML, "Server-sent events"), which a browser
//! resumes by itself.
//!
//! Each batch has what its reader does not have yet: `events` (changes of the view), `samples` (rates and times),
//! `placement` when the view is another one, and last `state`, which carries the id to resume from: the newest view
//! that was sent, a dash, and the time of the newest sample. So nothing is lost or sent twice, even after a restart of
//! the ECS.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use common::clock;
use common::ids::{Epoch, ServerId};
use common::time::WallTime;
use common::view::{Member, View};
use futures_util::stream::unfold;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::limits::{BATCH_INTERVAL_MIN, RETRY_STREAM_AFTER};
use crate::shell::driver::{Command, Handle, NoAnswer, Placement};

/// One reader, and what it has.
struct Reader {
    handle: Handle,
    ticks: watch::Receiver<WallTime>,
    views: watch::Receiver<Arc<View>>,
    delivered: Delivered,
    /// The view whose placement it has.
    placed: Option<Epoch>,
    batch: VecDeque<Event>,
    started: bool,
    _permit: OwnedSemaphorePermit,
}

/// Up to which view and sample a reader has everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delivered {
    view: Epoch,
    sample: WallTime,
}

impl Delivered {
    fn id(self) -> String {
        format!("{}.{}-{}", self.view.generation, self.view.version, self.sample.0)
    }

    fn read(id: &str) -> Option<Self> {
        let (view, sample) = id.split_once('-')?;
        let (generation, version) = view.split_once('.')?;
        let view = Epoch { generation: generation.parse().ok()?, version: version.parse().ok()? };
        Some(Self { view, sample: WallTime(sample.parse().ok()?) })
    }
}

/// Answers with server-sent events, from where the reader was on.
pub(super) async fn stream(State(handle): State<Handle>, headers: HeaderMap) -> Result<Response, Refusal> {
    let permit = handle.board().reader().ok_or_else(Refusal::too_many_readers)?;
    let id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let reader = Reader {
        ticks: handle.board().watch(),
        views: handle.views(),
        // An id that is not one of this stream: from the beginning.
        delivered: id.and_then(Delivered::read).unwrap_or_default(),
        placed: None,
        batch: VecDeque::new(),
        started: false,
        handle,
        _permit: permit,
    };
    let events = unfold(reader, async |mut reader| {
        let event = reader.next().await.ok()?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    Ok(Sse::new(events).into_response())
}

impl Reader {
    /// The next event; no more if the ECS stops.
    async fn next(&mut self) -> Result<Event, NoAnswer> {
        loop {
            if let Some(event) = self.batch.pop_front() {
                return Ok(event);
            }
            if std::mem::replace(&mut self.started, true) {
                tokio::select! {
                    tick = self.ticks.changed() => tick.map_err(|_| NoAnswer)?,
                    view = self.views.changed() => {
                        view.map_err(|_| NoAnswer)?;
                        // A join makes many views a second: people see some of them.
                        let _over = timeout(BATCH_INTERVAL_MIN, std::future::pending::<()>()).await;
                    }
                }
            }
            self.ticks.mark_unchanged();
            self.views.mark_unchanged();
            self.fill().await?;
        }
    }

    /// Puts together what the reader does not have.
    async fn fill(&mut self) -> Result<(), NoAnswer> {
        let board = self.handle.board().clone();
        let after = self.delivered.view;
        let events = self.handle.ask(|answer| Command::Events(after, answer)).await?;
        if let Some(newest) = events.last() {
            self.delivered.view = newest.event.view;
            self.batch.push_back(event("events", &events));
        }
        let samples = board.samples_after(self.delivered.sample);
        if let Some(newest) = samples.last() {
            self.delivered.sample = newest.at;
            self.batch.push_back(event("samples", &samples));
        }
        let status = self.handle.ask(Command::Status).await?;
        if self.placed != Some(status.view) {
            let placement = self.handle.ask(Command::Placement).await?;
            self.placed = Some(placement.view.number);
            self.batch.push_back(event("placement", &PlacementShown::new(&placement)));
        }
        let state = json!({
            "at": clock::wall(),
            "version": env!("CARGO_PKG_VERSION"),
            "status": status,
            "load": board.load(),
            "hot": board.hot(),
        });
        self.batch.push_back(event("state", &state).id(self.delivered.id()).retry(RETRY_STREAM_AFTER));
        Ok(())
    }
}

fn event(name: &'static str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("what the ECS says of itself is JSON")
}

/// The servers of each partition, in few bytes: by their index in a list.
#[derive(Serialize)]
struct PlacementShown {
    view: Epoch,
    servers: Vec<ServerId>,
    partitions: Vec<PartitionShown>,
}

#[derive(Serialize)]
struct PartitionShown {
    /// The coordinator, and it alone if no view names a server of its.
    c: Option<usize>,
    /// The in-sync copies.
    s: Vec<usize>,
    /// Copies that are being brought up to date.
    j: Vec<usize>,
    /// `served`, `offline` or `waiting`.
    state: &'static str,
}

impl PlacementShown {
    fn new(placement: &Placement) -> Self {
        let view = &placement.view;
        let servers: Vec<ServerId> = view.servers.keys().copied().collect();
        let index = |server: ServerId| servers.binary_search(&server).ok();
        let indices = |members: &[Member]| members.iter().filter_map(|member| index(member.server)).collect();
        let partition = |(id, now): (_, &common::view::Assignment)| PartitionShown {
            c: index(now.coordinator),
            s: indices(&now.in_sync),
            j: indices(&now.joining),
            state: placement.state(id),
        };
        Self { view: view.number, partitions: view.iter().map(partition).collect(), servers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_where_to_go_on() {
        let delivered = Delivered { view: Epoch { generation: 1, version: 7 }, sample: WallTime(99) };
        assert_eq!(Delivered::read(&delivered.id()), Some(delivered));
        for wrong in ["", "1.7", "1-7", "a.b-c", "1.7-", "1.7-99-1"] {
            assert_eq!(Delivered::read(wrong), None, "{wrong}");
        }
    }
}
