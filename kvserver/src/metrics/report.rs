//! All figures of a server at one moment.

use std::sync::Arc;

use common::histogram::{BATCHES, Histogram};
use common::ids::Epoch;
use common::status::{CaughtUp, ComparedStatus, ScrubStatus, TransferStatus};
use common::time::Time;

use super::kind::{KINDS, Outcome};
use crate::net::byte_counter::ByteCounter;

/// Counts of requests since the process began.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    /// Requests answered, by kind and outcome.
    pub(super) answered: [[u64; Outcome::COUNT]; KINDS.len()],
    pub(super) reads: Histogram,
    pub(super) writes: Histogram,
    pub(super) scans: Histogram,
    /// Events that the core took in one batch.
    pub(super) batches: Histogram,
}

impl Requests {
    pub(super) fn failed(&self) -> u64 {
        let failed = |outcomes: &[u64; Outcome::COUNT]| Outcome::FAILED.map(|one| outcomes[one as usize]);
        self.answered.iter().flat_map(failed).sum()
    }
}

/// Counts of the commit log since the process began.
#[derive(Clone, Debug)]
pub(crate) struct LogFigures {
    /// Times of fdatasync, in microseconds.
    pub(crate) syncs: Histogram,
    /// Records that one fdatasync made durable.
    pub(crate) records: Histogram,
}

impl Default for LogFigures {
    fn default() -> Self {
        Self { syncs: Histogram::durations(), records: Histogram::new(BATCHES) }
    }
}

/// What is stored, in bytes and keys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    /// Records of all copies, with those that have expired and are not removed yet.
    pub(crate) keys: u64,
    /// Records among these that have an expiry.
    pub(crate) expiring: u64,
    /// Bytes of the trees' files.
    pub(crate) trees: u64,
    /// Bytes of the trees' memory tables.
    pub(crate) memory: u64,
    /// Bytes of the commit log that are needed.
    pub(crate) log: u64,
}

/// The roles that this server has in partitions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Roles {
    pub(crate) coordinator: u64,
    pub(crate) replica: u64,
    pub(crate) joining: u64,
    /// Partitions that it coordinates and may acknowledge writes of.
    pub(crate) active: u64,
    /// Partitions that it coordinates and may read, as its leases have not run out.
    pub(crate) readable: u64,
    /// Partitions that it is a replica of and may read alone, under a read lease.
    pub(crate) read_leases: u64,
    /// Entries ordered and not committed, in the partition with most of them, and in all that it coordinates.
    pub(crate) lag: u64,
    pub(crate) lag_all: u64,
    /// Entries committed and not applied, of all copies.
    pub(crate) unapplied: u64,
}

/// All figures of a server at one moment.
#[derive(Clone, Debug)]
pub(crate) struct MetricsReport {
    pub(crate) at: Time,
    pub(crate) requests: Requests,
    pub(crate) log: LogFigures,
    pub(crate) view: Epoch,
    pub(crate) roles: Roles,
    pub(crate) sizes: Sizes,
    pub(crate) free_bytes: u64,
    pub(crate) has_room: bool,
    /// Requests that are not answered.
    pub(crate) open: u64,
    /// Events that wait for the core.
    pub(crate) waiting: u64,
    pub(crate) transfers: Vec<TransferStatus>,
    pub(crate) caught_up: CaughtUp,
    pub(crate) scrub: ScrubStatus,
    pub(crate) compared: ComparedStatus,
    /// Microseconds that the wall clock is ahead of the time by which values expire.
    pub(crate) wall_ahead: i64,
    /// Why no requests should be sent here; `None` if they may.
    pub(crate) not_ready: Option<String>,
}

/// Figures of connections, which count for themselves.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// Bytes of requests and replies that all connections have open.
    pub(crate) open_bytes: ByteCounter,
    pub(crate) free: Arc<tokio::sync::Semaphore>,
    pub(crate) permits: usize,
}
