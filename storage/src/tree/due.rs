//! Keys by the moment at which they expire, so that those that have expired are found without reading all the others.
//!
//! The list lies in the tree beside the keys and is changed with them, by the same entries. Each look at its beginning
//! would pass over the tombstones of everything that was removed there, so the number below which it is empty is
//! remembered.

use super::{partition::PartitionTree, value_codec};
use crate::Error;
use bytes::Bytes;
use std::ops::Bound;

/// What is known of a partition's list, in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// No key is listed under a smaller number.
    pub(super) from: u64,
    /// The smallest number is this one; `None`: the list is empty. Not known at first.
    pub(super) first: Option<Option<u64>>,
}

impl Due {
    /// A key was listed.
    pub(super) fn on_listed(&mut self, at: u64) {
        self.from = self.from.min(at);
        if let Some(first) = &mut self.first {
            *first = Some(first.map_or(at, |first| first.min(at)));
        }
    }

    /// The smallest number, from the list if it is not known.
    pub(super) fn first(&mut self, tree: &PartitionTree) -> Result<Option<u64>, Error> {
        if let Some(first) = self.first {
            return Ok(first);
        }
        let listed = list(tree, self.from, u64::MAX, 1)?;
        let first = listed.first().map(|(at, _)| *at);
        self.from = first.unwrap_or(u64::MAX);
        self.first = Some(first);
        Ok(first)
    }
}

/// Keys that are listed under `from..=until`, those with the smallest numbers first.
pub(super) fn list(
    tree: &PartitionTree,
    from: u64,
    until: u64,
    limit: usize,
) -> Result<Vec<(u64, Bytes)>, Error> {
    let end = match until.checked_add(1) {
        Some(end) => value_codec::due_key(end, &[]),
        None => value_codec::DUE_END.to_vec(),
    };
    let mut iterator =
        tree.range((Bound::Included(value_codec::due_key(from, &[])), Bound::Excluded(end)))?;
    let mut listed = Vec::new();
    while listed.len() < limit
        && let Some((key, _)) = tree.next(&mut iterator)?
    {
        listed.extend(value_codec::decode_due(&key));
    }
    Ok(listed)
}
