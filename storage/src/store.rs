//! Opening a store: the log first, then the trees that it names.

use crate::{
    DoubtfulEnd, Error, LogId, LogReader, LogWriter, Options, RecoveredPartition, Trees,
    lock::Lock,
    log::{self, PartitionLog},
    private,
    tree::{PartitionTree, TreeContext, parse_folder, sync_dir},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A directory with a log and trees.
pub struct Store;

/// An open store. The handles go to the threads that use them; the directory is free again when the
/// last of them is gone.
pub struct Opened {
    /// For the log thread.
    pub log: LogWriter,
    /// For the threads that read the log.
    pub reader: LogReader,
    /// For the thread that applies.
    pub trees: Trees,
    /// What was found, by partition.
    pub recovered: BTreeMap<u16, RecoveredPartition>,
    /// The log may have had more than was found: whether it did, only other copies show.
    pub end_in_doubt: Option<DoubtfulEnd>,
}

impl Store {
    /// Opens the store in `dir`, makes it when there is none.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Damaged`], [`Error::DiskFull`], [`Error::Io`],
    /// [`Error::BadOption`]. Nothing of a damaged store is changed.
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, Error> {
        options.check()?;
        let (log_dir, trees_dir) = make_dirs(dir)?;
        let lock = Arc::new(Lock::take(dir)?);
        let folders = list_folders(&trees_dir)?;
        let (numbers, _) = log::list_segments(&*options.disk, &log_dir)?;
        if numbers.is_empty() && !folders.is_empty() {
            return Err(Error::damaged(log_dir, 0, "there are trees but no log"));
        }
        let context = Arc::new(TreeContext::new(trees_dir, options, Arc::clone(&lock)));
        let opened = log::open(&log_dir, options, lock)?;
        let (mut recovered, logs) = {
            let state = opened.shared.read();
            (state.index.recovered(), state.index.partitions.clone())
        };
        let trees = open_trees(&context, &folders, &logs)?;
        for (partition, recovered) in &mut recovered {
            let log = &logs[partition];
            if let Some((_, tree)) = trees.get(partition) {
                (recovered.applied, recovered.state) = tree.sealed_state()?;
            }
            check(&context, *partition, log, recovered, trees.contains_key(partition))?;
            opened.shared.set_applied(*partition, log.generation, recovered.applied.seq);
        }
        let unwritten = open_unwritten(&context, &folders, &logs)?;
        let kept = unwritten.iter().map(|(partition, (generation, _))| (*partition, *generation)).collect();
        remove_unnamed(&context, &folders, &logs, &kept)?;
        for (_, tree) in trees.values() {
            context.seqno.fetch_max(tree.next_seqno()?);
        }
        let mut found = found(trees, &logs, &recovered);
        for (partition, (generation, tree)) in unwritten {
            found.insert(partition, (generation, LogId::default(), Some(tree)));
        }
        let trees = Trees::new(options, Arc::clone(&opened.shared), context, found)?;
        let end_in_doubt = opened.end_in_doubt;
        Ok(Opened { log: opened.writer, reader: opened.reader, trees, recovered, end_in_doubt })
    }
}

/// A log without trees, for tests.
#[doc(hidden)]
pub struct OpenedLog {
    pub writer: LogWriter,
    pub reader: LogReader,
    pub recovered: BTreeMap<u16, RecoveredPartition>,
    pub end_in_doubt: Option<DoubtfulEnd>,
}

/// Opens the log alone, for tests.
#[doc(hidden)]
pub fn open_log(dir: &Path, options: &Options) -> Result<OpenedLog, Error> {
    options.check()?;
    private::make_dirs(dir).map_err(|e| Error::io("create", dir, e))?;
    let opened = log::open(dir, options, Arc::new(Lock::take(dir)?))?;
    let recovered = opened.shared.read().index.recovered();
    let (writer, reader) = (opened.writer, opened.reader);
    Ok(OpenedLog { writer, reader, recovered, end_in_doubt: opened.end_in_doubt })
}

fn make_dirs(dir: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (log, trees) = (dir.join("log"), dir.join("trees"));
    for path in [&log, &trees] {
        private::make_dirs(path).map_err(|e| Error::io("create", path, e))?;
    }
    sync_dir(dir)?;
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    Ok((log, trees))
}

pub(crate) fn list_folders(dir: &Path) -> Result<BTreeSet<(u16, u32)>, Error> {
    let io = |e| Error::io("list", dir, e);
    let mut folders = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        folders.extend(parse_folder(&entry.map_err(io)?.file_name().to_string_lossy()));
    }
    Ok(folders)
}

