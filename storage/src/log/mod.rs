//! The commit log: one for all partitions, and the replication log at the same time.
//!
//! Numbered segments of a fixed size hold batches of records. One thread appends; readers follow an index in memory
//! from an entry's number to its position. A batch says how far the log was known to be on disk when it was written.
//! With that a start distinguishes a torn tail, which is cut, from damage to what had been synced, which is refused.
//!
//! Invariants:
//! - Batches are numbered without a gap, over all segments; the first batch of a segment (its
//!   catalog) carries every partition's state, so older segments can go once their entries are not
//!   needed.
//! - Only the segment written last can have bytes that were not synced: a segment is synced before
//!   the next one begins.
//! - A segment goes only after a later catalog is on disk, oldest first.
//!
//! Missing on purpose: compression and checksummed padding.

mod format;
mod index;
mod reader;
mod recovery;
mod segment;
mod shared;
mod writer;

pub(crate) use format::{Position, u32_at, u64_at};
pub(crate) use index::{PartitionLog, next_grown, next_staged};
pub use reader::LogReader;
pub(crate) use recovery::{Readable, list_segments, open, replay, replay_readable};
pub(crate) use segment::segment_name;
pub(crate) use shared::{LogShared, lock};
pub use writer::LogWriter;
