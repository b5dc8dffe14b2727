//! The HTTP interface for people and programs: JSON under `/api/v1`, described in `docs/ecs-api.md`.

mod admin;
mod answers;
mod dashboard;
mod lookup;
mod metrics;
mod orders;
mod origins;
mod refusal;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use common::address::HostNames;
use common::ids::Epoch;
use common::stream::Stream;
use common::time::WallTime;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tracing::debug;

use super::driver::{Command, Handle};
use crate::limits::FIRST_BYTES_WITHIN;
use answers::{PartitionAnswer, ServerAnswer};
use lookup::{find, makes_views};
use refusal::Refusal;

/// Serves HTTP/1.1 on one connection to its end.
pub(super) async fn serve(stream: Stream, handle: Handle, names: Arc<HostNames>) {
    let service = TowerToHyperService::new(routes(handle, names));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_BYTES_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "an HTTP connection ended");
    }
}

fn routes(handle: Handle, names: Arc<HostNames>) -> Router {
    let api = Router::new()
        .route("/status", get(status))
        .route("/view", get(view))
        .route("/servers", get(servers))
        .route("/servers/{id}", get(server))
        .route("/servers/{id}/drain", post(orders::drain))
        .route("/servers/{id}/cancel", post(orders::cancel))
        .route("/cancel", post(orders::cancel_all))
        .route("/plan", get(orders::plan).post(orders::apply))
        .route("/partitions", get(partitions))
        .route("/partitions/{partition}/recover", post(admin::recover))
        .route("/settings", get(admin::settings).post(admin::set))
        .route("/load", get(load))
        .route("/stream", get(stream::stream))
        .route("/events", get(events));
    dashboard::routes()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .nest("/api/v1", api)
        .fallback(|| async { Refusal::no_such_path() })
        .method_not_allowed_fallback(|| async { Refusal::wrong_method() })
        .layer(from_fn_with_state(names, origins::check))
        .with_state(handle)
}

async fn health(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let status = handle.ask(Command::Status).await?;
    Ok(Json(json!({ "status": "ok", "cluster": status.cluster, "view": status.view })).into_response())
}

async fn ready(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let status = makes_views(&handle).await?;
    Ok(Json(json!({ "status": "ready", "cluster": status.cluster, "view": status.view })).into_response())
}

async fn status(State(handle): State<Handle>) -> Result<Response, Refusal> {
    Ok(Json(handle.ask(Command::Status).await?).into_response())
}

async fn view(State(handle): State<Handle>) -> Response {
    Json(&*handle.view()).into_response()
}

async fn servers(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let status = handle.ask(Command::Status).await?;
    Ok(Json(json!({ "view": status.view, "servers": status.servers })).into_response())
}

async fn server(State(handle): State<Handle>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let server = find(&handle.view(), &id)?;
    // Asked before the status: a server that has left in between is not in the status, and must not be reported as one
    // that stays.
    let leaving = handle.ask(|answer| Command::Leaves(server, answer)).await?;
    let status = handle.ask(Command::Status).await?;
    let view = handle.view();
    let member = status.servers.into_iter().find(|member| member.server == server);
    let member = member.ok_or_else(|| Refusal::no_such_server(&id))?;
    Ok(Json(ServerAnswer::new(member, leaving, &view)).into_response())
}

async fn partitions(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let placement = handle.ask(Command::Placement).await?;
    let partitions = PartitionAnswer::all(&placement);
    Ok(Json(json!({ "view": placement.view.number, "partitions": partitions })).into_response())
}

async fn load(State(handle): State<Handle>) -> Response {
    let board = handle.board();
    let samples = board.samples_after(WallTime::default());
    Json(json!({ "servers": board.load(), "hot": board.hot(), "samples": samples })).into_response()
}

async fn events(State(handle): State<Handle>) -> Result<Response, Refusal> {
    Ok(Json(json!({ "events": handle.ask(|answer| Command::Events(Epoch::default(), answer)).await? }))
        .into_response())
}
