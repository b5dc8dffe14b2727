//! How long the commit log's syncs take of late. The ECS compares servers by that, and takes load from one whose disk
//! is slow.
//!
//! The median of the last syncs, with the one under way: a single stall does not make a disk slow, and a disk on which
//! a write does not end is slow as long as that lasts. A server that has lost its copies because its disk was slow
//! writes nothing more, so where the last syncs were slow the log thread tries the disk once in a while (see
//! `log_writer.rs`).

use std::time::Duration;

/// Syncs that are remembered; an odd number.
const SYNCS: usize = 9;

/// The last syncs, in microseconds. Empty slots are at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Syncs {
    last: [u64; SYNCS],
    /// Number of syncs so far.
    count: usize,
}

impl Syncs {
    pub(crate) fn record(&mut self, took_us: u64) {
        self.last[self.count % SYNCS] = took_us;
        self.count += 1;
    }

    /// The median, in microseconds. `under_way`: the age of the write under way. `None` before the first sync.
    pub(crate) fn median(&self, under_way: Option<Duration>) -> Option<u64> {
        let mut all: Vec<u64> = self.last[..self.count.min(SYNCS)].to_vec();
        all.sort_unstable();
        let finished = all.get(all.len() / 2).copied()?;
        let under_way = under_way.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if under_way <= finished {
            // It may still become longer, so it counts only once it is above the median.
            return Some(finished);
        }
        all.push(under_way);
        all.sort_unstable();
        Some(all[all.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Option<Duration> {
        Some(Duration::from_millis(milliseconds))
    }

    fn syncs(took_ms: &[u64]) -> Syncs {
        let mut syncs = Syncs::default();
        took_ms.iter().for_each(|took| syncs.record(took * 1000));
        syncs
    }

    #[test]
    fn the_median_is_of_the_last_ones() {
        assert_eq!(Syncs::default().median(None), None);
        assert_eq!(Syncs::default().median(ms(9)), None, "a first write says nothing yet");
        assert_eq!(syncs(&[4]).median(None), Some(4_000));
        assert_eq!(syncs(&[1, 900, 2]).median(None), Some(2_000), "one stall");
        let mut many = syncs(&[1; 20]);
        (0..4).for_each(|_| many.record(300_000));
        assert_eq!(many.median(None), Some(1_000));
        many.record(300_000);
        assert_eq!(many.median(None), Some(300_000));
    }

    #[test]
    fn the_sync_under_way_counts_as_far_as_it_is() {
        assert_eq!(syncs(&[1, 1, 300]).median(ms(200)), Some(200_000));
        assert_eq!(syncs(&[1, 1, 300]).median(ms(400)), Some(300_000));
        assert_eq!(syncs(&[1, 1, 1]).median(ms(400)), Some(1_000), "one stall");
        assert_eq!(syncs(&[300, 300, 300]).median(ms(1)), Some(300_000));
    }
}
