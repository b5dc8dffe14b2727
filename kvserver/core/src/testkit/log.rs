//! The log of one partition as the writes up to some position make it.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{LogId, Seq};
use common::messages::{Entry, Run};

use super::super::io::LogRecord;
use super::super::partition::durable_state::DurableState;
use super::super::partition::recovered::RecoveredCopy;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct PartitionLog {
    /// The entry before the first one.
    pub base: LogId,
    /// Those that were neither cut nor trimmed.
    pub entries: BTreeMap<Seq, Entry>,
    /// The last durable state that was written.
    pub durable_state: Bytes,
    /// How often the records were replaced or dropped: each time another tree begins.
    pub life: u64,
    /// The staged copy that the present life began with.
    pub begun_with: Option<u32>,
}

impl PartitionLog {
    /// Takes a record of this partition. Returns whether entries are gone by it.
    pub fn take(&mut self, record: &LogRecord) -> bool {
        match record {
            LogRecord::Entry { partition, entry } => {
                let next = self.last().seq.next();
                assert_eq!(entry.id.seq, next, "partition {partition}: a gap in the log on disk");
                self.entries.insert(entry.id.seq, entry.clone());
                return false;
            }
            LogRecord::DurableState { durable_state, .. } => {
                self.durable_state = durable_state.clone();
                return false;
            }
            LogRecord::Cut { partition, after } => {
                assert!(*after >= self.base.seq, "partition {partition}: cut below what the log holds");
                self.entries.split_off(&after.next());
            }
            LogRecord::Install { generation, base, .. } => {
                let (durable_state, life) = (self.durable_state.clone(), self.life + 1);
                let begun_with = Some(*generation);
                *self = Self { base: *base, durable_state, life, begun_with, ..Self::default() };
            }
            LogRecord::Drop { .. } => *self = Self { life: self.life + 1, ..Self::default() },
        }
        true
    }

    /// Drops the entries up to `base`.
    pub fn trim(&mut self, base: LogId) {
        self.entries = self.entries.split_off(&base.seq.next());
        self.base = base;
    }

    /// What the durable state says.
    #[must_use]
    pub fn durable_state(&self) -> DurableState {
        DurableState::decode(self.durable_state.clone()).expect("a durable state as it was written")
    }

    /// The newest entry, or the base of a log without any.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.entries.last_key_value().map_or(self.base, |(_, entry)| entry.id)
    }

    /// Whether the entry is in the log, or in the records below it.
    #[must_use]
    pub fn holds(&self, id: LogId) -> bool {
        id.seq < self.base.seq || self.id_at(id.seq) == Some(id)
    }

    /// The entry at a position, from the base on.
    #[must_use]
    pub fn id_at(&self, seq: Seq) -> Option<LogId> {
        if seq == self.base.seq { Some(self.base) } else { self.entries.get(&seq).map(|entry| entry.id) }
    }

    /// What a start finds, with records up to `applied`.
    #[must_use]
    pub fn recover(&self, applied: Seq) -> RecoveredCopy {
        let mut runs: Vec<Run> = Vec::new();
        for (&first, entry) in &self.entries {
            if runs.last().is_none_or(|run| run.tag != entry.id.tag) {
                runs.push(Run { tag: entry.id.tag, first });
            }
        }
        let (last, durable_state) = (self.last().seq, self.durable_state());
        RecoveredCopy { base: self.base, runs, last, applied, durable_state }
    }
}
