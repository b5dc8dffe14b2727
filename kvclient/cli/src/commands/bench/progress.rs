//! The progress of a run, on a terminal only.

use std::io::{self, IsTerminal};
use std::time::Duration;

use common::clock;
use common::time::Time;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::limits::BENCH_PROGRESS_EVERY;

/// A bar that lives until it is dropped.
#[derive(Debug)]
pub(super) struct Progress(Option<(ProgressBar, JoinHandle<()>)>);

impl Progress {
    /// A bar for keys that are put first.
    pub(super) fn of_keys(keys: u64, done: impl Fn() -> u64 + Send + 'static) -> Self {
        Self::start(keys, "putting the keys first", done, |_, done| done)
    }

    /// A bar for requests, by time or by their number.
    pub(super) fn of_requests(
        seconds: Option<Duration>,
        requests: Option<u64>,
        done: impl Fn() -> u64 + Send + 'static,
    ) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match seconds {
            Some(seconds) => Self::start(ms(seconds), "measuring", done, move |passed, _| ms(passed)),
            None => Self::start(requests.unwrap_or(0), "measuring", done, |_, done| done),
        }
    }

    /// Starts a bar. `position`: how far it is, from the time that has passed and what is done.
    fn start(
        length: u64,
        what: &'static str,
        done: impl Fn() -> u64 + Send + 'static,
        position: impl Fn(Duration, u64) -> u64 + Send + 'static,
    ) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {percent}%  {msg}").expect("the template is fixed"),
        );
        let shown = bar.clone();
        let started = clock::time();
        let task = tokio::spawn(async move {
            let mut looks = interval(BENCH_PROGRESS_EVERY);
            let mut before = (started, 0);
            loop {
                looks.tick().await;
                let now = clock::time();
                let passed = now.since(started);
                let count = done();
                shown.set_message(format!("{what}, {:.0}/s", rate(before, (now, count))));
                shown.set_position(position(passed, count));
                before = (now, count);
            }
        });
        Self(Some((bar, task)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((bar, task)) = &self.0 {
            task.abort();
            bar.finish_and_clear();
        }
    }
}

/// What was done a second between two looks.
fn rate(before: (Time, u64), now: (Time, u64)) -> f64 {
    let seconds = now.0.since(before.0).as_secs_f64();
    if seconds > 0.0 { now.1.saturating_sub(before.1) as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_since_the_last_look() {
        assert!((rate((Time(1_000_000), 50), (Time(1_500_000), 150)) - 200.0).abs() < 1e-9);
        assert!(rate((Time(5), 0), (Time(5), 9)).abs() < 1e-9);
    }
}
