//! The hash ring: MD5 positions, slots, partitions and tokens.
//!
//! A key's position is the MD5 of its bytes, read as a 128-bit number. The top 14 bits are its slot, and a
//! partition is a run of `16384 / partitions` slots, so partition `p` is the arc
//! `p << (128 - log2 partitions) ..` of the circle. Everything here is arithmetic.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{PartitionId, ServerId};

/// Bits of a position that make its slot.
pub const SLOT_BITS: u32 = 14;

/// Slots on the ring.
pub const SLOTS: u32 = 1 << SLOT_BITS;

/// Partitions of a cluster when its creator names no number.
pub const PARTITIONS_DEFAULT: u32 = 256;

/// A position on the circle: a 128-bit number, usually an MD5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u128);

impl Position {
    /// The position of a key.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(u128::from_be_bytes(md5::compute(key).0))
    }

    /// The `index`-th token of a server: the MD5 of its id in hex, `#`, and the index in decimal.
    #[must_use]
    pub fn of_token(server: ServerId, index: u32) -> Self {
        Self::of_key(format!("{server}#{index}").as_bytes())
    }

    /// The slot, `0..16384`.
    #[must_use]
    pub fn slot(self) -> u16 {
        (self.0 >> (128 - SLOT_BITS)) as u16
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The number of partitions of a cluster: a power of two, 1..=16384, fixed when the cluster is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Partitions(u32);

/// A number of partitions that is no power of two within 1..=16384.
#[derive(Debug, thiserror::Error)]
#[error("{0} partitions: a power of two from 1 to {SLOTS} is needed")]
pub struct InvalidPartitions(u32);

impl TryFrom<u32> for Partitions {
    type Error = InvalidPartitions;

    fn try_from(count: u32) -> Result<Self, InvalidPartitions> {
        if count.is_power_of_two() && count <= SLOTS {
            Ok(Self(count))
        } else {
            Err(InvalidPartitions(count))
        }
    }
}

impl From<Partitions> for u32 {
    fn from(partitions: Partitions) -> u32 {
        partitions.0
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self(PARTITIONS_DEFAULT)
    }
}

impl Partitions {
    /// How many there are.
    #[must_use]
    pub fn count(self) -> usize {
        self.0 as usize
    }

    /// All of them, in ring order.
    pub fn all(self) -> impl ExactSizeIterator<Item = PartitionId> + Clone {
        (0..self.0 as u16).map(PartitionId)
    }

    /// The partition that a key belongs to.
    #[must_use]
    pub fn of_key(self, key: &[u8]) -> PartitionId {
        self.of_position(Position::of_key(key))
    }

    /// The partition that a position belongs to.
    #[must_use]
    pub fn of_position(self, position: Position) -> PartitionId {
        let bits = self.0.trailing_zeros();
        PartitionId(position.slot() >> (SLOT_BITS - bits))
    }

    /// The first position of a partition.
    #[must_use]
    pub fn first(self, partition: PartitionId) -> Position {
        let bits = self.0.trailing_zeros();
        if bits == 0 { Position(0) } else { Position(u128::from(partition.0) << (128 - bits)) }
    }

    /// The last position of a partition, included in it.
    #[must_use]
    pub fn last(self, partition: PartitionId) -> Position {
        let bits = self.0.trailing_zeros();
        if bits == 0 {
            return Position(u128::MAX);
        }
        Position(self.first(partition).0 | (u128::MAX >> bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_key_has_its_md5_as_position() {
        // MD5("trefoil"), from md5sum(1).
        assert_eq!(Position::of_key(b"").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(Position::of_key(b"").slot(), 0xd41d >> 2);
    }

    #[test]
    fn partitions_tile_the_circle() {
        for count in [1, 2, 256, 16384] {
            let partitions = Partitions::try_from(count).unwrap();
            let mut expected = 0_u128;
            for partition in partitions.all() {
                let (first, last) = (partitions.first(partition), partitions.last(partition));
                assert_eq!(first.0, expected);
                assert_eq!(partitions.of_position(first), partition);
                assert_eq!(partitions.of_position(last), partition);
                expected = last.0.wrapping_add(1);
            }
            assert_eq!(expected, 0, "the last partition ends where the first begins");
        }
    }

    #[test]
    fn only_powers_of_two_are_taken() {
        for count in [0, 3, 255, 32768] {
            assert!(Partitions::try_from(count).is_err(), "{count}");
        }
    }
}
