//! The state machine on disk: applies committed entries to the trees, reads them, and copies them for others.
//!
//! Decisions are `core::state`'s; here are only the trees. Used by the core's thread alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::ids::{LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, Run};
use common::operation::{Outcome, Pair};
use common::view::View;
use storage::{Change, LogReader, Read, RecoveredPartition, Snapshot, Trees};

use crate::core::{Answer, Mark, PartitionKeys, Query, Records, RecoveredCopy, State, StoredPairs};
use crate::disk::{from_log_id, from_tag, log_id};
use crate::error::Failure;
use crate::limits::{CHUNK_BYTES, PAGE_BYTES_MAX, PAGE_KEYS_MAX};

/// See the module's text.
pub(crate) struct Machine {
    trees: Trees,
    reader: LogReader,
    states: BTreeMap<PartitionId, State>,
    snapshots: BTreeMap<(PartitionId, u64), Snapshot>,
    /// By partition: the copy that is being staged, and its tree.
    staged: BTreeMap<PartitionId, (u64, u32)>,
    /// Partitions that this server has a part in and perhaps no tree of yet.
    unmade: BTreeSet<PartitionId>,
}

/// A tree as the state machine sees it: reads go through, changes are collected for one entry.
struct TreeRecords<'a> {
    trees: &'a Trees,
    partition: PartitionId,
    changes: Vec<Change>,
}

impl Records for TreeRecords<'_> {
    type Error = storage::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, storage::Error> {
        self.trees.get(self.partition.0, key)
    }

    fn put(&mut self, key: Bytes, record: Bytes) -> Result<(), storage::Error> {
        self.changes.push(Change::Put { key, value: record });
        Ok(())
    }

    fn remove(&mut self, key: Bytes) -> Result<(), storage::Error> {
        self.changes.push(Change::Remove { key });
        Ok(())
    }
}

/// What was read is not what was written.
fn malformed(error: impl std::fmt::Display) -> Failure {
    Failure::Broken(error.to_string())
}

impl Machine {
    /// Takes over the trees, and reads what belongs to them; also what the core begins with.
    pub(crate) fn new(
        trees: Trees,
        reader: LogReader,
        recovered: BTreeMap<u16, RecoveredPartition>,
    ) -> Result<(Self, BTreeMap<PartitionId, RecoveredCopy>), String> {
        let mut states = BTreeMap::new();
        let mut copies = BTreeMap::new();
        for (partition, found) in recovered {
            let partition = PartitionId(partition);
            let malformed = |error| format!("partition {partition}: the sealed state does not read: {error}");
            states.insert(partition, State::decode(found.state).map_err(malformed)?);
            let run = |(tag, first)| Run { tag: from_tag(tag), first: Seq(first) };
            let copy = RecoveredCopy {
                base: from_log_id(found.base),
                runs: found.runs.into_iter().map(run).collect(),
                last: Seq(found.last),
                applied: Seq(found.applied.seq),
                mark: Mark::decode(found.mark).map_err(malformed)?,
            };
            copies.insert(partition, copy);
        }
        let (snapshots, staged) = (BTreeMap::new(), BTreeMap::new());
        Ok((Self { trees, reader, states, snapshots, staged, unmade: BTreeSet::new() }, copies))
    }

    /// A view is in use: trees of partitions that are new here are made in quiet moments, not when the first write
    /// comes (making one costs a few fsyncs).
    pub(crate) fn on_view(&mut self, view: &View, me: ServerId) {
        let mine = view.iter().filter(|(_, assignment)| {
            assignment.in_sync_member(me).or_else(|| assignment.joining_member(me)).is_some()
        });
        self.unmade = mine.map(|(partition, _)| partition).filter(|p| !self.states.contains_key(p)).collect();
    }

