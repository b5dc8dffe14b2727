//! A count of bytes that many tasks add to and take from, and that all can read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Clones share one count.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByteCounter(Arc<AtomicUsize>);

impl ByteCounter {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
