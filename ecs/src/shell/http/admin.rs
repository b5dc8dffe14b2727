//! What operators change: settings, and partitions that are forced to go on.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use common::ids::PartitionId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::lookup::{find, makes_views};
use super::refusal::Refusal;
use crate::shell::driver::{Command, Handle, Recovery};
use ecs_core::Settings;

/// The body of a request, as JSON; an empty one is `{}`.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let wrong = |error: serde_json::Error| Refusal::bad_body(&error.to_string());
    serde_json::from_slice(bytes).map_err(wrong)
}

/// Answers with the settings in effect, or about to be.
pub(super) async fn settings(State(handle): State<Handle>) -> Result<Response, Refusal> {
    Ok(Json(handle.ask(Command::Settings).await?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    min_copies: Option<usize>,
    min_copies_automatic: Option<bool>,
    paused: Option<bool>,
    stand_by: Option<bool>,
}

/// Sets what the body names and leaves the rest.
pub(super) async fn set(State(handle): State<Handle>, bytes: Bytes) -> Result<Response, Refusal> {
    let wish: Wish = body(&bytes)?;
    makes_views(&handle).await?;
    let now = handle.ask(Command::Settings).await?;
    let requested = Settings {
        min_copies: match (wish.min_copies_automatic, wish.min_copies) {
            (Some(true), _) => None,
            (Some(false), None) => Some(now.min_copies),
            (_, Some(number)) => Some(number),
            (None, None) => (!now.min_copies_automatic).then_some(now.min_copies),
        },
        paused: wish.paused.unwrap_or(now.paused),
        stand_by: wish.stand_by.unwrap_or(now.stand_by),
    };
    match handle.ask(|answer| Command::Set(requested, answer)).await? {
        Ok(settings) => Ok(Json(settings).into_response()),
        Err(copies) => Err(Refusal::min_copies(copies)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Force {
    #[serde(default)]
    accept_loss: bool,
    server: Option<String>,
}

/// R7: lets a partition that is offline begin anew.
pub(super) async fn recover(
    State(handle): State<Handle>,
    Path(partition): Path<String>,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let force: Force = body(&bytes)?;
    let number = partition.parse().map_err(|_| Refusal::no_such_partition(&partition))?;
    let server = force.server.map(|id| find(&handle.view(), &id)).transpose()?;
    if !force.accept_loss {
        return Err(Refusal::loss_not_accepted());
    }
    makes_views(&handle).await?;
    let ask = |answer| Command::Recover(PartitionId(number), server, answer);
    match handle.ask(ask).await? {
        Recovery::Begun(server, last) => {
            let answer = json!({
                "partition": number,
                "server": server,
                "last": last.map(|last| last.to_string()),
                "hint": "the partition begins anew from this server's copy; acknowledged writes that it lacks are lost",
            });
            Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
        }
        Recovery::Served => Err(Refusal::not_offline(number)),
        Recovery::Kept(stores) => Err(Refusal::kept(number, &stores)),
        Recovery::NotUp => Err(Refusal::not_up()),
        Recovery::Unknown => Err(Refusal::no_such_partition(&partition)),
    }
}
