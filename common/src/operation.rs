//! What clients ask of the data: operations on keys and their outcomes.
//!
//! An operation is a value; what it does to a partition's data is decided where it is applied, in log order,
//! the same at every copy (`state` of `kvserver_core`).

use bytes::Bytes;

use crate::ids::{ClientId, LogId, PartitionId, RequestNumber};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::time::WallTime;
use crate::{wire_enum, wire_struct};

mod batch;
mod expiry;
mod size;

pub use batch::{BATCH_BYTES_MAX, BATCH_PARTS_MAX, Check, Part, PartOutcome};
pub use expiry::{Expiry, ExpiryCondition};

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
        /// The version, as an earlier reply returned it.
        version: Version,
    },
    /// The value is these bytes.
    Value {
        /// Compared byte by byte.
        value: Bytes,
    },
    /// The value is not these bytes, or there is none.
    NotValue {
        /// Compared byte by byte.
        value: Bytes,
    },
}
wire_enum!(Condition {
    0 => Always {}, 1 => Absent {}, 2 => Present {}, 3 => Version { version }, 4 => Value { value },
    5 => NotValue { value },
});

impl Condition {
    /// Bytes of the value that the condition compares with.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Value { value } | Self::NotValue { value } => value.len(),
            _ => 0,
        }
    }
}

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
        /// If it does not hold, nothing is changed.
        condition: Condition,
    },
    /// Removes a value.
    Delete {
        /// The key whose value is removed.
        key: Bytes,
        /// If it does not hold, nothing is changed.
        condition: Condition,
    },
    /// Adds bytes at the end of a value (an empty one if there is none). The outcome says where they begin.
    /// An expiry stays as it is.
    Append {
        /// The key whose value grows.
        key: Bytes,
        /// What is added.
        value: Bytes,
    },
    /// Sets or removes the expiry of a value that is there.
    Expire {
        /// The key whose value gets another end, or none.
        key: Bytes,
        /// From this moment on the value is gone; `None`: never.
        expires: Option<WallTime>,
    },
    /// Sets a value, with an expiry that may depend on the moment at which it is applied.
    Set {
        /// The key whose value is set.
        key: Bytes,
        /// The new value.
        value: Bytes,
        /// When it expires.
        expiry: Expiry,
        /// If it does not hold, nothing is changed.
        condition: Condition,
        /// The outcome returns the former value.
        return_old: bool,
    },
    /// Removes a value and returns it.
    Take {
        /// The key whose value is removed and returned.
        key: Bytes,
    },
    /// Adds to a value that is a decimal integer of 64 bits (0 if there is none). An expiry stays as it is.
    Add {
        /// The key whose value is the number.
        key: Bytes,
        /// What is added.
        by: i64,
    },
    /// Adds to a value that is a decimal number (0 if there is none). An expiry stays as it is.
    AddDecimal {
        /// The key whose value is the number.
        key: Bytes,
        /// What is added, as decimal digits.
        by: Bytes,
    },
    /// Writes bytes into a value from an offset on; zeros fill what lies between its end and the offset.
    /// An expiry stays as it is. No bytes change nothing.
    Overwrite {
        /// The key whose value is written into.
        key: Bytes,
        /// Where the bytes begin.
        offset: u64,
        /// The bytes.
        value: Bytes,
    },
    /// Changes the expiry of a value that is there.
    Retime {
        /// The key whose value gets another end, or none.
        key: Bytes,
        /// The new expiry.
        expiry: Expiry,
        /// What must hold of the expiry that is there; else nothing is changed.
        when: ExpiryCondition,
        /// What must hold of the value; else nothing is changed.
        condition: Condition,
        /// The outcome returns the value.
        return_old: bool,
    },
    /// Returns a value as it is at this position in the log. Only as a part of a batch; a single get does it cheaper.
    Fetch {
        /// The key whose value is returned.
        key: Bytes,
    },
    /// Several operations on keys of one partition, all at one position in the log.
    Batch {
        /// What must hold, else nothing is done. At most [`BATCH_PARTS_MAX`] with the parts.
        checks: Vec<Check>,
        /// What to do, in order.
        parts: Vec<Part>,
    },
    /// Changes nothing but the partition's log time: a coordinator that finds a value expired by its clock
    /// makes it expired at every copy before it answers so.
    Tick {},
    /// Changes nothing: a new coordinator's first entry, which closes the log of the epochs before its own.
    NoOp {},
    /// Changes nothing: each copy takes a digest of its records as they are at this entry, to be compared.
    Compare {
        /// The partition whose copies are compared.
        partition: PartitionId,
    },
}
wire_enum!(Operation {
    1 => Put { key, value, expires, condition },
    2 => Delete { key, condition },
    3 => Append { key, value },
    4 => Expire { key, expires },
    5 => Tick {},
    6 => Set { key, value, expiry, condition, return_old },
    7 => Take { key },
    8 => Add { key, by },
    9 => AddDecimal { key, by },
    10 => Overwrite { key, offset, value },
    11 => Retime { key, expiry, when, condition, return_old },
    12 => Fetch { key },
    13 => Batch { checks, parts },
    14 => Compare { partition },
    15 => NoOp {},
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
        /// Bytes of the value.
        bytes: usize,
        /// The limit in effect at this server, in bytes.
        limit: usize,
    },
    /// A batch over its limits.
    #[error("a transaction has at most {BATCH_PARTS_MAX} operations and {BATCH_BYTES_MAX} bytes")]
    BatchTooLarge,
    /// A batch that changes keys of several partitions, or none.
    #[error("the keys of a transaction must be of one partition")]
    BatchScattered,
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

    /// The key that it changes or reads; the first one of a batch; none for a tick.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::Append { key, .. }
            | Self::Expire { key, .. }
            | Self::Set { key, .. }
            | Self::Take { key }
            | Self::Add { key, .. }
            | Self::AddDecimal { key, .. }
            | Self::Overwrite { key, .. }
            | Self::Retime { key, .. }
            | Self::Fetch { key } => Some(key),
            Self::Batch { checks, parts } => {
                let checked = checks.first().map(|check| &check.key);
                checked.or_else(|| parts.first().and_then(|part| part.0.key()))
            }
            Self::Tick {} | Self::NoOp {} | Self::Compare { .. } => None,
        }
    }

    /// Every key that it reads or changes, once or more.
    pub fn each_key(&self, mut each: impl FnMut(&Bytes)) {
        match self {
            Self::Batch { checks, parts } => {
                checks.iter().for_each(|check| each(&check.key));
                parts.iter().filter_map(|part| part.0.key()).for_each(each);
            }
            single => single.key().into_iter().for_each(each),
        }
    }

    /// Checks keys and values against their limits; `value_bytes_max` is at most [`VALUE_BYTES_MAX`].
    ///
    /// # Errors
    /// When a key, a value or a batch is out of its limits.
    pub fn check(&self, value_bytes_max: usize) -> Result<(), InvalidOperation> {
        if let Self::Batch { checks, parts } = self {
            return batch::check(checks, parts, value_bytes_max);
        }
        if let Some(key) = self.key() {
            check_key(key)?;
        }
        let (stored, compared) = self.value_bytes();
        let limit = value_bytes_max.min(VALUE_BYTES_MAX);
        let bytes = compared.max(stored);
        if bytes > limit { Err(InvalidOperation::ValueTooLarge { bytes, limit }) } else { Ok(()) }
    }
}

