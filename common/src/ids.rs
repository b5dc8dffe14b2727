//! Identities and counters, each a type of its own so that none is taken for another.
//!
//! 128-bit ids are random, made once, and written as 32 lower-case hex digits.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An id that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an id: 32 hex digits are expected")]
pub struct InvalidId(String);

/// Hex digits of an id.
const DIGITS: usize = 32;

/// An id as it is written. A view has some two thousand: nothing is allocated for one.
fn digits(id: u128, text: &mut [u8; DIGITS]) -> &str {
    hex::encode_to_slice(id.to_be_bytes(), text).expect("two digits a byte");
    std::str::from_utf8(text).expect("digits")
}

/// Reads an id where it lies.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidId>> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id of {DIGITS} hex digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl $name {
            /// A new random id, from the operating system.
            ///
            /// # Panics
            /// When the operating system has no randomness: nothing can go on then.
            #[must_use]
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
                Self(u128::from_be_bytes(bytes))
            }

            /// The first eight hex digits, enough to distinguish servers in logs and tables.
            #[must_use]
            pub fn short(self) -> String {
                format!("{:08x}", self.0 >> 96)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(digits(self.0, &mut [0; DIGITS]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let mut bytes = [0; 16];
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) => Ok(Self(u128::from_be_bytes(bytes))),
                    Err(_) => Err(InvalidId(text.to_owned())),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(digits(self.0, &mut [0; DIGITS]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    };
}

random_id! {
    /// A server, made at its first start and kept in its storage directory. Never its address.
    ServerId
}
random_id! {
    /// A storage directory's content: a lost or wiped disk is another store of the same server.
    StoreId
}
random_id! {
    /// A cluster, made when its ECS is created. Messages of another cluster are refused.
    ClusterId
}
random_id! {
    /// A client, made when it starts. With a [`RequestNumber`] it names one write for ever.
    ClientId
}

random_id! {
    /// One rebuild of the ECS without its disk, made when it begins.
    RebuildId
}

/// How often a server's process has started, from 1. Messages of an older incarnation are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// Drawn at random by each start of a server: two processes of one storage directory, or of two copies of one, have
/// different ones even where their incarnations are equal. 0: not known (a view of before nonces were).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Nonce(pub u64);

impl Nonce {
    /// A new random nonce, from the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness: nothing can go on then.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(u64::from_be_bytes(bytes).max(1))
    }
}

/// A client's number of a write, from 1, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct RequestNumber(pub u64);

/// A request that is followed through the cluster: its client, and its number at that client. For a write it is the
/// number that makes retries harmless. Written as `CLIENT-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId {
    /// The client that asks.
    pub client: ClientId,
    /// The client's number of the request.
    pub number: RequestNumber,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.client, self.number.0)
    }
}

/// The number of a partition, `0..partitions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a view: `(generation, version)`, compared in that order.
///
/// `version` grows with each view that the ECS makes; `generation` grows when an ECS is rebuilt without its
/// disk. As the epoch of a partition it is the number of the view in which the partition's coordinator or
/// in-sync set last changed. Never reused, never goes back. The default is before every real epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// How often the ECS was rebuilt without its disk.
    pub generation: u32,
    /// The view within the generation, from 1.
    pub version: u64,
}

impl Epoch {
    /// The next epoch of the same generation.
    #[must_use]
    pub fn next(self) -> Self {
        Self { generation: self.generation, version: self.version + 1 }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.generation == 0 {
            write!(f, "{}", self.version)
        } else {
            write!(f, "{}/{}", self.generation, self.version)
        }
    }
}

/// A number that is no epoch.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no number of a view: 41 or 1/15 is expected")]
pub struct InvalidEpoch(String);

impl FromStr for Epoch {
    type Err = InvalidEpoch;

    /// Reads what is displayed: `VERSION` or `GENERATION/VERSION`.
    fn from_str(text: &str) -> Result<Self, InvalidEpoch> {
        let (generation, version) = text.split_once('/').unwrap_or(("0", text));
        match (generation.parse(), version.parse()) {
            (Ok(generation), Ok(version)) => Ok(Self { generation, version }),
            _ => Err(InvalidEpoch(text.to_owned())),
        }
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{self}")
    }
}

/// The position of an entry in a partition's log, from 1. 0 is before the first entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A server's process: one start of one store. Every message comes from exactly one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// The id of the server, the same over all its stores and starts.
    pub server: ServerId,
    /// The content of its storage directory: another one after the disk was wiped.
    pub store: StoreId,
    /// How often this store has been started.
    pub incarnation: Incarnation,
    /// Distinguishes two processes that have the same incarnation, as copies of one directory may have.
    #[serde(default)]
    pub nonce: Nonce,
}

/// Names one log entry of a partition for ever: its position and the epoch in which a coordinator first
/// assigned it. As the version of a value it is the entry that wrote it. The default is before every entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The epoch in which the entry was first assigned.
    pub tag: Epoch,
    /// The entry's position.
    pub seq: Seq,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.tag, self.seq)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for LogId {
    type Err = InvalidId;

    /// Reads what `Display` writes: `version.seq` or `generation/version.seq`.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let (tag, seq) = text.split_once('.')?;
            let (generation, version) = tag.split_once('/').unwrap_or(("0", tag));
            Some(Self {
                tag: Epoch { generation: generation.parse().ok()?, version: version.parse().ok()? },
                seq: Seq(seq.parse().ok()?),
            })
        };
        parse().ok_or_else(|| InvalidId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_written() {
        let id = ServerId(0xab << 100);
        assert_eq!(id.to_string().parse::<ServerId>().unwrap(), id);
        assert_eq!(serde_json::from_str::<ServerId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        assert_eq!(id.to_string(), format!("{:032x}", id.0));
        let digits = "0".repeat(30);
        for text in [
            "xyz".to_owned(),
            format!("{digits}0"),
            format!("{digits}000"),
            format!("+{digits}0"),
            format!("{digits}é"),
        ] {
            assert!(text.parse::<ServerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_are_read_as_written() {
        for text in ["41.7", "2/41.7"] {
            assert_eq!(text.parse::<LogId>().unwrap().to_string(), text);
        }
        for text in ["", "41", "41.", ".7", "a.7", "1/2/3.4"] {
            assert!(text.parse::<LogId>().is_err(), "{text}");
        }
    }

    #[test]
    fn epochs_compare_by_generation_first() {
        let old = Epoch { generation: 0, version: 90 };
        let rebuilt = Epoch { generation: 1, version: 3 };
        assert!(old < rebuilt && rebuilt < rebuilt.next());
    }
}
