//! What the trees' owner knows of one partition.

use super::{due::Due, partition::PartitionTree, pre_create::PreCreated};
use crate::LogId;
use std::sync::Arc;

/// One partition as the owner of the trees sees it.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) tree: Option<Arc<PartitionTree>>,
    /// The tree, if it is being made or is made, and there was no change yet.
    pub(super) pre_created: Option<Arc<PreCreated>>,
    pub(super) applied: LogId,
    /// The last entry that was sealed.
    pub(super) sealed: LogId,
    /// Tick of the first change since the last seal.
    pub(super) changed: Option<u64>,
    /// Keys were removed without an entry since the last seal.
    pub(super) has_purged: bool,
    pub(super) due: Due,
}

impl Slot {
    pub(super) fn empty(generation: u32) -> Self {
        let (applied, sealed) = (LogId::default(), LogId::default());
        let due = Due::default();
        Self {
            generation,
            tree: None,
            pre_created: None,
            applied,
            sealed,
            changed: None,
            has_purged: false,
            due,
        }
    }
}
