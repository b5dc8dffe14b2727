//! Building a partition's tree beside the one in use, from another server's snapshot.

use super::{
    Job, Slot, Trees, envelope,
    partition::{PartitionTree, Sealed},
    sync_dir,
};
use crate::{
    Error, LogId, STAGED_MEMTABLES_MAX,
    log::{Position, next_staged},
};
use bytes::Bytes;
use std::sync::Arc;

/// A tree that is being built. Its folder goes when it is dropped unfinished.
pub(super) struct Stage {
    tree: Arc<PartitionTree>,
    /// Set once everything is on disk.
    base: Option<LogId>,
    installed: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.installed {
            self.tree.doom();
        }
    }
}

impl Trees {
    /// Begins a new tree for a partition, empty. A staging that was under way is given up. Returns
    /// the generation that names it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`].
    pub fn stage(&mut self, partition: u16) -> Result<u32, Error> {
        // Never a number again that a staging given up had: its folder may still be there.
        let before = self.last_staged.entry(partition).or_default();
        let current = self.slots.get(&partition).map_or(0, |s| s.generation);
        let generation = next_staged(current.max(*before));
        *before = generation;
        self.staged.remove(&partition);
        let tree = Arc::new(PartitionTree::open(&self.common, partition, generation)?);
        sync_dir(&self.common.dir)?;
        self.staged.insert(partition, Stage { tree, base: None, installed: false });
        Ok(generation)
    }

    /// Adds pairs to a staging, in any order; a key given again replaces its value. Waits while too
    /// much is in memory.
    ///
    /// # Errors
    /// [`Error::Absent`] when this staging was given up, [`Error::Io`], [`Error::DiskFull`].
    pub fn stage_put(
        &mut self,
        partition: u16,
        generation: u32,
        pairs: &[(Bytes, Bytes)],
    ) -> Result<(), Error> {
        let tree = self.staging(partition, generation)?;
        let mut bytes = 0;
        for (key, value) in pairs {
            bytes = tree.put(&envelope::user_key(key), value);
        }
        if bytes > self.options.memtable_bytes {
            tree.rotate(Sealed { applied: None, log: Position::default() })?;
            if tree.waiting().len() > STAGED_MEMTABLES_MAX {
                self.maintenance.flush_tree(&tree)?;
            } else {
                self.maintenance.send(Job::Flush(tree));
            }
        }
        Ok(())
    }

    /// Ends a staging: when this returns, everything is on disk. `base` is the last entry that the
    /// pairs hold, `state` what belongs to it.
    ///
    /// # Errors
    /// As [`Self::stage_put`].
    pub fn stage_finish(
        &mut self,
        partition: u16,
        generation: u32,
        base: LogId,
        state: &[u8],
    ) -> Result<(), Error> {
        let tree = self.staging(partition, generation)?;
        tree.seal(base, state, Position::default())?;
        self.maintenance.flush_tree(&tree)?;
        if let Some(stage) = self.staged.get_mut(&partition) {
            stage.base = Some(base);
        }
        Ok(())
    }

    /// Gives a staging up.
    pub fn stage_abort(&mut self, partition: u16) {
        self.staged.remove(&partition);
        self.maintenance.send(Job::Wake);
    }

    /// Makes a finished staging the partition's tree. To be called when its `Record::Install` is
    /// synced.
    ///
    /// # Panics
    /// When the staging was not finished.
    pub fn install(&mut self, partition: u16, generation: u32) {
        let stage = self.staged.remove(&partition).filter(|s| s.tree.generation == generation);
        let base = stage.as_ref().and_then(|s| s.base);
        let (Some(mut stage), Some(base)) = (stage, base) else {
            panic!("partition {partition}: staging {generation} is not finished")
        };
        stage.installed = true;
        let tree = Arc::clone(&stage.tree);
        let slot =
            Slot { generation, tree: Some(Arc::clone(&tree)), applied: base, sealed: base, changed: None };
        if let Some(old) = self.slots.insert(partition, slot).and_then(|s| s.tree) {
            old.doom();
        }
        self.full.remove(&partition);
        self.reader.set(partition, Some(tree));
        self.maintenance.send(Job::Wake);
    }

    fn staging(&self, partition: u16, generation: u32) -> Result<Arc<PartitionTree>, Error> {
        let stage =
            self.staged.get(&partition).filter(|s| s.tree.generation == generation && s.base.is_none());
        stage.map(|s| Arc::clone(&s.tree)).ok_or(Error::Absent { partition })
    }
}
