//! A copy of a partition as it was found on disk.

use common::ids::{LogId, Seq};
use common::messages::Run;

use super::super::log::Log;
use super::durable_state::DurableState;

/// A copy of a partition as it was found on disk.
#[derive(Clone, Debug, Default)]
pub struct RecoveredCopy {
    /// The entry before the first one in the log.
    pub base: LogId,
    /// Changes of the tag after `base`.
    pub runs: Vec<Run>,
    /// The last entry.
    pub last: Seq,
    /// The last entry that the records contain.
    pub applied: Seq,
    /// See [`DurableState`].
    pub durable_state: DurableState,
}

impl RecoveredCopy {
    pub(crate) fn last_id(&self) -> LogId {
        Log::recovered(self.base, self.runs.clone(), self.last).last_id()
    }

    pub(crate) fn has_something(&self) -> bool {
        self.last != Seq::default() || self.durable_state != DurableState::default()
    }
}
