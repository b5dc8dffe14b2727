//! The state machine on disk: applies committed entries to the trees, reads them, and copies them for others.
//!
//! `state` of `kvserver_core` decides what an operation does; this module only handles the trees. Used by the core's
//! thread alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, Run};
use common::operation::{Command, Outcome, Pair};
use common::time::WallTime;
use common::view::View;
use storage::{Change, LogReader, Read, RecoveredPartition, Snapshot, Staging, Trees};

use crate::error::{Failure, of_another_version};
use crate::limits::{DIGESTS_WAITING_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX, SCRUB_BYTES, SWEEP_KEYS};
use crate::metrics::Sizes;
use crate::store::log_ids::{from_log_id, from_tag, log_id};
use crate::store::records::{ReadRecords, TreeRecords, expiry_of};
use crate::store::sealed::{self, Counts};
use crate::workers::digest::DigestSource;
use crate::workers::scrub::Stored;
use kvserver_core::{Answer, ApplyError, DurableState, LogTime, Query, RecoveredCopy, State, changes_of};

/// The state machine of all partitions on the trees: applies entries, reads, and removes what has expired.
pub(crate) struct StateMachine {
    trees: Trees,
    reader: LogReader,
    states: BTreeMap<PartitionId, State>,
    counts: BTreeMap<PartitionId, Counts>,
    /// Partitions with expired records, which are being removed.
    sweeping: BTreeSet<PartitionId>,
    /// Copies received from other servers that are whole and on disk, and wait for their install record.
    whole: BTreeMap<PartitionId, (Staging, Counts)>,
    /// Snapshots taken at entries that compare copies, to make digests of.
    digest_sources: Vec<DigestSource>,
    /// Entries of comparisons for which there was no room for a snapshot.
    left_out: Vec<LogId>,
    /// Changes that the entries of the last batch have made, if they were asked for.
    changes: Vec<(LogId, Vec<common::messages::Change>)>,
    /// Partitions that this server has a role in and perhaps no tree of yet.
    unmade: BTreeSet<PartitionId>,
}

/// An error for bytes whose checksum is right and that are of another version: it says nothing against the store.
fn malformed(error: impl std::fmt::Display) -> Failure {
    Failure::Stopped(format!("{}. Nothing was changed: start that version", of_another_version(error)))
}

fn not_applied(error: ApplyError<storage::Error>) -> Failure {
    match error {
        ApplyError::Store(error) => error.into(),
        error @ ApplyError::Malformed { .. } => malformed(error),
    }
}

/// Counts the records of a store that an older version has sealed, and lists those that expire.
fn count(trees: &mut Trees, partition: PartitionId) -> Result<Counts, storage::Error> {
    let mut counts = Counts::default();
    let mut records = trees.snapshot(partition.0)?;
    loop {
        let chunk = records.chunk(SCRUB_BYTES)?;
        for (key, record) in chunk.pairs {
            let expires = expiry_of(&record);
            counts.count(expires > 0, true);
            if expires > 0 {
                trees.list_due(partition.0, expires, &key, true)?;
            }
        }
        if chunk.done {
            return Ok(counts);
        }
    }
}

