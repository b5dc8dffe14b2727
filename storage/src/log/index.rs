//! The index of the log in memory: for each partition the positions of its readable entries.
//!
//! Changed by the log thread (append) and by maintenance (trim), read by all threads, all under one lock that is taken
//! for memory operations only.

use super::format::{Kind, Position, RawRecord};
use crate::{LogId, RecoveredPartition, Tag};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// One partition's log. A dropped partition leaves its generation behind, so that a new tree of
/// the same partition never gets the number of an old one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionLog {
    pub(crate) exists: bool,
    /// Number of the partition's tree: even when it grew from the log, odd when it was installed.
    pub(crate) generation: u32,
    /// The entry before the first one in `positions`.
    pub(crate) base: LogId,
    /// Tag changes of the entries in `positions`.
    pub(crate) runs: VecDeque<(Tag, u64)>,
    /// Where entry `base.seq + 1 + i` lies.
    pub(crate) positions: VecDeque<Position>,
    pub(crate) durable_state: Bytes,
    /// The tree durably has all entries up to this one.
    pub(crate) applied: u64,
    /// Entries from here on are kept.
    pub(crate) pin: Option<u64>,
}

impl PartitionLog {
    pub(crate) fn last(&self) -> u64 {
        self.base.seq + self.positions.len() as u64
    }

    /// The tag of entry `seq`, which is `base` or readable.
    pub(crate) fn tag_of(&self, seq: u64) -> Tag {
        let run = self.runs.partition_point(|(_, first)| *first <= seq);
        run.checked_sub(1).map_or(self.base.tag, |i| self.runs[i].0)
    }

    pub(crate) fn last_id(&self) -> LogId {
        LogId { tag: self.tag_of(self.last()), seq: self.last() }
    }

    pub(crate) fn position(&self, seq: u64) -> Option<Position> {
        let index = seq.checked_sub(self.base.seq + 1)?;
        self.positions.get(usize::try_from(index).ok()?).copied()
    }

    /// The first position that trimming must keep.
    pub(crate) fn needed(&self) -> Option<Position> {
        let from = self.applied.saturating_add(1).min(self.pin.unwrap_or(u64::MAX));
        self.position(from.max(self.base.seq + 1))
    }

    fn push(&mut self, id: LogId, position: Position) {
        if self.tag_of(self.last()) != id.tag || self.runs.is_empty() {
            self.runs.push_back((id.tag, id.seq));
        }
        self.positions.push_back(position);
    }

    fn cut(&mut self, after: LogId) {
        if after.seq >= self.last() {
            return;
        }
        if after.seq < self.base.seq {
            self.begin_after(after);
            return;
        }
        self.positions.truncate((after.seq - self.base.seq) as usize);
        while self.runs.back().is_some_and(|(_, first)| *first > after.seq) {
            self.runs.pop_back();
        }
    }

    fn begin_after(&mut self, base: LogId) {
        self.base = base;
        self.positions.clear();
        self.runs.clear();
    }

    fn trim_before(&mut self, segment: u64) {
        let count = self.positions.partition_point(|p| p.segment() < segment);
        let seq = self.base.seq + count as u64;
        let base = LogId { tag: self.tag_of(seq), seq };
        self.positions.drain(..count);
        while self.runs.get(1).is_some_and(|(_, first)| *first <= seq + 1) {
            self.runs.pop_front();
        }
        if self.positions.is_empty() {
            self.runs.clear();
        }
        if let Some(run) = self.runs.front_mut() {
            run.1 = run.1.max(seq + 1);
        }
        self.base = base;
    }
}

/// All partitions by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) partitions: BTreeMap<u16, PartitionLog>,
}

/// Next number for a tree that grows from the log, after `generation`.
pub(crate) fn next_grown(generation: u32) -> u32 {
    (generation | 1) + 1
}

/// Next number for a staged tree, after `generation`.
pub(crate) fn next_staged(generation: u32) -> u32 {
    (generation + 1) | 1
}

pub(crate) const CARRY_HEADER_BYTES: usize = 8;

