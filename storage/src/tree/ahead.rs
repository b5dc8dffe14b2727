//! Trees that are made ahead of their first change: making one costs a few fsyncs, which should not be the thread's that
//! applies changes. A maintenance thread does it, or the trees' owner if a change comes first.

use super::{
    hold,
    partition::{Common, PartitionTree, sync_dir},
};
use crate::Error;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

/// A tree that somebody is about to make, or has made.
pub(crate) struct Ahead {
    partition: u16,
    generation: u32,
    /// Locked while it is being made.
    tree: Mutex<Option<Arc<PartitionTree>>>,
    unwanted: AtomicBool,
}

impl Ahead {
    pub(super) fn new(partition: u16, generation: u32) -> Arc<Self> {
        let (tree, unwanted) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { partition, generation, tree, unwanted })
    }

    /// The tree, made now if nobody was faster; waits for who is at it.
    pub(super) fn tree(&self, common: &Arc<Common>) -> Result<Arc<PartitionTree>, Error> {
        let mut made = hold(&self.tree);
        if let Some(tree) = &*made {
            return Ok(Arc::clone(tree));
        }
        let tree = Arc::new(PartitionTree::open(common, self.partition, self.generation)?);
        sync_dir(&common.dir)?;
        Ok(Arc::clone(made.insert(tree)))
    }

    /// For the maintenance thread.
    pub(super) fn make(&self, common: &Arc<Common>) -> Result<(), Error> {
        if self.is_unwanted() {
            return Ok(());
        }
        let tree = self.tree(common)?;
        // Given up meanwhile, by somebody who could not wait for it.
        if self.is_unwanted() {
            tree.doom();
        }
        Ok(())
    }

    /// Nobody will ask for it: if there is one, its folder goes. Does not wait.
    pub(super) fn give_up(&self) {
        self.unwanted.store(true, Ordering::SeqCst);
        // Locked: whoever makes it looks whether it is wanted after that.
        if let Ok(made) = self.tree.try_lock()
            && let Some(tree) = &*made
        {
            tree.doom();
        }
    }

    fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::SeqCst)
    }
}
