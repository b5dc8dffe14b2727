//! One tree of one partition: a folder with an LSM tree, guarded.
//!
//! The LSM tree panics on some kinds of damage; every call that reads the disk goes through
//! [`guard`], which turns a panic into an error. A panic may leave the tree's locks poisoned: then
//! each later call fails the same way, for this tree only.

use super::{value_codec, version_file};
use crate::{
    Error, KEY_BYTES_MAX, LogId, SEPARATED_BYTES_MIN,
    lock::Lock,
    log::{Position, lock},
    options::Options,
};
use bytes::Bytes;
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, InternalValue, KvSeparationOptions,
    Memtable, SeqNo, SequenceNumberCounter, ValueType,
};
use std::{
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// What all trees of a store have in common.
pub(crate) struct TreeContext {
    pub(crate) dir: PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) descriptors: Arc<DescriptorTable>,
    pub(crate) seqno: SequenceNumberCounter,
    /// Folders of trees that are not used any more, for the maintenance thread to remove.
    pub(crate) trash: Mutex<Vec<PathBuf>>,
    /// Also a snapshot keeps the store in use: files that it is the last to read go with it.
    _lock: Arc<Lock>,
}

impl TreeContext {
    pub(crate) fn new(dir: PathBuf, options: &Options, lock: Arc<Lock>) -> Self {
        Self {
            dir,
            cache: Arc::new(Cache::with_capacity_bytes(options.cache_bytes)),
            descriptors: Arc::new(DescriptorTable::new(options.open_files)),
            // Zero would be the number of a version that no snapshot can see.
            seqno: SequenceNumberCounter::new(1),
            trash: Mutex::new(Vec::new()),
            _lock: lock,
        }
    }
}

/// A memtable that waits for its flush, and what the flush makes durable.
#[derive(Clone, Copy)]
pub(crate) struct Sealed {
    /// `None` for a part of a staging, which is durable only when it is finished.
    pub(crate) applied: Option<LogId>,
    /// The log must be on disk up to here first: a tree never gets ahead of it.
    pub(crate) log: Position,
}

/// The format of `lsm-tree`'s files.
const TREE_FORMAT: u32 = 3;

/// A flush of this many bytes needs about as many; the rest is for the tree's own small files.
const FLUSH_EXTRA_BYTES: u64 = 1 << 20;

pub(crate) struct PartitionTree {
    pub(crate) partition: u16,
    pub(crate) generation: u32,
    pub(crate) dir: PathBuf,
    context: Arc<TreeContext>,
    tree: AnyTree,
    /// The memtable that takes writes. Through the tree each write would wait for a flush that is
    /// about to end, which syncs files under the tree's lock. Only [`Self::rotate`] replaces it.
    active: Mutex<Arc<Memtable>>,
    sealed: Mutex<Vec<Sealed>>,
    /// Locked from the look at the waiting memtables until they are flushed.
    pub(crate) flushing: Mutex<()>,
    /// Jobs under way or waiting: flush and compaction.
    pub(crate) jobs: AtomicUsize,
    /// Set when the tree has been replaced or dropped: its folder goes with the last handle.
    to_be_removed: AtomicBool,
    /// Bytes of records that were removed without an entry since the tree was last written anew.
    pub(crate) purged: AtomicU64,
    /// Read while a snapshot looks up its version, written while a watermark is taken: versions
    /// below a watermark may go, so no snapshot may be between its number and its version then.
    watermark: RwLock<()>,
}

pub(crate) type RawIterator = Box<dyn DoubleEndedIterator<Item = lsm_tree::IterGuardImpl> + Send>;

/// Where the LSM tree keeps separated values.
const BLOBS: &str = "blobs";

pub(crate) fn folder_name(partition: u16, generation: u32) -> String {
    format!("{partition}-{generation}")
}

