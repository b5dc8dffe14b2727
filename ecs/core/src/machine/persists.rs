//! V1: the state that is on its way to the disk.

use common::time::Time;

use crate::cause::Cause;
use crate::state::State;

/// What is on its way to the disk, and what is reported when it is there.
#[derive(Debug)]
pub(super) struct Persisting {
    pub(super) ticket: u64,
    /// Orders that it contains, counted from the beginning.
    pub(super) orders: u64,
    pub(super) state: State,
    pub(super) causes: Vec<Cause>,
}

/// One persist after another.
#[derive(Debug, Default)]
pub(super) struct Persists {
    /// `None`: all that was given out is on the disk.
    pub(super) under_way: Option<Persisting>,
    /// When the last one began.
    pub(super) began: Option<Time>,
    /// The ticket of the last one; tickets are counted from 1.
    pub(super) ticket: u64,
}
