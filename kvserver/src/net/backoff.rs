//! Connecting, and waiting before the next try.

use std::time::Duration;

use common::stream::{self, Stream};

use crate::limits::{CONNECT_AGAIN, CONNECT_FOR};

/// Pauses that double, from the first to the last of [`CONNECT_AGAIN`].
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: CONNECT_AGAIN.0 }
    }
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Waits, longer each time.
    #[expect(clippy::disallowed_methods, reason = "no event says when an address can be reached again")]
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(CONNECT_AGAIN.1);
    }
}

/// Connects within [`CONNECT_FOR`].
pub(crate) async fn connect(address: &str) -> std::io::Result<Stream> {
    tokio::time::timeout(CONNECT_FOR, stream::connect(address)).await?
}
