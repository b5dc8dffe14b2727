//! A copy whose records are wrong, though its store is well: it is used no more, leaves the in-sync set, and comes back
//! as a new one, filled from the others.
//!
//! # States
//!
//! *Failed* is noted in the copy's [`Mark`](super::copy::Mark) and on disk before it is reported. From then on nothing
//! is answered from the records: a replica sends reads to the coordinator; a coordinator answers neither reads nor
//! writes (they may be decided by wrong records), proposes no members and sends no copies. The log is as good as any
//! other: it goes on taking entries and acknowledging them, and the coordinator goes on committing. The failure is
//! reported to the ECS until a newer view does not count the copy; then it is *dropped*, log, records and mark in one
//! record of the commit log. If the view lists it as joining, it begins with nothing.
//!
//! # Why that is sound
//!
//! Leaving is what any removed member does: a new epoch with a smaller in-sync set (V1-V4), a new coordinator out of
//! the old set if the copy was the coordinator's (V2; it waits as in P3), and no message from the one that left (J4).
//! The view that takes it out may list it as joining at once; what matters is that nothing of the old records counts
//! again:
//!
//! - In the new epoch the copy is dropped before it says anything about its log (`dropping` defers syncs, appends and
//!   copies), so every acknowledgement of that epoch is of the new copy; those of older epochs do not count (S2).
//! - A crash before the drop is on disk finds the mark, and drops at its start, before the first message.
//! - It is never dropped while the newest adopted view counts it, so I2 is true for each view: the store id stands for
//!   all that this store acknowledged in partitions that count it, and nothing else is touched. That is why no new
//!   store id is needed here, as it is for a store that failed as a whole (R3).
//!
//! The ECS never takes the last member out, nor goes below the minimum (V4). Where this copy has become the only one in
//! sync, there is no other: the mark is taken back, and logged at `error`.

use common::messages::{Reply, ServerReport};
use common::view::Assignment;

use super::copy::{PartitionCopy, Role};
use super::env::Env;
use super::io::LogRecord;
use super::limits::REPORT_AGAIN;
use super::out::After;
use super::planted::PlantedBug;

impl PartitionCopy {
    /// Marks the copy as failed, as its records are wrong. Does nothing if it is the only one in sync, or does not
    /// count.
    pub(crate) fn fail(&mut self, env: &mut Env, reason: &str) {
        let me = env.cx.my_member();
        let Some(assignment) = env.cx.view.assignment(self.id).cloned() else { return };
        let counts = assignment.epoch == self.epoch && assignment.in_sync.contains(&me);
        if self.disk.mark.failed || !counts {
            return;
        }
        if assignment.in_sync.len() == 1 {
            return env
                .out
                .alarm(format!("partition {}: {reason}; it is kept, as it is the only one", self.id));
        }
        env.out.alarm(format!("partition {}: {reason}; it is used no more, and filled anew", self.id));
        self.disk.mark.failed = true;
        self.persist_mark(env);
        env.out.after(After::Failed { partition: self.id });
        if env.cx.planted(PlantedBug::FailedDroppedEarly) {
            self.part_with_failed(env, &assignment);
        }
        let reads = match &mut self.role {
            Role::Replica(replica) => replica.take_reads(),
            _ => Vec::new(),
        };
        for read in reads {
            self.stray_read(env, read);
        }
        env.touched.insert(self.id);
    }

    /// The mark is on disk.
    pub(crate) fn on_failed(&mut self, env: &mut Env) {
        self.failed.noted = self.disk.mark.failed;
        env.touched.insert(self.id);
    }

    /// Reports the failure to the ECS, until a newer view does not count this copy.
    pub(super) fn report_failed(&mut self, env: &mut Env) {
        let now = env.cx.now.time;
        let counts =
            env.cx.view.assignment(self.id).is_some_and(|now| now.in_sync.contains(&env.cx.my_member()));
        let due = self.failed.told.is_none_or(|told| now.since(told) >= REPORT_AGAIN);
        if self.failed.noted && counts && due {
            self.failed.told = Some(now);
            env.out.report(ServerReport::CopyFailed { partition: self.id, epoch: self.epoch });
        }
    }

    /// Drops a failed copy that the view in use does not count, or takes the mark back if it is the only one in sync.
    pub(super) fn part_with_failed(&mut self, env: &mut Env, assignment: &Assignment) {
        let me = env.cx.my_member();
        if !self.disk.mark.failed || self.disk.dropping || self.disk.installing {
            return;
        }
        if !assignment.in_sync.contains(&me) || env.cx.planted(PlantedBug::FailedDroppedEarly) {
            self.disk.dropping = true;
            env.out.persist(LogRecord::Drop { partition: self.id });
            env.out.after(After::Dropped { partition: self.id });
        } else if assignment.in_sync.len() == 1 {
            env.out.alarm(format!(
                "partition {}: the copy here differed from others that are gone now. It is the only one, and is used \
                 again: what it answers may be wrong. Bring the others back if their disks can be read",
                self.id
            ));
            (self.disk.mark.failed, self.failed.noted, self.failed.told) = (false, false, None);
            self.persist_mark(env);
            // Writes that were applied meanwhile were not answered.
            while self.pending.front().is_some_and(|pending| pending.seq <= self.applied)
                && let Some(pending) = self.pending.pop(&mut env.budgets.pending)
            {
                let reason = "its copy was not to be trusted when it was applied".to_owned();
                env.reply(pending.to, Reply::Unknown { reason });
            }
        }
    }
}
