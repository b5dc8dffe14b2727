//! Answers to requests that cannot be served: what is wrong, and what to do.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use common::ids::Epoch;
use common::status::Condition;
use serde_json::json;

use crate::shell::driver::NoAnswer;
use ecs_core::{KeptStore, Unfit};

/// An error as the caller sees it: `{"error": ..., "hint": ...}`.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    hint: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<String>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this path", "GET / lists what there is")
    }

    pub(super) fn wrong_method() -> Self {
        let hint = "GET / lists the paths with their methods";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method", hint)
    }

    pub(super) fn too_many_readers() -> Self {
        let error = "as many streams are read as may be at once";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error,
            "close some dashboards, or ask /api/v1/status now and then",
        )
    }

    /// A condition for which the ECS makes no views.
    pub(super) fn no_views(condition: &Condition) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, condition.what.clone(), condition.next.clone())
    }

    pub(super) fn no_such_server(id: &str) -> Self {
        // The id of the path is cut to an id's length before it is repeated in the answer.
        let id: String = id.chars().take(32).collect();
        let error = format!("no server of this cluster has the address `{id}`, or an id that begins so");
        Self::new(StatusCode::NOT_FOUND, error, "kvclient status and GET /api/v1/servers list them")
    }

    pub(super) fn ambiguous_server(id: &str) -> Self {
        let id: String = id.chars().take(32).collect();
        let error = format!("several servers have ids that begin with `{id}`");
        Self::new(
            StatusCode::BAD_REQUEST,
            error,
            "give more digits; kvclient status and GET /api/v1/servers list them",
        )
    }

    pub(super) fn unfit(unfit: Unfit) -> Self {
        let hint = match unfit {
            Unfit::Unknown(_) => "kvclient status and GET /api/v1/servers list them",
            Unfit::Serves(_) => {
                "servers stand by that join while `stand_by` is set (ecs --stand-by), until they are added"
            }
            Unfit::Leaves(_) => "it is listed until its copies are elsewhere",
            Unfit::Down(_) => "start it first",
            Unfit::Last => "start another server first, or let one that stands by serve",
            Unfit::Needed(_) => "cancel both of them together",
            Unfit::Settled(_) => "what is done is not taken back: drain it, or add another one",
        };
        let status =
            if matches!(unfit, Unfit::Unknown(_)) { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
        Self::new(status, unfit.to_string(), hint)
    }

    pub(super) fn no_order() -> Self {
        let error = "one of `add`, `drain`, and `replace` together with `with` is expected";
        Self::new(StatusCode::BAD_REQUEST, error, "docs/ecs-api.md shows them")
    }

    pub(super) fn no_epoch() -> Self {
        let error =
            "`epoch` is expected: the number of the view that was planned for, such as \"41\" or \"1/15\"";
        Self::new(StatusCode::BAD_REQUEST, error, "GET /api/v1/plan returns it")
    }

    pub(super) fn moved(planned: Epoch, now: Epoch) -> Self {
        let error = if planned == now {
            format!("the view {now} is about to be replaced: the plan may not hold")
        } else {
            format!("the plan was made for view {planned}, and the view is {now} by now: it may not hold")
        };
        Self::new(StatusCode::PRECONDITION_FAILED, error, "look at the plan anew, and apply that")
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
        let hint = "start the servers that hold the partition if they can be started; if they are lost for good, say \
                    that the loss is accepted: --accept-loss of kvclient admin, {\"accept_loss\": true} here";
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    pub(super) fn not_offline(partition: u16) -> Self {
        let error =
            format!("partition {partition} has a copy at a server that is up: nothing is to be forced");
        Self::new(StatusCode::CONFLICT, error, "GET /api/v1/status says how the cluster does")
    }

    pub(super) fn kept(partition: u16, stores: &[KeptStore]) -> Self {
        let named = |store: &KeptStore| {
            let (dir, from) = match &store.folder {
                Some(folder) => (format!("{}/{folder}", store.dir), format!(" --from {folder}")),
                None => (store.dir.clone(), String::new()),
            };
            format!(
                "{dir} at {} ({}; `kvserver reinstate -d {}{from}`)",
                store.address, store.reason, store.dir
            )
        };
        let stores: Vec<String> = stores.iter().map(named).collect();
        let error = format!(
            "partition {partition} is not begun anew while a store is there that may hold all of it: {}",
            stores.join(", ")
        );
        let hint = "stop that server, run the command on its machine, and start it again. Where that does not help, \
                    move the directory or the folder away, and start the server: then no server has it any more";
        Self::new(StatusCode::CONFLICT, error, hint)
    }

    pub(super) fn not_up() -> Self {
        let error = "the partition can only go on at a server that is up, and not leaving";
        Self::new(StatusCode::CONFLICT, error, "GET /api/v1/servers lists the servers")
    }

    pub(super) fn other_origin() -> Self {
        let error = "a page of another origin may not do this";
        Self::new(StatusCode::FORBIDDEN, error, "use curl, or a page of this ECS")
    }

    pub(super) fn unknown_host() -> Self {
        let error = "the request is for a host name that this ECS does not know as its own";
        let hint = "ask by IP address, localhost or the machine's name, or start the ECS with --host-names NAME,NAME";
        Self::new(StatusCode::FORBIDDEN, error, hint)
    }

    pub(super) fn not_json() -> Self {
        let error = "a request that changes something must say that it is JSON, also without a body";
        let hint = "curl -X POST -H 'content-type: application/json' ...";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error, hint)
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
