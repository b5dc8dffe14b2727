//! A partition's content as of one moment, read in pieces while writes go on.

use super::{
    partition::{PartitionTree, RawIterator},
    scan::end_of,
    trees::Trees,
    value_codec,
};
use crate::{Error, LogId};
use bytes::Bytes;
use std::{ops::Bound, sync::Arc};

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Keys with their values, ascending.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Whether this was the last piece.
    pub done: bool,
}

/// See [`Trees::snapshot`]. It keeps the files that it reads from being removed: do not keep it for longer than needed.
pub struct Snapshot {
    tree: Option<(Arc<PartitionTree>, RawIterator)>,
    id: LogId,
    /// Read already, but too large for the last piece.
    next: Option<(Bytes, Bytes)>,
}

impl Trees {
    /// Everything that has been applied to the partition up to now, to be read by any thread, while
    /// writes, flushes, compactions and even the removal of the partition go on.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn snapshot(&self, partition: u16) -> Result<Snapshot, Error> {
        self.snapshot_after(partition, None)
    }

    /// Like [`Self::snapshot`], beginning behind a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn snapshot_after(&self, partition: u16, after: Option<&[u8]>) -> Result<Snapshot, Error> {
        let id = self.applied(partition);
        let Some(tree) = self.tree(partition) else { return Ok(Snapshot { tree: None, id, next: None }) };
        let start = match after {
            Some(after) => Bound::Excluded(value_codec::user_key(after)),
            None => Bound::Included(vec![value_codec::USER]),
        };
        let iterator = tree.range_now((start, end_of(&[value_codec::USER])))?;
        Ok(Snapshot { tree: Some((Arc::clone(tree), iterator)), id, next: None })
    }
}

impl Snapshot {
    /// The last entry that the snapshot contains.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The next pairs, up to `max_bytes` of keys and values but at least one while there are any.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn chunk(&mut self, max_bytes: usize) -> Result<Chunk, Error> {
        let mut pairs = Vec::new();
        let Some((tree, iterator)) = &mut self.tree else { return Ok(Chunk { pairs, done: true }) };
        let mut bytes = 0;
        loop {
            let next = match self.next.take() {
                Some(pair) => Some(pair),
                None => tree.next(iterator)?,
            };
            let Some((key, value)) = next else { return Ok(Chunk { pairs, done: true }) };
            bytes += key.len() + value.len();
            if bytes > max_bytes && !pairs.is_empty() {
                self.next = Some((key, value));
                return Ok(Chunk { pairs, done: false });
            }
            pairs.push((key, value));
        }
    }
}
