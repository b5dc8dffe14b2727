//! A copy of the state at the member that it is sent to.

use bytes::{Bytes, BytesMut};
use common::ids::{LogId, ServerId};

use super::super::io::StoredPairs;

/// The member's side of a copy.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) coordinator: ServerId,
    pub(crate) transfer: u64,
    /// This server's own number of the copy. Copies of two coordinators may have the same number, and what was staged
    /// of one must never be taken for the other's.
    pub(crate) staging: u64,
    pub(crate) base: LogId,
    /// The state besides the records, as far as it has come.
    pub(crate) state: BytesMut,
    /// The chunk that is awaited, and the one that is not staged yet.
    pub(crate) next: u64,
    pub(crate) staged: u64,
}

impl Receiving {
    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert!(self.staged <= self.next, "staged before it came");
        assert!(self.next > 0 || self.state.is_empty(), "a state came without a chunk");
    }
}

/// The content of a chunk's message.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) transfer: u64,
    pub(crate) index: u64,
    pub(crate) state: Bytes,
    pub(crate) pairs: StoredPairs,
    pub(crate) done: bool,
}
