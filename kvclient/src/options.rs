//! What a client may be told when it is made.

use std::time::Duration;

use common::limits::CLIENT_RETRY_FOR;

use crate::limits::CONNECT_TIMEOUT_DEFAULT;

/// How patient a [`Client`](crate::Client) is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a request is retried before it fails. Longer than [`CLIENT_RETRY_FOR`] counts as that: servers
    /// refuse older writes.
    pub timeout: Duration,
    /// How long [`Client::connect`](crate::Client::connect) looks for a server that answers.
    pub connect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: CLIENT_RETRY_FOR, connect_timeout: CONNECT_TIMEOUT_DEFAULT }
    }
}
