//! The list of keys by the moment at which they expire, as the trees' owner reads and changes it.

use super::{
    due::{Due, list},
    trees::Trees,
    value_codec,
};
use crate::Error;
use bytes::Bytes;
use std::sync::atomic::Ordering;

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
        let tick = self.maintenance.ticks.load(Ordering::Acquire);
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
