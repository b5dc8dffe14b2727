//! Building a partition's tree beside the one in use, from another server's snapshot.

use super::{
    maintenance::{Job, Maintenance},
    partition::{PartitionTree, Sealed, sync_dir},
    slot::Slot,
    trees::Trees,
    value_codec,
};
use crate::{
    Error, LogId, STAGED_MEMTABLES_MAX,
    log::{Position, next_staged},
};
use bytes::Bytes;
use std::sync::Arc;

/// A tree that is being built, by any thread. Building waits for the disk, which the trees' owner should not. Its
/// folder goes when it is dropped before [`Trees::install`].
pub struct Staging {
    partition: u16,
    generation: u32,
    maintenance: Arc<Maintenance>,
    memtable_bytes: u64,
    /// Made with the first pairs.
    tree: Option<Arc<PartitionTree>>,
    /// Set once everything is on disk.
    base: Option<LogId>,
    installed: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(tree) = self.tree.take().filter(|_| !self.installed) {
            tree.mark_for_removal();
            drop(tree);
            self.maintenance.send(Job::Wake);
        }
    }
}

impl Staging {
    /// The number that names it in `Record::Install`.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Adds pairs, in any order; a key given again replaces its value. Waits while too much is in memory.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`].
    pub fn put(&mut self, pairs: &[(Bytes, Bytes)]) -> Result<(), Error> {
        let tree = self.tree()?;
        let mut bytes = 0;
        for (key, value) in pairs {
            bytes = tree.put(&value_codec::user_key(key), value);
        }
        if bytes > self.memtable_bytes {
            tree.rotate(Sealed { applied: None, log: Position::default() })?;
            if tree.waiting().len() > STAGED_MEMTABLES_MAX {
                self.maintenance.flush_tree(&tree)?;
            } else {
                self.maintenance.send(Job::Flush(tree));
            }
        }
        Ok(())
    }

    /// Lists a key as [`crate::Change::Due`] does.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_due(&mut self, at: u64, key: &[u8]) -> Result<(), Error> {
        let tree = self.tree()?;
        tree.put(&value_codec::due_key(at, key), &[]);
        Ok(())
    }

    /// Ends the staging: when this returns, everything is on disk. `base` is the last entry that the pairs contain,
    /// `state` the state that belongs to it.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn finish(&mut self, base: LogId, state: &[u8]) -> Result<(), Error> {
        let tree = self.tree()?;
        tree.seal(base, state, Position::default())?;
        self.maintenance.flush_tree(&tree)?;
        self.base = Some(base);
        Ok(())
    }

    fn tree(&mut self) -> Result<Arc<PartitionTree>, Error> {
        if let Some(tree) = &self.tree {
            return Ok(Arc::clone(tree));
        }
        let context = &self.maintenance.context;
        let tree = Arc::new(PartitionTree::open(context, self.partition, self.generation)?);
        self.tree = Some(Arc::clone(&tree));
        sync_dir(&context.dir)?;
        Ok(tree)
    }
}

impl Trees {
    /// Begins a new tree for a partition, empty. Nothing is done on disk yet. A staging of the same partition that was
    /// begun before should be dropped.
    pub fn stage(&mut self, partition: u16) -> Staging {
        // A staging that was given up keeps its number, as its folder may still be there.
        let before = self.last_staged.entry(partition).or_default();
        let current = self.slots.get(&partition).map_or(0, |s| s.generation);
        let generation = next_staged(current.max(*before));
        *before = generation;
        Staging {
            partition,
            generation,
            maintenance: Arc::clone(&self.maintenance),
            memtable_bytes: self.options.memtable_bytes,
            tree: None,
            base: None,
            installed: false,
        }
    }

    /// Makes a finished staging the partition's tree. To be called when its `Record::Install` is
    /// synced.
    ///
    /// # Panics
    /// When the staging was not finished.
    pub fn install(&mut self, mut staging: Staging) {
        let (partition, generation) = (staging.partition, staging.generation);
        let (Some(base), Some(tree)) = (staging.base, staging.tree.clone()) else {
            panic!("partition {partition}: staging {generation} is not finished")
        };
        staging.installed = true;
        let slot = Slot { tree: Some(tree), applied: base, sealed: base, ..Slot::empty(generation) };
        if let Some(old) = self.slots.insert(partition, slot) {
            old.tree.iter().for_each(|tree| tree.mark_for_removal());
            old.pre_created.iter().for_each(|tree| tree.give_up());
        }
        self.full.remove(&partition);
        self.maintenance.send(Job::Wake);
    }
}
