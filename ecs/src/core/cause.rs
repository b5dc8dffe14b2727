//! Why a view was made, for people: the log and the list of events.

use std::fmt;

use common::ids::{Epoch, ServerId};
use serde::{Deserialize, Serialize};

/// A kind of change from one view to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The server is new.
    Joined,
    /// A new process of the server; partitions that it coordinates get a new epoch.
    Restarted,
    /// The server has another store: its old copies do not count.
    NewStore,
    /// Its address or weight is another.
    Readdressed,
    /// It is heard again.
    Back,
    /// It was silent beyond the limit.
    Silent,
    /// Its link ended, and it did not come back.
    LinkEnded,
    /// Its store failed.
    StoreFailed,
    /// It is to leave.
    Leaving,
    /// It is not to leave any more.
    Stays,
    /// It is to hold nothing until it is ordered to serve.
    StandsBy,
    /// It stood by, and is to hold its share.
    Serves,
    /// It left.
    Left,
    /// Copies on it are being brought up to date.
    Listed,
    /// Copies on it are no longer being brought up to date.
    Unlisted,
    /// Copies on it have become in-sync.
    InSync,
    /// It became coordinator instead of a server that is gone.
    Promoted,
    /// It became coordinator as planned.
    HandedOver,
    /// Copies on it do not count any more: it is gone.
    Removed,
    /// Copies on it were reported silent by their coordinator and do not count any more.
    ReportedSilent,
    /// It said that copies on it are not what they should be: they do not count, and are made anew.
    CopyFailed,
    /// Copies on it are not wanted there any more.
    Dropped,
    /// It has reported what it holds to the rebuilt ECS.
    Reported,
    /// Partitions that it coordinates are resumed by the rebuilt ECS.
    Resumed,
    /// An operator let partitions that were offline go on from its copy.
    Forced,
    /// A proposal for it was refused: the coordinator gets a new epoch to forget it.
    ProposalRefused,
}

impl Change {
    /// One of many small steps on the way to a plan.
    #[must_use]
    pub fn is_routine(self) -> bool {
        matches!(self, Self::Listed | Self::InSync | Self::HandedOver | Self::Dropped)
    }

    /// The change as the list of events and the metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Restarted => "restarted",
            Self::NewStore => "new_store",
            Self::Readdressed => "readdressed",
            Self::Back => "back",
            Self::Silent => "silent",
            Self::LinkEnded => "link_ended",
            Self::StoreFailed => "store_failed",
            Self::Leaving => "leaving",
            Self::Stays => "stays",
            Self::StandsBy => "stands_by",
            Self::Serves => "serves",
            Self::Left => "left",
            Self::Listed => "listed",
            Self::Unlisted => "unlisted",
            Self::InSync => "in_sync",
            Self::Promoted => "promoted",
            Self::HandedOver => "handed_over",
            Self::Removed => "removed",
            Self::ReportedSilent => "reported_silent",
            Self::CopyFailed => "copy_failed",
            Self::Dropped => "dropped",
            Self::Reported => "reported",
            Self::Resumed => "resumed",
            Self::Forced => "forced",
            Self::ProposalRefused => "proposal_refused",
        }
    }

    /// The change in words, after the server's name.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Restarted => "restarted",
            Self::NewStore => "came with another store",
            Self::Readdressed => "has another address or weight",
            Self::Back => "is back",
            Self::Silent => "is down: silent beyond the limit",
            Self::LinkEnded => "is down: its link ended",
            Self::StoreFailed => "is down: its store failed",
            Self::Leaving => "is leaving",
            Self::Stays => "stays: its leave was cancelled",
            Self::StandsBy => "stands by",
            Self::Serves => "is to hold its share",
            Self::Left => "left",
            Self::Listed => "receives copies",
            Self::Unlisted => "no longer receives copies",
            Self::InSync => "has copies in sync",
            Self::Promoted => "promoted to coordinator",
            Self::HandedOver => "took over as coordinator",
            Self::Removed => "lost its in-sync copies",
            Self::ReportedSilent => "was reported silent and lost in-sync copies",
            Self::CopyFailed => "found copies of its own wrong and gave them up, to be filled anew",
            Self::Dropped => "gave up copies",
            Self::Reported => "has reported what it holds",
            Self::Resumed => "goes on as coordinator after the rebuild",
            Self::Forced => "was made to go on alone by an operator: writes may be lost",
            Self::ProposalRefused => "was proposed and refused",
        }
    }
}

/// One reason for a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What changed.
    pub change: Change,
    /// Whom it is about.
    pub server: ServerId,
    /// How many partitions it is about; 0 when it is about the server itself.
    pub partitions: u32,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.server.short(), self.change.words())?;
        match self.partitions {
            0 => Ok(()),
            1 => write!(f, " (1 partition)"),
            many => write!(f, " ({many} partitions)"),
        }
    }
}

/// A view that was made, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The view's number.
    pub view: Epoch,
    /// Why it was made.
    pub causes: Vec<Cause>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_one_name() {
        for change in [Change::Joined, Change::LinkEnded, Change::ProposalRefused] {
            assert_eq!(serde_json::to_value(change).unwrap(), change.name());
        }
    }
}
