//! The one place that reads the machine's clocks, for shells; cores get a [`Now`].

use std::time::UNIX_EPOCH;

use rustix::time::{ClockId, clock_gettime};

use crate::time::{Now, Time, WallTime};

/// `CLOCK_BOOTTIME`: it does not stop in suspend, unlike the monotonic clock of `std::time::Instant`.
#[must_use]
pub fn time() -> Time {
    let at = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(at.tv_nsec).unwrap_or(0);
    Time(seconds * 1_000_000 + nanoseconds / 1_000)
}

/// The wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The wall clock, finer, for spans.
#[cfg(feature = "otel")]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn system() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// Both clocks.
#[must_use]
pub fn now() -> Now {
    Now { time: time(), wall: wall() }
}
