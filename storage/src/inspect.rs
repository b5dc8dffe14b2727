//! The content of a store, listed without a running server.

use crate::{
    Error, LogId, Options,
    lock::Lock,
    log,
    store::{check, list_folders, open_trees},
    tree::TreeContext,
};
use std::{path::Path, sync::Arc};

/// Content of a storage directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Ascending by number.
    pub partitions: Vec<PartitionInspection>,
}

/// Content of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionInspection {
    /// Its number.
    pub partition: u16,
    /// Number of its tree.
    pub generation: u32,
    /// Number of keys that the tree has on disk.
    pub keys: u64,
    /// Bytes of the tree's files.
    pub bytes: u64,
    /// First entry in the log, `log_last + 1` when there is none.
    pub log_first: u64,
    /// Last entry in the log.
    pub log_last: u64,
    /// Last entry in the tree.
    pub applied: LogId,
    /// The caller's state beside the log, as it was written last.
    pub durable_state: bytes::Bytes,
    /// The state sealed with `applied`.
    pub state: bytes::Bytes,
}

/// Lists a storage directory. Changes nothing of the log; the trees may lose files that a crash left
/// unfinished. Entries that are in the log only are not counted as keys.
///
/// # Errors
/// [`Error::InUse`] when a server has it open, [`Error::Damaged`], [`Error::Io`].
pub fn inspect(dir: &Path) -> Result<Inspection, Error> {
    std::fs::metadata(dir).map_err(|e| Error::io("inspect", dir, e))?;
    let lock = Arc::new(Lock::take(dir)?);
    let options = Options { cache_bytes: 1 << 20, values_bytes: 1 << 20, ..Options::default() };
    let (log_dir, trees_dir) = (dir.join("log"), dir.join("trees"));
    let (numbers, _) = log::list_segments(&*options.disk, &log_dir)?;
    let Some(replayed) = log::replay(&*options.disk, &log_dir, &numbers)? else {
        return Ok(Inspection::default());
    };
    let folders = list_folders(&trees_dir)?;
    let context = Arc::new(TreeContext::new(trees_dir, &options, lock));
    let logs = &replayed.index.partitions;
    let trees = open_trees(&context, &folders, logs)?;
    let mut partitions = Vec::new();
    for (partition, mut recovered) in replayed.index.recovered() {
        let tree = trees.get(&partition).map(|(_, tree)| tree);
        let (mut keys, mut bytes) = (0, 0);
        if let Some(tree) = tree {
            (recovered.applied, recovered.state) = tree.sealed_state()?;
            (keys, bytes) = (tree.count_keys()?, tree.disk_bytes()?);
        }
        check(&context, partition, &logs[&partition], &recovered, tree.is_some())?;
        partitions.push(PartitionInspection {
            partition,
            generation: logs[&partition].generation,
            keys,
            bytes,
            log_first: recovered.base.seq + 1,
            log_last: recovered.last,
            applied: recovered.applied,
            durable_state: recovered.durable_state,
            state: recovered.state,
        });
    }
    Ok(Inspection { partitions })
}
