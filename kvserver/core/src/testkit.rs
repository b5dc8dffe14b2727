//! What tests around the core share: records in memory, the log of a partition as a disk has it, a store that carries
//! out what the core asks of one, and a configuration.
//!
//! Golden scripts, the simulation and the count of instructions each have their own time, network and faults; what a
//! store does is the same for all that have one in memory.

mod log;
mod store;
mod tree;

use std::time::Duration;

use common::ids::ClientId;
use common::limits::{Timers, VALUE_BYTES_MAX};

pub use log::PartitionLog;
pub use store::{Store, StoreHost};
pub use tree::{Map, Tree};

use super::config::{Config, Reads};
use super::limits::COPY_FROM;

impl Config {
    /// Reads under leases, short times, and no limits that tests meet by accident.
    #[must_use]
    pub fn for_tests() -> Self {
        Self {
            timers: Timers::FAST,
            park: Duration::from_secs(2),
            reads: Reads::Lease,
            value_bytes_max: VALUE_BYTES_MAX,
            pending_bytes_max: usize::MAX,
            parked_bytes_max: usize::MAX,
            session: ClientId(0),
            transfer_rate: 0,
            copy_from: COPY_FROM,
            bug: None,
        }
    }
}