pub(crate) fn parse_folder(name: &str) -> Option<(u16, u32)> {
    let (partition, generation) = name.split_once('-')?;
    let parsed = (partition.parse().ok()?, generation.parse().ok()?);
    (folder_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// Runs a call into the LSM tree; damage and panics become errors.
pub(crate) fn guard<T>(
    dir: &Path,
    partition: u16,
    what: &'static str,
    call: impl FnOnce() -> lsm_tree::Result<T>,
) -> Result<T, Error> {
    let damaged = |detail: String| Error::Damaged {
        file: dir.to_path_buf(),
        offset: None,
        partition: Some(partition),
        detail,
    };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(lsm_tree::Error::Io(e))) => match e.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                Err(damaged(format!("cannot {what}: {e}")))
            }
            _ => Err(Error::io(what, dir, e)),
        },
        Ok(Err(lsm_tree::Error::InvalidVersion(found))) => {
            let (file, found, own) = (dir.to_path_buf(), u32::from(found), TREE_FORMAT);
            Err(Error::OtherVersion { file, found, own })
        }
        Ok(Err(e)) => Err(damaged(format!("cannot {what}: {e}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
            Err(damaged(format!("cannot {what}: {text}")))
        }
    }
}

impl PartitionTree {
    /// Opens the tree's folder; makes it when there is none.
    pub(crate) fn open(context: &Arc<TreeContext>, partition: u16, generation: u32) -> Result<Self, Error> {
        let dir = context.dir.join(folder_name(partition, generation));
        version_file::check(&dir, partition)?;
        let separation = KvSeparationOptions::default()
            .separation_threshold(SEPARATED_BYTES_MIN + value_codec::CRC_BYTES as u32)
            // All value files with much stale data are written anew, not only a share of the oldest: a share of a few
            // files is none.
            .age_cutoff(1.0);
        let tree = guard(&dir, partition, "open the tree in", || {
            Config::new(&dir, context.seqno.clone(), SequenceNumberCounter::default())
                .use_cache(Arc::clone(&context.cache))
                .use_descriptor_table(Some(Arc::clone(&context.descriptors)))
                .with_kv_separation(Some(separation))
                .open()
        })?;
        Ok(Self {
            partition,
            generation,
            dir,
            context: Arc::clone(context),
            active: Mutex::new(tree.active_memtable()),
            tree,
            sealed: Mutex::default(),
            flushing: Mutex::default(),
            jobs: AtomicUsize::new(0),
            to_be_removed: AtomicBool::new(false),
            purged: AtomicU64::new(0),
            watermark: RwLock::new(()),
        })
    }

    /// Returns the memtable's size, in bytes.
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> u64 {
        self.put_stored(key, value_codec::seal_value(key, value))
    }

    /// Puts a value that is sealed already. Returns the memtable's size, in bytes.
    pub(crate) fn put_stored(&self, key: &[u8], stored: lsm_tree::Slice) -> u64 {
        self.insert(key, stored, ValueType::Value)
    }

    /// Returns the memtable's size, in bytes.
    pub(crate) fn remove(&self, key: &[u8]) -> u64 {
        self.insert(key, lsm_tree::Slice::empty(), ValueType::Tombstone)
    }

    fn insert(&self, key: &[u8], value: lsm_tree::Slice, kind: ValueType) -> u64 {
        let item = InternalValue::from_components(key, value, self.context.seqno.next(), kind);
        lock(&self.active).insert(item).1
    }

