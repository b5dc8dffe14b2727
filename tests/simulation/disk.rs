//! A server's disk: writes in order, each of them whole or not at all. A crash keeps what was synced and, by chance,
//! some of the writes behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use common::ids::{LogId, PartitionId, Seq};
use common::view::View;
use fastrand::Rng;
use kvserver_core::testkit::{PartitionLog, Tree};
use kvserver_core::{LogRecord, RecoveredCopy, Ticket};

/// One write.
#[derive(Clone, Debug)]
enum Write {
    Records(Vec<LogRecord>),
    View(Arc<View>),
    Trim(PartitionId, LogId),
}

/// All that the writes up to some place make.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) logs: BTreeMap<PartitionId, PartitionLog>,
    pub(crate) view: Option<Arc<View>>,
}

impl Content {
    /// Carries out a write; returns the partitions that lost entries by it.
    fn take(&mut self, write: &Write, lost: &mut BTreeSet<PartitionId>) {
        match write {
            Write::View(view) => self.view = Some(Arc::clone(view)),
            Write::Trim(partition, base) => {
                self.logs.entry(*partition).or_default().trim(*base);
            }
            Write::Records(records) => records.iter().for_each(|record| self.take_record(record, lost)),
        }
    }

    fn take_record(&mut self, record: &LogRecord, lost: &mut BTreeSet<PartitionId>) {
        let partition = record.partition();
        if self.logs.entry(partition).or_default().take(record) {
            lost.insert(partition);
        }
    }
}

/// What a disk held at some moment, synced.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    durable: Content,
    images: BTreeMap<(PartitionId, u64), Tree>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// With all that was written.
    pub(crate) written: Content,
    /// What a crash leaves at least.
    pub(crate) durable: Content,
    /// Writes that are not durable yet: number, ticket, write.
    waiting: VecDeque<(u64, Option<Ticket>, Write)>,
    writes: u64,
    /// Flushed trees by life.
    images: BTreeMap<(PartitionId, u64), Tree>,
    /// Staged copies that are whole.
    staged: BTreeMap<u32, Tree>,
    generations: u32,
    /// Partitions whose durable log has lost entries since this was last looked at.
    pub(crate) lost: BTreeSet<PartitionId>,
    /// How many batches it may lose.
    pub(crate) batches_kept: usize,
    /// The logs before each of the last synced batches.
    before_batches: VecDeque<BTreeMap<PartitionId, PartitionLog>>,
    /// A batch of the log does not check, and what follows vouches for it.
    batch_spoilt: bool,
}

impl Disk {
    /// An empty one that may lose so many batches.
    pub(crate) fn new(batches_kept: usize) -> Self {
        Self { batches_kept, ..Self::default() }
    }

    pub(crate) fn write_records(&mut self, ticket: Ticket, records: Vec<LogRecord>) {
        self.write(Some(ticket), Write::Records(records));
    }

    pub(crate) fn write_view(&mut self, ticket: Ticket, view: Arc<View>) {
        self.write(Some(ticket), Write::View(view));
    }

    fn write(&mut self, ticket: Option<Ticket>, write: Write) {
        self.written.take(&write, &mut BTreeSet::new());
        self.writes += 1;
        self.waiting.push_back((self.writes, ticket, write));
    }

    /// Drops the log up to a place that a flushed tree holds; false if it has not got there.
    pub(crate) fn trim(&mut self, partition: PartitionId, seq: Seq) -> bool {
        let Some(log) = self.written.logs.get(&partition) else { return false };
        let flushed = self.images.get(&(partition, log.life)).map(|image| image.applied);
        let Some(base) = log.id_at(seq).filter(|base| base.seq > log.base.seq) else { return false };
        if flushed.is_none_or(|flushed| flushed.seq < seq) {
            return false;
        }
        self.write(None, Write::Trim(partition, base));
        true
    }

    /// Numbers of the first and the last write that wait for a sync.
    pub(crate) fn unsynced(&self) -> Option<(u64, u64)> {
        let first = self.waiting.front().map(|(number, _, _)| *number)?;
        Some((first, self.writes))
    }

