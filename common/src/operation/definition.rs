//! The operations.

use bytes::Bytes;

use super::condition::Condition;
use super::expiry::{Expiry, ExpiryCondition};
use crate::codec::{Malformed, Sink, Wire, refuse_tag, wire_enum, wire_struct};
use crate::ids::PartitionId;
use crate::time::WallTime;

/// A change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a value, with an expiry or without one.
    Put {
        /// 1..=[`KEY_BYTES_MAX`](crate::limits::KEY_BYTES_MAX) bytes.
        key: Bytes,
        /// Up to [`VALUE_BYTES_MAX`](crate::limits::VALUE_BYTES_MAX) bytes.
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
        /// What must hold, else nothing is done. At most [`BATCH_PARTS_MAX`](super::BATCH_PARTS_MAX) with the parts.
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

/// What must hold of a key for a batch to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A key of the same partition as all others of the batch.
    pub key: Bytes,
    /// What must hold of the key's value.
    pub condition: Condition,
}
wire_struct!(Check { key, condition });

/// An operation of a batch; no batch is a part of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part(pub Operation);

/// The tag of batches. A batch has no batch as a part: decoding would recurse as deep as a message says.
const BATCH_TAG: u8 = 13;

impl Wire for Part {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        self.0.write(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        refuse_tag(input, BATCH_TAG, "Part")?;
        Operation::read(input).map(Self)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_in_a_batch_is_not_read() {
        let inner = Operation::Batch { checks: Vec::new(), parts: Vec::new() };
        let outer = Operation::Batch { checks: Vec::new(), parts: vec![Part(inner)] };
        let read = Operation::from_wire(outer.to_wire());
        assert_eq!(read, Err(Malformed::Variant { what: "Part", tag: BATCH_TAG }));
    }

    #[test]
    fn batches_are_read_as_written() {
        let check = Check { key: "k".into(), condition: Condition::NotValue { value: "v".into() } };
        let add = Operation::Add { key: "k".into(), by: -7 };
        let batch = Operation::Batch { checks: vec![check], parts: vec![Part(add)] };
        assert_eq!(Operation::from_wire(batch.to_wire()), Ok(batch));
    }
}
