//! When everything that is stored is read through against its checksums, and how fast: one partition after the other, a
//! piece at a time, within a rate.
//!
//! States: *waiting* for the next pass, *reading* a partition, and in between nothing is kept but the list of those that
//! are left. What a damaged piece means is not decided here: the store as a whole is condemned then.

use std::collections::VecDeque;
use std::time::Duration;

use common::ids::PartitionId;
use common::status::ScrubStatus;
use common::time::Time;

use super::env::Pace;
use super::limits::SCRUB_FIRST;

/// What the shell is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubStep {
    /// Open a picture of this partition, in place of the last one.
    Open(PartitionId),
    /// Read the next piece of the open picture, and say [`Scrub::on_read`].
    Read,
}

/// See the module's text.
#[derive(Debug)]
pub struct Scrub {
    interval: Duration,
    rate: u64,
    next_pass: Time,
    in_pass: bool,
    left: VecDeque<PartitionId>,
    open: bool,
    reading: bool,
    pace: Pace,
    status: ScrubStatus,
}

impl Scrub {
    /// `interval` zero: never. `rate`: bytes a second, 0 for no limit.
    #[must_use]
    pub fn new(interval: Duration, rate: u64, now: Time) -> Self {
        Self {
            interval,
            rate,
            next_pass: now + interval.min(SCRUB_FIRST),
            in_pass: false,
            left: VecDeque::new(),
            open: false,
            reading: false,
            pace: Pace::default(),
            status: ScrubStatus::default(),
        }
    }

    /// What to do now; nothing while a piece is being read, between two passes, and while the rate does not allow it.
    pub fn next(&mut self, now: Time, stored: impl FnOnce() -> Vec<PartitionId>) -> Option<ScrubStep> {
        if self.interval.is_zero() || self.reading || !self.pace.is_open(now) {
            return None;
        }
        if self.open {
            self.reading = true;
            return Some(ScrubStep::Read);
        }
        if !self.in_pass && now >= self.next_pass {
            (self.in_pass, self.next_pass) = (true, now + self.interval);
            self.left = stored().into();
        }
        match self.left.pop_front() {
            Some(partition) => {
                self.open = true;
                self.status.partition = Some(partition.0);
                Some(ScrubStep::Open(partition))
            }
            None => {
                if std::mem::take(&mut self.in_pass) {
                    self.status.passes += 1;
                    self.status.partition = None;
                }
                None
            }
        }
    }

    /// A piece was read and found good; with `done` it was the partition's last.
    pub fn on_read(&mut self, now: Time, bytes: usize, done: bool) {
        self.reading = false;
        self.open &= !done;
        self.pace.take(now, bytes, self.rate);
        self.status.bytes += bytes as u64;
    }

    /// A record that has expired was removed.
    pub fn on_removed(&mut self) {
        self.status.expired += 1;
    }

    /// For people.
    #[must_use]
    pub fn status(&self) -> ScrubStatus {
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn stored() -> Vec<PartitionId> {
        vec![PartitionId(3), PartitionId(5)]
    }

    #[test]
    fn a_pass_reads_each_partition_to_its_end_and_then_waits() {
        let mut scrub = Scrub::new(Duration::from_secs(10), 0, Time(0));
        assert_eq!(scrub.next(Time(9 * SECOND), stored), None);
        let now = Time(10 * SECOND);
        for partition in stored() {
            assert_eq!(scrub.next(now, stored), Some(ScrubStep::Open(partition)));
            for done in [false, true] {
                assert_eq!(scrub.next(now, stored), Some(ScrubStep::Read));
                assert_eq!(scrub.next(now, stored), None, "one piece at a time");
                scrub.on_read(now, 100, done);
            }
        }
        assert_eq!(scrub.next(now, stored), None);
        assert_eq!((scrub.status().passes, scrub.status().bytes, scrub.status().partition), (1, 400, None));
        assert_eq!(scrub.next(Time(19 * SECOND), stored), None);
        assert_eq!(scrub.next(Time(20 * SECOND), stored), Some(ScrubStep::Open(PartitionId(3))));
    }

    #[test]
    fn the_rate_is_kept_and_an_interval_of_zero_is_never() {
        let mut scrub = Scrub::new(Duration::from_secs(1), 1000, Time(0));
        let mut now = Time(SECOND);
        assert_eq!(scrub.next(now, stored), Some(ScrubStep::Open(PartitionId(3))));
        assert_eq!(scrub.next(now, stored), Some(ScrubStep::Read));
        scrub.on_read(now, 2000, false);
        now = Time(2 * SECOND);
        assert_eq!(scrub.next(now, stored), None);
        now = Time(3 * SECOND);
        assert_eq!(scrub.next(now, stored), Some(ScrubStep::Read));
        assert_eq!(Scrub::new(Duration::ZERO, 0, Time(0)).next(Time(u64::MAX), stored), None);
    }
}
