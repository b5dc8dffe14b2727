//! The server's HTTP port (`--http`): metrics and health, for monitoring.
//!
//! It is a port of its own because the one for everything takes a line that begins with GET for a text command or one
//! of Redis. It runs beside the core's thread, from metrics reports: it can be asked while that thread is busy.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use common::address::HostNames;
use common::clock;
use common::metrics::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::inbound::ACCEPT_PAUSE;
use crate::limits::{HELLO_FOR, HTTP_CONNECTION_FOR, HTTP_CONNECTIONS_MAX};
use crate::metrics::{ALIVE_WITHIN, Connections, MetricsReport, page};
use crate::net::byte_counter::ByteCounter;

/// The data that the port shows.
#[derive(Clone)]
pub(crate) struct Shown {
    /// The newest report; `None` before the first.
    pub(crate) metrics_reports: watch::Receiver<Option<Arc<MetricsReport>>>,
    pub(crate) connections: Connections,
    /// What a server waits for that serves nothing (R3); `None` if it serves.
    pub(crate) waits: Option<Arc<str>>,
}

impl Shown {
    /// For a server that waits.
    pub(crate) fn waiting(text: &str) -> Self {
        let connections =
            Connections { open_bytes: ByteCounter::default(), free: Arc::new(Semaphore::new(0)), permits: 0 };
        Self { metrics_reports: watch::channel(None).1, connections, waits: Some(text.into()) }
    }

    /// The newest report, or why there is none of late.
    fn newest(&self) -> Result<Arc<MetricsReport>, Unavailable> {
        if let Some(waits) = &self.waits {
            let hint = "see \"A store failed at all of its servers\" in the operations guide";
            return Err(Unavailable { error: waits.to_string(), hint });
        }
        let report = self.metrics_reports.borrow().clone();
        let alive = |report: &Arc<MetricsReport>| clock::time().since(report.at) < ALIVE_WITHIN;
        report.filter(alive).ok_or_else(|| {
            let hint = "it has not begun, or blocks: look at the server's log and at its disk";
            Unavailable { error: "the core's thread does not report".to_owned(), hint }
        })
    }
}

/// What is wrong, and what to do.
struct Unavailable {
    error: String,
    hint: &'static str,
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        let Self { error, hint } = self;
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error, "hint": hint }))).into_response()
    }
}

/// Refuses requests of foreign pages in a browser, see [`common::address`].
async fn check_origin(State(names): State<Arc<HostNames>>, request: Request, next: Next) -> Response {
    if is_own(&names, request.headers()) {
        return next.run(request).await;
    }
    let error =
        "the request is of another origin, or for a host name that this server does not know as its own";
    let hint = "ask by IP address, localhost, the machine's name, or the name in --advertise";
    (StatusCode::FORBIDDEN, Json(json!({ "error": error, "hint": hint }))).into_response()
}

fn is_own(names: &HostNames, headers: &HeaderMap) -> bool {
    let bytes = |name| headers.get(name).map(axum::http::HeaderValue::as_bytes);
    names.check(bytes(header::HOST), bytes(header::ORIGIN)).is_ok()
}

/// Serves the port for ever, under these names.
pub(crate) async fn serve(listener: Arc<TcpListener>, shown: Shown, names: HostNames) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .fallback(|| async {
            let hint = "there are /metrics, /healthz and /readyz; keys and values are at the other port";
            (StatusCode::NOT_FOUND, Json(json!({ "error": "no such path", "hint": hint })))
        })
        .layer(from_fn_with_state(Arc::new(names), check_origin))
        .with_state(shown);
    let permits = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of files, which may be a moment's matter.
            let _over = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(routes.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HELLO_FOR)
            .serve_connection(TokioIo::new(stream), service);
        open.spawn(async move {
            // A reader that is too slow is cut off; a monitoring program connects anew.
            let _ended = timeout(HTTP_CONNECTION_FOR, connection).await;
            drop(permit);
        });
    }
}

async fn metrics(State(shown): State<Shown>) -> Result<Response, Unavailable> {
    // An old report is shown as well: its age is among the metrics.
    let Some(report) = shown.metrics_reports.borrow().clone() else {
        let error = "nothing was counted yet".to_owned();
        return Err(Unavailable { error, hint: "ask again in a second" });
    };
    let text = page(&report, &shown.connections, clock::time()).text();
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

async fn health(State(shown): State<Shown>) -> Result<Response, Unavailable> {
    let report = shown.newest()?;
    Ok(Json(json!({ "status": "ok", "view": report.view })).into_response())
}

async fn ready(State(shown): State<Shown>) -> Result<Response, Unavailable> {
    let report = shown.newest()?;
    match &report.not_ready {
        None => Ok(Json(json!({ "status": "ready", "view": report.view })).into_response()),
        Some(reason) => {
            Err(Unavailable { error: reason.clone(), hint: "send requests to other servers meanwhile" })
        }
    }
}
