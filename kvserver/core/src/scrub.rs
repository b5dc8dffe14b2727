//! The schedule of the scrub, which reads all stored data against its checksums: one partition after the other, a piece
//! at a time, within a rate. Reads that compare copies count for the rate too.
//!
//! States: *waiting* for the next pass, *reading* a partition, in between only the list of the partitions that are left
//! is kept. `damage` decides what a damaged piece means, and `compare` what becomes of copies that differ.

use std::collections::VecDeque;
use std::time::Duration;

use common::ids::PartitionId;
use common::status::ScrubStatus;
use common::time::Time;

use super::limits::SCRUB_FIRST;
use super::pace::Pace;

/// The next step for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubStep {
    /// Open a snapshot of this partition, in place of the last one.
    Open(PartitionId),
    /// Read the next piece of the open snapshot, then call [`Scrub::on_read`].
    Read,
    /// Read the next piece of a copy that is compared with others, then call [`Scrub::on_digest_read`].
    ReadDigest,
}

/// See the module's text.
#[derive(Debug)]
pub struct Scrub {
    interval: Duration,
    rate: u64,
    next_pass: Time,
    in_pass: bool,
    /// All that the pass has read so far has right checksums.
    is_good: bool,
    left: VecDeque<PartitionId>,
    open: bool,
    reading: bool,
    pace: Pace,
    /// Copies whose digests are to be made: they go first, as their coordinators wait.
    digests: usize,
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
            is_good: true,
            left: VecDeque::new(),
            open: false,
            reading: false,
            pace: Pace::default(),
            digests: 0,
            status: ScrubStatus::default(),
        }
    }

    /// The next step; `None` while a piece is being read, between two passes, and while the rate does not allow it.
    pub fn next(&mut self, now: Time, stored: impl FnOnce() -> Vec<PartitionId>) -> Option<ScrubStep> {
        if self.reading || !self.pace.is_open(now) {
            return None;
        }
        if self.digests > 0 {
            self.reading = true;
            return Some(ScrubStep::ReadDigest);
        }
        if self.interval.is_zero() {
            return None;
        }
        if self.open {
            self.reading = true;
            return Some(ScrubStep::Read);
        }
        if !self.in_pass && now >= self.next_pass {
            (self.in_pass, self.is_good, self.next_pass) = (true, true, now + self.interval);
            self.left = stored().into();
        }
        match self.left.pop_front() {
            Some(partition) => {
                assert!(self.in_pass && !self.open, "partitions are read one by one in a pass");
                self.open = true;
                self.status.partition = Some(partition.0);
                Some(ScrubStep::Open(partition))
            }
            None => {
                if std::mem::take(&mut self.in_pass) {
                    self.status.passes += u64::from(self.is_good);
                    self.status.partition = None;
                }
                None
            }
        }
    }

    /// Notes damage: the rest of the partition is skipped.
    pub fn on_damaged(&mut self) {
        (self.is_good, self.open, self.reading) = (false, false, false);
    }

    /// Notes a piece that was read; with `done` it was the partition's last.
    pub fn on_read(&mut self, now: Time, bytes: usize, done: bool) {
        self.reading = false;
        self.open &= !done;
        self.pace.take(now, bytes, self.rate);
        self.status.bytes += bytes as u64;
    }

    /// Notes that a snapshot of a copy was taken for a digest.
    pub fn on_digest_source(&mut self) {
        self.digests += 1;
    }

    /// Notes a piece that was read for a digest; with `done` it was the last.
    pub fn on_digest_read(&mut self, now: Time, bytes: usize, done: bool) {
        self.reading = false;
        assert!(self.digests > 0, "a digest is read that was never begun");
        self.digests -= usize::from(done);
        self.pace.take(now, bytes, self.rate);
        self.status.bytes += bytes as u64;
    }

    /// Counts expired records that were removed.
    pub fn on_removed(&mut self, records: u64) {
        self.status.expired += records;
    }

    /// The progress, for the status.
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
        let now = Time(20 * SECOND);
        assert_eq!(scrub.next(now, || vec![PartitionId(3)]), Some(ScrubStep::Open(PartitionId(3))));
        assert_eq!(scrub.next(now, stored), Some(ScrubStep::Read));
        scrub.on_damaged();
        assert_eq!(scrub.next(now, stored), None);
        assert_eq!(scrub.status().passes, 1, "not all was good");
    }

    #[test]
    fn copies_that_are_compared_go_first_within_the_same_rate() {
        let mut scrub = Scrub::new(Duration::from_secs(1), 1000, Time(0));
        let mut now = Time(SECOND);
        assert_eq!(scrub.next(now, stored), Some(ScrubStep::Open(PartitionId(3))));
        scrub.on_digest_source();
        assert_eq!(scrub.next(now, stored), Some(ScrubStep::ReadDigest));
        scrub.on_digest_read(now, 2000, true);
        assert_eq!(scrub.next(now, stored), None);
        now = Time(3 * SECOND);
        assert_eq!(scrub.next(now, stored), Some(ScrubStep::Read));
        let mut never = Scrub::new(Duration::ZERO, 0, Time(0));
        never.on_digest_source();
        assert_eq!(never.next(now, stored), Some(ScrubStep::ReadDigest), "others may compare");
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
