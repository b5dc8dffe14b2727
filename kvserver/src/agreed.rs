//! The clock by which values expire, for replies that say how long a value lives. The core sets it (`stamps` of
//! `kvserver_core`); it is the same at all servers but for the time that messages take.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use common::clock;
use common::time::WallTime;

/// A handle to the clock by which values expire. Clones share its offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgreedClock {
    /// Microseconds from `CLOCK_BOOTTIME` to this clock.
    offset: Arc<AtomicI64>,
}

impl AgreedClock {
    /// Sets the offset that the core has now.
    pub(crate) fn set(&self, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// The time of this clock.
    pub(crate) fn now(&self) -> WallTime {
        let micros = clock::time().0.saturating_add_signed(self.offset.load(Ordering::Relaxed));
        WallTime(micros / 1000)
    }
}
