//! The trees' owner: the one that changes them.

use super::{
    maintenance::{Job, Maintenance, Queues},
    partition::{PartitionTree, TreeContext, free_bytes},
    pre_create::PreCreated,
    scan::{Page, scan},
    slot::Slot,
    value_cache::{CacheKey, ValueCache},
    value_codec,
};
use crate::{
    Change, Error, LogId, Options,
    log::{LogShared, Position, next_grown},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

/// Size of a partition's tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Keys, roughly: an overwritten or removed key counts until compaction has merged it.
    pub keys: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// Bytes in memory that are not in files yet.
    pub memory_bytes: u64,
}

/// The trees' owner: all changes go through it, from one thread.
pub struct Trees {
    pub(super) options: Options,
    pub(super) log: Arc<LogShared>,
    pub(super) context: Arc<TreeContext>,
    pub(super) maintenance: Arc<Maintenance>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) queues: Option<Queues>,
    pub(super) value_cache: ValueCache,
    pub(super) slots: BTreeMap<u16, Slot>,
    /// The last generation that [`Self::stage`] gave out.
    pub(super) last_staged: BTreeMap<u16, u32>,
    /// Partitions whose memtable is over its size.
    pub(super) full: BTreeSet<u16>,
    /// The maintenance's count of changes when `due` last looked.
    pub(super) seen: u64,
}

impl Trees {
    pub(crate) fn new(
        options: &Options,
        log: Arc<LogShared>,
        context: Arc<TreeContext>,
        found: BTreeMap<u16, (u32, LogId, Option<PartitionTree>)>,
    ) -> Result<Self, Error> {
        let (maintenance, queues) = Maintenance::new(Arc::clone(&log), Arc::clone(&context));
        let slots: BTreeMap<_, _> = found
            .into_iter()
            .map(|(partition, (generation, applied, tree))| {
                let tree = tree.map(Arc::new);
                (partition, Slot { tree, applied, sealed: applied, ..Slot::empty(generation) })
            })
            .collect();
        // Weak: the log outlives the trees when a reader of it does, and must not keep them.
        let waker = Arc::downgrade(&maintenance);
        let (mut threads, mut kept) = (Vec::new(), None);
        if options.background {
            threads = maintenance.start(queues)?;
            drop(log.on_roll.set(Box::new(move || {
                if let Some(maintenance) = waker.upgrade() {
                    maintenance.send(Job::Spare);
                }
            })));
            maintenance.send(Job::Spare);
        } else {
            kept = Some(queues);
        }
        Ok(Self {
            options: options.clone(),
            log,
            context,
            maintenance,
            threads,
            queues: kept,
            value_cache: ValueCache::new(options.values_bytes),
            slots,
            last_staged: BTreeMap::new(),
            full: BTreeSet::new(),
            seen: u64::MAX,
        })
    }

    /// The value of a key; its checksum is verified.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the tree's folder, the partition and the key.
    pub fn get(&self, partition: u16, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Some(slot) = self.slots.get(&partition) else { return Ok(None) };
        let Some(tree) = &slot.tree else { return Ok(None) };
        let key = &value_codec::user_key(key);
        let cache_key = CacheKey { partition, generation: slot.generation, key };
        if let Some(stored) = self.value_cache.get(cache_key) {
            return tree.open_value(key, stored).map(Some);
        }
        let Some(stored) = tree.get_stored(key)? else { return Ok(None) };
        let value = tree.open_value(key, stored.clone())?;
        // Not the slice itself: it would keep the block alive that it was read in.
        self.value_cache.put(cache_key, lsm_tree::Slice::from(&stored[..]));
        Ok(Some(value))
    }

