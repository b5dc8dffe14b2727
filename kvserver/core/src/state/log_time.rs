//! The log time of a partition: the largest stamp applied, and the falls from times that were further ahead.
//!
//! A value whose expiry is not after log time is gone. It may have been read as gone, and a copy may have removed its
//! record, so it must stay gone. But log time must be able to fall back: where the stamps of a while were far ahead
//! (most servers' wall clocks were wrong), values written later would live too long by as much. So a fall is remembered
//! with the entry that it came with: whatever was written before that entry, and had expired before it, stays gone.
//! When log time is where it was again, the fall is dropped, as the expiry alone is enough then.

use common::codec::wire_struct;
use common::ids::LogId;
use common::operation::Found;
use common::time::WallTime;

use super::super::limits::{FALLS_MAX, LOG_TIME_FALLS_MS};

/// A fall of log time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fall {
    /// The entry with which log time fell.
    at: LogId,
    /// Log time before the fall.
    from: WallTime,
}
wire_struct!(Fall { at, from });

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTime {
    pub(super) now: WallTime,
    pub(super) falls: Vec<Fall>,
}

impl LogTime {
    /// The time that relative expiries count from.
    #[must_use]
    pub fn now(&self) -> WallTime {
        self.now
    }

    /// Whether a stored record has expired for good.
    #[must_use]
    pub fn is_past(&self, found: &Found) -> bool {
        found.expires.is_some_and(|expires| {
            expires <= self.now
                || self.falls.iter().any(|fall| found.version < fall.at && expires <= fall.from)
        })
    }

    /// Asserts what must be true after every command.
    pub(super) fn invariants(&self) {
        assert!(self.falls.len() <= FALLS_MAX, "falls that are remembered are bounded");
        assert!(
            self.falls.iter().all(|fall| fall.from > self.now),
            "log time is where it was, and a fall is left"
        );
        let descend = self.falls.windows(2).all(|two| two[0].from > two[1].from && two[0].at < two[1].at);
        assert!(descend, "each fall is from a time that is less far ahead: {:?}", self.falls);
    }

    /// Takes the stamp of the entry `id`, which is applied. A stamp of zero has no effect.
    pub(super) fn on_stamp(&mut self, id: LogId, stamp: WallTime) {
        if stamp > self.now {
            self.now = stamp;
            self.falls.retain(|fall| fall.from > stamp);
        } else if stamp.0 > 0
            && stamp.0.saturating_add(LOG_TIME_FALLS_MS) < self.now.0
            && self.falls.len() < FALLS_MAX
        {
            self.falls.push(Fall { at: id, from: self.now });
            self.now = stamp;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use common::ids::{Epoch, Seq};

    fn at(seq: u64) -> LogId {
        LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
    }

    fn found(seq: u64, expires: u64) -> Found {
        Found { value: Bytes::new(), version: at(seq), expires: Some(WallTime(expires)) }
    }

    #[test]
    fn a_little_behind_is_no_fall_and_zero_is_no_stamp() {
        let mut time = LogTime::default();
        for stamp in [100_000, 0, 99_000, 100_000 - LOG_TIME_FALLS_MS] {
            time.on_stamp(at(1), WallTime(stamp));
            assert_eq!((time.now(), time.falls.len()), (WallTime(100_000), 0));
        }
    }

    #[test]
    fn what_was_gone_before_a_fall_stays_gone_and_what_comes_after_it_lives_as_long_as_it_should() {
        let mut time = LogTime::default();
        time.on_stamp(at(1), WallTime(1_000_000));
        time.on_stamp(at(5), WallTime(90_000_000));
        assert!(time.is_past(&found(1, 1_500_000)) && !time.is_past(&found(2, 90_000_001)));
        time.on_stamp(at(7), WallTime(1_010_000));
        assert_eq!(time.now(), WallTime(1_010_000));
        assert!(time.is_past(&found(1, 1_500_000)), "it was gone");
        assert!(!time.is_past(&found(2, 90_000_001)), "it was not");
        assert!(!time.is_past(&found(7, 1_500_000)) && !time.is_past(&found(8, 1_500_000)));
        time.on_stamp(at(9), WallTime(1_500_000));
        assert!(time.is_past(&found(8, 1_500_000)));
        time.on_stamp(at(10), WallTime(90_000_000));
        assert_eq!(time.falls, []);
        assert!(time.is_past(&found(1, 1_500_000)) && time.is_past(&found(8, 1_500_000)));
    }

    #[test]
    fn one_that_falls_too_often_stays_where_it_is_until_it_is_there_again() {
        let mut time = LogTime::default();
        let far = |times: u64| WallTime(100_000_000 * times);
        for fall in (1..=FALLS_MAX as u64).rev() {
            time.on_stamp(at(100 - 2 * fall), far(fall + 1));
            time.on_stamp(at(101 - 2 * fall), WallTime(1000 + fall));
        }
        time.on_stamp(at(200), far(1));
        time.on_stamp(at(201), WallTime(9999));
        assert_eq!((time.now(), time.falls.len()), (far(1), FALLS_MAX));
        time.on_stamp(at(202), far(20));
        assert_eq!((time.now(), time.falls.len()), (far(20), 0));
    }
}
