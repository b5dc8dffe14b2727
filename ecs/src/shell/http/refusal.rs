//! Answers to requests that cannot be served: what is wrong, and what to do.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use crate::shell::driver::NoAnswer;

/// An error as the caller sees it: `{"error": ..., "hint": ...}`.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    hint: &'static str,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>, hint: &'static str) -> Self {
        Self { status, error: error.into(), hint }
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this path", "GET / lists what there is")
    }

    pub(super) fn wrong_method() -> Self {
        let hint = "GET / lists the paths with their methods";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method", hint)
    }

    pub(super) fn no_such_server(id: &str) -> Self {
        // What came in the path goes back no longer than an id is.
        let id: String = id.chars().take(32).collect();
        let error = format!("no server of this cluster has an id that begins with `{id}`");
        Self::new(StatusCode::NOT_FOUND, error, "GET /api/v1/servers lists the servers")
    }

    pub(super) fn ambiguous_server(id: &str) -> Self {
        let id: String = id.chars().take(32).collect();
        let error = format!("several servers have ids that begin with `{id}`");
        Self::new(StatusCode::BAD_REQUEST, error, "give more digits; GET /api/v1/servers lists them")
    }

    pub(super) fn last_server() -> Self {
        let error = "no other server is up: its copies could go nowhere";
        Self::new(StatusCode::CONFLICT, error, "start another server first")
    }

    pub(super) fn other_origin() -> Self {
        let error = "a page of another origin may not do this";
        Self::new(StatusCode::FORBIDDEN, error, "use curl, or a page of this ECS")
    }
}

impl From<NoAnswer> for Refusal {
    fn from(NoAnswer: NoAnswer) -> Self {
        let error = "the ECS is stopping or far behind";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, "ask again in a moment; its log says more")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "hint": self.hint }))).into_response()
    }
}