type OpenTrees = BTreeMap<u16, (u32, PartitionTree)>;

pub(crate) fn open_trees(
    context: &Arc<TreeContext>,
    folders: &BTreeSet<(u16, u32)>,
    logs: &BTreeMap<u16, PartitionLog>,
) -> Result<OpenTrees, Error> {
    let mut trees = BTreeMap::new();
    for (partition, log) in logs.iter().filter(|(_, log)| log.exists) {
        if folders.contains(&(*partition, log.generation)) {
            let tree = PartitionTree::open(context, *partition, log.generation)?;
            trees.insert(*partition, (log.generation, tree));
        }
    }
    Ok(trees)
}

/// Log and tree must meet: no entry may be missing between them.
pub(crate) fn check(
    context: &TreeContext,
    partition: u16,
    log: &PartitionLog,
    recovered: &RecoveredPartition,
    has_tree: bool,
) -> Result<(), Error> {
    let (applied, base, last) = (recovered.applied.seq, recovered.base.seq, recovered.last);
    let detail = if log.generation % 2 == 1 && !has_tree {
        format!("the installed tree {} is missing", log.generation)
    } else if applied < base {
        format!("the tree has entries up to {applied}, but the log begins after {base}")
    } else if applied > last {
        format!("the tree has entries up to {applied}, but the log ends at {last}")
    } else {
        return Ok(());
    };
    Err(Error::Damaged { file: context.dir.clone(), offset: None, partition: Some(partition), detail })
}

/// Trees that were pre-created ([`Trees::pre_create`]) and never written to: the log does not know them, and they are
/// empty. A new tree would be the same, so they stay.
fn open_unwritten(
    context: &Arc<TreeContext>,
    folders: &BTreeSet<(u16, u32)>,
    logs: &BTreeMap<u16, PartitionLog>,
) -> Result<OpenTrees, Error> {
    let mut trees = BTreeMap::new();
    for (partition, generation) in folders {
        let next = match logs.get(partition) {
            None => 0,
            Some(log) if !log.exists => log.generation,
            Some(_) => continue,
        };
        if next != *generation {
            continue;
        }
        let tree = PartitionTree::open(context, *partition, *generation)?;
        if tree.next_seqno()? == 0 {
            trees.insert(*partition, (*generation, tree));
        }
    }
    Ok(trees)
}

/// Removes what the log does not name: trees that were replaced or dropped, unfinished stagings. `kept` stay.
fn remove_unnamed(
    context: &TreeContext,
    folders: &BTreeSet<(u16, u32)>,
    logs: &BTreeMap<u16, PartitionLog>,
    kept: &BTreeSet<(u16, u32)>,
) -> Result<(), Error> {
    for (partition, generation) in folders.difference(kept) {
        if !logs.get(partition).is_some_and(|log| log.exists && log.generation == *generation) {
            let path = context.dir.join(crate::tree::folder_name(*partition, *generation));
            tracing::info!("removing {}: the log does not name it", path.display());
            fs::remove_dir_all(&path).map_err(|e| Error::io("remove", path, e))?;
        }
    }
    Ok(())
}

fn found(
    mut trees: OpenTrees,
    logs: &BTreeMap<u16, PartitionLog>,
    recovered: &BTreeMap<u16, RecoveredPartition>,
) -> BTreeMap<u16, (u32, LogId, Option<PartitionTree>)> {
    let applied = |p: &u16| recovered.get(p).map(|r| r.applied).unwrap_or_default();
    logs.iter().map(|(p, log)| (*p, (log.generation, applied(p), trees.remove(p).map(|(_, t)| t)))).collect()
}
