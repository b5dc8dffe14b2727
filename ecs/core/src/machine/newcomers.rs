//! N1: hellos, and those that wait until it is known whether an earlier process of the same store lives.

use common::ids::{Epoch, RebuildId};
use common::messages::LogTail;
use common::time::Time;

use crate::reports::Registration;

/// A hello.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) registration: Registration,
    pub(super) view: Epoch,
    pub(super) rebuild: Option<RebuildId>,
    pub(super) tails: Vec<LogTail>,
}

/// A hello that waits until it is known whether the known process lives.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    pub(super) arrival: Arrival,
    /// When it came.
    pub(super) at: Time,
}
