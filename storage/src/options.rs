//! Limits, defaults and their reasons.

use crate::{Error, disk::Disk};
use std::sync::Arc;

/// Bytes of a key, at most. Keys are stored with one byte before them, and the tree takes 65,535 bytes.
pub const KEY_BYTES_MAX: usize = 65_000;
/// Bytes of a partition's durable state, at most: it is written again at the start of every log segment.
pub const DURABLE_STATE_BYTES_MAX: usize = 4_096;
/// Values of this size and more go to the value log, so that compaction does not copy them.
pub const SEPARATED_BYTES_MIN: u32 = 4_096;
/// Entries that one read of the log returns at most; bounds the time under the index lock.
pub const READ_ENTRIES_MAX: usize = 4_096;
/// Trees waiting for their flush at most; `due` names no more than fit.
pub const FLUSH_QUEUE_LEN_MAX: usize = 16;
/// Memtables that a staging may have waiting for their flush before [`Staging::put`](crate::Staging::put) waits.
pub const STAGED_MEMTABLES_MAX: usize = 4;
/// Runs in a tree's first level that start a compaction: each costs every read a look.
pub const FIRST_LEVEL_RUNS_MAX: usize = 4;
/// Bytes of expired records removed from a tree, from which on it may be written anew.
pub const PURGED_BYTES_MIN: u64 = 1 << 20;
/// Expired records removed from a tree must also have been at least one in so many of its bytes, so that writing it
/// anew costs at most a few times what it gains.
pub const PURGED_PART: u64 = 4;
/// Bytes of a table file of a tree that is written anew, the size that `lsm-tree` uses itself.
pub const TABLE_BYTES: u64 = 64 << 20;
/// Bytes of a log segment, at least: room for a header, a catalog and a useful batch.
pub const SEGMENT_BYTES_MIN: u64 = 16 * 1_024;
/// Bytes of a log segment, at most: offsets in a segment are kept in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// Seconds between two looks of the maintenance thread at ages and at the log's size.
pub(crate) const TICK_SECONDS: u64 = 1;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Size of a log segment in bytes. A batch must fit into one segment.
    pub segment_bytes: u64,
    /// Bytes of log above which the oldest partitions are due to be sealed. Not a hard limit: a
    /// pinned or uncommitted entry keeps its segment.
    pub log_bytes: u64,
    /// Bytes in a partition's memory table above which it is due to be sealed.
    pub memtable_bytes: u64,
    /// Seconds after which a partition with anything unsealed is due; bounds the replay at start.
    pub seal_seconds: u64,
    /// Block cache of all trees together, in bytes.
    pub cache_bytes: u64,
    /// Values of all trees that were read or written last, in bytes.
    pub values_bytes: u64,
    /// Files that the trees keep open at most.
    pub open_files: usize,
    /// Bytes of disk that the server wants left free; see [`crate::Trees::has_room`].
    pub reserve_bytes: u64,
    /// Whether maintenance runs on threads of its own. Tests switch it off and call
    /// `Trees::maintain` where they want it to happen.
    #[doc(hidden)]
    pub background: bool,
    /// What the log writes through.
    #[doc(hidden)]
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            log_bytes: 256 << 20,
            memtable_bytes: 16 << 20,
            seal_seconds: 300,
            cache_bytes: 64 << 20,
            values_bytes: 64 << 20,
            open_files: 900,
            reserve_bytes: 1 << 30,
            background: true,
            disk: Arc::new(crate::disk::RealDisk),
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |name, value, reason| Err(Error::BadOption { name, value, reason });
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return bad("segment_bytes", self.segment_bytes, "it must be 16 KiB to 2 GiB");
        }
        if !self.segment_bytes.is_multiple_of(4_096) {
            return bad("segment_bytes", self.segment_bytes, "it must be a multiple of 4096");
        }
        if self.log_bytes < 2 * self.segment_bytes {
            return bad("log_bytes", self.log_bytes, "it must be at least two segments");
        }
        Ok(())
    }
}
