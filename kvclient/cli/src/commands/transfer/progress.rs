//! A bar while it runs, on a terminal only, and one line at the end.

use std::io::{self, IsTerminal};

use common::clock;
use common::time::Time;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::frame::show::{bytes_shown, elapsed_shown};

/// The progress of a transfer.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    started: Time,
    keys: u64,
    bytes: u64,
}

impl Progress {
    /// Begins; `total_bytes` is the input's size, if it is known, of which `done` were done before.
    pub(super) fn start(total_bytes: Option<u64>, done: u64) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let (bar, template) = match total_bytes {
            Some(total) => (
                ProgressBar::with_draw_target(Some(total), target).with_position(done),
                "{bar:30} {percent}%  {msg}  {binary_bytes_per_sec}  {eta} left",
            ),
            None => (ProgressBar::with_draw_target(None, target), "{spinner} {msg}  {elapsed}"),
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is fixed"));
        bar.reset_eta();
        Self { bar, started: clock::time(), keys: 0, bytes: 0 }
    }

    /// Counts a key that is done.
    pub(super) fn key_done(&mut self, bytes: usize) {
        self.keys += 1;
        self.bytes += bytes as u64;
    }

    /// Updates the bar; `position` in bytes of the input.
    pub(super) fn show(&self, position: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} keys, {:.0}/s", self.keys, self.rate()));
            self.bar.set_position(position);
        }
    }

    /// Ends the bar and prints what was done.
    pub(super) fn finish(self, what: &str, more: &str) {
        self.bar.finish_and_clear();
        let elapsed = elapsed_shown(clock::time().since(self.started));
        let (keys, bytes, rate) = (self.keys, bytes_shown(self.bytes), self.rate());
        eprintln!("{what} {keys} keys, {bytes} in {elapsed} ({rate:.0} keys/s){more}");
    }

    fn rate(&self) -> f64 {
        self.keys as f64 / clock::time().since(self.started).as_secs_f64().max(0.001)
    }
}
