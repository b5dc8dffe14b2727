//! Requests of clients about the data, and the results of reads.

use std::time::Duration;

use bytes::Bytes;
use common::ids::PartitionId;
use common::messages::Selection;
use common::operation::{Found, Operation, Origin, Pair, Version};
use common::time::WallTime;

/// A client's request about the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A change. If the client gives it no origin, the server gives it one of its own.
    Write {
        /// The client and its number of the write.
        origin: Option<Origin>,
        /// How long ago the client first asked, in milliseconds.
        age_ms: u64,
        /// What to do.
        operation: Operation,
    },
    /// A question about applied state, which changes nothing.
    Read(Query),
    /// The next changes of watched keys.
    Watch(WatchAsk),
}

impl Ask {
    /// Bytes of the keys and values that the request carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Write { operation, .. } => operation.bytes(),
            Self::Read(Query::Get { key, .. }) => key.len(),
            Self::Read(Query::Scan { after, prefix, .. }) => {
                after.as_ref().map_or(0, Bytes::len) + prefix.len()
            }
            Self::Read(Query::Keys { .. } | Query::Count { .. } | Query::Nothing) => 0,
            Self::Watch(asked) => asked.selection.bytes(),
        }
    }
}

/// A question for changes, see [`Request::Watch`](common::messages::Request::Watch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchAsk {
    /// The partition of the watched keys.
    pub partition: PartitionId,
    /// The position up to which the client knows the changes; `None`: it asks for the last position.
    pub after: Option<Version>,
    /// The keys.
    pub selection: Selection,
    /// Bytes of changes at most.
    pub bytes_max: usize,
    /// How long to wait for a change.
    pub hold: Duration,
}

/// A question about applied state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One key.
    Get {
        /// 1..=[`KEY_BYTES_MAX`](common::limits::KEY_BYTES_MAX) bytes.
        key: Bytes,
        /// Of a larger value only the size is returned.
        bytes_max: u32,
    },
    /// Keys of a partition, in order.
    Scan {
        /// The partition whose keys are read.
        partition: PartitionId,
        /// Begin after this key.
        after: Option<Bytes>,
        /// Only keys with this prefix.
        prefix: Bytes,
        /// Pairs at most.
        limit: u32,
    },
    /// Keys of a partition by their position on the ring, without values.
    Keys {
        /// The partition whose keys are listed.
        partition: PartitionId,
        /// Begin behind this position, see [`key_position`](super::key_position); 0 is before all.
        after: u64,
        /// Keys at least, if there are so many. There may be more.
        limit: u32,
    },
    /// How many keys a partition has.
    Count {
        /// The partition whose keys are counted.
        partition: PartitionId,
    },
    /// Reads nothing: the core only needs to look at the clock once more before it answers.
    Nothing,
}

impl Query {
    /// One key, however large its value is.
    #[must_use]
    pub fn get(key: Bytes) -> Self {
        Self::Get { key, bytes_max: u32::MAX }
    }
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer to a get.
    Value(Option<Found>),
    /// The answer to a get of a value that is larger than was asked for.
    TooLarge {
        /// The key whose value was asked for.
        key: Bytes,
        /// Bytes of the value.
        bytes: u64,
        /// When it expires.
        expires: Option<WallTime>,
    },
    /// The answer to a scan.
    Page {
        /// In key order.
        pairs: Vec<Pair>,
        /// There are more pairs after these.
        more: bool,
    },
    /// The answer to a question for keys, or for their number.
    Keys {
        /// By position; empty if only their number is wanted.
        keys: Vec<Bytes>,
        /// How many they are.
        count: u64,
        /// The position of the last one, if there are more behind it; else 0.
        next: u64,
        /// The first moment at which one of the keys that were looked at expires.
        expires: Option<WallTime>,
    },
    /// The answer to [`Query::Nothing`].
    Nothing,
    /// Stored bytes fail their checksum (the text is for people), and there may be no other copy.
    Damaged(String),
}

impl Answer {
    /// The answer to a get, for the value that was found.
    #[must_use]
    pub fn to_get(key: &Bytes, bytes_max: u32, found: Option<Found>) -> Self {
        match found {
            Some(found) if found.value.len() as u64 > u64::from(bytes_max) => {
                let (bytes, expires) = (found.value.len() as u64, found.expires);
                Self::TooLarge { key: key.clone(), bytes, expires }
            }
            found => Self::Value(found),
        }
    }
}
