//! What a server counts and reports to the ECS once a second, for people: no decision rests on it.

use serde::{Deserialize, Serialize};

use crate::histogram::Counted;

/// Partitions, and keys, that are named as the hottest, at most.
pub const HOT_MAX: usize = 10;

/// Bytes of a key's name among the hottest; of a longer one the beginning.
pub const HOT_KEY_BYTES_MAX: usize = 64;

/// One server's figures since the last ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The time that these figures cover, in milliseconds.
    pub over_ms: u64,
    /// Times that reads took, from the core's taking the request to its answer.
    pub reads: Counted,
    /// Times that writes took, from the core's taking the request to its answer.
    pub writes: Counted,
    /// Times that fdatasyncs of the commit log took.
    pub syncs: Counted,
    /// Requests that were answered with a refusal, that the server is busy, or that the outcome is not known.
    pub failed: u64,
    /// Requests that were not answered at the end.
    pub open: u64,
    /// Entries that are ordered and not committed, in the partition of this coordinator that has most of them.
    pub lag: u64,
    /// The partitions that clients asked this server for most, the hottest first.
    pub partitions: Vec<HotPartition>,
    /// The keys that clients asked this server for most, the hottest first.
    pub keys: Vec<HotKey>,
}

/// A partition that many requests are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotPartition {
    /// The number of the partition on the ring.
    pub partition: u16,
    /// Requests a second, estimated from a part of them.
    pub per_second: u64,
}

/// A key that many requests are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    /// Its beginning, if it is long; bytes that are no UTF-8 are replaced.
    pub key: String,
    /// The partition that the key is of.
    pub partition: u16,
    /// Requests a second, estimated from a part of them.
    pub per_second: u64,
}

impl Figures {
    /// Drops what is beyond the limits, as it came over a network.
    pub fn bound(&mut self) {
        self.partitions.truncate(HOT_MAX);
        self.keys.truncate(HOT_MAX);
        for HotKey { key, .. } in &mut self.keys {
            // Three bytes for each that was replaced.
            key.truncate(key.floor_char_boundary(3 * HOT_KEY_BYTES_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use crate::messages::ServerReport;

    #[test]
    fn figures_go_over_a_link_as_they_are() {
        let (empty, mut histogram) = (Histogram::durations(), Histogram::durations());
        [3, 300, 30_000_000].into_iter().for_each(|value| histogram.record(value));
        let keys = vec![HotKey { key: "k".into(), partition: 1, per_second: 2 }];
        let figures = Figures { over_ms: 1000, reads: histogram.since(&empty), keys, ..Figures::default() };
        let report = ServerReport::Figures { figures };
        let json = serde_json::to_vec(&report).unwrap();
        assert_eq!(serde_json::from_slice::<ServerReport>(&json).unwrap(), report);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let key = HotKey { key: "\u{1F340}".repeat(100), partition: 0, per_second: 1 };
        let mut figures = Figures { keys: vec![key; 2 * HOT_MAX], ..Figures::default() };
        figures.bound();
        assert_eq!((figures.keys.len(), figures.keys[0].key.len()), (HOT_MAX, 3 * HOT_KEY_BYTES_MAX));
    }
}
