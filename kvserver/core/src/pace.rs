//! A limit on the rate of what is sent.

use std::time::Duration;

use common::time::Time;

use super::limits::PACE_SLACK;

/// Limits what is sent to a rate: each piece moves the time on from which the next may go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    next: Time,
}

impl Pace {
    /// Whether a piece may go now.
    pub(crate) fn is_open(self, now: Time) -> bool {
        now >= self.next
    }

    /// Notes a piece that goes. `rate`: bytes a second, 0 for no limit.
    pub(crate) fn take(&mut self, now: Time, bytes: usize, rate: u64) {
        let begin = self.next.max(now - PACE_SLACK);
        let micros = (bytes as u64).saturating_mul(1_000_000).checked_div(rate).unwrap_or(0);
        self.next = begin + Duration::from_micros(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_on_average_and_none_is_no_limit() {
        const PIECE: usize = 100_000;
        let (mut pace, mut sent) = (Pace::default(), 0);
        // Ten seconds of ticks of 10 ms, at a million bytes a second.
        for tick in 0..1000 {
            let now = Time(1_000_000_000 + tick * 10_000);
            while pace.is_open(now) {
                pace.take(now, PIECE, 1_000_000);
                sent += PIECE;
            }
        }
        assert!((9_900_000..=10_200_000).contains(&sent), "{sent}");
        pace = Pace::default();
        let now = Time(1_000_000_000);
        (0..1000).for_each(|_| pace.take(now, PIECE, 0));
        assert!(pace.is_open(now));
    }
}
