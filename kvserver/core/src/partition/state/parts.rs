//! The parts of a partition's state.

use common::ids::{Epoch, Seq, ServerId};
use common::time::Time;

use super::super::durable_state::DurableState;

/// Whether records and log are about to be replaced or removed. Meanwhile nothing else touches the log, whatever role a
/// new view gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Busy {
    /// They are not.
    #[default]
    Idle,
    /// The record that drops the copy is on its way to the disk.
    Dropping,
    /// The record that puts a staged copy in place is on its way to the disk.
    Installing,
}

/// What the shell does with entries of this log for the state machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Applying {
    #[default]
    Nothing,
    /// It reads committed entries back from the commit log.
    ReadingBack,
    /// It applies so many entries.
    Entries(usize),
}

/// What the shell is doing for a copy.
#[derive(Debug, Default)]
pub(super) struct ShellWork {
    pub(super) applying: Applying,
    /// Batches that the shell is applying to records which are to be replaced: their outcomes are ignored.
    pub(super) applying_unused: usize,
    /// The first entry that the commit log is to keep.
    pub(super) pinned: Option<Seq>,
}

/// What of a copy is on disk, or on its way there.
#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) state: DurableState,
    /// The newest sync whose mark is on disk.
    pub(super) synced_durable: Epoch,
    /// The log was written to in this batch.
    pub(super) written: bool,
    pub(super) busy: Busy,
    /// The last state copy that was put in place: its sender and number.
    pub(super) installed: Option<(ServerId, u64)>,
}

/// Where the failure of a copy is known.
#[derive(Debug, Default)]
pub(super) struct Failure {
    /// The mark of a failed copy is on disk.
    pub(super) noted: bool,
    /// When the failure was last reported to the ECS.
    pub(super) reported: Option<Time>,
}
