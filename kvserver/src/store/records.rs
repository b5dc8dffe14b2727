//! A partition's tree as the state machine sees it: records by key.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::PartitionId;
use kvserver_core::{Records, decode_record};
use storage::{Change, Trees};

use super::sealed::Counts;

/// A tree as the state machine sees it: reads go through, changes are collected for one entry.
pub(super) struct TreeRecords<'a> {
    trees: &'a Trees,
    partition: PartitionId,
    pub(super) changes: Vec<Change>,
    /// Keys that were read, and the expiry of those that are there (0: none). The list of expiring keys and the counts
    /// are updated from it.
    known: RefCell<BTreeMap<Bytes, Option<u64>>>,
    pub(super) counts: Counts,
}

/// A tree as reads see it.
pub(super) struct ReadRecords<'a>(pub(super) &'a Trees, pub(super) PartitionId);

impl Records for ReadRecords<'_> {
    type Error = storage::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, storage::Error> {
        self.0.get(self.1.0, key)
    }

    fn put(&mut self, _key: Bytes, _record: Bytes) -> Result<(), storage::Error> {
        unreachable!("a read changes nothing")
    }

    fn remove(&mut self, _key: Bytes) -> Result<(), storage::Error> {
        unreachable!("a read changes nothing")
    }
}

impl<'a> TreeRecords<'a> {
    pub(super) fn new(trees: &'a Trees, partition: PartitionId, counts: Counts) -> Self {
        Self { trees, partition, changes: Vec::new(), known: RefCell::default(), counts }
    }

    /// Updates the counts and the list of expiring keys for a record that is to have this expiry, or to be removed.
    fn list(&mut self, key: &Bytes, new: Option<u64>) -> Result<(), storage::Error> {
        if !self.known.borrow().contains_key(key) {
            self.get(key)?;
        }
        let old = self.known.borrow_mut().insert(key.clone(), new).flatten();
        if let Some(old) = old {
            self.counts.count(old > 0, false);
        }
        if let Some(new) = new {
            self.counts.count(new > 0, true);
        }
        if old != new {
            self.changes.extend(old.filter(|at| *at > 0).map(|at| Change::NotDue { at, key: key.clone() }));
            self.changes.extend(new.filter(|at| *at > 0).map(|at| Change::Due { at, key: key.clone() }));
        }
        Ok(())
    }
}

/// When a stored record expires; 0 is never.
pub(super) fn expiry_of(record: &Bytes) -> u64 {
    decode_record(record.clone()).ok().and_then(|found| found.expires).map_or(0, |expires| expires.0)
}

impl Records for TreeRecords<'_> {
    type Error = storage::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, storage::Error> {
        let record = self.trees.get(self.partition.0, key)?;
        let expiry = record.as_ref().map(expiry_of);
        self.known.borrow_mut().insert(Bytes::copy_from_slice(key), expiry);
        Ok(record)
    }

    fn put(&mut self, key: Bytes, record: Bytes) -> Result<(), storage::Error> {
        self.list(&key, Some(expiry_of(&record)))?;
        self.changes.push(Change::Put { key, value: record });
        Ok(())
    }

    fn remove(&mut self, key: Bytes) -> Result<(), storage::Error> {
        self.list(&key, None)?;
        self.changes.push(Change::Remove { key });
        Ok(())
    }
}
