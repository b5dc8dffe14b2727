//! The content of a line.

use bytes::Bytes;
use common::time::WallTime;

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    /// From this moment on the value is gone. TSV has no column for it.
    pub(crate) expires: Option<WallTime>,
}

/// A line that does not follow its format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found}; expected is {expected}")]
pub(crate) struct Malformed {
    pub(crate) found: String,
    pub(crate) expected: &'static str,
}
