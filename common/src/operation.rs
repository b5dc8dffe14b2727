//! What clients ask of the data: operations on keys and their outcomes.
//!
//! An operation is a value; what it does to a partition's data is decided where it is applied, in log order,
//! the same at every copy (`kvserver`'s `core::state`).

use bytes::Bytes;

use crate::ids::{ClientId, LogId, RequestNumber};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::time::WallTime;
use crate::{wire_enum, wire_struct};

/// The entry that last wrote a value.
pub type Version = LogId;

/// What must hold of a key's value at the moment that an operation is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always {},
    /// There is no value.
    Absent {},
    /// There is a value.
    Present {},
    /// The value is the one with this version.
    Version {
        /// As an earlier reply told it.
        version: Version,
    },
    /// The value is these bytes.
    Value {
        /// Compared byte by byte.
        value: Bytes,
    },
}
wire_enum!(Condition {
    0 => Always {}, 1 => Absent {}, 2 => Present {}, 3 => Version { version }, 4 => Value { value },
});

/// A change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a value, with an expiry or without one.
    Put {
        /// 1..=[`KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// Up to [`VALUE_BYTES_MAX`] bytes.
        value: Bytes,
        /// From this moment on the value is gone; `None`: never.
        expires: Option<WallTime>,
        /// Else nothing is changed.
        condition: Condition,
    },
    /// Removes a value.
    Delete {
        /// The key.
        key: Bytes,
        /// Else nothing is changed.
        condition: Condition,
    },
    /// Adds bytes at the end of a value (an empty one if there is none) and tells where they begin.
    /// An expiry stays as it is.
    Append {
        /// The key.
        key: Bytes,
        /// What is added.
        value: Bytes,
    },
    /// Sets or removes the expiry of a value that is there.
    Expire {
        /// The key.
        key: Bytes,
        /// From this moment on the value is gone; `None`: never.
        expires: Option<WallTime>,
    },
    /// Changes nothing but the partition's log time: a coordinator that finds a value expired by its clock
    /// makes that so at every copy before it says so.
    Tick {},
}
wire_enum!(Operation {
    1 => Put { key, value, expires, condition },
    2 => Delete { key, condition },
    3 => Append { key, value },
    4 => Expire { key, expires },
    5 => Tick {},
});

/// Why an operation is refused before it is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperation {
    /// A key of no bytes.
    #[error("the key is empty; a key has 1 to {KEY_BYTES_MAX} bytes")]
    KeyEmpty,
    /// A key over its limit.
    #[error("the key has {0} bytes; the limit is {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
    /// A value over its limit.
    #[error("the value has {bytes} bytes; the limit is {limit} (see --max-value)")]
    ValueTooLarge {
        /// Of the value.
        bytes: usize,
        /// In force at this server.
        limit: usize,
    },
}

/// Checks a key's length.
///
/// # Errors
/// When the key is empty or too long.
pub fn check_key(key: &[u8]) -> Result<(), InvalidOperation> {
    match key.len() {
        0 => Err(InvalidOperation::KeyEmpty),
        1..=KEY_BYTES_MAX => Ok(()),
        len => Err(InvalidOperation::KeyTooLong(len)),
    }
}

impl Operation {
    /// A put without expiry or condition.
    #[must_use]
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), expires: None, condition: Condition::Always {} }
    }

    /// The key that it changes; none for a tick.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::Append { key, .. }
            | Self::Expire { key, .. } => Some(key),
            Self::Tick {} => None,
        }
    }

    /// Checks key and value against their limits; `value_bytes_max` is at most [`VALUE_BYTES_MAX`].
    ///
    /// # Errors
    /// When the key or a value is out of its limits.
    pub fn check(&self, value_bytes_max: usize) -> Result<(), InvalidOperation> {
        if let Some(key) = self.key() {
            check_key(key)?;
        }
        let compared = match self {
            Self::Put { condition, .. } | Self::Delete { condition, .. } => match condition {
                Condition::Value { value } => value.len(),
                _ => 0,
            },
            _ => 0,
        };
        let stored = match self {
            Self::Put { value, .. } | Self::Append { value, .. } => value.len(),
            _ => 0,
        };
        let limit = value_bytes_max.min(VALUE_BYTES_MAX);
        let bytes = compared.max(stored);
        if bytes > limit { Err(InvalidOperation::ValueTooLarge { bytes, limit }) } else { Ok(()) }
    }
}

/// Who asked for a write. A retry carries the same client and number, so it is applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client.
    pub client: ClientId,
    /// The client's number of this write.
    pub number: RequestNumber,
    /// The smallest number that the client has no answer to: results below are forgotten.
    pub first_unanswered: RequestNumber,
}
wire_struct!(Origin { client, number, first_unanswered });

/// The body of a log entry: an operation, who asked for it and when the coordinator ordered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// None for what the coordinator itself asked.
    pub origin: Option<Origin>,
    /// The coordinator's wall clock; the partition's log time is the largest stamp applied so far.
    pub stamp: WallTime,
    /// What to do.
    pub operation: Operation,
}
wire_struct!(Command { origin, stamp, operation });

/// What an applied operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value was set.
    Written {
        /// Of the new value.
        version: Version,
        /// There was a value before.
        replaced: bool,
    },
    /// Bytes were added.
    Appended {
        /// Of the new value.
        version: Version,
        /// Where in the value the added bytes begin.
        offset: u64,
    },
    /// A value was removed.
    Deleted {
        /// Of the entry that removed it.
        version: Version,
    },
    /// There was nothing to delete or expire.
    NotFound {},
    /// The condition did not hold; nothing was changed.
    ConditionFailed {
        /// Of the value that is there, if there is one.
        current: Option<Version>,
    },
    /// The appended value would pass the limit; nothing was changed.
    TooLarge {
        /// Bytes that the value would have.
        bytes: u64,
    },
    /// A tick was applied.
    Ticked {},
    /// The client had its answer long ago; this is a late duplicate of its request, and it changed nothing.
    Superseded {},
}
wire_enum!(Outcome {
    1 => Written { version, replaced },
    2 => Appended { version, offset },
    3 => Deleted { version },
    4 => NotFound {},
    5 => ConditionFailed { current },
    6 => TooLarge { bytes },
    7 => Ticked {},
    8 => Superseded {},
});

/// A value as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The bytes.
    pub value: Bytes,
    /// The entry that wrote them.
    pub version: Version,
    /// From this moment on the value is gone; `None`: never.
    pub expires: Option<WallTime>,
}
wire_struct!(Found { value, version, expires });

/// A key and its value, as a scan returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub found: Found,
}
wire_struct!(Pair { key, found });
