//! Which partitions and keys clients ask for most, from a part of the requests.
//!
//! Of many requests only a sample is looked at, about [`SAMPLES_PER_SECOND`] of them, at distances that vary. Counts
//! fade by a tenth each second, so a steady rate `r` comes to `10 r`. Keys are kept as the Space-Saving algorithm does
//! (Metwally, Agrawal, El Abbadi 2005): a new key takes the place, and the count, of the one with the least.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::figures::{HOT_KEY_BYTES_MAX, HOT_MAX, HotKey, HotPartition};
use common::ids::PartitionId;
use common::ring::Partitions;

use kvserver_core::{Ask, Query};

/// Requests that are looked at in a second, about. Each costs an MD5 and a look into two small maps.
const SAMPLES_PER_SECOND: u64 = 1000;

/// Keys whose counts are kept: the more, the better the counts of the first [`HOT_MAX`].
const KEYS_KEPT: usize = 64;

/// The factor by which counts fade in a second.
const FADING: f64 = 0.9;

/// Counts of partitions below this are dropped.
const COUNT_MIN: f64 = 0.05;

/// Samples of requests, counted by partition and by key; the counts fade.
#[derive(Debug, Default)]
pub(super) struct Hot {
    /// Requests in this second.
    asked: u64,
    /// One request in so many is looked at.
    stride: u64,
    /// Requests until the next that is looked at.
    skip: u64,
    seed: u64,
    partitions: BTreeMap<PartitionId, f64>,
    keys: BTreeMap<Bytes, (PartitionId, f64)>,
}

impl Hot {
    pub(super) fn on_ask(&mut self, ask: &Ask, partitions: Partitions) {
        self.asked += 1;
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.skip = self.distance();
        let key = match ask {
            Ask::Write { operation, .. } => operation.key(),
            Ask::Read(Query::Get { key, .. }) => Some(key),
            Ask::Read(Query::Scan { partition, .. } | Query::Keys { partition, .. }) => {
                return self.count(*partition, None);
            }
            Ask::Read(Query::Count { .. } | Query::Nothing) | Ask::Watch(_) => None,
        };
        if let Some(key) = key {
            self.count(partitions.of_key(key), Some(key));
        }
    }

    /// Requests to skip until the next that is looked at: `stride` on average, at random, so that no rhythm of clients
    /// coincides with the sampling. The constants are those of Knuth's generator.
    fn distance(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % (2 * self.stride.max(1) - 1)
    }

    fn count(&mut self, partition: PartitionId, key: Option<&Bytes>) {
        let weight = self.stride.max(1) as f64;
        *self.partitions.entry(partition).or_default() += weight;
        let Some(key) = key else { return };
        if let Some((_, count)) = self.keys.get_mut(key) {
            *count += weight;
            return;
        }
        let mut before = 0.0;
        if self.keys.len() >= KEYS_KEPT {
            let least = self.keys.iter().min_by(|(_, (_, one)), (_, (_, other))| one.total_cmp(other));
            let (least, count) =
                least.map(|(key, (_, count))| (key.clone(), *count)).expect("there are some");
            self.keys.remove(&least);
            before = count;
        }
        // A copy: the key is a part of the read buffer, which would stay in memory with it.
        self.keys.insert(Bytes::copy_from_slice(key), (partition, before + weight));
    }

    /// Lets counts fade; called each second.
    pub(super) fn on_second(&mut self) {
        self.stride = (self.asked / SAMPLES_PER_SECOND).max(1);
        self.asked = 0;
        self.partitions.values_mut().for_each(|count| *count *= FADING);
        self.partitions.retain(|_, count| *count >= COUNT_MIN);
        self.keys.values_mut().for_each(|(_, count)| *count *= FADING);
        self.keys.retain(|_, (_, count)| *count >= COUNT_MIN);
    }

    /// The hottest first.
    pub(super) fn partitions(&self) -> Vec<HotPartition> {
        let counts = self.partitions.iter().map(|(partition, count)| (*count, partition.0));
        let hot = hottest(counts.collect()).into_iter();
        hot.map(|(per_second, partition)| HotPartition { partition, per_second }).collect()
    }

    /// The hottest first.
    pub(super) fn keys(&self) -> Vec<HotKey> {
        let counts = self.keys.iter().map(|(key, (partition, count))| (*count, (key, partition.0)));
        let hot = hottest(counts.collect()).into_iter();
        let name =
            |key: &Bytes| String::from_utf8_lossy(&key[..key.len().min(HOT_KEY_BYTES_MAX)]).into_owned();
        hot.map(|(per_second, (key, partition))| HotKey { key: name(key), partition, per_second }).collect()
    }
}

/// The largest counts as rates, with their partitions or keys. Less than one request in two seconds is not hot.
fn hottest<T>(mut counts: Vec<(f64, T)>) -> Vec<(u64, T)> {
    counts.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let rates = counts.into_iter().map(|(count, what)| ((count * (1.0 - FADING)).round() as u64, what));
    rates.take_while(|(rate, _)| *rate > 0).take(HOT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(hot: &mut Hot, key: &str) {
        hot.on_ask(&Ask::Read(Query::get(Bytes::copy_from_slice(key.as_bytes()))), Partitions::default());
    }

    #[test]
    fn a_hot_key_is_found_among_many() {
        let mut hot = Hot::default();
        for second in 0..60 {
            for n in 0..20_000 {
                if n % 10 == 0 { get(&mut hot, "hot") } else { get(&mut hot, &format!("key-{second}-{n}")) }
            }
            hot.on_second();
        }
        let keys = hot.keys();
        assert_eq!(keys[0].key, "hot");
        assert!((1400..2900).contains(&keys[0].per_second), "{keys:?}");
        assert_eq!(keys[0].partition, Partitions::default().of_key(b"hot").0);
        assert_eq!(hot.partitions()[0].partition, keys[0].partition);
        assert!(keys.len() <= HOT_MAX && hot.keys.len() <= KEYS_KEPT);
        (0..100).for_each(|_| hot.on_second());
        assert!(hot.keys().is_empty() && hot.partitions().is_empty(), "what is over is forgotten");
    }

    #[test]
    fn few_requests_are_all_looked_at() {
        let mut hot = Hot::default();
        for _ in 0..60 {
            (0..5).for_each(|_| get(&mut hot, "a"));
            (0..2).for_each(|_| get(&mut hot, "\u{1F340}".repeat(40).as_str()));
            hot.on_second();
        }
        let keys = hot.keys();
        let rates: Vec<u64> = keys.iter().map(|key| key.per_second).collect();
        assert!((4..=5).contains(&rates[0]) && rates[1] == 2, "{keys:?}");
        assert_eq!(keys[1].key, "\u{1F340}".repeat(16), "the beginning of a long key");
    }
}
