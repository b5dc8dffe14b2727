//! What an ECS is started with.

use std::time::Duration;

use common::limits::{COPIES, Timers};

use crate::limits::{
    HANDOVERS_PER_VIEW_MAX, JOINING_PER_SERVER_MAX, MOVING_PER_SERVER_MAX, RESTART_WAIT, VIEW_INTERVAL_MIN,
};
use crate::planted::PlantedBug;

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Heartbeats, limits of silence, the quiet time.
    pub timers: Timers,
    /// Copies of each partition, the coordinator's included.
    pub copies: usize,
    /// Copies that are being brought up to date at once, for each server.
    pub joining_per_server_max: usize,
    /// Of those, how many may be rebalancing rather than repair.
    pub moving_per_server_max: usize,
    /// Coordinators that one planned view moves.
    pub handovers_per_view_max: usize,
    /// The shortest time between two views.
    pub view_interval: Duration,
    /// V4a, V6: how long after a restart the ECS waits for a server whose copies may be the only ones with all
    /// acknowledged writes, or whose view may be newer; `None`: for ever.
    pub restart_wait: Option<Duration>,
    /// A planted bug; it has no effect without the feature `planted-bugs`.
    pub bug: Option<PlantedBug>,
}

impl Config {
    /// Whether a bug is planted.
    pub(super) fn planted(&self, bug: PlantedBug) -> bool {
        cfg!(feature = "planted-bugs") && self.bug == Some(bug)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timers: Timers::FAST,
            copies: COPIES,
            joining_per_server_max: JOINING_PER_SERVER_MAX,
            moving_per_server_max: MOVING_PER_SERVER_MAX,
            handovers_per_view_max: HANDOVERS_PER_VIEW_MAX,
            view_interval: VIEW_INTERVAL_MIN,
            restart_wait: Some(RESTART_WAIT),
            bug: None,
        }
    }
}