    /// The writes up to a number are on disk: their tickets.
    pub(crate) fn sync(&mut self, upto: u64) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while self.waiting.front().is_some_and(|(number, _, _)| *number <= upto) {
            let (_, ticket, write) = self.waiting.pop_front().expect("there is one");
            self.keep_before(&write);
            self.durable.take(&write, &mut self.lost);
            tickets.extend(ticket);
        }
        tickets
    }

    /// A batch is synced: the logs as they were before it are kept for a while. Copies that are put in place or dropped
    /// are not undone: the trees of before are gone.
    fn keep_before(&mut self, write: &Write) {
        let Write::Records(records) = write else { return };
        let replaces =
            |record: &LogRecord| matches!(record, LogRecord::Install { .. } | LogRecord::Drop { .. });
        if records.iter().any(replaces) {
            return self.before_batches.clear();
        }
        if self.batches_kept > 0 {
            self.before_batches.push_back(self.durable.logs.clone());
            if self.before_batches.len() > self.batches_kept {
                self.before_batches.pop_front();
            }
        }
    }

    /// The last synced batches of the log are lost, as the first of them is damaged. `keeps_marks`: the marks in them
    /// are not lost. `vouched`: later batches vouch for them, so that a start finds damage, not an earlier end. Returns
    /// how many are lost.
    pub(crate) fn lose_batches(&mut self, most: usize, keeps_marks: bool, vouched: bool) -> usize {
        let batches = most.min(self.before_batches.len());
        let first = self.before_batches.len() - batches;
        let Some(logs) = self.before_batches.drain(first..).next() else { return 0 };
        let newest = std::mem::replace(&mut self.durable.logs, logs);
        for (partition, log) in newest.into_iter().filter(|_| keeps_marks) {
            self.durable.logs.entry(partition).or_default().durable_state = log.durable_state;
        }
        self.batch_spoilt = vouched;
        self.waiting.clear();
        self.written = self.durable.clone();
        self.lost.clear();
        batches
    }

    /// A start does not open the store: the log does not check, or ends before what the records hold.
    pub(crate) fn is_damaged(&self) -> bool {
        self.batch_spoilt || self.durable.logs.iter().any(|(&partition, log)| self.ends_early(partition, log))
    }

    fn ends_early(&self, partition: PartitionId, log: &PartitionLog) -> bool {
        self.images.get(&(partition, log.life)).is_some_and(|image| image.applied.seq > log.last().seq)
    }

    /// An operator takes the store back as far as it reads: where the log ends before what the records hold, it begins
    /// behind them.
    pub(crate) fn reinstate(&mut self) {
        self.batch_spoilt = false;
        let mut logs = std::mem::take(&mut self.durable.logs);
        for (&partition, log) in &mut logs {
            if self.ends_early(partition, log) {
                log.base = self.images[&(partition, log.life)].applied;
                log.entries.clear();
            }
        }
        self.durable.logs = logs;
        self.written = self.durable.clone();
    }

    /// Power goes: some of the writes that were not synced may be there all the same, the first ones of them.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.usize(0..=self.waiting.len());
        if let Some(&(upto, _, _)) = kept.checked_sub(1).and_then(|index| self.waiting.get(index)) {
            self.sync(upto);
        }
        self.waiting.clear();
        self.written = self.durable.clone();
    }

    /// Another disk with the same content.
    pub(crate) fn copied(&self) -> Self {
        Self {
            written: self.durable.clone(),
            durable: self.durable.clone(),
            waiting: VecDeque::new(),
            writes: self.writes,
            images: self.images.clone(),
            staged: self.staged.clone(),
            generations: self.generations,
            lost: BTreeSet::new(),
            batches_kept: self.batches_kept,
            before_batches: VecDeque::new(),
            batch_spoilt: self.batch_spoilt,
        }
    }

    /// What is synced now.
    pub(crate) fn image(&self) -> Image {
        Image { durable: self.durable.clone(), images: self.images.clone() }
    }

    /// The disk goes back to what it held once: a snapshot, a flush that was lost. `keeps_marks`: the small state
    /// beside the logs and the view did not go back with them.
    pub(crate) fn go_back(&mut self, image: Image, keeps_marks: bool) {
        let newest = std::mem::replace(&mut self.durable, image.durable);
        self.images = image.images;
        self.before_batches.clear();
        if keeps_marks {
            for (partition, log) in newest.logs {
                if let Some(old) = self.durable.logs.get_mut(&partition).filter(|old| old.life == log.life) {
                    old.durable_state = log.durable_state;
                }
            }
            self.durable.view = newest.view;
        }
        self.waiting.clear();
        self.written = self.durable.clone();
        self.lost.clear();
    }

    /// A tree is flushed.
    pub(crate) fn flush(&mut self, partition: PartitionId, image: Tree) {
        self.images.insert((partition, image.life), image);
    }

    /// A staged copy is whole and on disk.
    pub(crate) fn stage(&mut self, tree: Tree) -> u32 {
        self.generations += 1;
        self.staged.insert(self.generations, tree);
        self.generations
    }

    pub(crate) fn staged(&self, generation: u32) -> Tree {
        self.staged.get(&generation).expect("a copy is installed after it was staged").clone()
    }

    /// What a start finds: copies and their trees.
    pub(crate) fn recover(&self) -> (BTreeMap<PartitionId, RecoveredCopy>, BTreeMap<PartitionId, Tree>) {
        let (mut copies, mut trees) = (BTreeMap::new(), BTreeMap::new());
        for (&partition, log) in &self.durable.logs {
            let begun = log.begun_with.map(|generation| self.staged(generation));
            let image = self.images.get(&(partition, log.life)).cloned().or(begun).unwrap_or_default();
            let tree = image.in_life(log.life);
            assert!(tree.applied.seq >= log.base.seq, "trimmed beyond the flushed records");
            let (applied, last) = (tree.applied, log.last());
            assert!(
                applied.seq <= last.seq,
                "partition {partition}: records up to {applied}, a log up to {last}"
            );
            copies.insert(partition, log.recover(applied.seq));
            trees.insert(partition, tree);
        }
        (copies, trees)
    }
}
