//! Histograms with fixed buckets, so that those of many servers and seconds can be added up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Upper ends of the buckets of durations, in microseconds: the preferred numbers R5 of ISO 3, five to each power of
/// ten, from 10 microseconds to 10 seconds. A quantile that is read off them is wrong by 60 % at most.
pub const MICROSECONDS: &[u64] = &[
    10, 16, 25, 40, 63, 100, 160, 250, 400, 630, 1_000, 1_600, 2_500, 4_000, 6_300, 10_000, 16_000, 25_000,
    40_000, 63_000, 100_000, 160_000, 250_000, 400_000, 630_000, 1_000_000, 1_600_000, 2_500_000, 4_000_000,
    6_300_000, 10_000_000,
];

/// Upper ends of the buckets of what is done at once: powers of two.
pub const BATCHES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Counts by bucket. Not shared: the thread that counts owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than `bounds`: the last is of what is above them all.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// An empty one. `bounds`: upper ends, included, ascending.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// An empty one of durations.
    #[must_use]
    pub fn durations() -> Self {
        Self::new(MICROSECONDS)
    }

    /// Counts one.
    pub fn record(&mut self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// The sum of all that was counted.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The buckets' upper ends with what is in each; none: what is above them all.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let ends = self.bounds.iter().copied().map(Some).chain([None]);
        ends.zip(self.counts.iter().copied())
    }

    /// What was counted here and not in `earlier`, which is a former state of this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Counted {
        let more = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now - then);
        Counted((0..).zip(more).filter(|&(_, count)| count > 0).collect())
    }
}

/// Counts of durations by bucket of [`MICROSECONDS`], without the empty ones: small enough to be sent each second.
/// In JSON a list of pairs `[bucket, count]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u8, u64)>", into = "Vec<(u8, u64)>")]
pub struct Counted(BTreeMap<u8, u64>);

impl From<Vec<(u8, u64)>> for Counted {
    fn from(pairs: Vec<(u8, u64)>) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl From<Counted> for Vec<(u8, u64)> {
    fn from(counted: Counted) -> Self {
        counted.0.into_iter().collect()
    }
}

impl Counted {
    /// Adds another's counts. Buckets that do not exist, and what would be more than can be counted, are left out.
    pub fn add(&mut self, other: &Self) {
        for (&bucket, &count) in other.0.range(..=MICROSECONDS.len() as u8) {
            let sum = self.0.entry(bucket).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// The duration that the share `quantile` of all does not exceed, in microseconds, taken as even within a bucket.
    /// None if nothing was counted; what is above all buckets is said to be as long as the last of them ends.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * all as f64;
        let mut below = 0.0;
        for (&bucket, &count) in &self.0 {
            let count = count as f64;
            if below + count >= rank {
                let bucket = usize::from(bucket);
                let Some(&end) = MICROSECONDS.get(bucket) else { break };
                let begin = bucket.checked_sub(1).map_or(0, |before| MICROSECONDS[before]);
                return Some(begin + ((end - begin) as f64 * (rank - below) / count) as u64);
            }
            below += count;
        }
        MICROSECONDS.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_ends_at_them_or_above() {
        let mut histogram = Histogram::new(BATCHES);
        [1, 2, 3, 4, 5000].into_iter().for_each(|value| histogram.record(value));
        let filled: Vec<_> = histogram.buckets().filter(|&(_, count)| count > 0).collect();
        assert_eq!(filled, [(Some(1), 1), (Some(2), 1), (Some(4), 2), (None, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (5, 5010));
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted_since() {
        let mut histogram = Histogram::durations();
        histogram.record(9_000_000);
        let before = histogram.clone();
        (0..90).for_each(|_| histogram.record(200));
        (0..10).for_each(|_| histogram.record(20_000));
        let counted = histogram.since(&before);
        assert_eq!(counted.count(), 100);
        let median = counted.quantile(0.5).unwrap();
        assert!((160..=250).contains(&median), "{median}");
        let p99 = counted.quantile(0.99).unwrap();
        assert!((16_000..=25_000).contains(&p99), "{p99}");
        assert_eq!(Counted::default().quantile(0.5), None);
    }

    #[test]
    fn what_others_say_is_added_up_without_harm() {
        let mut sum = Counted::default();
        let foreign: Counted = serde_json::from_str("[[3, 18446744073709551615], [200, 7]]").unwrap();
        sum.add(&foreign);
        sum.add(&foreign);
        assert_eq!(sum.count(), u64::MAX, "bucket 200 does not exist");
        let above: Counted = serde_json::from_str("[[31, 1]]").unwrap();
        assert_eq!(above.quantile(0.5), Some(10_000_000));
        assert_eq!(serde_json::to_string(&above).unwrap(), "[[31,1]]");
    }
}
