//! Reads that a replica answers alone (6.2): under a read lease of its coordinator, where no entry of the log that is
//! not applied changes the key. While the lease runs nothing is committed that this log lacks, so the newest
//! acknowledged write to a key is either applied here or pending here.
//!
//! The keys of pending entries are indexed when a read comes, once for each entry.

use std::time::Duration;

use common::ids::ServerId;
use common::messages::ReadGrant;
use common::time::Time;

use super::super::ask::{Answer, Query};
use super::super::config::Reads;
use super::super::env::Env;
use super::super::limits::READ_LEASE_WANTED_FOR;
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::state::Replica;

impl Replica {
    /// Whether this replica has a read lease at `now`.
    pub(crate) fn has_read_lease(&self, p: &PartitionState, now: Time) -> bool {
        p.is_synced() && now < self.alone.until
    }

    /// The coordinator to ask for a read lease, if clients have read here of late.
    pub(crate) fn wants_read_lease(&self, p: &PartitionState, env: &Env) -> Option<ServerId> {
        let late = |read: Time| env.cx.now.time.since(read) < READ_LEASE_WANTED_FOR;
        let wanted = env.cx.config.reads == Reads::Lease && self.alone.wanted.is_some_and(late);
        (wanted && p.is_synced()).then_some(self.coordinator)
    }

    /// 7.1: the coordinator has given a read lease, in answer to a question of `asked`.
    pub(crate) fn on_read_lease(
        &mut self,
        p: &PartitionState,
        env: &Env,
        from: ServerId,
        grant: ReadGrant,
        asked: Time,
    ) {
        if grant.epoch == p.epoch() && from == self.coordinator && env.cx.config.reads == Reads::Lease {
            // No coordinator gives a longer one; bounded so that the time cannot overflow.
            let length = Duration::from_micros(grant.for_us).min(env.cx.config.timers.lease * 2);
            self.alone.until = self.alone.until.max(asked + length);
        }
    }

    /// Whether a client's read can be answered by this replica alone. Notes that a read lease is wanted.
    pub(crate) fn may_answer_alone(&mut self, p: &PartitionState, env: &Env, query: &Query) -> bool {
        let now = env.cx.now.time;
        let (has_lease, applied) = (self.has_read_lease(p, now), p.applied());
        let alone = &mut self.alone;
        alone.wanted = Some(now);
        if env.cx.planted(PlantedBug::RestartForgetsPending) && alone.known < alone.unknown {
            alone.known = alone.unknown;
        }
        if !has_lease || !alone.look(p.log(), applied) {
            return false;
        }
        let key = match query {
            Query::Get { key, .. } => key,
            Query::Scan { .. } | Query::Keys { .. } | Query::Count { .. } | Query::Nothing => {
                return applied == p.log().last();
            }
        };
        alone.pending.get(key).is_none_or(|seq| *seq <= applied) || env.cx.planted(PlantedBug::PendingKeyRead)
    }

    /// Whether an answer that was read alone may be returned: the lease has not ended, and no pending entry moves log
    /// time beyond the expiry of what was found.
    pub(crate) fn stands_alone(&self, p: &PartitionState, env: &Env, answer: &Answer) -> bool {
        let expires = match answer {
            Answer::Value(found) => found.as_ref().is_some_and(|found| found.expires.is_some()),
            Answer::Page { pairs, .. } => pairs.iter().any(|pair| pair.found.expires.is_some()),
            Answer::TooLarge { expires, .. } | Answer::Keys { expires, .. } => expires.is_some(),
            Answer::Nothing => false,
            // The coordinator's copy may be readable.
            Answer::Damaged(_) => return false,
        };
        self.has_read_lease(p, env.cx.now.time) && (!expires || p.applied() == p.log().last())
    }
}
