//! Waiting for conditions.

use std::time::Duration;

use common::clock;
use common::time::Time;

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// For everything that takes a moment: an election, a join of little data, the end of a process. Far above what it
/// takes on a busy machine, since whoever waits longer has found a fault.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How long something took.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Time);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(clock::time())
    }

    pub(crate) fn elapsed(self) -> Duration {
        clock::time().since(self.0)
    }
}

/// Waits until `find` has found something.
///
/// # Panics
/// After `limit`, with `what` was waited for and why it was not there at the last look.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut find: impl FnMut() -> Result<T, String>) -> T {
    let watch = Stopwatch::start();
    loop {
        match find() {
            Ok(found) => return found,
            Err(missing) => assert!(watch.elapsed() < limit, "not within {limit:?}: {what}: {missing}"),
        }
        pause();
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// After `limit`.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || if holds() { Ok(()) } else { Err("it does not hold".to_owned()) });
}

#[expect(clippy::disallowed_methods, reason = "the one place that sleeps: between two looks at a condition")]
fn pause() {
    std::thread::sleep(LOOK_AGAIN);
}
