//! When requests are due.
//!
//! In a closed loop a request is due when the one before it is answered: a slow answer puts off all that would have
//! come meanwhile, and the time that they would have waited stays hidden (coordinated omission). In an open loop
//! requests are due at even times, whatever happens to others. One that is due while all slots are taken begins late,
//! and its latency counts from when it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::clock;
use common::time::Time;
use tokio::sync::Semaphore;

/// Hands out the times at which requests are due, until the end.
#[derive(Debug)]
pub(super) struct Pace {
    started: Time,
    ends: Option<Time>,
    /// Requests in all.
    requests: u64,
    begun: AtomicU64,
    stopped: AtomicBool,
    open: Option<Open>,
}

/// An open loop.
#[derive(Debug)]
struct Open {
    /// Requests a second.
    rate: u64,
    /// Requests that are due and not begun.
    due: Semaphore,
    /// Requests that have become due.
    released: AtomicU64,
}

impl Pace {
    /// Begins at `started`; ends after `seconds` or after `requests`, whichever comes first.
    pub(super) fn new(
        started: Time,
        rate: Option<u64>,
        seconds: Option<Duration>,
        requests: Option<u64>,
    ) -> Self {
        let open = |rate| Open { rate, due: Semaphore::new(0), released: AtomicU64::new(0) };
        Self {
            started,
            ends: seconds.map(|seconds| started + seconds),
            requests: requests.unwrap_or(u64::MAX),
            begun: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            open: rate.map(open),
        }
    }

    /// When the next request is due, once it is; `now` is the time of the call. `None`: there is none.
    pub(super) async fn next(&self, now: Time) -> Option<Time> {
        let Some(open) = &self.open else {
            let over = self.stopped.load(Ordering::Relaxed) || self.ends.is_some_and(|ends| now >= ends);
            return (!over && self.begun.fetch_add(1, Ordering::Relaxed) < self.requests).then_some(now);
        };
        open.due.acquire().await.ok()?.forget();
        let index = self.begun.fetch_add(1, Ordering::Relaxed);
        if index + 1 == self.requests {
            open.due.close();
        }
        Some(self.due(open.rate, index))
    }

    /// No further request begins.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(open) = &self.open {
            open.due.close();
        }
    }

    /// Requests that were due and have not begun. In a closed loop there are none.
    pub(super) fn not_begun(&self) -> u64 {
        let released = self.open.as_ref().map_or(0, |open| open.released.load(Ordering::Relaxed));
        released.saturating_sub(self.begun.load(Ordering::Relaxed))
    }

    /// When the request with this number, from 0 on, is due.
    fn due(&self, rate: u64, index: u64) -> Time {
        let us = u128::from(index) * 1_000_000 / u128::from(rate);
        self.started + Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    /// Requests that are due by `now`.
    fn due_by(&self, rate: u64, now: Time) -> u64 {
        let passed = now.since(self.started).as_micros();
        // The last microsecond of a request's period still belongs to the request.
        let due = ((passed + 1) * u128::from(rate)).div_ceil(1_000_000);
        u64::try_from(due).unwrap_or(u64::MAX).min(self.requests)
    }

    /// Lets requests begin that have become due; when the next one is, if there is one.
    fn release(&self, open: &Open, now: Time) -> Option<Time> {
        let end = self.ends.filter(|ends| now >= *ends);
        let due = self.due_by(open.rate, end.map_or(now, |end| end - Duration::from_micros(1)));
        let released = open.released.swap(due, Ordering::Relaxed);
        open.due.add_permits(usize::try_from(due - released).unwrap_or(usize::MAX));
        if end.is_some() {
            open.due.close();
        }
        (end.is_none() && due < self.requests && !open.due.is_closed()).then(|| self.due(open.rate, due))
    }

    /// Starts the thread that releases requests. The timers of the runtime are too coarse: they count milliseconds.
    pub(super) fn run(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        self.open.as_ref()?;
        let pace = Arc::clone(self);
        Some(thread::spawn(move || {
            let open = pace.open.as_ref().expect("it was looked at");
            while let Some(next) = pace.release(open, clock::time()) {
                pause(next.since(clock::time()));
            }
        }))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the load is made of times: there is nothing to wait for but them"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_times() {
        for rate in [1, 3, 1000, 30_000, 999_983, 1_000_000] {
            let pace = Pace::new(Time(77), Some(rate), None, None);
            for index in (0..100).chain([rate - 1, rate, 10 * rate]) {
                let due = pace.due(rate, index);
                assert!(pace.due_by(rate, due) > index, "rate {rate}, request {index}");
                assert!(index == 0 || pace.due_by(rate, due - Duration::from_micros(1)) <= index);
            }
            assert_eq!(pace.due(rate, 10 * rate), Time(77 + 10_000_000));
        }
    }

    #[tokio::test]
    async fn what_waited_counts_from_when_it_was_due() {
        let pace = Pace::new(Time(0), Some(1000), Some(Duration::from_secs(1)), None);
        let open = pace.open.as_ref().unwrap();
        assert_eq!(pace.release(open, Time(0)), Some(Time(1000)));
        assert_eq!(pace.next(Time(0)).await, Some(Time(0)));
        // No request could begin for 200 ms: each of them has waited its own time.
        assert_eq!(pace.release(open, Time(200_000)), Some(Time(201_000)));
        for index in 1..=200 {
            assert_eq!(pace.next(Time(200_000)).await, Some(Time(index * 1000)));
        }
        assert_eq!(pace.not_begun(), 0);
        assert_eq!(pace.release(open, Time(1_500_000)), None);
        assert_eq!(pace.not_begun(), 799);
        assert_eq!(pace.next(Time(1_500_000)).await, None);
    }

    #[tokio::test]
    async fn a_number_of_requests_ends_both_loops() {
        for rate in [None, Some(1_000_000)] {
            let pace = Arc::new(Pace::new(clock::time(), rate, None, Some(500)));
            let thread = pace.run();
            let mut begun = 0;
            while pace.next(clock::time()).await.is_some() {
                begun += 1;
            }
            assert_eq!((begun, pace.not_begun()), (500, 0));
            if let Some(thread) = thread {
                thread.join().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_stop_ends_both_loops() {
        for rate in [None, Some(1)] {
            let pace = Arc::new(Pace::new(clock::time(), rate, None, None));
            let thread = pace.run();
            assert!(pace.next(clock::time()).await.is_some());
            pace.stop();
            assert_eq!(pace.next(clock::time()).await, None);
            // A thread that waits for the next request to be due ends then; nothing waits for it.
            drop(thread);
        }
    }
}
