//! A copy that is not what it should be, though its store is: it is used no more, leaves the in-sync set, and comes
//! back as a new one, filled from the others.
//!
//! # States
//!
//! *Failed* is noted in the copy's [`Mark`](super::copy::Mark) and on disk before anybody hears of it. From then on
//! nothing is answered from the records: a replica sends reads to the coordinator; a coordinator answers neither reads nor writes
//! (they may be decided by wrong records), takes nobody in and sends no copies. The log is as good as any other: it goes on taking entries and
//! acknowledging them, and the coordinator goes on committing. The ECS is told until a newer view does not count the
//! copy; then it is *dropped*, log, records and mark in one record of the commit log, and whoever is listed as joining
//! begins with nothing.
//!
//! # Why that is sound
//!
//! Leaving is what any removed member does: a new epoch with a smaller in-sync set (V1-V4), a new coordinator out of
//! the old set if the copy was the coordinator's (V2; it waits as in P3), and no message from the one that left (J4).
//! The view that takes it out may list it as joining at once; what matters is that nothing of the old records counts
//! again:
//!
//! - In the new epoch the copy is dropped before it says anything about its log (`dropping` holds syncs, appends and
//!   copies), so every acknowledgement of that epoch is of the new copy; those of older epochs do not count (S2).
//! - A crash before the drop is on disk finds the mark, and drops at its start, before the first message.
//! - It is never dropped while the newest adopted view counts it, so I2 holds for each view: the store id stands for all that this store
//!   acknowledged in partitions that count it, and nothing else is touched. That is why no new store id is needed here, as it is
//!   for a store that failed as a whole (R3).
//!
//! The ECS never takes the last member out, nor goes below the minimum (V4). Where this copy has become the only one in
//! sync it is all that there is: the mark is taken back, loudly.

use common::messages::{Reply, ServerReport};
use common::view::Assignment;

use super::copy::{PartitionCopy, Role};
use super::env::{After, Env};
use super::io::LogRecord;
use super::limits::REPORT_AGAIN;
use super::mutation::Mutation;

impl PartitionCopy {
    /// The records are not what they should be. Nothing happens to the only copy in sync, nor to one that does not count.
    pub(crate) fn fail(&mut self, env: &mut Env, reason: &str) {
        let me = env.my_member();
        let Some(assignment) = env.view.assignment(self.id).cloned() else { return };
        let counts = assignment.epoch == self.epoch && assignment.in_sync.contains(&me);
        if self.mark.failed || !counts {
            return;
        }
        if assignment.in_sync.len() == 1 {
            return env.alarm(format!("partition {}: {reason}; it is kept, as it is the only one", self.id));
        }
        env.alarm(format!("partition {}: {reason}; it is used no more, and filled anew", self.id));
        self.mark.failed = true;
        self.persist_mark(env);
        env.out.after(After::Failed { partition: self.id });
        if env.mutated(Mutation::FailedDroppedEarly) {
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
        self.failed_noted = self.mark.failed;
        env.touched.insert(self.id);
    }

    /// Tells the ECS, until a newer view does not count this copy.
    pub(super) fn report_failed(&mut self, env: &mut Env) {
        let now = env.now.time;
        let counts = env.view.assignment(self.id).is_some_and(|now| now.in_sync.contains(&env.my_member()));
        let due = self.failed_told.is_none_or(|told| now.since(told) >= REPORT_AGAIN);
        if self.failed_noted && counts && due {
            self.failed_told = Some(now);
            env.out.report(ServerReport::CopyFailed { partition: self.id, epoch: self.epoch });
        }
    }

    /// A view is in use in which a failed copy does not count: it is dropped. Or one in which it is all that there is.
    pub(super) fn part_with_failed(&mut self, env: &mut Env, assignment: &Assignment) {
        let me = env.my_member();
        if !self.mark.failed || self.dropping || self.installing {
            return;
        }
        if !assignment.in_sync.contains(&me) || env.mutated(Mutation::FailedDroppedEarly) {
            self.dropping = true;
            env.out.persist(LogRecord::Drop { partition: self.id });
            env.out.after(After::Dropped { partition: self.id });
        } else if assignment.in_sync.len() == 1 {
            env.alarm(format!(
                "partition {}: the copy here differed from others that are gone now. It is the only one, and is used \
                 again: what it answers may be wrong. Bring the others back if their disks can be read",
                self.id
            ));
            (self.mark.failed, self.failed_noted, self.failed_told) = (false, false, None);
            self.persist_mark(env);
            // What was applied meanwhile was not answered.
            while self.pending.front().is_some_and(|pending| pending.seq <= self.applied)
                && let Some(pending) = self.pending.pop(&mut env.pending)
            {
                let reason = "its copy was not to be trusted when it was applied".to_owned();
                env.reply(pending.to, Reply::Unknown { reason });
            }
        }
    }
}
