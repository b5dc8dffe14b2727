//! Why a view was made, for people: the log and the list of events.

use std::fmt;

use common::ids::{Epoch, ServerId};
use serde::{Deserialize, Serialize};

/// How much a change matters to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// One of many small steps.
    Debug,
    /// The state of the cluster changed.
    Info,
    /// It went on, and something may be wrong.
    Warn,
    /// An operator must act.
    Error,
}

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
    /// Its store gave an error, or bytes that do not check.
    StoreFailed,
    /// It is to leave.
    Leaving,
    /// It was to leave, and keeps its copies: the server that is to take its place is not up.
    Held,
    /// It is not to leave any more.
    Stays,
    /// It is to hold nothing until it is ordered to serve.
    StandsBy,
    /// It stood by, and is to hold its share.
    Serves,
    /// It was a member, has handed everything over, and is none any more.
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
    /// It became coordinator because its log is longer than that of the one that was to be.
    Yielded,
    /// Copies on it do not count any more: it is gone.
    Removed,
    /// V4a: partitions go on without its copies, though no other copy is known to hold all that was acknowledged.
    ResumedWithout,
    /// P5: copies on it lack entries that it had acknowledged: they do not count, and are made anew.
    LostEntries,
    /// P2: copies on it hold committed entries that their coordinators lack: the partitions have stopped.
    CopiesDisagree,
    /// P2: partitions that had stopped, as copies disagreed, go on with it as their coordinator: it has all after all.
    CopiesAgree,
    /// Copies on it were reported silent by their coordinator and do not count any more.
    ReportedSilent,
    /// It became coordinator because more of the in-sync copies hear it than the former one.
    Connected,
    /// Copies on it do not count any more: their coordinators and it do not hear each other.
    CutOff,
    /// It said that copies on it are not what they should be: they do not count, and are made anew.
    CopyFailed,
    /// Copies on it are not wanted there any more.
    Dropped,
    /// Its disk is slow against the others': it coordinates nothing while others can.
    DiskSlow,
    /// Its disk is below its reserve: likewise.
    DiskFull,
    /// Its disk was slow or full, and is not any more.
    DiskWell,
    /// Its disk was slow or full for long: others are to hold its copies.
    GaveUp,
    /// It has reported its copies to the rebuilt ECS.
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
            Self::Held => "held",
            Self::Stays => "stays",
            Self::StandsBy => "stands_by",
            Self::Serves => "serves",
            Self::Left => "left",
            Self::Listed => "listed",
            Self::Unlisted => "unlisted",
            Self::InSync => "in_sync",
            Self::Promoted => "promoted",
            Self::HandedOver => "handed_over",
            Self::Yielded => "yielded",
            Self::Removed => "removed",
            Self::ResumedWithout => "resumed_without",
            Self::LostEntries => "lost_entries",
            Self::CopiesDisagree => "copies_disagree",
            Self::CopiesAgree => "copies_agree",
            Self::ReportedSilent => "reported_silent",
            Self::Connected => "connected",
            Self::CutOff => "cut_off",
            Self::CopyFailed => "copy_failed",
            Self::Dropped => "dropped",
            Self::DiskSlow => "disk_slow",
            Self::DiskFull => "disk_full",
            Self::DiskWell => "disk_well",
            Self::GaveUp => "gave_up",
            Self::Reported => "reported",
            Self::Resumed => "resumed",
            Self::Forced => "forced",
            Self::ProposalRefused => "proposal_refused",
        }
    }

    /// The level at which it is logged.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::LostEntries => Severity::Error,
            Self::ResumedWithout => Severity::Warn,
            change if change.is_routine() => Severity::Debug,
            _ => Severity::Info,
        }
    }

    /// The change in a sentence about a server.
    #[must_use]
    pub fn sentence(self, server: impl fmt::Display) -> String {
        match self {
            Self::ResumedWithout => format!("resumed without {server}, not heard since the restart"),
            change => format!("{server} {}", change.words()),
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
            Self::Held => "keeps what it has: the server that is to take its place is not up",
            Self::Stays => "stays: its leave was cancelled",
            Self::StandsBy => "stands by",
            Self::Serves => "is to hold its share",
            Self::Left => "left",
            Self::Listed => "receives copies",
            Self::Unlisted => "no longer receives copies",
            Self::InSync => "has copies in sync",
            Self::Promoted => "promoted to coordinator",
            Self::HandedOver => "took over as coordinator",
            Self::Yielded => "became coordinator: its log is the longest",
            Self::Removed => "lost its in-sync copies",
            Self::ResumedWithout => "was left out: not heard since the restart",
            Self::LostEntries => "has lost entries that it had acknowledged: its copies are filled anew",
            Self::CopiesDisagree => "has committed entries that its coordinator lacks: copies disagree",
            Self::CopiesAgree => "goes on as coordinator: copies agree after all",
            Self::ReportedSilent => "was reported silent and lost in-sync copies",
            Self::Connected => "became coordinator, as more of the copies hear it",
            Self::CutOff => "is cut off from coordinators and lost in-sync copies",
            Self::CopyFailed => "found copies of its own wrong and gave them up, to be filled anew",
            Self::Dropped => "gave up copies",
            Self::DiskSlow => "has a slow disk and coordinates nothing while others can",
            Self::DiskFull => {
                "has no more room on its disk than its reserve and coordinates nothing while others can"
            }
            Self::DiskWell => "has a disk that is well again",
            Self::GaveUp => "is to give its copies to others until its disk is well",
            Self::Reported => "has reported its copies",
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
    /// The server that it is about.
    pub server: ServerId,
    /// How many partitions it is about; 0 when it is about the server itself.
    pub partitions: u32,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.change.sentence(self.server.short()))?;
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
