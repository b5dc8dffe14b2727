//! What operators order.

use common::clock;
use common::ids::{Epoch, LogId, PartitionId, ServerId};
use tracing::{info, warn};

use ecs_core::{Ecs, Input, KeptStore, Order, Plan, RequestedState, Settings, Unfit};

/// The result of a request to force an offline partition to resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::shell) enum Recovery {
    /// It begins anew from this server's copy; the last entry there, as the server reported it at its start.
    Begun(ServerId, Option<LogId>),
    /// A server that is up has a copy that counts.
    Served,
    /// Stores that are not in use may hold more of it.
    Kept(Vec<KeptStore>),
    /// The server that was named is not up, or none is.
    NotUp,
    /// There is no such partition.
    Unknown,
}

/// The settings, as operators see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(in crate::shell) struct Shown {
    /// Copies that a write needs to be acknowledged, whether they were set or not.
    pub(in crate::shell) min_copies: usize,
    /// Whether that number follows from the number of servers.
    pub(in crate::shell) min_copies_automatic: bool,
    pub(in crate::shell) paused: bool,
    pub(in crate::shell) stand_by: bool,
}

/// Why an order was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shell) enum NotApplied {
    /// It cannot be given now.
    Unfit(Unfit),
    /// It was planned for another view than this one, or this one is about to be replaced.
    Moved(Epoch),
}

/// Gives an order. `epoch`: the number of the view that it was planned for.
pub(super) fn apply(ecs: &mut Ecs, order: Order, epoch: Option<Epoch>) -> Result<Plan, NotApplied> {
    let now = clock::time();
    let own = ecs.view().number;
    if epoch.is_some_and(|epoch| epoch != own || !ecs.is_at_rest()) {
        return Err(NotApplied::Moved(own));
    }
    let plan = ecs.plan(now, order).map_err(NotApplied::Unfit)?;
    info!(%order, view = %own, copies = plan.copies, coordinators = plan.coordinators, "an operator orders");
    ecs.step(now, Input::Order { states: order.states() });
    Ok(plan)
}

/// Takes back the orders that are under way with the named servers: all of them or none. If no server is named,
/// those of all servers.
pub(super) fn cancel(ecs: &mut Ecs, servers: &[ServerId]) -> Result<Vec<(ServerId, RequestedState)>, Unfit> {
    let states = ecs.states_before(servers)?;
    for (server, state) in &states {
        info!(server = server.short(), becomes = ?state, "an operator cancels what is under way");
    }
    ecs.step(clock::time(), Input::Order { states: states.clone() });
    Ok(states)
}

pub(super) fn set(ecs: &mut Ecs, settings: Settings) -> Result<Shown, usize> {
    let copies = ecs.config().copies;
    if settings.min_copies.is_some_and(|number| !(1..=copies).contains(&number)) {
        return Err(copies);
    }
    let Settings { min_copies, paused, stand_by } = settings;
    let number = min_copies.map_or("auto".to_owned(), |number| number.to_string());
    info!(min_copies = number, paused, stand_by, "an operator sets");
    ecs.step(clock::time(), Input::Set(settings));
    Ok(shown(ecs))
}

pub(super) fn shown(ecs: &Ecs) -> Shown {
    let Settings { min_copies, paused, stand_by } = ecs.settings();
    let min_copies_automatic = min_copies.is_none();
    Shown { min_copies: ecs.min_copies(), min_copies_automatic, paused, stand_by }
}

pub(super) fn recover(ecs: &mut Ecs, partition: PartitionId, server: Option<ServerId>) -> Recovery {
    if ecs.view().assignment(partition).is_none() {
        return Recovery::Unknown;
    }
    if !ecs.is_offline(partition) && !ecs.is_waiting(partition) {
        return Recovery::Served;
    }
    let candidates = ecs.candidates(partition);
    let chosen = candidates.into_iter().find(|&(up, _)| server.is_none_or(|server| server == up));
    let named_with_data = server.is_some() && chosen.is_some_and(|(_, last)| last.is_some());
    let mut kept = ecs.kept_stores();
    kept.retain(|store| store.may_hold(partition));
    if !kept.is_empty() && !named_with_data {
        return Recovery::Kept(kept);
    }
    let Some((server, last)) = chosen else { return Recovery::NotUp };
    warn!(
        %partition, server = server.short(),
        "an operator forces the partition to go on from this server's copy: acknowledged writes may be lost"
    );
    ecs.step(clock::time(), Input::Recover { partition, server });
    Recovery::Begun(server, last)
}