    /// The value of `key`, which has its first byte.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.get_stored(key)?.map(|stored| self.open_value(key, stored)).transpose()
    }

    /// The stored form of the value of `key`, for [`Self::open_value`].
    pub(crate) fn get_stored(&self, key: &[u8]) -> Result<Option<lsm_tree::Slice>, Error> {
        if key.len() > KEY_BYTES_MAX + 1 {
            return Ok(None);
        }
        guard(&self.dir, self.partition, "read", || self.tree.get(key, SeqNo::MAX))
    }

    /// The value, if it is the one that was written under `key`.
    pub(crate) fn open_value(&self, key: &[u8], stored: lsm_tree::Slice) -> Result<Bytes, Error> {
        value_codec::open_value(key, stored).ok_or_else(|| {
            let detail = format!("the value of key \"{}\" does not check", key[1..].escape_ascii());
            let (file, partition) = (self.dir.clone(), Some(self.partition));
            Error::Damaged { file, offset: None, partition, detail }
        })
    }

    /// Iterates over what is there now; later writes are seen or not.
    pub(crate) fn range(&self, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Result<RawIterator, Error> {
        self.range_at(bounds, SeqNo::MAX)
    }

    /// Iterates over exactly what has been written before this call. To be called by the thread
    /// that writes.
    pub(crate) fn range_now(&self, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Result<RawIterator, Error> {
        let _held = self.watermark.read().unwrap_or_else(PoisonError::into_inner);
        self.range_at(bounds, self.context.seqno.get())
    }

    fn watermark(&self) -> SeqNo {
        let _held = self.watermark.write().unwrap_or_else(PoisonError::into_inner);
        self.context.seqno.get()
    }

    fn range_at(&self, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>), seqno: SeqNo) -> Result<RawIterator, Error> {
        guard(&self.dir, self.partition, "read", || Ok(self.tree.range(bounds, seqno, None)))
    }

    /// The next pair of an iterator, the key without its first byte.
    pub(crate) fn next(&self, iterator: &mut RawIterator) -> Result<Option<(Bytes, Bytes)>, Error> {
        let pair =
            guard(&self.dir, self.partition, "read", || iterator.next().map(Guard::into_inner).transpose())?;
        pair.map(|(key, stored)| {
            let value = self.open_value(&key, stored)?;
            Ok((Bytes::copy_from_slice(&key[1..]), value))
        })
        .transpose()
    }

    pub(crate) fn sealed_state(&self) -> Result<(LogId, Bytes), Error> {
        let Some(applied) = self.get(value_codec::APPLIED_KEY)? else { return Ok(Default::default()) };
        let state = self.get(value_codec::STATE_KEY)?;
        match (value_codec::decode_applied(&applied), state) {
            (Some(applied), Some(state)) => Ok((applied, state)),
            _ => {
                let (file, partition) = (self.dir.clone(), Some(self.partition));
                let detail = "the sealed position does not check".to_owned();
                Err(Error::Damaged { file, offset: None, partition, detail })
            }
        }
    }

    /// Ends the current memtable with the position and the state that belong to it.
    pub(crate) fn seal(&self, applied: LogId, state: &[u8], log: Position) -> Result<(), Error> {
        self.put(value_codec::APPLIED_KEY, &value_codec::encode_applied(applied));
        self.put(value_codec::STATE_KEY, state);
        self.rotate(Sealed { applied: Some(applied), log })
    }

    pub(crate) fn rotate(&self, sealed: Sealed) -> Result<(), Error> {
        let mut active = lock(&self.active);
        let rotated = guard(&self.dir, self.partition, "end the memory table of", || {
            let rotated = self.tree.rotate_memtable().is_some();
            Ok(rotated.then(|| self.tree.active_memtable()))
        })?;
        if let Some(next) = rotated {
            *active = next;
            lock(&self.sealed).push(sealed);
        }
        Ok(())
    }

    /// The memtables that the next flush writes.
    pub(crate) fn waiting(&self) -> Vec<Sealed> {
        lock(&self.sealed).clone()
    }

    /// Writes the waiting memtables to disk; `count` of [`Self::waiting`] are done with.
    pub(crate) fn flush(&self, count: usize) -> Result<(), Error> {
        self.check_room(guard(&self.dir, self.partition, "look at", || {
            Ok(self.tree.version_memtable_size_sum() + FLUSH_EXTRA_BYTES)
        })?)?;
        guard(&self.dir, self.partition, "flush the tree in", || {
            let lock = self.tree.get_flush_lock();
            self.tree.flush(&lock, self.watermark())
        })?;
        // The tree syncs its value files but not the folder that names them.
        sync_dir(&self.dir.join(BLOBS))?;
        lock(&self.sealed).drain(..count);
        // The version before the flush holds the memtables; without this until the next flush.
        guard(&self.dir, self.partition, "tidy the tree in", || {
            let watermark = self.watermark();
            self.tree.get_version_history_lock().maintenance(&self.dir, watermark)
        })
    }

    /// Merges the first level when it has too many runs.
    pub(crate) fn compact(&self) -> Result<(), Error> {
        if self.is_marked_for_removal() {
            return Ok(());
        }
        let runs = || Ok((self.tree.l0_run_count(), self.tree.disk_space()));
        let (runs, bytes) = guard(&self.dir, self.partition, "look at", runs)?;
        if self.is_wasteful() {
            return self.write_anew(bytes);
        }
        if runs < crate::FIRST_LEVEL_RUNS_MAX {
            return Ok(());
        }
        self.check_room(bytes)?;
        let strategy =
            lsm_tree::compaction::Leveled::default().with_l0_threshold(crate::FIRST_LEVEL_RUNS_MAX as u8);
        guard(&self.dir, self.partition, "compact the tree in", || {
            self.tree.compact(Arc::new(strategy), self.watermark())
        })?;
        sync_dir(&self.dir.join(BLOBS))
    }

    /// Whether so many expired records were removed that it is worth writing the tree anew.
    pub(crate) fn is_wasteful(&self) -> bool {
        let purged = self.purged.load(Ordering::Relaxed);
        purged >= crate::PURGED_BYTES_MIN
            && self.disk_bytes().is_ok_and(|bytes| purged >= bytes / crate::PURGED_PART)
    }

    /// Merges all there is: what was removed leaves the disk. On a full disk it is left to be done later.
    fn write_anew(&self, bytes: u64) -> Result<(), Error> {
        if free_bytes(&self.dir)? < bytes {
            return Ok(());
        }
        self.purged.store(0, Ordering::Relaxed);
        guard(&self.dir, self.partition, "write anew the tree in", || {
            self.tree.major_compact(crate::TABLE_BYTES, self.watermark())?;
            // Only now it is known which separated values are stale.
            if self.tree.stale_blob_bytes() >= self.tree.disk_space() / crate::PURGED_PART {
                self.tree.major_compact(crate::TABLE_BYTES, self.watermark())?;
            }
            Ok(())
        })?;
        sync_dir(&self.dir.join(BLOBS))
    }

    /// An attempt on a full disk would leave unfinished files behind and make it fuller.
    fn check_room(&self, bytes: u64) -> Result<(), Error> {
        if free_bytes(&self.dir)? < bytes { Err(Error::DiskFull { file: self.dir.clone() }) } else { Ok(()) }
    }

    /// Counts the caller's keys; reads the whole tree but for separated values.
    pub(crate) fn count_keys(&self) -> Result<u64, Error> {
        let range = (Bound::Included(vec![value_codec::USER]), Bound::Excluded(vec![value_codec::USER + 1]));
        let iterator = self.range(range)?;
        guard(&self.dir, self.partition, "count", || {
            let mut keys = 0;
            for guard in iterator {
                guard.key()?;
                keys += 1;
            }
            Ok(keys)
        })
    }

    /// A sequence number above all in the tree's files; 0 for an empty tree.
    pub(crate) fn next_seqno(&self) -> Result<u64, Error> {
        let highest = || Ok(self.tree.get_highest_persisted_seqno());
        Ok(guard(&self.dir, self.partition, "look at", highest)?.map_or(0, |seqno| seqno + 1))
    }

    pub(crate) fn approximate_keys(&self) -> Result<u64, Error> {
        guard(&self.dir, self.partition, "look at", || Ok(self.tree.approximate_len() as u64))
    }

    pub(crate) fn disk_bytes(&self) -> Result<u64, Error> {
        guard(&self.dir, self.partition, "look at", || Ok(self.tree.disk_space()))
    }

    pub(crate) fn memory_bytes(&self) -> Result<u64, Error> {
        guard(&self.dir, self.partition, "look at", || Ok(self.tree.version_memtable_size_sum()))
    }

    /// Marks the folder for removal when the last handle goes.
    pub(crate) fn mark_for_removal(&self) {
        self.to_be_removed.store(true, Ordering::Release);
    }

    pub(crate) fn is_marked_for_removal(&self) -> bool {
        self.to_be_removed.load(Ordering::Acquire)
    }
}

impl Drop for PartitionTree {
    fn drop(&mut self) {
        if self.is_marked_for_removal() {
            let mut trash = lock(&self.context.trash);
            trash.push(self.dir.clone());
        }
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", dir, e))
}

/// Bytes that the disk has left for this process.
pub(crate) fn free_bytes(dir: &Path) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| Error::io("ask for the room on", dir, e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
