//! Conditions on the value of a key.

use bytes::Bytes;

use super::value::Version;
use crate::codec::wire_enum;

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
