//! A copy whose records are wrong, though its store is well: it is used no more, leaves the in-sync set, and comes back
//! as a new one, filled from the others.
//!
//! # States
//!
//! *Failed* is noted in the copy's [`DurableState`] and on disk before it is reported. From then on nothing is answered
//! from the records: a replica sends reads to the coordinator; a coordinator answers neither reads nor writes (they may
//! be decided by wrong records), proposes no members and sends no copies. The log is as good as any other: it goes on
//! taking entries and acknowledging them, and the coordinator goes on committing. The failure is reported to the ECS
//! until a newer view does not count the copy; then it is *dropped*, log, records and mark in one record of the commit
//! log. If the view lists it as joining, it begins with nothing.
//!
//! # Why that is sound
//!
//! Leaving is what any removed member does: a new epoch with a smaller in-sync set (V1-V4), a new coordinator out of
//! the old set if the copy was the coordinator's (V2; it waits as in P3), and no message from the one that left (J4).
//! The view that takes it out may list it as joining at once; what matters is that nothing of the old records counts
//! again:
//!
//! - In the new epoch the copy is dropped before it says anything about its log ([`Busy::Dropping`] defers syncs,
//!   appends and copies), so every acknowledgement of that epoch is of the new copy; those of older epochs do not
//!   count (S2).
//! - A crash before the drop is on disk finds the mark, and drops at its start, before the first message.
//! - It is never dropped while the newest adopted view counts it, so I2 is true for each view: the store id stands for
//!   all that this store acknowledged in partitions that count it, and nothing else is touched. That is why no new
//!   store id is needed here, as it is for a store that failed as a whole (R3).
//!
//! The ECS never takes the last member out, nor goes below the minimum (V4). Where this copy has become the only one in
//! sync, there is no other: the mark is taken back, and logged at `error`.
//!
//! [`Busy::Dropping`]: super::partition::state::Busy::Dropping
//! [`DurableState`]: super::partition::durable_state::DurableState

use common::messages::ServerReport;
use common::view::Assignment;

use super::env::Env;
use super::limits::REPORT_AGAIN;
use super::partition::state::PartitionState;
use super::planted::PlantedBug;

/// Marks the copy as failed, as its records are wrong. Does nothing if it is the only one in sync, or does not count.
/// Returns whether it has failed now.
pub(crate) fn fail(p: &mut PartitionState, env: &mut Env, reason: &str) -> bool {
    let (id, me) = (p.id(), env.cx.my_member());
    let Some(assignment) = env.cx.view.assignment(id).cloned() else { return false };
    let counts = assignment.epoch == p.epoch() && assignment.in_sync.contains(&me);
    if p.is_failed() || !counts {
        return false;
    }
    if assignment.in_sync.len() == 1 {
        env.out.alarm(format!("partition {id}: {reason}; it is kept, as it is the only one"));
        return false;
    }
    env.out.alarm(format!("partition {id}: {reason}; it is used no more, and filled anew"));
    assert!(assignment.in_sync.len() > 1, "partition {id}: the last copy is given up");
    p.note_failed(env);
    if env.cx.planted(PlantedBug::FailedDroppedEarly) {
        part_with_failed(p, env, &assignment);
    }
    env.touched.insert(id);
    true
}

/// Reports the failure to the ECS, until a newer view does not count this copy.
pub(crate) fn report_failed(p: &mut PartitionState, env: &mut Env) {
    let (now, me) = (env.cx.now.time, env.cx.my_member());
    let counts = env.cx.view.assignment(p.id()).is_some_and(|now| now.in_sync.contains(&me));
    if counts && p.is_failure_due(now, REPORT_AGAIN) {
        env.out.report(ServerReport::CopyFailed { partition: p.id(), epoch: p.epoch() });
    }
}

/// Drops a failed copy that the view in use does not count, or takes the mark back if it is the only one in sync.
pub(crate) fn part_with_failed(p: &mut PartitionState, env: &mut Env, assignment: &Assignment) {
    let me = env.cx.my_member();
    if !p.is_failed() || !p.is_idle() {
        return;
    }
    if !assignment.in_sync.contains(&me) || env.cx.planted(PlantedBug::FailedDroppedEarly) {
        p.begin_drop(env);
    } else if assignment.in_sync.len() == 1 {
        env.out.alarm(format!(
            "partition {}: the copy here differed from others that are gone now. It is the only one, and is used \
             again: what it answers may be wrong. Bring the others back if their disks can be read",
            p.id()
        ));
        p.take_failure_back(env);
    }
}
