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
    pub(super) fn new(status: StatusCode, error: impl Into<String>, hint: &'static str) -> Self {
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

    pub(super) fn bad_body(what: &str) -> Self {
        let error = format!("the body is not what is expected here: {what}");
        Self::new(StatusCode::BAD_REQUEST, error, "docs/ecs-api.md shows the bodies of all requests")
    }

    pub(super) fn min_copies(copies: usize) -> Self {
        let error = format!("min_copies must be from 1 to {copies}, the number of copies");
        Self::new(StatusCode::BAD_REQUEST, error, "beyond that writes would wait for ever")
    }

    pub(super) fn no_such_partition(partition: &str) -> Self {
        let partition: String = partition.chars().take(32).collect();
        let error = format!("there is no partition `{partition}`");
        Self::new(StatusCode::NOT_FOUND, error, "GET /api/v1/partitions lists the partitions")
    }

    pub(super) fn loss_not_accepted() -> Self {
        let error = "acknowledged writes may be lost by this; it was not said that this is accepted";
        let hint = "start the servers that hold the partition if they can be started; if they are lost for good, send \
                    {\"accept_loss\": true}";
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    pub(super) fn not_offline(partition: u16) -> Self {
        let error =
            format!("partition {partition} has a copy at a server that is up: nothing is to be forced");
        Self::new(StatusCode::CONFLICT, error, "GET /api/v1/status says how the cluster does")
    }

    pub(super) fn not_up() -> Self {
        let error = "the partition can only go on at a server that is up, and not leaving";
        Self::new(StatusCode::CONFLICT, error, "GET /api/v1/servers lists the servers")
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
