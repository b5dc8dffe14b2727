//! R3: the stores that are not used and may hold data: those that servers wait with, and those that were set aside.

use std::collections::BTreeMap;

use common::ids::{PartitionId, ServerId};
use common::messages::{AsideStore, ProcessId, Suspicion};
use common::time::Time;

/// A store that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) sender: ProcessId,
    pub(super) suspicion: Suspicion,
    pub(super) heard: Time,
}

/// The stores, by the servers that have them.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    pub(super) waiting: BTreeMap<ServerId, Waiting>,
    /// Stores that servers have set aside and still keep.
    pub(super) aside: BTreeMap<ServerId, Vec<AsideStore>>,
}

/// A store that is not used and may hold data of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptStore {
    /// The server that has it.
    pub server: ServerId,
    /// Where that server listens.
    pub address: String,
    /// Its directory there, where that is known.
    pub dir: String,
    /// The folder in the directory that holds it, if it was set aside; if not, the server waits with it.
    pub folder: Option<String>,
    /// Why it is not used.
    pub reason: String,
    /// The partitions that it may hold; `None`: not known, so it may be any.
    pub partitions: Option<Vec<PartitionId>>,
}

impl KeptStore {
    /// Whether it may hold something of a partition.
    #[must_use]
    pub fn may_hold(&self, partition: PartitionId) -> bool {
        self.partitions.as_ref().is_none_or(|all| all.contains(&partition))
    }
}

impl Suspects {
    /// A server serves: it no longer waits, and reports anew which stores it has set aside.
    pub(super) fn forget(&mut self, server: ServerId) {
        self.waiting.remove(&server);
        self.aside.remove(&server);
    }
}
