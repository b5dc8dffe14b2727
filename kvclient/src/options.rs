//! The options of a client.

use std::time::Duration;

use common::limits::CLIENT_RETRY_FOR;

use crate::limits::CONNECT_TIMEOUT_DEFAULT;

/// Which server answers reads. All answers are linearizable (`docs/reads.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadFrom {
    /// The coordinator of the key: one message there and back, never another one behind it.
    #[default]
    Coordinator,
    /// Any in-sync server of the key, by chance: for keys that are read more than one server can answer, and written
    /// rarely. A replica asks the coordinator for its commit while a write to the key is on its way.
    InSync,
}

/// How long a [`Client`](crate::Client) waits, and which servers it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a request is retried before it fails. Longer than [`CLIENT_RETRY_FOR`] counts as that: servers
    /// refuse older writes.
    pub timeout: Duration,
    /// How long [`Client::connect`](crate::Client::connect) looks for a server that answers.
    pub connect_timeout: Duration,
    /// Which server answers reads.
    pub read_from: ReadFrom,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: CLIENT_RETRY_FOR,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            read_from: ReadFrom::default(),
        }
    }
}
