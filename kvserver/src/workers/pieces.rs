//! What the threads report to the core's thread, a piece at a time.

use bytes::Bytes;
use common::ids::PartitionId;

/// Names a copy that is being sent or received.
pub(crate) type TransferId = (PartitionId, u64);

/// Reports that a piece of a copy was read.
pub(crate) struct DigestPiece {
    pub(crate) bytes: usize,
    /// It was the copy's last piece: the digest is made, or given up.
    pub(crate) done: bool,
}

/// A piece that was read.
pub(crate) struct ScrubPiece {
    pub(crate) partition: PartitionId,
    pub(crate) bytes: usize,
    /// Keys whose records have expired.
    pub(crate) expired: Vec<Bytes>,
    /// The checksums of the piece are right.
    pub(crate) is_good: bool,
    /// It was the partition's last piece.
    pub(crate) done: bool,
}
