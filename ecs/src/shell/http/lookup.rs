//! What several answers look up first: whether views are made, and which server an id is.

use common::ids::ServerId;
use common::status::{ClusterStatus, Condition};
use common::view::View;
use ecs_core::verdict::Kind;

use super::refusal::Refusal;
use crate::shell::driver::{Command, Handle};

/// The status, or a refusal while the ECS makes no views: an order could not be carried out then.
pub(super) async fn makes_views(handle: &Handle) -> Result<ClusterStatus, Refusal> {
    let status = handle.ask(Command::Status).await?;
    let no_views = |condition: &&Condition| Kind::NO_VIEWS.iter().any(|kind| kind.name() == condition.name);
    match status.conditions.iter().find(no_views) {
        Some(condition) => Err(Refusal::no_views(condition)),
        None => Ok(status),
    }
}

/// The server of an id or of its first digits, or at an address.
pub(super) fn find(view: &View, id: &str) -> Result<ServerId, Refusal> {
    let at_address = view.servers.iter().find(|(_, info)| info.address == id);
    if let Some((&server, _)) = at_address {
        return Ok(server);
    }
    let id = id.to_ascii_lowercase();
    let mut found = view.servers.keys().copied().filter(|server| server.to_string().starts_with(&id));
    match (found.next(), found.next()) {
        (Some(server), None) if !id.is_empty() => Ok(server),
        (Some(_), Some(_)) => Err(Refusal::ambiguous_server(&id)),
        _ => Err(Refusal::no_such_server(&id)),
    }
}
