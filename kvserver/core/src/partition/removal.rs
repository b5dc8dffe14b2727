//! When a copy is removed: no view has listed it for long, or an operator let the partition begin anew (R7). What
//! may exist in no other copy is kept (V4a).

use common::time::Time;

use super::super::env::Env;
use super::super::limits::UNLISTED_KEPT;
use super::super::planted::PlantedBug;
use super::state::PartitionState;

/// Removes a copy that no view has listed since `since`, for long, when the view has enough others.
pub(crate) fn drop_if_unwanted(p: &mut PartitionState, env: &mut Env, since: Time) {
    let Some(assignment) = env.cx.view.assignment(p.id()) else { return };
    let wanted = env.cx.view.servers.len().min(common::limits::COPIES);
    let has_enough = assignment.in_sync.len() >= wanted;
    let is_old = env.cx.now.time.since(since) >= UNLISTED_KEPT;
    if p.is_idle() && !p.log().is_empty() && has_enough && is_old && !may_hold_more(p, env) {
        p.begin_drop(env);
    }
}

/// R7: drops the copy if an operator let the partition begin anew from another one. What this copy has besides, even
/// applied, is void, so it joins as an empty one.
pub(crate) fn drop_if_forced(p: &mut PartitionState, env: &mut Env) {
    let Some(&forced) = env.cx.view.forced.get(&p.id()) else { return };
    let me = env.cx.my_member();
    let joining = env.cx.view.assignment(p.id()).is_some_and(|now| now.joining.contains(&me));
    let is_older = p.durable_state().synced < forced && !p.log().is_empty();
    if joining && is_older && p.is_idle() {
        p.begin_drop(env);
    }
}

/// V4a: whether the partition was resumed without this copy after a restart, before it was known what the copy has. An
/// in-sync member was not left out: the coordinator has asked it for its log (P1). Nor was a server that has
/// coordinated the partition since then: a coordinator writes no sync mark, but its log has entries of that epoch or a
/// later one.
pub(crate) fn was_left_out(p: &PartitionState, env: &Env) -> bool {
    let Some(&resumed) = env.cx.view.resumed.get(&p.id()) else { return false };
    let me = env.cx.my_member();
    let in_sync = env.cx.view.assignment(p.id()).is_some_and(|now| now.in_sync.contains(&me));
    let took_part =
        (in_sync || p.log().last_tag() >= resumed) && !env.cx.planted(PlantedBug::CoordinatorLeftOut);
    p.durable_state().synced < resumed && !took_part
}

/// V4a: whether this copy was left out and may have acknowledged entries that no other copy has, so that only an
/// operator may remove it. Entries that are known here to be committed are in the other copies' logs.
fn may_hold_more(p: &PartitionState, env: &Env) -> bool {
    was_left_out(p, env) && p.log().last() > p.commit().max(p.reaching())
}
