//! The slow log: requests that took long, with their keys. It is a part of the log, and bounded: a server that is slow
//! in everything must not become slower by logging.

use std::time::Duration;

use common::figures::HOT_KEY_BYTES_MAX;

use super::kind::{Kind, Outcome};

/// Requests that are logged in a second; further ones are only counted.
const LINES_PER_SECOND_MAX: u64 = 10;

/// Logs slow requests, at most [`LINES_PER_SECOND_MAX`] a second.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// The time from which on a request is slow; `None`: never.
    from: Option<Duration>,
    /// Slow requests in this second.
    slow: u64,
}

impl SlowLog {
    /// A slow log for requests that take `slow_ms` milliseconds or longer; 0: none.
    pub(crate) fn new(slow_ms: u64) -> Self {
        Self { from: (slow_ms > 0).then(|| Duration::from_millis(slow_ms)), slow: 0 }
    }

    /// Logs a request that was answered, if it was slow. Returns whether it did.
    pub(super) fn on_reply(
        &mut self,
        took: Duration,
        kind: Kind,
        key: Option<&[u8]>,
        outcome: Outcome,
    ) -> bool {
        if self.from.is_none_or(|from| took < from) {
            return false;
        }
        self.slow += 1;
        let logged = self.slow <= LINES_PER_SECOND_MAX;
        if logged {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let (_, result) = Outcome::ALL[outcome as usize];
            let key = key.map(|key| key[..key.len().min(HOT_KEY_BYTES_MAX)].escape_ascii().to_string());
            tracing::warn!(kind = kind.name(), key, took_ms, result, "a slow request");
        }
        logged
    }

    /// Begins a new second. Returns how many slow requests of the last one were not logged.
    pub(super) fn on_second(&mut self) -> u64 {
        let more = std::mem::take(&mut self.slow).saturating_sub(LINES_PER_SECOND_MAX);
        if more > 0 {
            tracing::warn!(more, "more slow requests, which are not logged one by one");
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_few_lines_and_a_number() {
        let mut log = SlowLog::new(100);
        let mut reply = |ms| log.on_reply(Duration::from_millis(ms), Kind::Get, Some(b"k"), Outcome::Ok);
        assert!(!reply(99) && reply(100));
        let logged = (0..20).filter(|_| reply(200)).count() as u64;
        assert_eq!(logged, LINES_PER_SECOND_MAX - 1);
        assert_eq!(log.on_second(), 11);
        assert_eq!(log.on_second(), 0);
        assert!(!SlowLog::new(0).on_reply(Duration::MAX, Kind::Get, None, Outcome::Ok), "switched off");
    }
}
