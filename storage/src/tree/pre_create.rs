//! Trees that are made before their first change: making one costs a few fsyncs, which the thread that applies
//! changes should not wait for. A maintenance thread makes it, or the trees' owner if a change comes first.

use super::partition::{PartitionTree, TreeContext, sync_dir};
use crate::{Error, log::lock};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

/// A tree that is about to be made, or was made, before its first change.
pub(crate) struct PreCreated {
    partition: u16,
    generation: u32,
    /// Locked while it is being made.
    tree: Mutex<Option<Arc<PartitionTree>>>,
    unwanted: AtomicBool,
}

impl PreCreated {
    pub(super) fn new(partition: u16, generation: u32) -> Arc<Self> {
        let (tree, unwanted) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { partition, generation, tree, unwanted })
    }

    /// The tree, made now if it is not there; waits if another thread is making it.
    pub(super) fn tree(&self, context: &Arc<TreeContext>) -> Result<Arc<PartitionTree>, Error> {
        let mut made = lock(&self.tree);
        if let Some(tree) = &*made {
            return Ok(Arc::clone(tree));
        }
        let tree = Arc::new(PartitionTree::open(context, self.partition, self.generation)?);
        sync_dir(&context.dir)?;
        Ok(Arc::clone(made.insert(tree)))
    }

    /// Makes the tree on the maintenance thread, unless it is not wanted any more.
    pub(super) fn make(&self, context: &Arc<TreeContext>) -> Result<(), Error> {
        if self.is_unwanted() {
            return Ok(());
        }
        let tree = self.tree(context)?;
        // It was given up meanwhile.
        if self.is_unwanted() {
            tree.mark_for_removal();
        }
        Ok(())
    }

    /// The tree is not needed: if it was made, its folder goes. Does not wait.
    pub(super) fn give_up(&self) {
        self.unwanted.store(true, Ordering::SeqCst);
        // If it is locked, the thread that makes it looks afterwards whether it is wanted.
        if let Ok(made) = self.tree.try_lock()
            && let Some(tree) = &*made
        {
            tree.mark_for_removal();
        }
    }

    fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::SeqCst)
    }
}
