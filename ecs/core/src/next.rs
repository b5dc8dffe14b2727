//! The next view, made of the last one and of what became known since. One function of values: [`make`].
//!
//! In this order: what was reported to an ECS that is being rebuilt ([`resume`]); which servers are members and in
//! which state ([`members`]); what each partition loses and gains by that and by proposals ([`reconcile`]), and by
//! links between servers that are cut ([`reach`]); where copies should be, if the members have changed (the planner);
//! the next steps to get there ([`steps`]). A partition gets a new epoch when its coordinator or its in-sync set
//! changes, when its coordinator restarted (V5), when its coordinator yields (P1), and when a joining copy is given up:
//! the coordinator may count that copy in its acknowledgements and forgets it only by a newer epoch (J3), so without
//! one its writes could wait for ever.

mod builder;
mod facts;
mod members;
mod reach;
mod reconcile;
mod relief;
mod resume;
mod steps;

use crate::planner::Target;
use crate::rebalancing::Planned;
use crate::state::State;
use builder::Builder;

pub(super) use facts::{Facts, Holding, Outcome};
pub(super) use members::paused_until;

/// Where copies would be wanted if the requested state changes were the only facts.
pub(super) fn preview(base: &State, facts: Facts<'_>) -> Target {
    let mut builder = Builder::new(base, facts);
    builder.find_states();
    builder.find_edges();
    let mut planned = Planned::default();
    builder.plan(&mut planned);
    planned.target
}

/// Makes the next view.
pub(super) fn make(base: &State, facts: Facts<'_>, planned: &mut Planned) -> Outcome {
    let mut builder = Builder::new(base, facts);
    builder.take_holdings();
    builder.register();
    builder.find_states();
    builder.judge_disks();
    builder.ask_for_copies();
    builder.find_edges();
    builder.old.clone_from(&builder.view.assignments);
    for partition in builder.partitions() {
        if builder.holds_still(partition) {
            continue;
        }
        builder.reconcile(partition, planned.target.get(usize::from(partition.0)));
    }
    builder.plan(planned);
    builder.schedule_steps(&planned.target);
    builder.note_settled(&planned.target);
    builder.note_filled(&planned.target);
    builder.finish_leaving();
    builder.finish(base)
}