    /// Makes one tree, if there is one to make.
    pub(crate) fn make_tree(&mut self) -> Result<(), Failure> {
        let Some(partition) = self.unmade.pop_first() else { return Ok(()) };
        self.states.entry(partition).or_default();
        self.trees.create(partition.0).map_err(Failure::from)
    }

    /// Applies entries in order; what each did.
    pub(crate) fn apply(
        &mut self,
        partition: PartitionId,
        entries: Vec<Entry>,
    ) -> Result<Vec<Outcome>, Failure> {
        let state = self.states.entry(partition).or_default();
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut records = TreeRecords { trees: &self.trees, partition, changes: Vec::new() };
            let outcome = state.apply(&mut records, entry.id, entry.body).map_err(malformed)?;
            let changes = records.changes;
            self.trees.apply(partition.0, &changes, log_id(entry.id))?;
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Reads applied state.
    pub(crate) fn read(&self, partition: PartitionId, query: &Query) -> Result<Answer, Failure> {
        let empty = State::default();
        let state = self.states.get(&partition).unwrap_or(&empty);
        match query {
            Query::Get { key } => {
                let records = TreeRecords { trees: &self.trees, partition, changes: Vec::new() };
                state.read(&records, key).map(Answer::Value).map_err(malformed)
            }
            Query::Scan { after, prefix, limit, .. } => {
                self.scan(partition, state, after.clone(), prefix, *limit)
            }
            Query::Keys { after, limit, .. } => self.keys(partition, state, *after, Some(*limit)),
            Query::Count { .. } => self.keys(partition, state, 0, None),
            Query::Nothing => Ok(Answer::Nothing),
        }
    }

    /// The next pairs that have not expired.
    fn scan(
        &self,
        partition: PartitionId,
        state: &State,
        mut after: Option<Bytes>,
        prefix: &[u8],
        limit: u32,
    ) -> Result<Answer, Failure> {
        let mut keys = limit.min(PAGE_KEYS_MAX) as usize;
        loop {
            let page = self.trees.scan(partition.0, after.as_deref(), prefix, keys, PAGE_BYTES_MAX)?;
            let last = page.pairs.last().map(|(key, _)| key.clone());
            let mut pairs = Vec::with_capacity(page.pairs.len().min(limit as usize));
            let mut more = page.more;
            for (key, record) in page.pairs {
                let Some(found) = state.visible(record).map_err(malformed)? else { continue };
                if pairs.len() == limit as usize {
                    more = true;
                    break;
                }
                pairs.push(Pair { key, found });
            }
            if !pairs.is_empty() || !more || last.is_none() || limit == 0 {
                return Ok(Answer::Page { pairs, more });
            }
            // All of them have expired: look further, in large steps.
            after = last;
            keys = PAGE_KEYS_MAX as usize;
        }
    }

    /// Keys by position, or only their number. Looks at the whole partition: its tree is in the order of the keys.
    fn keys(
        &self,
        partition: PartitionId,
        state: &State,
        after: u64,
        limit: Option<u32>,
    ) -> Result<Answer, Failure> {
        let mut found = PartitionKeys::new(after, limit);
        let mut last: Option<Bytes> = None;
        loop {
            let keys = PAGE_KEYS_MAX as usize;
            let page = self.trees.scan(partition.0, last.as_deref(), b"", keys, PAGE_BYTES_MAX)?;
            last = page.pairs.last().map(|(key, _)| key.clone());
            for (key, record) in page.pairs {
                if let Some(record) = state.visible(record).map_err(malformed)? {
                    found.push(key, record.expires);
                }
            }
            if !page.more || last.is_none() {
                return Ok(found.answer());
            }
        }
    }

    /// Entries from the commit log, or the place up to which it no longer has them.
    pub(crate) fn read_log(
        &self,
        partition: PartitionId,
        from: Seq,
        bytes_max: usize,
    ) -> Result<Result<Vec<Entry>, Seq>, Failure> {
        match self.reader.read(partition.0, from.0, bytes_max)? {
            Read::Entries(entries) => {
                let entry = |(id, body)| Entry { id: from_log_id(id), body };
                Ok(Ok(entries.into_iter().map(entry).collect()))
            }
            Read::Trimmed { base } => Ok(Err(Seq(base.seq))),
        }
    }

    pub(crate) fn pin(&self, partition: PartitionId, from: Option<Seq>) {
        match from {
            Some(from) => self.reader.pin(partition.0, from.0),
            None => self.reader.unpin(partition.0),
        }
    }

    /// Opens a picture of the applied state; the state besides the records.
    pub(crate) fn open_snapshot(&mut self, partition: PartitionId, transfer: u64) -> Result<Bytes, Failure> {
        let snapshot = self.trees.snapshot(partition.0)?;
        self.snapshots.insert((partition, transfer), snapshot);
        Ok(self.states.entry(partition).or_default().encode())
    }

    /// The next pairs of it; none if it was closed.
    pub(crate) fn read_snapshot(
        &mut self,
        partition: PartitionId,
        transfer: u64,
    ) -> Result<Option<(StoredPairs, bool)>, Failure> {
        let Some(snapshot) = self.snapshots.get_mut(&(partition, transfer)) else { return Ok(None) };
        let chunk = snapshot.chunk(CHUNK_BYTES)?;
        Ok(Some((chunk.pairs, chunk.done)))
    }

    pub(crate) fn close_snapshot(&mut self, partition: PartitionId, transfer: u64) {
        self.snapshots.remove(&(partition, transfer));
    }

    /// Puts pairs into a staged tree; its number when it is whole and durable.
    pub(crate) fn stage(
        &mut self,
        partition: PartitionId,
        transfer: u64,
        index: u64,
        pairs: &StoredPairs,
        done: Option<(LogId, Bytes)>,
    ) -> Result<Option<u32>, Failure> {
        if index == 0 {
            let generation = self.trees.stage(partition.0)?;
            self.staged.insert(partition, (transfer, generation));
        }
        let Some(&(staged, generation)) = self.staged.get(&partition) else { return Ok(None) };
        if staged != transfer {
            return Ok(None);
        }
        self.trees.stage_put(partition.0, generation, pairs)?;
        let Some((base, state)) = done else { return Ok(None) };
        self.trees.stage_finish(partition.0, generation, log_id(base), &state)?;
        Ok(Some(generation))
    }

    /// The staged tree becomes the partition's.
    pub(crate) fn install(
        &mut self,
        partition: PartitionId,
        generation: u32,
        state: Bytes,
    ) -> Result<(), Failure> {
        self.trees.install(partition.0, generation);
        self.staged.remove(&partition);
        self.states.insert(partition, State::decode(state).map_err(malformed)?);
        Ok(())
    }

    pub(crate) fn drop_partition(&mut self, partition: PartitionId) {
        self.trees.drop_partition(partition.0);
        self.states.remove(&partition);
        self.staged.remove(&partition);
    }

    /// Seals what is due, so that the log can be trimmed.
    pub(crate) fn seal_due(&mut self) -> Result<(), Failure> {
        for partition in self.trees.due() {
            let state = self.states.entry(PartitionId(partition)).or_default().encode();
            self.trees.seal(partition, &state)?;
        }
        Ok(())
    }

    /// Keys (approximate) and bytes on disk over all partitions, the commit log included.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.states.keys().fold((0, self.reader.live_bytes()), |(keys, bytes), partition| {
            let statistics = self.trees.statistics(partition.0);
            (keys + statistics.keys, bytes + statistics.bytes)
        })
    }

    /// Bytes free on the disk, and whether that is above the reserve.
    pub(crate) fn room(&self) -> (u64, bool) {
        let free = self.trees.free_bytes().unwrap_or(u64::MAX);
        (free, self.trees.has_room().unwrap_or(true))
    }
}
