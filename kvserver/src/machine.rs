//! The state machine on disk: applies committed entries to the trees, reads them, and copies them for others.
//!
//! Decisions are `core::state`'s; here are only the trees. Used by the core's thread alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, Run};
use common::operation::{Command, Outcome, Pair};
use common::time::WallTime;
use common::view::View;
use storage::{Change, LogReader, Read, RecoveredPartition, Snapshot, Staging, Trees};

use crate::core::{Answer, ApplyError, Mark, Query, Records, RecoveredCopy, State, changes_of};
use crate::digests::Picture;
use crate::disk::{from_log_id, from_tag, log_id};
use crate::error::Failure;
use crate::limits::{DIGESTS_WAITING_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use crate::metrics::Sizes;
use crate::scrub::Stored;

/// See the module's text.
pub(crate) struct Machine {
    trees: Trees,
    reader: LogReader,
    states: BTreeMap<PartitionId, State>,
    /// Copies of others that are whole and on disk, and wait for their install record.
    whole: BTreeMap<PartitionId, Staging>,
    /// Taken at entries that compare copies, to be made digests of.
    pictures: Vec<Picture>,
    /// Entries that were to be looked at as well, and were too many.
    left_out: Vec<LogId>,
    /// What the entries of the last batch have changed, if that was asked for.
    changes: Vec<(LogId, Vec<common::messages::Change>)>,
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
    Failure::Store(error.to_string())
}

fn not_applied(error: ApplyError<storage::Error>) -> Failure {
    match error {
        ApplyError::Store(error) => error.into(),
        error @ ApplyError::Malformed { .. } => malformed(error),
    }
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
        let (whole, unmade) = (BTreeMap::new(), BTreeSet::new());
        let (pictures, left_out, changes) = (Vec::new(), Vec::new(), Vec::new());
        Ok((Self { trees, reader, states, whole, pictures, left_out, changes, unmade }, copies))
    }

    /// A view is in use: trees of partitions that are new here are made one by one, beside all else, not when the first
    /// write comes (making one costs a few fsyncs).
    pub(crate) fn on_view(&mut self, view: &View, me: ServerId) {
        let mine = view.iter().filter(|(_, assignment)| {
            assignment.in_sync_member(me).or_else(|| assignment.joining_member(me)).is_some()
        });
        self.unmade = mine.map(|(partition, _)| partition).filter(|p| !self.states.contains_key(p)).collect();
    }

    /// Has one tree made, if there is one to make.
    pub(crate) fn make_tree(&mut self) {
        if let Some(partition) = self.unmade.pop_first() {
            self.states.entry(partition).or_default();
            self.trees.create_ahead(partition.0);
        }
    }

    /// Whether the next change finds a tree; it makes one otherwise, which waits for the disk.
    pub(crate) fn has_tree(&self, partition: PartitionId) -> bool {
        self.trees.has_tree(partition.0)
    }

    /// Applies entries in order; what each did. `tell`: what they change is wanted as well, see [`Self::take_changes`].
    pub(crate) fn apply(
        &mut self,
        partition: PartitionId,
        entries: Vec<Entry>,
        tell: bool,
    ) -> Result<Vec<Outcome>, Failure> {
        let state = self.states.entry(partition).or_default();
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut records = TreeRecords { trees: &self.trees, partition, changes: Vec::new() };
            let Entry { id, body } = entry;
            let outcome = state.apply(&mut records, id, body.clone()).map_err(not_applied)?;
            let changes = records.changes;
            if tell && !changes.is_empty() {
                let records = changes.iter().map(|change| match change {
                    Change::Put { key, value } => (key.clone(), Some(value.clone())),
                    Change::Remove { key } => (key.clone(), None),
                });
                self.changes.push((id, changes_of(id, &body, records).map_err(malformed)?));
            }
            self.trees.apply(partition.0, &changes, log_id(id))?;
            if outcome == (Outcome::Compared { at: id }) {
                if self.pictures.len() < DIGESTS_WAITING_MAX {
                    let records = self.trees.snapshot(partition.0)?;
                    let (digest, log_time) = (state.digest(), state.log_time());
                    // A coordinator that compares has no origin; a client that does waits for it.
                    let paced = Command::from_wire(body).is_ok_and(|command| command.origin.is_none());
                    self.pictures.push(Picture { partition, at: id, records, digest, log_time, paced });
                } else {
                    self.left_out.push(id);
                }
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Pictures that digests are to be made of, and entries for which there will be none.
    pub(crate) fn take_pictures(&mut self) -> (Vec<Picture>, Vec<LogId>) {
        (std::mem::take(&mut self.pictures), std::mem::take(&mut self.left_out))
    }

    /// What the entries applied last have changed.
    pub(crate) fn take_changes(&mut self) -> Vec<(LogId, Vec<common::messages::Change>)> {
        std::mem::take(&mut self.changes)
    }

    /// Reads applied state.
    pub(crate) fn read(&self, partition: PartitionId, query: &Query) -> Result<Answer, Failure> {
        let empty = State::default();
        let state = self.states.get(&partition).unwrap_or(&empty);
        match query {
            Query::Get { key, bytes_max } => {
                let records = TreeRecords { trees: &self.trees, partition, changes: Vec::new() };
                let found = state.read(&records, key).map_err(not_applied)?;
                Ok(Answer::to_get(key, *bytes_max, found))
            }
            Query::Scan { after, prefix, limit, .. } => {
                self.scan(partition, state, after.clone(), prefix, *limit)
            }
            // Keys are collected beside the core, from a picture.
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
            // All of them have expired: look further, in large steps.
            after = last;
            keys = PAGE_KEYS_MAX as usize;
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

    /// Opens a picture of the applied state; and the state besides the records.
    pub(crate) fn open_snapshot(&mut self, partition: PartitionId) -> Result<(Snapshot, Bytes), Failure> {
        let snapshot = self.trees.snapshot(partition.0)?;
        Ok((snapshot, self.states.entry(partition).or_default().encode()))
    }

    /// Partitions that have records here.
    pub(crate) fn partitions(&self) -> Vec<PartitionId> {
        self.states.keys().copied().collect()
    }

    /// A picture of the records to be read through by any thread, and the log time that they have.
    pub(crate) fn picture(&self, partition: PartitionId) -> Result<(Snapshot, WallTime), Failure> {
        let log_time = self.states.get(&partition).map(State::log_time).unwrap_or_default();
        Ok((self.trees.snapshot(partition.0)?, log_time))
    }

    /// What the scrub reads of a partition.
    pub(crate) fn open_for_scrub(&self, partition: PartitionId) -> Result<Stored, Failure> {
        let (records, log_time) = self.picture(partition)?;
        let records = Some(records);
        let (log, last) = (self.reader.clone(), self.trees.applied(partition.0).seq);
        Ok(Stored { partition, records, log_time, log, next: 1, last })
    }

    /// Removes a record if it has expired in log time: nobody sees it any more, at any copy, and log time does not go
    /// back. So each copy may do it when it likes; the log need not say so.
    pub(crate) fn remove_expired(&mut self, partition: PartitionId, key: &[u8]) -> Result<bool, Failure> {
        let Some(state) = self.states.get(&partition) else { return Ok(false) };
        let Some(record) = self.trees.get(partition.0, key)? else { return Ok(false) };
        if state.visible(record).map_err(malformed)?.is_some() {
            return Ok(false);
        }
        self.trees.forget(partition.0, key)?;
        Ok(true)
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

    /// A place for a copy of another server's records.
    pub(crate) fn stage(&mut self, partition: PartitionId) -> Staging {
        self.trees.stage(partition.0)
    }

    /// A copy is whole and on disk; its number.
    pub(crate) fn keep_whole(&mut self, partition: PartitionId, staging: Staging) -> u32 {
        let generation = staging.generation();
        self.whole.insert(partition, staging);
        generation
    }

    /// The whole copy becomes the partition's.
    pub(crate) fn install(
        &mut self,
        partition: PartitionId,
        generation: u32,
        state: Bytes,
    ) -> Result<(), Failure> {
        let staging = self.whole.remove(&partition).filter(|staging| staging.generation() == generation);
        let Some(staging) = staging else {
            let reason = format!("partition {partition}: the copy {generation} to be installed is not here");
            return Err(Failure::Stopped(reason));
        };
        self.trees.install(staging);
        self.states.insert(partition, State::decode(state).map_err(malformed)?);
        Ok(())
    }

    pub(crate) fn drop_partition(&mut self, partition: PartitionId) {
        self.trees.drop_partition(partition.0);
        self.states.remove(&partition);
        self.whole.remove(&partition);
    }

    /// Seals what is due, so that the log can be trimmed.
    pub(crate) fn seal_due(&mut self) -> Result<(), Failure> {
        for partition in self.trees.due() {
            let state = self.states.entry(PartitionId(partition)).or_default().encode();
            self.trees.seal(partition, &state)?;
        }
        Ok(())
    }

    /// What is stored, over all partitions.
    pub(crate) fn sizes(&self) -> Sizes {
        let mut sizes = Sizes { log: self.reader.live_bytes(), ..Sizes::default() };
        for partition in self.states.keys() {
            let statistics = self.trees.statistics(partition.0);
            sizes.keys += statistics.keys;
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
mod tests {
    use super::*;
    use crate::core::encode_record;
    use common::codec::Wire;
    use common::ids::{Epoch, LogId};
    use common::operation::{Command, Condition, Found, Operation};

    const P: PartitionId = PartitionId(0);

    fn put(key: &'static str, expires: Option<WallTime>) -> Operation {
        Operation::Put { key: key.into(), value: "v".into(), expires, condition: Condition::Always {} }
    }

    #[test]
    fn what_has_expired_in_log_time_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::Options { background: false, ..storage::Options::default() };
        let storage::Opened { mut log, reader, trees, recovered } =
            storage::Store::open(dir.path(), &options).unwrap();
        let (mut machine, _) = Machine::new(trees, reader, recovered).unwrap();
        let mut seq = 0;
        let mut apply = |machine: &mut Machine, stamp, operation| {
            seq += 1;
            let id = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) };
            let body = Command { origin: None, stamp: WallTime(stamp), operation }.to_wire();
            let record = storage::Record::Entry { partition: 0, id: log_id(id), body: body.clone() };
            log.append(&[record]).unwrap();
            log.sync().unwrap();
            machine.apply(P, vec![Entry { id, body }], false).unwrap();
        };
        apply(&mut machine, 1, put("gone", Some(WallTime(100))));
        apply(&mut machine, 1, put("later", Some(WallTime(500))));
        apply(&mut machine, 1, put("stays", None));
        assert!(!machine.remove_expired(P, b"gone").unwrap(), "not by any clock but the log's");
        apply(&mut machine, 100, Operation::Tick {});
        for (key, removed) in [("gone", true), ("gone", false), ("later", false), ("stays", false)] {
            assert_eq!(machine.remove_expired(P, key.as_bytes()).unwrap(), removed, "{key}");
        }
        let Stored { records, log_time, last, .. } = machine.open_for_scrub(P).unwrap();
        assert_eq!((log_time, last), (WallTime(100), 4));
        let mut picture = records.unwrap();
        let keys: Vec<Bytes> =
            picture.chunk(1 << 20).unwrap().pairs.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["later", "stays"]);
        let digest = |machine: &Machine| {
            let Stored { records, log_time, .. } = machine.open_for_scrub(P).unwrap();
            let mut picture = records.unwrap();
            let mut digest = machine.states[&P].digest();
            for (key, record) in picture.chunk(1 << 20).unwrap().pairs {
                crate::core::digest_record(&mut digest, log_time, &key, &record).unwrap();
            }
            digest
        };
        let first = digest(&machine);
        assert_eq!((first.records, machine.take_pictures().0.len()), (2, 0));
        let expired = encode_record(&Found {
            value: "v".into(),
            version: LogId::default(),
            expires: Some(WallTime(9)),
        });
        let stray = |key: &'static str, value: Bytes| [Change::Put { key: key.into(), value }];
        let at = |seq| log_id(LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) });
        machine.trees.apply(0, &stray("x", expired), at(seq + 1)).unwrap();
        assert_eq!(digest(&machine), first, "what has expired is not looked at");
        let other = encode_record(&Found { value: "w".into(), version: LogId::default(), expires: None });
        machine.trees.apply(0, &stray("stays", other), at(seq + 2)).unwrap();
        assert_ne!(digest(&machine), first, "another value");
        machine.trees.forget(0, b"stays").unwrap();
        assert_ne!(digest(&machine).sum, first.sum, "a missing one");
        let seq = seq + 2;
        for missing in seq - 1..=seq {
            log.append(&[storage::Record::Entry { partition: 0, id: at(missing), body: Bytes::new() }])
                .unwrap();
        }
        log.sync().unwrap();
        // The removal is on disk with the state that makes it right.
        machine.trees.seal(0, &machine.states[&P].encode()).unwrap();
        machine.trees.maintain();
        drop((picture, machine));
        log.close().unwrap();
        let opened = storage::Store::open(dir.path(), &options).unwrap();
        assert_eq!(opened.recovered[&0].applied.seq, seq);
        assert_eq!(opened.trees.get(0, b"gone").unwrap(), None);
        assert!(opened.trees.get(0, b"later").unwrap().is_some());
    }

    #[test]
    fn a_picture_is_taken_at_each_entry_that_compares_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::Options { background: false, ..storage::Options::default() };
        let opened = storage::Store::open(dir.path(), &options).unwrap();
        let (mut machine, _) = Machine::new(opened.trees, opened.reader, opened.recovered).unwrap();
        let entry = |seq: u64, origin| {
            let id = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) };
            let operation = Operation::Compare { partition: P };
            Entry { id, body: Command { origin, stamp: WallTime(1), operation }.to_wire() }
        };
        let number = common::ids::RequestNumber(1);
        let client = common::ids::ClientId(1);
        let person = common::operation::Origin { client, number, first_unanswered: number };
        machine.apply(P, vec![entry(1, Some(person)), entry(2, None)], false).unwrap();
        let (pictures, left_out) = machine.take_pictures();
        let paced: Vec<bool> = pictures.iter().map(|picture| picture.paced).collect();
        assert_eq!((paced, left_out.len()), (vec![false, true], 0), "who waits for it is not kept waiting");
        let many = DIGESTS_WAITING_MAX as u64 + 2;
        machine.apply(P, (3..3 + many).map(|seq| entry(seq, None)).collect(), false).unwrap();
        let (pictures, left_out) = machine.take_pictures();
        assert_eq!((pictures.len(), left_out.len()), (DIGESTS_WAITING_MAX, 2));
        assert_eq!(left_out.last().unwrap().seq, Seq(2 + many));
    }
}