impl Index {
    pub(crate) fn get(&self, partition: u16) -> Option<&PartitionLog> {
        self.partitions.get(&partition).filter(|p| p.exists)
    }

    /// Takes over one record. Returns the reason if it cannot follow what is there: for the writer that is a bug, for
    /// recovery it is damage.
    pub(crate) fn apply(&mut self, record: &RawRecord<'_>, position: Position) -> Result<(), &'static str> {
        if record.kind == Kind::Carry {
            return self.check_carry(record);
        }
        let log = self.partitions.entry(record.partition).or_default();
        log.exists = true;
        match record.kind {
            Kind::Entry if record.id.seq == log.last() + 1 => log.push(record.id, position),
            Kind::Entry => return Err("an entry does not follow the one before"),
            Kind::Cut => log.cut(record.id),
            Kind::DurableState => log.durable_state = Bytes::copy_from_slice(record.body),
            Kind::Install => {
                let body = record.body.try_into().map_err(|_| "an install has a body of the wrong size")?;
                log.generation = u32::from_le_bytes(body);
                log.applied = record.id.seq;
                log.begin_after(record.id);
            }
            Kind::Drop => {
                let generation = next_grown(log.generation);
                *log = PartitionLog { generation, ..PartitionLog::default() };
            }
            Kind::Carry => {}
        }
        Ok(())
    }

    /// Takes the state that the first readable segment begins with.
    pub(crate) fn restore(&mut self, record: &RawRecord<'_>) -> Result<(), &'static str> {
        let (generation, exists, durable_state) = decode_carry(record)?;
        let durable_state = Bytes::copy_from_slice(durable_state);
        let log =
            PartitionLog { exists, generation, base: record.id, durable_state, ..PartitionLog::default() };
        self.partitions.insert(record.partition, log);
        Ok(())
    }

    fn check_carry(&self, record: &RawRecord<'_>) -> Result<(), &'static str> {
        let (generation, exists, durable_state) = decode_carry(record)?;
        let log = self.partitions.get(&record.partition).ok_or("a catalog names an unknown partition")?;
        let same = log.last_id() == record.id && log.generation == generation;
        if same && log.exists == exists && log.durable_state == durable_state {
            Ok(())
        } else {
            Err("a catalog differs from the log before it")
        }
    }

    /// The bodies of the records that a segment begins with.
    pub(crate) fn carry(&self) -> Vec<(u16, LogId, Vec<u8>)> {
        let body = |log: &PartitionLog| {
            let mut body = Vec::with_capacity(CARRY_HEADER_BYTES + log.durable_state.len());
            body.extend_from_slice(&log.generation.to_le_bytes());
            body.extend_from_slice(&u32::from(log.exists).to_le_bytes());
            body.extend_from_slice(&log.durable_state);
            body
        };
        self.partitions.iter().map(|(p, log)| (*p, log.last_id(), body(log))).collect()
    }

    /// The oldest segment that must stay, were all segments from `current` on to stay anyway.
    pub(crate) fn keep_from(&self, current: u64) -> u64 {
        self.partitions.values().filter_map(|p| Some(p.needed()?.segment())).fold(current, u64::min)
    }

    pub(crate) fn trim_before(&mut self, segment: u64) {
        for log in self.partitions.values_mut() {
            log.trim_before(segment);
        }
    }

    pub(crate) fn recovered(&self) -> BTreeMap<u16, RecoveredPartition> {
        let recovered = |log: &PartitionLog| RecoveredPartition {
            base: log.base,
            runs: log.runs.iter().copied().collect(),
            last: log.last(),
            durable_state: log.durable_state.clone(),
            ..RecoveredPartition::default()
        };
        self.partitions.iter().filter(|(_, l)| l.exists).map(|(p, l)| (*p, recovered(l))).collect()
    }
}

fn decode_carry<'a>(record: &RawRecord<'a>) -> Result<(u32, bool, &'a [u8]), &'static str> {
    let (header, durable_state) =
        record.body.split_at_checked(CARRY_HEADER_BYTES).ok_or("a catalog record is too short")?;
    let generation = super::format::u32_at(header, 0);
    Ok((generation, super::format::u32_at(header, 4) != 0, durable_state))
}
