//! The configuration of a core.

use std::time::Duration;

use common::ids::ClientId;
use common::limits::Timers;

use super::planted::PlantedBug;

/// What makes reads linearizable (docs/protocol.md: L1, L2, 6.1 to 6.3, 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// On leases: a coordinator reads by itself, a replica too where nothing is pending. Clocks may differ in rate
    /// by what [`Timers::clock_rate_margin`] says.
    #[default]
    Lease,
    /// On no clock: every member confirms the coordinator's epoch after the read began.
    Barrier,
}

/// The configuration of a core.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lease, promise and ping times.
    pub timers: Timers,
    /// How long a request is parked before it is answered [`Reply::Busy`](common::messages::Reply::Busy).
    pub park: Duration,
    /// What makes reads linearizable: leases, or a barrier.
    pub reads: Reads,
    /// Bytes of a value at most.
    pub value_bytes_max: usize,
    /// [`PENDING_BYTES_MAX`](super::PENDING_BYTES_MAX), less in tests.
    pub pending_bytes_max: usize,
    /// [`PARKED_BYTES_MAX`](super::PARKED_BYTES_MAX), less in tests.
    pub parked_bytes_max: usize,
    /// The client id that writes without an origin are given. Random for each process: its write numbers begin anew,
    /// and results of a former process must not be taken for theirs.
    pub session: ClientId,
    /// Bytes a second that copies of partitions are sent with, over all of them; 0: as fast as they go.
    pub transfer_rate: u64,
    /// [`COPY_FROM`](super::COPY_FROM), less in tests.
    pub copy_from: u64,
    /// A planted bug; it has no effect without the feature `planted-bugs`.
    pub bug: Option<PlantedBug>,
}
