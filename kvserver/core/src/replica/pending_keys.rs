//! The read lease of a replica, and the keys that its pending entries change. They are indexed when a read comes, once
//! for each entry.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::codec::Wire;
use common::ids::Seq;
use common::operation::Command;
use common::time::Time;

use super::super::limits::{APPEND_BYTES_MAX, PENDING_KEYS_SLACK};
use super::super::log::Log;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct LocalReads {
    /// When the read lease ends, by this server's clock.
    pub(super) until: Time,
    /// When a client last read at this replica.
    pub(super) wanted: Option<Time>,
    /// For each key, the last entry up to `known` that changes it. Some may be applied already.
    pub(super) pending: BTreeMap<Bytes, Seq>,
    pub(super) known: Seq,
    /// Entries up to here were in the log at the start of this process, and their keys are not indexed yet.
    pub(super) unknown: Seq,
}

impl LocalReads {
    /// The state in a new epoch, without a read lease. `last`: the end of the log.
    pub(super) fn new(last: Seq) -> Self {
        Self { until: Time(0), wanted: None, pending: BTreeMap::new(), known: Seq(0), unknown: last }
    }

    /// Asserts what must be true after every step. `last`: the end of the log; `latest`: the end of a read lease, at
    /// most.
    pub(super) fn invariants(&self, last: Seq, latest: Time) {
        assert!(self.known <= last, "keys of entries that are cut");
        assert!(
            self.pending.values().all(|seq| *seq <= self.known),
            "a key of an entry that was not looked at"
        );
        assert!(self.until <= latest, "a read lease runs for too long");
    }

    /// Indexes the keys of entries that are not applied and not indexed yet. Returns `false` if one is not in memory.
    pub(super) fn look(&mut self, log: &Log, applied: Seq) -> bool {
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
        assert!(self.known >= log.last().max(applied), "all entries are indexed");
        let open = usize::try_from(log.last().0 - applied.0).unwrap_or(usize::MAX);
        if self.pending.len() > open.saturating_add(PENDING_KEYS_SLACK) {
            self.pending.retain(|_, seq| *seq > applied);
        }
        true
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
