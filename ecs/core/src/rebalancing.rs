//! Where copies should be, and what the way there has to wait for.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{PartitionId, ServerId, StoreId};
use common::time::Time;

use crate::backoff::Backoff;
use crate::planner::Target;
use crate::settling::Settling;

/// Where copies should be, and for which members that was planned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planned {
    pub(crate) members: BTreeMap<ServerId, (u32, StoreId)>,
    pub(crate) relieved: BTreeSet<ServerId>,
    pub(crate) target: Target,
}

impl Planned {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Rebalancing {
    pub(crate) planned: Planned,
    /// Partitions that are left alone until their new coordinators are active.
    pub(crate) settling: Settling,
    /// Copies that are not to be tried again before a time.
    pub(crate) backed_off: BTreeMap<(PartitionId, ServerId), Time>,
    /// How often servers were removed recently.
    pub(crate) falls: BTreeMap<ServerId, Backoff>,
    /// When a coordinator last changed as planned.
    pub(crate) handed_over_at: Option<Time>,
}
