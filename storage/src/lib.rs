//! Storage of a server: a commit log, and an LSM tree for each partition. Knows keys and bytes; nothing of views, roles
//! or protocols. Everything is synchronous.
//!
//! The log is the replication log at the same time, one for all partitions. A tree has what the committed entries of
//! its partition made of the keys. A write goes this way:
//!
//! 1. **Append** (`log/writer`). The thread that owns the [`LogWriter`] writes a batch of [`Record`]s behind the last
//!    one, in a segment of a fixed size: entries, the caller's durable state of a partition, cuts. Segments that are
//!    not needed any more are used again, so that no sync has to grow a file.
//! 2. **Sync** (`log/shared`). One fdatasync makes all batches durable that have gathered. A failed one closes the log
//!    for good: what is on disk is not known then, and only a restart finds out.
//! 3. **Read back** (`log/reader`, `log/index`). [`LogReader`] finds an entry by its number, from any thread.
//! 4. **Apply** (`tree`). The thread that owns the [`Trees`] puts the changes of committed entries into a tree's memory
//!    table, without a sync: the log has them. The values used last are in a cache (`tree/value_cache`), keys that
//!    expire in a list (`tree/due`).
//! 5. **Seal and flush** (`tree/maintenance`). A memory table is sealed together with the log position that it reaches
//!    and the caller's state at that position, and written to a file in one atomic step by a thread of its own. Another
//!    thread compacts.
//! 6. **Trim** (`log/shared`). Segments go, oldest first, once the trees have their entries on disk and no reader has
//!    pinned them.
//!
//! A copy of a partition is read from a [`Snapshot`] (`tree/snapshot`) and built as a [`Staging`] (`tree/stage`), which
//! replaces the tree as a whole once `Record::Install` is synced.
//!
//! What is durable when: a batch after the sync that follows it; an atomic file (`atomic`) when its function returns; a
//! tree up to its `applied` after a flush, and the caller replays the rest from the log. A start after a crash
//! (`log/recovery`, `store`) finds every synced batch whole, and of each that was not synced all or nothing. Anything
//! else is [`Error::Damaged`] with file and offset: the store is set aside ([`set_aside`](fn@set_aside)) or, as a last
//! means, taken back as far as it reads ([`reinstate`](fn@reinstate)). [`inspect`](fn@inspect) shows what is there.
//!
//! ```text
//! <dir>/LOCK                         one process at a time
//! <dir>/log/<number>.log             segments of the log; free-<n>.log wait for reuse
//! <dir>/trees/<partition>-<gen>/     one LSM tree each
//! ```
//!
//! docs/format.md describes the bytes.
//!
//! Duties of the caller: entries are applied to a tree only when they are committed, which implies synced here, and in
//! order; a cut never goes before what was applied; a record that decides about a tree (`Install`, `Drop`) is synced
//! before [`Trees`] acts on it; [`Trees::drop_partition`] is called before anything is applied to a new partition of
//! the same number.
//!
//! What it lacks on purpose: transactions over partitions, snapshots over several trees, compression of the log, and
//! any thread for reads: the thread that asks reads, and may wait for the disk.

mod atomic;
mod background;
#[doc(hidden)]
pub mod disk;
mod error;
mod inspect;
mod lock;
mod log;
mod options;
mod private;
mod reinstate;
mod set_aside;
mod store;
mod tree;
mod types;

pub use atomic::{ATOMIC_BYTES_MAX, read_atomic, write_atomically};
pub use background::work_in_background;
pub use error::Error;
pub use inspect::{Inspection, PartitionInspection, inspect};
pub use lock::Lock;
pub use log::{LogReader, LogWriter};
pub use options::{
    DURABLE_STATE_BYTES_MAX, FIRST_LEVEL_RUNS_MAX, FLUSH_QUEUE_LEN_MAX, KEY_BYTES_MAX, Options,
    PURGED_BYTES_MIN, PURGED_PART, READ_ENTRIES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
    SEPARATED_BYTES_MIN, STAGED_MEMTABLES_MAX, TABLE_BYTES,
};
pub use reinstate::{Reinstated, reinstate};
pub use set_aside::{bring_back, set_aside};
pub use store::{Opened, Store};
#[doc(hidden)]
pub use store::{OpenedLog, open_log};
pub use tree::{Chunk, Page, Snapshot, Staging, Statistics, Trees};
pub use types::{Change, DoubtfulEnd, LogId, Read, Record, RecoveredPartition, Tag};
