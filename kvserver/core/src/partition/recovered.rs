//! A copy of a partition as it was found on disk.

use common::ids::{LogId, Seq};
use common::messages::Run;

use super::super::log::Log;
use super::mark::Mark;

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
    /// See [`Mark`].
    pub mark: Mark,
}

impl RecoveredCopy {
    pub(crate) fn last_id(&self) -> LogId {
        Log::recovered(self.base, self.runs.clone(), self.last).last_id()
    }

    pub(crate) fn has_something(&self) -> bool {
        self.last != Seq::default() || self.mark != Mark::default()
    }
}
