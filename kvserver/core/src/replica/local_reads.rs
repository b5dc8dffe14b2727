//! Reads that a replica answers alone (6.2): under a read lease of its coordinator, where no entry of the log that is
//! not applied changes the key. While the lease runs nothing is committed that this log lacks, so the newest
//! acknowledged write to a key is either applied here or pending here.
//!
//! The keys of pending entries are indexed when a read comes, once for each entry.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{Seq, ServerId};
use common::messages::ReadGrant;
use common::operation::Command;
use common::time::Time;

use super::super::ask::{Answer, Query};
use super::super::config::Reads;
use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::limits::{APPEND_BYTES_MAX, PENDING_KEYS_SLACK, READ_LEASE_WANTED_FOR};
use super::super::log::Log;
use super::super::planted::PlantedBug;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct LocalReads {
    /// When the read lease ends, by this server's clock.
    until: Time,
    /// When a client last read at this replica.
    wanted: Option<Time>,
    /// For each key, the last entry up to `known` that changes it. Some may be applied already.
    pending: BTreeMap<Bytes, Seq>,
    known: Seq,
    /// Entries up to here were in the log at the start of this process, and their keys are not indexed yet.
    unknown: Seq,
}

impl LocalReads {
    /// The state in a new epoch, without a read lease. `last`: the end of the log.
    pub(super) fn new(last: Seq) -> Self {
        Self { until: Time(0), wanted: None, pending: BTreeMap::new(), known: Seq(0), unknown: last }
    }

    /// Indexes the keys of entries that are not applied and not indexed yet. Returns `false` if one is not in memory.
    fn look(&mut self, log: &Log, applied: Seq) -> bool {
        if self.known < applied {
            self.pending.clear();
            self.known = applied;
        }
        while self.known < log.last() {
            let Some(entries) = log.in_memory(self.known.next(), APPEND_BYTES_MAX) else { return false };
            for entry in entries {
                self.known = entry.id.seq;
                let Ok(command) = Command::from_wire(entry.body) else { return false };
                command.operation.each_key(|key| {
                    self.pending.insert(key.clone(), entry.id.seq);
                });
            }
        }
        let open = usize::try_from(log.last().0 - applied.0).unwrap_or(usize::MAX);
        if self.pending.len() > open.saturating_add(PENDING_KEYS_SLACK) {
            self.pending.retain(|_, seq| *seq > applied);
        }
        true
    }
}

impl PartitionCopy {
    /// Whether this replica has a read lease at `now`.
    pub(crate) fn has_read_lease(&self, now: Time) -> bool {
        match &self.role {
            Role::Replica(replica) => self.is_synced() && now < replica.alone.until,
            _ => false,
        }
    }

    /// The coordinator to ask for a read lease, if clients have read here of late.
    pub(crate) fn wants_read_lease(&self, env: &Env) -> Option<ServerId> {
        let Role::Replica(replica) = &self.role else { return None };
        let late = |read: Time| env.cx.now.time.since(read) < READ_LEASE_WANTED_FOR;
        let wanted = env.cx.config.reads == Reads::Lease && replica.alone.wanted.is_some_and(late);
        (wanted && self.is_synced()).then_some(replica.coordinator)
    }

    /// 7.1: the coordinator has given a read lease, in answer to a question of `asked`.
    pub(crate) fn on_read_lease(&mut self, env: &Env, from: ServerId, grant: ReadGrant, asked: Time) {
        let Role::Replica(replica) = &mut self.role else { return };
        if grant.epoch == self.epoch && from == replica.coordinator && env.cx.config.reads == Reads::Lease {
            // No coordinator gives a longer one; bounded so that the time cannot overflow.
            let length = Duration::from_micros(grant.for_us).min(env.cx.config.timers.lease * 2);
            replica.alone.until = replica.alone.until.max(asked + length);
        }
    }

    /// Whether a client's read can be answered by this replica alone. Notes that a read lease is wanted.
    pub(crate) fn may_answer_alone(&mut self, env: &Env, query: &Query) -> bool {
        let now = env.cx.now.time;
        let (has_lease, applied) = (self.has_read_lease(now), self.applied);
        let Role::Replica(replica) = &mut self.role else { return false };
        let alone = &mut replica.alone;
        alone.wanted = Some(now);
        if env.cx.planted(PlantedBug::RestartForgetsPending) && alone.known < alone.unknown {
            alone.known = alone.unknown;
        }
        if !has_lease || !alone.look(&self.log, applied) {
            return false;
        }
        let key = match query {
            Query::Get { key, .. } => key,
            Query::Scan { .. } | Query::Keys { .. } | Query::Count { .. } | Query::Nothing => {
                return applied == self.log.last();
            }
        };
        alone.pending.get(key).is_none_or(|seq| *seq <= applied) || env.cx.planted(PlantedBug::PendingKeyRead)
    }

    /// Whether an answer that was read alone may be returned: the lease has not ended, and no pending entry moves log
    /// time beyond the expiry of what was found.
    pub(crate) fn stands_alone(&self, env: &Env, answer: &Answer) -> bool {
        let expires = match answer {
            Answer::Value(found) => found.as_ref().is_some_and(|found| found.expires.is_some()),
            Answer::Page { pairs, .. } => pairs.iter().any(|pair| pair.found.expires.is_some()),
            Answer::TooLarge { expires, .. } | Answer::Keys { expires, .. } => expires.is_some(),
            Answer::Nothing => false,
            // The coordinator's copy may be readable.
            Answer::Damaged(_) => return false,
        };
        self.has_read_lease(env.cx.now.time) && (!expires || self.applied == self.log.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, LogId};
    use common::messages::Entry;
    use common::operation::{Operation, Part};
    use common::time::WallTime;

    #[test]
    fn every_key_of_a_batch_is_pending_until_it_is_applied() {
        let put = |key: &'static str| Part(Operation::put(Bytes::from(key), Bytes::from("v")));
        let operation = Operation::Batch { checks: Vec::new(), parts: vec![put("a"), put("b"), put("c")] };
        let body = Command { origin: None, stamp: WallTime(0), operation }.to_wire();
        let mut log = Log::default();
        let id = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(1) };
        log.append(Entry { id, body });
        let mut alone = LocalReads::new(Seq(0));
        assert!(alone.look(&log, Seq(0)));
        let pending: Vec<(&[u8], u64)> =
            alone.pending.iter().map(|(key, seq)| (key.as_ref(), seq.0)).collect();
        assert_eq!(pending, [(&b"a"[..], 1), (&b"b"[..], 1), (&b"c"[..], 1)]);
        assert!(alone.look(&log, Seq(1)));
        assert!(alone.pending.values().all(|seq| *seq <= Seq(1)), "what is applied is pending no more");
    }
}
