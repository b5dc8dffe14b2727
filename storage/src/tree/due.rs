//! Keys by the moment at which they expire, so that those that have expired are found without reading all the others.
//!
//! The list lies in the tree beside the keys and is changed with them, by the same entries. Each look at its beginning
//! would pass over the tombstones of everything that was removed there, so the number below which it is empty is
//! remembered.

use super::{Trees, partition::PartitionTree, value_codec};
use crate::Error;
use bytes::Bytes;
use std::ops::Bound;

/// What is known of a partition's list, in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// Nothing is listed under less.
    from: u64,
    /// The smallest number is this one; `None`: the list is empty. Not known at first.
    first: Option<Option<u64>>,
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
    fn first(&mut self, tree: &PartitionTree) -> Result<Option<u64>, Error> {
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
fn list(tree: &PartitionTree, from: u64, until: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, Error> {
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

impl Trees {
    /// Keys that are listed under numbers up to `until`, those with the smallest first. The caller takes all of them
    /// from the list, with [`Self::list_due`], before it asks again.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn due_keys(&mut self, partition: u16, until: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, Error> {
        let Some(slot) = self.slots.get_mut(&partition) else { return Ok(Vec::new()) };
        let Some(tree) = &slot.tree else { return Ok(Vec::new()) };
        let listed = list(tree, slot.due.from, until, limit)?;
        let more = listed.last().filter(|_| listed.len() == limit).map(|(at, _)| *at);
        slot.due = Due { from: more.unwrap_or(until.saturating_add(1)), first: None };
        Ok(listed)
    }

    /// The smallest number that a key is listed under. Cheap, unless something was removed from the list.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn first_due(&mut self, partition: u16) -> Result<Option<u64>, Error> {
        let Some(slot) = self.slots.get_mut(&partition) else { return Ok(None) };
        match &slot.tree {
            Some(tree) => slot.due.first(tree),
            None => Ok(None),
        }
    }

    /// Puts a key on the list, or takes it off, without a log entry: the list follows from the records.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn list_due(&mut self, partition: u16, at: u64, key: &[u8], listed: bool) -> Result<(), Error> {
        let tick = self.maintenance.ticks.load(std::sync::atomic::Ordering::Acquire);
        let limit = self.options.memtable_bytes;
        let (slot, tree) = self.slot(partition)?;
        slot.has_purged = true;
        slot.changed.get_or_insert(tick);
        let due = value_codec::due_key(at, key);
        let bytes = if listed {
            slot.due.on_listed(at);
            tree.put(&due, &[])
        } else {
            slot.due.first = None;
            tree.remove(&due)
        };
        if bytes > limit {
            self.full.insert(partition);
        }
        Ok(())
    }
}
