//! Storage of a server: a commit log and one LSM tree per partition.
//!
//! Knows keys and bytes; nothing of views or protocols. Everything is synchronous.
//!
//! - [`LogWriter`], owned by one thread, appends batches of [`Record`]s and syncs them: what has
//!   been synced survives. [`LogReader`] reads entries back from any thread.
//! - [`Trees`], owned by one thread, takes the changes of committed entries in memory and seals
//!   them from time to time; maintenance threads of its own flush them and trim the log.
//!   [`TreeReader`] reads keys from any thread.
//!
//! ```text
//! <dir>/LOCK                         one process at a time
//! <dir>/log/<number>.log             segments of the log; free-<n>.log wait for reuse
//! <dir>/trees/<partition>-<gen>/     one LSM tree each
//! ```
//!
//! The bytes are described in `docs/format.md`.
//!
//! Duties of the caller: entries are applied to a tree only when they are committed, which implies
//! synced here, and in order; a cut never goes before what was applied; a record that decides about
//! a tree (`Install`, `Drop`) is synced before [`Trees`] acts on it; [`Trees::drop_partition`] is called
//! before anything is applied to a new partition of the same number.
//!
//! A start after a crash finds every synced batch whole, and of each un-synced one all or nothing;
//! each tree has exactly the entries up to its `applied`. Anything else is [`Error::Damaged`].

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
    FIRST_LEVEL_RUNS_MAX, FLUSH_QUEUE_LEN_MAX, KEY_BYTES_MAX, MARK_BYTES_MAX, Options, PURGED_BYTES_MIN,
    PURGED_PART, READ_ENTRIES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEPARATED_BYTES_MIN,
    STAGED_MEMTABLES_MAX, TABLE_BYTES,
};
pub use reinstate::{Reinstated, reinstate};
pub use set_aside::{bring_back, set_aside};
pub use store::{Opened, Store};
#[doc(hidden)]
pub use store::{OpenedLog, open_log};
pub use tree::{Chunk, Page, Snapshot, Staging, Statistics, TreeReader, Trees};
pub use types::{Change, DoubtfulEnd, LogId, Read, Record, RecoveredPartition, Tag};
