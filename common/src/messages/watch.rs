//! What a client that watches keys asks for and gets.

use bytes::Bytes;

use crate::codec::wire_enum;
use crate::operation::{Found, Version};

/// The keys that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// A single key.
    Key {
        /// The watched key; it need not exist.
        key: Bytes,
    },
    /// All keys with a prefix.
    Prefix {
        /// The prefix; no bytes for all keys.
        prefix: Bytes,
    },
}
wire_enum!(Selection { 1 => Key { key }, 2 => Prefix { prefix } });

impl Selection {
    /// Whether a key is watched.
    #[must_use]
    pub fn contains(&self, other: &[u8]) -> bool {
        match self {
            Self::Key { key } => other == key,
            Self::Prefix { prefix } => other.starts_with(prefix),
        }
    }

    /// Bytes of the key or of the prefix.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let (Self::Key { key: bytes } | Self::Prefix { prefix: bytes }) = self;
        bytes.len()
    }
}

/// A change of a watched key, as a committed log entry has made it; or a gap, where changes are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value was set or changed.
    Put {
        /// The key whose value was set.
        key: Bytes,
        /// The new value. Its version is that of the entry.
        found: Found,
    },
    /// The expiry of a value was set or removed; the value is the same.
    Expiry {
        /// The key whose value has another expiry.
        key: Bytes,
        /// The value, with its new expiry. Its version is that of the entry.
        found: Found,
    },
    /// A value was removed. That a value ends by its expiry is no change: the change that set the expiry says when.
    Delete {
        /// The key whose value was removed.
        key: Bytes,
        /// The version of the entry that removed it.
        version: Version,
    },
    /// Changes after `from`, up to and with `to`, are not known: there may have been some.
    Gap {
        /// The last entry before the gap.
        from: Version,
        /// The last entry of the gap. It is before `from` where an operator let a partition begin anew from a copy that
        /// had less.
        to: Version,
    },
}
wire_enum!(Change {
    1 => Put { key, found },
    2 => Expiry { key, found },
    3 => Delete { key, version },
    4 => Gap { from, to },
});

impl Change {
    /// The entry that made the change; for a gap the last entry of it.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Put { found, .. } | Self::Expiry { found, .. } => found.version,
            Self::Delete { version, .. } => *version,
            Self::Gap { to, .. } => *to,
        }
    }

    /// The key; `None` for a gap.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put { key, .. } | Self::Expiry { key, .. } | Self::Delete { key, .. } => Some(key),
            Self::Gap { .. } => None,
        }
    }

    /// Bytes that the change counts where room is bounded: those of key and value, and `CHANGE_BYTES`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = match self {
            Self::Put { found, .. } | Self::Expiry { found, .. } => found.value.len(),
            Self::Delete { .. } | Self::Gap { .. } => 0,
        };
        CHANGE_BYTES + self.key().map_or(0, Bytes::len) + value
    }
}

/// Bytes that a change counts besides its key and value.
const CHANGE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Wire;

    #[test]
    fn a_selection_is_one_key_or_all_that_begin_so() {
        let key = Selection::Key { key: Bytes::from_static(b"ab") };
        let prefix = Selection::Prefix { prefix: Bytes::from_static(b"ab") };
        assert!(key.contains(b"ab") && !key.contains(b"abc") && !key.contains(b"a"));
        assert!(prefix.contains(b"ab") && prefix.contains(b"abc") && !prefix.contains(b"a"));
        assert!(Selection::Prefix { prefix: Bytes::new() }.contains(b"x"));
    }

    #[test]
    fn changes_come_out_as_they_went_in() {
        let version: Version = "41.7".parse().unwrap();
        let found = Found { value: Bytes::from_static(b"v"), version, expires: None };
        let key = Bytes::from_static(b"k");
        for change in [
            Change::Put { key: key.clone(), found: found.clone() },
            Change::Expiry { key: key.clone(), found },
            Change::Delete { key, version },
            Change::Gap { from: version, to: "41.9".parse().unwrap() },
        ] {
            assert_eq!(Change::from_wire(change.to_wire()).unwrap(), change);
        }
    }
}
