//! What clients ask of the data, and what reading finds.

use std::time::Duration;

use bytes::Bytes;
use common::ids::PartitionId;
use common::messages::Selection;
use common::operation::{Found, Operation, Origin, Pair, Version};
use common::time::WallTime;

/// What a client asks of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A change. Without an origin (clients that have none) the server gives it one of its own.
    Write {
        /// Who asks.
        origin: Option<Origin>,
        /// How long ago it was first asked, in milliseconds.
        age_ms: u64,
        /// What to do.
        operation: Operation,
    },
    /// A read.
    Read(Query),
    /// The next changes of watched keys.
    Watch(WatchAsk),
}

impl Ask {
    /// Bytes of keys and values that it carries.
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
    /// The partition.
    pub partition: PartitionId,
    /// The place up to which the client has been told; `None`: it asks for the last one.
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
        /// The key.
        key: Bytes,
        /// Of a larger value only the size is told.
        bytes_max: u32,
    },
    /// Keys of a partition, in order.
    Scan {
        /// The partition.
        partition: PartitionId,
        /// Begin after this key.
        after: Option<Bytes>,
        /// Only keys that begin so.
        prefix: Bytes,
        /// Pairs at most.
        limit: u32,
    },
    /// Keys of a partition by their position on the ring, without values.
    Keys {
        /// The partition.
        partition: PartitionId,
        /// Begin behind this position, see [`key_position`](super::key_position); 0 is before all.
        after: u64,
        /// Keys at least, if there are so many. There may be more.
        limit: u32,
    },
    /// How many keys a partition has.
    Count {
        /// The partition.
        partition: PartitionId,
    },
    /// Nothing: only a look at the clock after what was noted before is wanted.
    Nothing,
}

impl Query {
    /// One key, however large its value is.
    #[must_use]
    pub fn get(key: Bytes) -> Self {
        Self::Get { key, bytes_max: u32::MAX }
    }
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a get.
    Value(Option<Found>),
    /// To a get: the value is larger than was asked for.
    TooLarge {
        /// Its key.
        key: Bytes,
        /// Bytes of the value.
        bytes: u64,
        /// When it expires.
        expires: Option<WallTime>,
    },
    /// To a scan.
    Page {
        /// In key order.
        pairs: Vec<Pair>,
        /// There are more.
        more: bool,
    },
    /// To a question for keys, or for their number.
    Keys {
        /// By position; empty if only their number is wanted.
        keys: Vec<Bytes>,
        /// How many they are.
        count: u64,
        /// The position of the last one, if there are more behind it; else 0.
        next: u64,
        /// The first moment at which one of those that were looked at expires.
        expires: Option<WallTime>,
    },
    /// To nothing.
    Nothing,
    /// What is stored does not check, for people; and there may be no other copy.
    Damaged(String),
}

impl Answer {
    /// To a get, of what was found.
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
