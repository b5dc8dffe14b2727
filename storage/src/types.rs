//! The types that callers write and read.

use bytes::Bytes;
use std::{fmt, path::PathBuf};

/// The epoch in which an entry was first ordered. Opaque here, only ordered and of fixed width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Upper part.
    pub generation: u32,
    /// Lower part.
    pub version: u64,
}

/// The position of an entry in its partition's log. The default is "before everything" (`seq` 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The epoch in which it was ordered.
    pub tag: Tag,
    /// Its number; the first entry of a partition is 1, and none is left out.
    pub seq: u64,
}

/// What the log thread appends. One call is one batch: after a crash all of it is there or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The next entry of a partition.
    Entry {
        /// The partition whose log it belongs to.
        partition: u16,
        /// Its name. `seq` must be the partition's last `seq` plus one.
        id: LogId,
        /// The body, opaque here.
        body: Bytes,
    },
    /// Entries with `seq > after` are void from here on. `after` is not before the tree's last entry.
    Cut {
        /// The partition whose log is cut.
        partition: u16,
        /// The last entry that stays.
        after: u64,
    },
    /// Replaces the durable state of the caller for the partition, which is small and opaque here.
    DurableState {
        /// The partition whose state it is.
        partition: u16,
        /// At most [`crate::DURABLE_STATE_BYTES_MAX`] bytes.
        durable_state: Bytes,
    },
    /// The finished staged tree `generation` becomes the partition's tree; its log is empty and
    /// begins after `base`.
    Install {
        /// Which partition.
        partition: u16,
        /// The generation of the staged tree, as [`crate::Trees::stage`] chose it.
        generation: u32,
        /// The last entry that the staged tree contains, as given to [`crate::Staging::finish`].
        base: LogId,
    },
    /// The partition is gone: log, durable state and tree.
    Drop {
        /// Which partition.
        partition: u16,
    },
}

impl Record {
    /// The partition of the record.
    #[must_use]
    pub fn partition(&self) -> u16 {
        match self {
            Self::Entry { partition, .. }
            | Self::Cut { partition, .. }
            | Self::DurableState { partition, .. }
            | Self::Install { partition, .. }
            | Self::Drop { partition } => *partition,
        }
    }
}

/// Answer of [`crate::LogReader::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Entries in order from the one asked for; empty when there is none yet.
    Entries(Vec<(LogId, Bytes)>),
    /// The entry asked for is no longer in the log: what is up to `base` must come from the tree.
    Trimmed {
        /// The entry just before the first one that can still be read.
        base: LogId,
    },
}

/// A change to a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the key.
    Put {
        /// The key, not empty.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes the key; it need not exist.
    Remove {
        /// The key, not empty.
        key: Bytes,
    },
    /// Lists the key under a number, to be found by [`crate::Trees::due_keys`]: the moment at which it expires.
    Due {
        /// The number.
        at: u64,
        /// The key, not empty.
        key: Bytes,
    },
    /// Takes the key off the list under that number.
    NotDue {
        /// The number.
        at: u64,
        /// The key, not empty.
        key: Bytes,
    },
}

impl Change {
    /// The key that is changed or listed.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. }
            | Self::Remove { key }
            | Self::Due { key, .. }
            | Self::NotDue { key, .. } => key,
        }
    }
}

/// What a start found behind the last batch of the log that checks: something of another batch that no later one
/// vouches for. Either the stop tore it, and it was never acknowledged; or it had been synced and acknowledged, and is
/// damaged. This log alone does not show which: other copies may have more entries, and must be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoubtfulEnd {
    /// The segment.
    pub file: PathBuf,
    /// Where the batch begins in it, in bytes.
    pub offset: u64,
}

impl fmt::Display for DoubtfulEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: what was written last, from byte {} on, does not check. The stop cut it short, and then it was never \
             acknowledged; or it was damaged on the disk since. The log ends before it; what it had is fetched from \
             the other copies, where they have it",
            self.file.display(),
            self.offset
        )
    }
}

/// One partition as a start found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredPartition {
    /// The entry just before the first one that can still be read from the log.
    pub base: LogId,
    /// Changes of tag in the readable log: the tag and the first `seq` with it, ascending.
    pub runs: Vec<(Tag, u64)>,
    /// `seq` of the last entry, `base.seq` when there is none.
    pub last: u64,
    /// The durable state last written, empty when none was.
    pub durable_state: Bytes,
    /// The last entry that the tree durably contains; not before `base`, not after `last`.
    pub applied: LogId,
    /// The state sealed together with `applied`.
    pub state: Bytes,
}
