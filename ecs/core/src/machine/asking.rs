//! R6: what an ECS that is being rebuilt has asked servers for, and what they have reported so far.

use std::collections::BTreeMap;

use common::ids::ServerId;
use common::messages::LogTail;
use common::time::Time;

use crate::next::Holding;
use crate::reports::Registration;

/// A server that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) registration: Registration,
    pub(super) at: Time,
    /// While gathering: what it has reported with its promise, and its logs.
    pub(super) holding: Option<(Holding, Vec<LogTail>)>,
}

/// Forgotten at a restart: servers say hello again then.
#[derive(Debug, Default)]
pub(super) struct Asking {
    pub(super) asked: BTreeMap<ServerId, Asked>,
    /// Reports that are in no persisted state yet.
    pub(super) holdings: Vec<Holding>,
    /// The generation that is asked for while gathering.
    pub(super) wanted: u32,
    /// When gathering ends at the latest.
    pub(super) until: Option<Time>,
}