impl StateMachine {
    /// Takes over the trees, and reads the state that belongs to them. Also returns the state that the core begins
    /// with.
    pub(crate) fn new(
        mut trees: Trees,
        reader: LogReader,
        recovered: BTreeMap<u16, RecoveredPartition>,
    ) -> Result<(Self, BTreeMap<PartitionId, RecoveredCopy>), Failure> {
        let mut states = BTreeMap::new();
        let (mut copies, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for (partition, found) in recovered {
            let partition = PartitionId(partition);
            let malformed =
                |error| malformed(format!("partition {partition}: the sealed state does not read: {error}"));
            let (counted, state) = sealed::decode(found.state).map_err(malformed)?;
            states.insert(partition, State::decode(state).map_err(malformed)?);
            let counted = match counted {
                Some(counted) => counted,
                None => count(&mut trees, partition)?,
            };
            counts.insert(partition, counted);
            let run = |(tag, first)| Run { tag: from_tag(tag), first: Seq(first) };
            let copy = RecoveredCopy {
                base: from_log_id(found.base),
                runs: found.runs.into_iter().map(run).collect(),
                last: Seq(found.last),
                applied: Seq(found.applied.seq),
                durable_state: DurableState::decode(found.durable_state).map_err(malformed)?,
            };
            copies.insert(partition, copy);
        }
        let (whole, unmade) = (BTreeMap::new(), BTreeSet::new());
        let (digest_sources, left_out, changes) = (Vec::new(), Vec::new(), Vec::new());
        let sweeping = BTreeSet::new();
        let machine = Self {
            trees,
            reader,
            states,
            counts,
            sweeping,
            whole,
            digest_sources,
            left_out,
            changes,
            unmade,
        };
        Ok((machine, copies))
    }

    /// Notes a new view: trees of partitions that are new here are made in the background, one by one, and not when the
    /// first write comes (making one costs a few fsyncs).
    pub(crate) fn on_view(&mut self, view: &View, me: ServerId) {
        let mine = view.iter().filter(|(_, assignment)| {
            assignment.in_sync_member(me).or_else(|| assignment.joining_member(me)).is_some()
        });
        self.unmade = mine.map(|(partition, _)| partition).filter(|p| !self.states.contains_key(p)).collect();
    }

    /// Has one tree made in the background, if there is one to make.
    pub(crate) fn make_tree(&mut self) {
        if let Some(partition) = self.unmade.pop_first() {
            self.states.entry(partition).or_default();
            self.trees.pre_create(partition.0);
        }
    }

    /// Whether the next change finds a tree; it makes one otherwise, which waits for the disk.
    pub(crate) fn has_tree(&self, partition: PartitionId) -> bool {
        self.trees.has_tree(partition.0)
    }

    /// Applies entries in order, and returns what each did. `with_changes`: their changes are wanted as well, see
    /// [`Self::take_changes`].
    pub(crate) fn apply(
        &mut self,
        partition: PartitionId,
        entries: Vec<Entry>,
        with_changes: bool,
    ) -> Result<Vec<Outcome>, Failure> {
        let state = self.states.entry(partition).or_default();
        let counts = self.counts.entry(partition).or_default();
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut records = TreeRecords::new(&self.trees, partition, *counts);
            let Entry { id, body } = entry;
            let outcome = state.apply(&mut records, id, body.clone()).map_err(not_applied)?;
            let (changes, counted) = (records.changes, records.counts);
            if with_changes && !changes.is_empty() {
                let records = changes.iter().filter_map(|change| match change {
                    Change::Put { key, value } => Some((key.clone(), Some(value.clone()))),
                    Change::Remove { key } => Some((key.clone(), None)),
                    Change::Due { .. } | Change::NotDue { .. } => None,
                });
                self.changes.push((id, changes_of(id, &body, records).map_err(malformed)?));
            }
            self.trees.apply(partition.0, &changes, log_id(id))?;
            *counts = counted;
            if outcome == (Outcome::Compared { at: id }) {
                if self.digest_sources.len() < DIGESTS_WAITING_MAX {
                    let records = self.trees.snapshot(partition.0)?;
                    let (digest, log_time) = (state.digest(), state.log_time().clone());
                    // A comparison of a coordinator has no origin; that of a client has one, and the client waits for
                    // it.
                    let paced = Command::from_wire(body).is_ok_and(|command| command.origin.is_none());
                    self.digest_sources.push(DigestSource {
                        partition,
                        at: id,
                        records,
                        digest,
                        log_time,
                        paced,
                    });
                } else {
                    self.left_out.push(id);
                }
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Snapshots to make digests of, and entries for which there will be none.
    pub(crate) fn take_digest_sources(&mut self) -> (Vec<DigestSource>, Vec<LogId>) {
        (std::mem::take(&mut self.digest_sources), std::mem::take(&mut self.left_out))
    }

    /// Changes that the entries applied last have made.
    pub(crate) fn take_changes(&mut self) -> Vec<(LogId, Vec<common::messages::Change>)> {
        std::mem::take(&mut self.changes)
    }

    /// Reads applied state.
    pub(crate) fn read(&self, partition: PartitionId, query: &Query) -> Result<Answer, Failure> {
        let empty = State::default();
        let state = self.states.get(&partition).unwrap_or(&empty);
        match query {
            Query::Get { key, bytes_max } => {
                let records = ReadRecords(&self.trees, partition);
                let found = state.read(&records, key).map_err(not_applied)?;
                Ok(Answer::to_get(key, *bytes_max, found))
            }
            Query::Scan { after, prefix, limit, .. } => {
                self.scan(partition, state, after.clone(), prefix, *limit)
            }
            // Keys are collected by a thread of their own, from a snapshot.
            Query::Keys { .. } | Query::Count { .. } | Query::Nothing => Ok(Answer::Nothing),
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
            // All of these pairs have expired: look further, in large steps.
            after = last;
            keys = PAGE_KEYS_MAX as usize;
        }
    }

    /// Entries from the commit log, or the number up to which it no longer has them.
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

    /// Opens a snapshot of the applied records, and returns it with the state besides them.
    pub(crate) fn open_snapshot(&mut self, partition: PartitionId) -> Result<(Snapshot, Bytes), Failure> {
        let snapshot = self.trees.snapshot(partition.0)?;
        Ok((snapshot, self.states.entry(partition).or_default().encode()))
    }

    /// Partitions that have records here.
    pub(crate) fn partitions(&self) -> Vec<PartitionId> {
        self.states.keys().copied().collect()
    }

    /// A snapshot of the records, to be read by any thread, and the log time that they have.
    pub(crate) fn snapshot(&self, partition: PartitionId) -> Result<(Snapshot, LogTime), Failure> {
        let log_time = self.states.get(&partition).map(|state| state.log_time().clone()).unwrap_or_default();
        Ok((self.trees.snapshot(partition.0)?, log_time))
    }

    /// The stored data of a partition, for the scrub.
    pub(crate) fn open_for_scrub(&self, partition: PartitionId) -> Result<Stored, Failure> {
        let (records, log_time) = self.snapshot(partition)?;
        let records = Some(records);
        let (log, last) = (self.reader.clone(), self.trees.applied(partition.0).seq);
        Ok(Stored { partition, records, log_time, log, next: 1, last })
    }

    /// Removes a record if it has expired by log time: no copy returns it any more, and log time does not go back. So
    /// each copy may remove it at its own time, without an entry of the log.
    pub(crate) fn remove_expired(&mut self, partition: PartitionId, key: &[u8]) -> Result<bool, Failure> {
        let Some(state) = self.states.get(&partition) else { return Ok(false) };
        let Some(record) = self.trees.get(partition.0, key)? else { return Ok(false) };
        let (bytes, expires) = (key.len() + record.len(), expiry_of(&record));
        if state.visible(record).map_err(malformed)?.is_some() {
            return Ok(false);
        }
        self.trees.purge(partition.0, key, bytes as u64)?;
        self.trees.list_due(partition.0, expires, key, false)?;
        self.counts.entry(partition).or_default().count(true, false);
        Ok(true)
    }

    /// Finds the partitions with records that have expired by log time, to be removed by [`Self::sweep`]. Returns those
    /// with records that would have expired if log time were `now`.
    pub(crate) fn look_for_expired(&mut self, now: WallTime) -> Result<Vec<PartitionId>, Failure> {
        let mut behind = Vec::new();
        for (&partition, state) in &self.states {
            match self.trees.first_due(partition.0)? {
                Some(at) if at <= state.log_time().now().0 => _ = self.sweeping.insert(partition),
                Some(at) if at <= now.0 => behind.push(partition),
                _ => {}
            }
        }
        Ok(behind)
    }

    /// Removes some records that have expired by log time, and returns how many; `None` if there are no more.
    pub(crate) fn sweep(&mut self) -> Result<Option<u64>, Failure> {
        let Some(&partition) = self.sweeping.first() else { return Ok(None) };
        let swept = self.sweep_some(partition);
        if !swept.as_ref().is_ok_and(|(_, more)| *more) {
            self.sweeping.remove(&partition);
        }
        swept.map(|(removed, _)| Some(removed))
    }

    /// Removes some records of a partition. Returns how many, and whether there are more.
    fn sweep_some(&mut self, partition: PartitionId) -> Result<(u64, bool), Failure> {
        let until = self.states.get(&partition).map_or(0, |state| state.log_time().now().0);
        let due = self.trees.due_keys(partition.0, until, SWEEP_KEYS)?;
        let (mut removed, more) = (0, due.len() == SWEEP_KEYS);
        for (at, key) in due {
            removed += u64::from(self.remove_expired(partition, &key)?);
            self.trees.list_due(partition.0, at, &key, false)?;
        }
        Ok((removed, more))
    }

    /// Damage that was found in the background, if any.
    pub(crate) fn damage(&self) -> Option<String> {
        self.trees.damage()
    }

    /// Bytes that a partition's records have in files and in memory, roughly.
    pub(crate) fn bytes_of(&self, partition: PartitionId) -> u64 {
        let statistics = self.trees.statistics(partition.0);
        statistics.bytes + statistics.memory_bytes
    }

    /// Begins a staging for a copy of another server's records.
    pub(crate) fn stage(&mut self, partition: PartitionId) -> Staging {
        self.trees.stage(partition.0)
    }

    /// Keeps a copy that is whole and on disk until it is installed; returns its generation.
    pub(crate) fn keep_whole(&mut self, partition: PartitionId, whole: (Staging, Counts)) -> u32 {
        let generation = whole.0.generation();
        self.whole.insert(partition, whole);
        generation
    }

    /// Makes the whole copy the partition's.
    pub(crate) fn install(
        &mut self,
        partition: PartitionId,
        generation: u32,
        state: Bytes,
    ) -> Result<(), Failure> {
        let whole = self.whole.remove(&partition).filter(|(staging, _)| staging.generation() == generation);
        let Some((staging, counts)) = whole else {
            let reason = format!("partition {partition}: the copy {generation} to be installed is not here");
            return Err(Failure::Stopped(reason));
        };
        self.trees.install(staging);
        self.counts.insert(partition, counts);
        self.states.insert(partition, State::decode(state).map_err(malformed)?);
        Ok(())
    }

    pub(crate) fn drop_partition(&mut self, partition: PartitionId) {
        self.trees.drop_partition(partition.0);
        self.states.remove(&partition);
        self.counts.remove(&partition);
        self.whole.remove(&partition);
    }

    /// Seals what is due, so that the log can be trimmed.
    pub(crate) fn seal_due(&mut self) -> Result<(), Failure> {
        for partition in self.trees.due() {
            let state = self.states.entry(PartitionId(partition)).or_default().encode();
            let counts = self.counts.get(&PartitionId(partition)).copied().unwrap_or_default();
            self.trees.seal(partition, &sealed::encode(counts, state))?;
        }
        Ok(())
    }

    /// Sizes of what is stored, over all partitions.
    pub(crate) fn sizes(&self) -> Sizes {
        let mut sizes = Sizes { log: self.reader.live_bytes(), ..Sizes::default() };
        for partition in self.states.keys() {
            let statistics = self.trees.statistics(partition.0);
            let counts = self.counts.get(partition).copied().unwrap_or_default();
            sizes.keys += counts.keys;
            sizes.expiring += counts.expiring;
            sizes.trees += statistics.bytes;
            sizes.memory += statistics.memory_bytes;
        }
        sizes
    }

    /// Bytes free on the disk, and whether that is above the reserve.
    pub(crate) fn room(&self) -> (u64, bool) {
        let free = self.trees.free_bytes().unwrap_or(u64::MAX);
        (free, self.trees.has_room().unwrap_or(true))
    }
}

#[cfg(test)]
mod tests;
