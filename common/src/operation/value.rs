//! Values as they are read, and their versions.

use bytes::Bytes;

use crate::codec::wire_struct;
use crate::ids::LogId;
use crate::time::WallTime;

/// The entry that last wrote a value.
pub type Version = LogId;

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
