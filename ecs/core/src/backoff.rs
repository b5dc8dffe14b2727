//! Pauses that grow for a server (or anything else) that fails again and again: after a failure it is left alone for a
//! while, longer at each failure that comes soon after the last one, and as short as at first once it has been well for
//! long.

use std::time::Duration;

use common::time::Time;

/// How pauses grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Failures without a pause.
    pub(super) free: u32,
    /// The first pause; each further one is twice as long.
    pub(super) first: Duration,
    /// The longest pause.
    pub(super) most: Duration,
    /// Without a failure for this long after the last pause, all failures are forgotten.
    pub(super) memory: Duration,
}

/// The failures of one server, or of whatever has pauses of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Time>,
}

impl Backoff {
    /// Counts one more failure.
    pub(super) fn on_failure(&mut self, growth: &Growth, now: Time) {
        if self.is_forgotten(growth, now) {
            self.failures = 0;
        }
        assert!(self.last.is_none_or(|last| last <= now), "failures come in order");
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        assert!(self.pause(growth) <= growth.most);
    }

    /// The pause after the last failure.
    pub(super) fn pause(&self, growth: &Growth) -> Duration {
        match self.failures.saturating_sub(growth.free) {
            0 => Duration::ZERO,
            counted => {
                let factor = 1_u32.checked_shl(counted - 1).unwrap_or(u32::MAX);
                growth.first.saturating_mul(factor).min(growth.most)
            }
        }
    }

    /// When the pause after the last failure ends; `None` before the first failure.
    pub(super) fn until(&self, growth: &Growth) -> Option<Time> {
        self.last.map(|last| last + self.pause(growth))
    }

    /// Whether all failures are so long ago that nothing needs to be kept.
    pub(super) fn is_forgotten(&self, growth: &Growth, now: Time) -> bool {
        self.until(growth).is_none_or(|until| now >= until + growth.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth = Growth {
        free: 1,
        first: Duration::from_secs(1),
        most: Duration::from_secs(10),
        memory: Duration::from_secs(60),
    };

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut backoff, now) = (Backoff::default(), Time(5_000_000));
        assert_eq!(backoff.until(&GROWTH), None);
        let seconds: Vec<u64> = (0..6)
            .map(|_| {
                backoff.on_failure(&GROWTH, now);
                backoff.pause(&GROWTH).as_secs()
            })
            .collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 10]);
        assert_eq!(backoff.until(&GROWTH), Some(now + GROWTH.most));
        (0..100).for_each(|_| backoff.on_failure(&GROWTH, now));
        assert_eq!(backoff.pause(&GROWTH), GROWTH.most);
    }

    #[test]
    fn what_was_well_for_long_begins_anew() {
        let (mut backoff, mut now) = (Backoff::default(), Time(0));
        (0..3).for_each(|_| backoff.on_failure(&GROWTH, now));
        // The pause of two seconds and the memory after it.
        now = now + Duration::from_millis(61_999);
        assert!(!backoff.is_forgotten(&GROWTH, now));
        let mut goes_on = backoff;
        goes_on.on_failure(&GROWTH, now);
        assert_eq!(goes_on.pause(&GROWTH), Duration::from_secs(4));
        now = now + Duration::from_millis(1);
        assert!(backoff.is_forgotten(&GROWTH, now));
        backoff.on_failure(&GROWTH, now);
        assert_eq!(backoff.pause(&GROWTH), Duration::ZERO);
    }
}
