//! Servers that come and go as operators order it: shown before, applied, taken back.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use common::ids::{Epoch, ServerId};
use common::view::View;
use serde::Deserialize;
use serde_json::json;

use super::admin::body;
use super::lookup::{find, makes_views};
use super::refusal::Refusal;
use crate::shell::driver::{Command, Handle, NotApplied};
use ecs_core::{Order, RequestedState};

/// One of `add`, `drain`, and `replace` and `with` together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    add: Option<String>,
    drain: Option<String>,
    replace: Option<String>,
    with: Option<String>,
    /// The view that the order was planned for: `41`, or `1/15`.
    epoch: Option<String>,
}

impl Wanted {
    fn order(&self, view: &View) -> Result<Order, Refusal> {
        let Self { add, drain, replace, with, epoch: _ } = self;
        match (add, drain, replace, with) {
            (Some(server), None, None, None) => Ok(Order::Add(find(view, server)?)),
            (None, Some(server), None, None) => Ok(Order::Drain(find(view, server)?)),
            (None, None, Some(old), Some(new)) => {
                Ok(Order::Replace { old: find(view, old)?, new: find(view, new)? })
            }
            _ => Err(Refusal::no_order()),
        }
    }
}

/// What an order would move.
pub(super) async fn plan(
    State(handle): State<Handle>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let order = wanted.order(&handle.view())?;
    match handle.ask(|answer| Command::Plan(order, answer)).await? {
        Ok(plan) => Ok(Json(plan).into_response()),
        Err(unfit) => Err(Refusal::unfit(unfit)),
    }
}

/// Gives an order that was planned for the present view.
pub(super) async fn apply(State(handle): State<Handle>, bytes: Bytes) -> Result<Response, Refusal> {
    let wanted: Wanted = body(&bytes)?;
    makes_views(&handle).await?;
    let order = wanted.order(&handle.view())?;
    let text = wanted.epoch.as_deref().ok_or_else(Refusal::no_epoch)?;
    let epoch: Epoch = text.parse().map_err(|_| Refusal::no_epoch())?;
    let plan = handle.ask(|answer| Command::Apply(order, Some(epoch), answer)).await?;
    let plan = plan.map_err(|not| not_applied(not, epoch))?;
    Ok((StatusCode::ACCEPTED, Json(plan)).into_response())
}

fn not_applied(not: NotApplied, epoch: Epoch) -> Refusal {
    match not {
        NotApplied::Unfit(unfit) => Refusal::unfit(unfit),
        NotApplied::Moved(now) => Refusal::moved(epoch, now),
    }
}

/// Lets a server leave, whatever the view.
pub(super) async fn drain(State(handle): State<Handle>, Path(id): Path<String>) -> Result<Response, Refusal> {
    makes_views(&handle).await?;
    let server = find(&handle.view(), &id)?;
    match handle.ask(|answer| Command::Apply(Order::Drain(server), None, answer)).await? {
        Ok(plan) => {
            let body = json!({
                "server": server,
                "draining": true,
                "copies": plan.copies,
                "coordinators": plan.coordinators,
                "fewer": plan.fewer,
                "hint": "GET /api/v1/servers shows it until its copies are elsewhere; POST /api/v1/servers/ID/cancel \
                         takes it back",
            });
            Ok((StatusCode::ACCEPTED, Json(body)).into_response())
        }
        Err(NotApplied::Unfit(unfit)) => Err(Refusal::unfit(unfit)),
        Err(NotApplied::Moved(_)) => unreachable!("it was planned for no view"),
    }
}

/// Takes a drain or an addition back; of several servers, with commas, all or none.
pub(super) async fn cancel(
    State(handle): State<Handle>,
    Path(ids): Path<String>,
) -> Result<Response, Refusal> {
    let view = handle.view();
    let servers = ids.split(',').map(|id| find(&view, id)).collect::<Result<Vec<_>, _>>()?;
    take_back(&handle, servers).await
}

/// Takes back all that is under way.
pub(super) async fn cancel_all(State(handle): State<Handle>) -> Result<Response, Refusal> {
    take_back(&handle, Vec::new()).await
}

async fn take_back(handle: &Handle, servers: Vec<ServerId>) -> Result<Response, Refusal> {
    makes_views(handle).await?;
    let states = handle.ask(|answer| Command::Cancel(servers, answer)).await?.map_err(Refusal::unfit)?;
    let word = |state| match state {
        RequestedState::Serve => "serve",
        RequestedState::StandBy => "stand_by",
        RequestedState::Leave | RequestedState::Replaced { .. } => "leave",
    };
    let servers = states.into_iter().map(|(server, state)| json!({ "server": server, "part": word(state) }));
    Ok((StatusCode::ACCEPTED, Json(json!({ "servers": servers.collect::<Vec<_>>() }))).into_response())
}
