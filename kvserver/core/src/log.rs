//! What a copy knows of its partition's log: where it begins and ends, where its tags change, how far it is on
//! disk, and the entries that are still needed in memory.
//!
//! Invariants: `base <= durable <= last`; `runs` ascend and begin after `base`; `tail` is a contiguous suffix of
//! the log (the entries before it are read back from the commit log). Entries that are not on disk yet are
//! always in `tail`.

use std::collections::VecDeque;

use common::ids::{Epoch, LogId, Seq};
use common::messages::{Entry, Run};

/// The log of one partition at one server.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The entry before the first one that the commit log still has.
    base: LogId,
    runs: Vec<Run>,
    last: Seq,
    durable: Seq,
    /// How often the log was cut or replaced: a write that was asked for before says nothing about the log since.
    cuts: u64,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
}

impl Log {
    /// A log as it was found on disk.
    pub(crate) fn recovered(base: LogId, runs: Vec<Run>, last: Seq) -> Self {
        Self { base, runs, last, durable: last, ..Self::default() }
    }

    /// Whether there never was an entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.last == Seq(0)
    }

    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn last(&self) -> Seq {
        self.last
    }

    pub(crate) fn durable(&self) -> Seq {
        self.durable
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The last entry on disk.
    pub(crate) fn durable_id(&self) -> LogId {
        self.id_at(self.durable).expect("what is on disk has a tag")
    }

    /// The tag of the last entry, or of the base.
    pub(crate) fn last_tag(&self) -> Epoch {
        self.runs.last().map_or(self.base.tag, |run| run.tag)
    }

    /// The last entry.
    pub(crate) fn last_id(&self) -> LogId {
        self.id_at(self.last).expect("the last entry has a tag")
    }

    /// The entry at a position: known from `base` to `last`.
    pub(crate) fn id_at(&self, seq: Seq) -> Option<LogId> {
        if seq < self.base.seq || seq > self.last {
            return None;
        }
        Some(self.run_of(seq).map_or(self.base, |run| LogId { tag: run.tag, seq }))
    }

    /// Whether this very entry is in the log (or is its base).
    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.id_at(id.seq) == Some(id)
    }

    /// Adds the next entry.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.id.seq, self.last.next(), "entries are consecutive");
        let tag = self.last_tag();
        if self.last == self.base.seq || tag != entry.id.tag {
            assert!(entry.id.tag >= tag, "tags never go back within a log");
            self.runs.push(Run { tag: entry.id.tag, first: entry.id.seq });
        }
        self.last = entry.id.seq;
        assert!(self.durable < self.last, "an entry is on disk before it is in the log");
        self.tail_bytes += entry.body.len();
        self.tail.push_back(entry);
    }

    /// Voids the entries after a position.
    pub(crate) fn cut(&mut self, after: Seq) {
        assert!(after >= self.base.seq && after <= self.last, "cut within the log");
        self.runs.retain(|run| run.first <= after);
        while self.tail.back().is_some_and(|entry| entry.id.seq > after) {
            let entry = self.tail.pop_back().expect("there is one");
            self.tail_bytes -= entry.body.len();
        }
        assert!(!self.tail.is_empty() || self.tail_bytes == 0, "bytes are counted of entries that are cut");
        self.last = after;
        self.durable = self.durable.min(after);
        self.cuts += 1;
    }

    /// Replaces the whole log: it begins after `base`, with nothing.
    pub(crate) fn install(&mut self, base: LogId) {
        *self = Self { base, last: base.seq, durable: base.seq, cuts: self.cuts + 1, ..Self::default() };
    }

    /// Notes that a write is on disk up to `seq`; `cuts` was the count of cuts when it was asked for.
    pub(crate) fn on_durable(&mut self, seq: Seq, cuts: u64) {
        assert!(cuts <= self.cuts, "a write of a log to come is on disk");
        if cuts == self.cuts {
            assert!(seq <= self.last, "the disk has more than the log");
            self.durable = self.durable.max(seq);
        }
    }

    /// Notes that the commit log no longer has the entries up to `seq`.
    pub(crate) fn on_trimmed(&mut self, seq: Seq) {
        let Some(base) = self.id_at(seq) else { return };
        assert!(base.seq <= self.durable, "what is not on disk is not trimmed");
        self.base = base;
        let kept = self.runs.iter().rposition(|run| run.first <= base.seq.next()).unwrap_or(0);
        self.runs.drain(..kept);
        if let Some(run) = self.runs.first_mut() {
            run.first = run.first.max(base.seq.next());
        }
        self.runs.retain(|run| run.first <= self.last);
    }

    /// Entries from a position on that are in memory, up to about `bytes_max` (one at least); `None` if the first is
    /// not.
    pub(crate) fn in_memory(&self, from: Seq, bytes_max: usize) -> Option<Vec<Entry>> {
        let first = self.tail.front()?.id.seq;
        if from < first || from > self.last {
            return None;
        }
        let skip = usize::try_from(from.0 - first.0).expect("within the tail");
        assert_eq!(self.tail[skip].id.seq, from, "what is in memory has no holes");
        let mut bytes = 0;
        let taken = self.tail.range(skip..).take_while(|entry| {
            let fits = bytes == 0 || bytes + entry.body.len() <= bytes_max;
            bytes += entry.body.len() + 1;
            fits
        });
        Some(taken.cloned().collect())
    }

    /// Drops the entries in memory below `needed`, and those up to `applied` when memory is over `bytes_max`.
    pub(crate) fn evict(&mut self, needed: Seq, applied: Seq, bytes_max: usize) {
        while let Some(entry) = self.tail.front() {
            let seq = entry.id.seq;
            let unwanted = seq < needed || (self.tail_bytes > bytes_max && seq <= applied);
            if !unwanted || seq > self.durable {
                break;
            }
            self.tail_bytes -= entry.body.len();
            self.tail.pop_front();
        }
        assert!(!self.tail.is_empty() || self.tail_bytes == 0, "bytes are counted of entries that are gone");
    }

    /// The largest position at which this log and another one have the same entry. `None` when it is before the
    /// beginning of one of them: then only a copy of the state helps.
    pub(crate) fn common_point(&self, base: LogId, last: LogId, runs: &[Run]) -> Option<LogId> {
        let other = Self::recovered(base, runs.to_vec(), last.seq);
        let mut seq = self.last.min(last.seq);
        let floor = self.base.seq.max(base.seq);
        loop {
            if seq < floor {
                return None;
            }
            let (mine, theirs) = (self.id_at(seq)?, other.id_at(seq)?);
            if mine == theirs {
                return Some(mine);
            }
            // The later of the two runs has no entry of the other log from its beginning on.
            let begin = self.run_begin(seq).max(other.run_begin(seq));
            if begin.0 == 0 {
                return None;
            }
            seq = Seq(begin.0 - 1);
        }
    }

    /// Where the run that contains `seq` begins (the base counts as a run of its own).
    fn run_begin(&self, seq: Seq) -> Seq {
        self.run_of(seq).map_or(self.base.seq, |run| run.first)
    }

    /// The run that contains `seq`, if that is not the base.
    fn run_of(&self, seq: Seq) -> Option<&Run> {
        let behind = self.runs.partition_point(|run| run.first <= seq);
        behind.checked_sub(1).map(|index| &self.runs[index])
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert!(self.base.seq <= self.durable && self.durable <= self.last, "a part of the log is on disk");
        let ascend = self.runs.windows(2).all(|two| two[0].first < two[1].first && two[0].tag < two[1].tag);
        assert!(ascend, "runs ascend: {:?}", self.runs);
        assert!(self.runs.iter().all(|run| self.base.seq < run.first && run.first <= self.last));
        let (first, last) = (self.tail.front(), self.tail.back());
        assert!(last.is_none_or(|entry| entry.id.seq == self.last), "what is in memory ends as the log does");
        let from = first.map_or(self.last.next(), |entry| entry.id.seq);
        assert!(from <= self.durable.next(), "what is not on disk is in memory");
        assert_eq!(self.last.next().0 - from.0, self.tail.len() as u64, "what is in memory has no holes");
        let is_known = |entry: &Entry| entry.id.seq < self.base.seq || self.contains(entry.id);
        assert!(first.into_iter().chain(last).all(is_known), "an entry has another tag");
        let bytes: usize = self.tail.iter().map(|entry| entry.body.len()).sum();
        assert_eq!(bytes, self.tail_bytes, "the bytes that are counted are in memory");
        assert!(self.runs.first().is_none_or(|run| run.tag >= self.base.tag), "tags go back behind the base");
        assert!(self.last == self.base.seq || !self.runs.is_empty(), "each entry has a tag");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn epoch(version: u64) -> Epoch {
        Epoch { generation: 0, version }
    }

    /// A log with one entry for each tag.
    fn log(tags: &[u64]) -> Log {
        let mut log = Log::default();
        for (index, &tag) in tags.iter().enumerate() {
            let id = LogId { tag: epoch(tag), seq: Seq(index as u64 + 1) };
            log.append(Entry { id, body: Bytes::from_static(b"x") });
        }
        log
    }

    fn common(a: &[u64], b: &[u64]) -> Option<u64> {
        let (a, b) = (log(a), log(b));
        a.common_point(b.base(), b.last_id(), b.runs()).map(|id| id.seq.0)
    }

    #[test]
    fn the_common_point_is_where_tags_agree_last() {
        assert_eq!(common(&[], &[]), Some(0));
        assert_eq!(common(&[1, 1, 1], &[1, 1]), Some(2));
        assert_eq!(common(&[1, 1], &[1, 1, 1]), Some(2));
        assert_eq!(common(&[1, 2, 2], &[1, 1, 1]), Some(1));
        assert_eq!(common(&[1, 1, 3], &[1, 1, 2, 2]), Some(2));
        assert_eq!(common(&[2], &[1]), Some(0));
        assert_eq!(common(&[1, 1, 1, 4], &[1, 2, 3, 3, 3]), Some(1));
    }

    #[test]
    fn before_a_trimmed_log_only_the_state_helps() {
        let mut mine = log(&[1, 1, 1, 1]);
        mine.on_durable(Seq(4), mine.cuts());
        mine.on_trimmed(Seq(3));
        let theirs = log(&[1, 1]);
        assert_eq!(mine.common_point(theirs.base(), theirs.last_id(), theirs.runs()), None);
        let theirs = log(&[1, 1, 1]);
        let point = mine.common_point(theirs.base(), theirs.last_id(), theirs.runs()).unwrap();
        assert_eq!(point.seq, Seq(3));
    }

    #[test]
    fn trimming_keeps_tags() {
        let mut log = log(&[1, 1, 2, 3]);
        log.on_durable(Seq(4), log.cuts());
        log.on_trimmed(Seq(2));
        assert_eq!(log.base().tag, epoch(1));
        assert_eq!(log.id_at(Seq(3)).unwrap().tag, epoch(2));
        log.on_trimmed(Seq(4));
        assert_eq!((log.base().tag, log.last_id().tag), (epoch(3), epoch(3)));
        log.append(Entry { id: LogId { tag: epoch(3), seq: Seq(5) }, body: Bytes::new() });
        assert_eq!(log.last_id().tag, epoch(3));
    }

    #[test]
    fn a_write_from_before_a_cut_is_not_taken_for_what_came_after() {
        let mut log = log(&[1, 1, 1]);
        let cuts = log.cuts();
        log.cut(Seq(1));
        log.append(Entry { id: LogId { tag: epoch(2), seq: Seq(2) }, body: Bytes::new() });
        log.on_durable(Seq(3), cuts);
        assert_eq!(log.durable(), Seq(0));
        log.on_durable(Seq(2), log.cuts());
        assert_eq!(log.durable(), Seq(2));
    }

    #[test]
    fn unsynced_entries_stay_in_memory() {
        let mut log = log(&[1, 1, 1]);
        log.on_durable(Seq(1), 0);
        log.evict(Seq(9), Seq(9), 0);
        assert_eq!(log.in_memory(Seq(1), 10), None);
        assert_eq!(log.in_memory(Seq(2), 10).unwrap().len(), 2);
        assert_eq!(log.in_memory(Seq(2), 1).unwrap().len(), 1, "one at least");
    }
}