    /// Pairs whose keys begin with `prefix` and come after `after`, in key order, until one of the limits is reached;
    /// at least one pair if there is one and `limit_keys` is not 0.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn scan(
        &self,
        partition: u16,
        after: Option<&[u8]>,
        prefix: &[u8],
        limit_keys: usize,
        limit_bytes: usize,
    ) -> Result<Page, Error> {
        match self.tree(partition) {
            Some(tree) => scan(tree, after, prefix, limit_keys, limit_bytes),
            None => Ok(Page::default()),
        }
    }

    /// Has a maintenance thread make a partition's tree, if there is none: its first change need not wait for that.
    pub fn pre_create(&mut self, partition: u16) {
        let slot = self.slots.entry(partition).or_insert_with(|| Slot::empty(0));
        if slot.tree.is_none() && slot.pre_created.is_none() {
            let pre_created = slot.pre_created.insert(PreCreated::new(partition, slot.generation));
            self.maintenance.send(Job::Make(Arc::clone(pre_created)));
        }
    }

    /// Whether a change of this partition finds a tree, and needs to make none.
    #[must_use]
    pub fn has_tree(&self, partition: u16) -> bool {
        self.tree(partition).is_some()
    }

    /// Applies the changes of committed entries, in memory. `id` is the last of these entries. Must
    /// come in log order.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::DiskFull`] when the partition's tree has to be made; then nothing
    /// is applied.
    ///
    /// # Panics
    /// When `id` is not behind what was applied before, or a key is empty or too long.
    pub fn apply(&mut self, partition: u16, changes: &[Change], id: LogId) -> Result<(), Error> {
        let limit = self.options.memtable_bytes;
        let tick = self.maintenance.ticks.load(Ordering::Acquire);
        let (slot, tree) = self.slot(partition)?;
        let (before, generation) = (slot.applied.seq, slot.generation);
        assert!(id.seq > before, "partition {partition}: apply {} after {before}", id.seq);
        slot.applied = id;
        slot.changed.get_or_insert(tick);
        let mut bytes = 0;
        for change in changes {
            let plain = change.key();
            assert!((1..=crate::KEY_BYTES_MAX).contains(&plain.len()), "a key of {} bytes", plain.len());
            let key = &value_codec::user_key(plain);
            let cache_key = CacheKey { partition, generation, key };
            bytes = match change {
                Change::Put { value, .. } => {
                    let stored = value_codec::seal_value(key, value);
                    self.value_cache.put(cache_key, stored.clone());
                    tree.put_stored(key, stored)
                }
                Change::Remove { .. } => {
                    self.value_cache.remove(cache_key);
                    tree.remove(key)
                }
                Change::Due { at, .. } => {
                    if let Some(slot) = self.slots.get_mut(&partition) {
                        slot.due.on_listed(*at);
                    }
                    tree.put(&value_codec::due_key(*at, plain), &[])
                }
                // The remembered first number stays a lower bound: a removal can only raise it.
                Change::NotDue { at, .. } => tree.remove(&value_codec::due_key(*at, plain)),
            };
        }
        if bytes > limit {
            self.full.insert(partition);
        }
        Ok(())
    }

    /// Removes a key whose record has expired by log time, so that no later entry can bring it back. No log entry
    /// orders this, and each copy does it at its own time. A tree from which much was removed in this way is written
    /// anew without it.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn purge(&mut self, partition: u16, key: &[u8], bytes_of_record: u64) -> Result<(), Error> {
        let tick = self.maintenance.ticks.load(Ordering::Acquire);
        let limit = self.options.memtable_bytes;
        let (slot, tree) = self.slot(partition)?;
        slot.has_purged = true;
        slot.changed.get_or_insert(tick);
        let (generation, key) = (slot.generation, &value_codec::user_key(key));
        self.value_cache.remove(CacheKey { partition, generation, key });
        tree.purged.fetch_add(bytes_of_record, Ordering::Relaxed);
        let bytes = tree.remove(key);
        if bytes > limit {
            self.full.insert(partition);
        }
        Ok(())
    }

    /// Position of the last entry applied to a partition's tree, durable or not.
    #[must_use]
    pub fn applied(&self, partition: u16) -> LogId {
        self.slots.get(&partition).map(|s| s.applied).unwrap_or_default()
    }

    /// Ends the partition's memory table; `state` is kept with the position applied last. The
    /// maintenance thread makes both durable in one step.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn seal(&mut self, partition: u16, state: &[u8]) -> Result<(), Error> {
        let log = Position(self.log.appended.load(Ordering::Acquire));
        let (slot, tree) = self.slot(partition)?;
        tree.seal(slot.applied, state, log)?;
        slot.sealed = slot.applied;
        (slot.changed, slot.has_purged) = (None, false);
        self.full.remove(&partition);
        self.maintenance.send(Job::Flush(tree));
        Ok(())
    }

    /// Partitions that should be sealed now, most urgent first: those that keep an oversized log from being trimmed,
    /// those with a large memory table, those unsealed for long. Cheap when nothing has changed.
    pub fn due(&mut self) -> Vec<u16> {
        let maintenance = &self.maintenance;
        let seen = maintenance.ticks.load(Ordering::Acquire)
            + maintenance.flushes.load(Ordering::Acquire)
            + self.log.events.load(Ordering::Acquire);
        if self.full.is_empty() && seen == self.seen {
            return Vec::new();
        }
        self.seen = seen;
        let room = maintenance.room();
        let idle = |partition: &u16| {
            let slot = self.slots.get(partition);
            slot.is_some_and(|s| {
                (s.applied > s.sealed || s.has_purged)
                    && s.tree.as_ref().is_some_and(|t| t.jobs.load(Ordering::Acquire) == 0)
            })
        };
        let mut due = self.delaying_the_trim();
        due.extend(&self.full);
        let now = maintenance.ticks.load(Ordering::Acquire);
        let old = |slot: &Slot| slot.changed.is_some_and(|c| now - c >= self.options.seal_seconds);
        due.extend(self.slots.iter().filter(|(_, slot)| old(slot)).map(|(p, _)| *p));
        let wasteful =
            |slot: &Slot| slot.has_purged && slot.tree.as_ref().is_some_and(|tree| tree.is_wasteful());
        due.extend(self.slots.iter().filter(|(_, slot)| wasteful(slot)).map(|(p, _)| *p));
        let mut seen = BTreeSet::new();
        due.retain(|p| idle(p) && seen.insert(*p));
        due.truncate(room);
        due
    }

    /// While the log is over its size: the partitions with unsealed entries in its oldest segments.
    fn delaying_the_trim(&self) -> Vec<u16> {
        let over = self.log.live_bytes().saturating_sub(self.options.log_bytes);
        if over == 0 {
            return Vec::new();
        }
        let state = self.log.read();
        let oldest = state.segments.first_key_value().map_or(0, |(number, _)| *number);
        let until = oldest + over.div_ceil(self.options.segment_bytes);
        let needed = |p: &u16| state.index.get(*p).and_then(|l| l.needed());
        let mut delaying: Vec<_> = self
            .slots
            .keys()
            .filter_map(|p| Some((needed(p)?, *p)))
            .filter(|(at, _)| at.segment() < until)
            .collect();
        delaying.sort_unstable();
        delaying.into_iter().map(|(_, p)| p).collect()
    }

    /// Removes a partition's tree. To be called when `Record::Drop` is synced, and before anything
    /// is applied to a new partition of the same number.
    pub fn drop_partition(&mut self, partition: u16) {
        self.full.remove(&partition);
        // The log counts generations also of partitions that never had a tree.
        let slot = self.slots.entry(partition).or_insert_with(|| Slot::empty(0));
        if let Some(tree) = slot.tree.take() {
            tree.mark_for_removal();
        }
        if let Some(pre_created) = slot.pre_created.take() {
            pre_created.give_up();
        }
        *slot = Slot::empty(next_grown(slot.generation));
        self.maintenance.send(Job::Wake);
    }

    /// Keys (approximate) and bytes of a partition's tree; zeros when it is not there or damaged.
    #[must_use]
    pub fn statistics(&self, partition: u16) -> Statistics {
        let Some(tree) = self.tree(partition) else { return Statistics::default() };
        let (keys, bytes) = (tree.approximate_keys(), tree.disk_bytes());
        let memory_bytes = tree.memory_bytes().unwrap_or(0);
        Statistics { keys: keys.unwrap_or(0), bytes: bytes.unwrap_or(0), memory_bytes }
    }

    /// Bytes that the disk has left for this process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn free_bytes(&self) -> Result<u64, Error> {
        free_bytes(&self.context.dir)
    }

    /// Whether the disk has more left than its reserve. Below it the server should refuse writes:
    /// flushes and the log still need room.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has_room(&self) -> Result<bool, Error> {
        Ok(self.free_bytes()? > self.options.reserve_bytes)
    }

    /// What the maintenance threads cannot do at present, if anything; they try again each second.
    /// A full disk heals by itself once there is room; anything else needs a person.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.maintenance.failure()
    }

    /// Damage that the maintenance threads came upon, if any: it does not heal.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.maintenance.damage()
    }

    /// Does the maintenance threads' work, for tests that switched them off.
    #[doc(hidden)]
    pub fn maintain(&mut self) {
        if let Some(queues) = &self.queues {
            self.maintenance.work_all(queues);
        }
    }

    pub(super) fn tree(&self, partition: u16) -> Option<&Arc<PartitionTree>> {
        self.slots.get(&partition)?.tree.as_ref()
    }

    pub(super) fn slot(&mut self, partition: u16) -> Result<(&mut Slot, Arc<PartitionTree>), Error> {
        let slot = self.slots.entry(partition).or_insert_with(|| Slot::empty(0));
        if let Some(tree) = &slot.tree {
            let tree = Arc::clone(tree);
            return Ok((slot, tree));
        }
        let pre_created = slot.pre_created.get_or_insert_with(|| PreCreated::new(partition, slot.generation));
        let tree = pre_created.tree(&self.context)?;
        slot.pre_created = None;
        slot.tree = Some(Arc::clone(&tree));
        Ok((slot, tree))
    }
}

impl Drop for Trees {
    /// Ends the maintenance threads after what they are doing now. Nothing is flushed: the log has it.
    fn drop(&mut self) {
        self.maintenance.stop();
        for thread in self.threads.drain(..) {
            // A panic on a maintenance thread has been printed already.
            drop(thread.join());
        }
    }
}