/// The client that asked for a write, and its number. A retry carries the same ones, so the write is applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The id that each client draws at random at its start.
    pub client: ClientId,
    /// The client's number of this write.
    pub number: RequestNumber,
    /// The smallest number that the client has no answer to: results of smaller numbers are forgotten.
    pub first_unanswered: RequestNumber,
}
wire_struct!(Origin { client, number, first_unanswered });

/// The body of a log entry: an operation, the client that asked for it, and when the coordinator ordered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// `None` for operations of the coordinator itself.
    pub origin: Option<Origin>,
    /// The coordinator's clock (`stamps` of `kvserver_core`), 0 for none; log time is the largest stamp applied so far,
    /// unless it falls back.
    pub stamp: WallTime,
    /// What to do.
    pub operation: Operation,
}
wire_struct!(Command { origin, stamp, operation });

/// What an applied operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it may say that nothing was changed"]
pub enum Outcome {
    /// A value was set.
    Written {
        /// The version of the new value.
        version: Version,
        /// There was a value before.
        replaced: bool,
    },
    /// Bytes were added.
    Appended {
        /// The version of the new value.
        version: Version,
        /// Where in the value the added bytes begin.
        offset: u64,
    },
    /// A value was removed.
    Deleted {
        /// The version of the entry that removed it.
        version: Version,
    },
    /// There was nothing to delete or expire.
    NotFound {},
    /// The condition did not hold; nothing was changed.
    ConditionFailed {
        /// The version of the value that is there, if there is one.
        current: Option<Version>,
    },
    /// The appended value would pass the limit; nothing was changed.
    TooLarge {
        /// Bytes that the value would have.
        bytes: u64,
    },
    /// A tick was applied.
    Ticked {},
    /// Each copy takes a digest at this entry.
    Compared {
        /// The entry.
        at: LogId,
    },
    /// The client had its answer long ago; this is a late duplicate of its request, and it changed nothing.
    Superseded {},
    /// A value was changed or removed, and this is what it was.
    Changed {
        /// The version of the entry that did it.
        version: Version,
        /// The former value.
        old: Option<Bytes>,
    },
    /// The condition did not hold; nothing was changed, and this is the value that is there.
    Kept {
        /// The value.
        old: Option<Bytes>,
    },
    /// A number was added to, and this is the value now.
    Sum {
        /// The version of the new value.
        version: Version,
        /// Decimal digits.
        value: Bytes,
    },
    /// The value is longer or shorter now.
    Length {
        /// The version of the value.
        version: Version,
        /// Bytes of the value.
        bytes: u64,
    },
    /// The value is no number; nothing was changed.
    NotANumber {},
    /// The sum is beyond the numbers that there are; nothing was changed.
    OutOfRange {},
    /// A value as it was at this position in the log.
    Fetched {
        /// None: there was no value.
        found: Option<Found>,
    },
    /// What the parts of a batch did, in order.
    All {
        /// One for each part.
        results: Vec<PartOutcome>,
    },
    /// A check of a batch did not hold; nothing was changed.
    Aborted {},
    /// It was done as the client's earlier try of the same write, whose answer was too long to be remembered.
    Forgotten {},
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
    9 => Changed { version, old },
    10 => Kept { old },
    11 => Sum { version, value },
    12 => Length { version, bytes },
    13 => NotANumber {},
    14 => OutOfRange {},
    15 => Fetched { found },
    16 => All { results },
    17 => Aborted {},
    18 => Forgotten {},
    19 => Compared { at },
});

impl Outcome {
    /// Bytes of the values that the outcome returns.
    #[must_use]
    pub fn returned_bytes(&self) -> usize {
        match self {
            Self::Changed { old, .. } | Self::Kept { old } => old.as_ref().map_or(0, Bytes::len),
            Self::Fetched { found } => found.as_ref().map_or(0, |found| found.value.len()),
            Self::All { results } => results.iter().map(|result| result.0.returned_bytes()).sum(),
            _ => 0,
        }
    }
}

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
    /// The key, as it was written.
    pub key: Bytes,
    /// Its value.
    pub found: Found,
}
wire_struct!(Pair { key, found });
