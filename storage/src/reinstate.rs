//! Taking a store back that failed or cannot be read as a whole: as far as it reads.
//!
//! An operator asks for it where no better copy is left. What was synced before a failed fsync is on the disk, and
//! damage in one segment says nothing about the others. So the log is ended where it does not read any further, or
//! begun behind the damage where the trees have all that lay there, and what a tree has beyond the log counts as it is.
//! Nothing is deleted: segments that are no part of the log any more, and that in which it ends, are kept in a folder
//! `cut-<n>`.

use crate::{
    Error, LogId, Options,
    disk::write_all_at,
    lock::Lock,
    log::{self, Readable, replay_readable},
    private,
    store::{list_folders, open_trees},
    tree::{TreeContext, sync_dir},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes that are read and written anew at once.
const COPY_BYTES: usize = 1 << 20;

/// The content of a store after it was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reinstated {
    /// The last entry of each partition.
    pub partitions: BTreeMap<u16, LogId>,
    /// Why the log does not go on, if it did not read to its end.
    pub damage: Option<String>,
    /// Partitions whose log lacks entries before the damage, so that only the content of the tree is left.
    pub shortened: BTreeSet<u16>,
    /// The folder with what was cut off the log.
    pub cut: Option<PathBuf>,
}

/// Makes the store in `dir` one that opens, without what does not read.
///
/// # Errors
/// [`Error::InUse`], [`Error::Io`], [`Error::DiskFull`]; [`Error::Damaged`] when a tree cannot be opened or nothing of
/// the log reads: then nothing was changed.
pub fn reinstate(dir: &Path, options: &Options) -> Result<Reinstated, Error> {
    options.check()?;
    let lock = Arc::new(Lock::take(dir)?);
    let (log_dir, trees_dir) = (dir.join("log"), dir.join("trees"));
    let (numbers, _) = log::list_segments(&*options.disk, &log_dir)?;
    let context = Arc::new(TreeContext::new(trees_dir.clone(), options, Arc::clone(&lock)));
    let (readable, applied) = choose(&context, &log_dir, options, &numbers)?;
    renew_tree(&trees_dir)?;
    let cut = cut_off(dir, &log_dir, &numbers, &readable)?;
    let mut opened = log::open(&log_dir, options, lock)?;
    let mut found =
        Reinstated { damage: readable.damage.map(|e| e.to_string()), cut, ..Reinstated::default() };
    let logs = opened.shared.read().index.partitions.clone();
    for (partition, log) in logs.iter().filter(|(_, log)| log.exists) {
        let tree = applied.get(partition).copied().unwrap_or_default();
        let meets = (log.base.seq..=log.last()).contains(&tree.seq);
        if !meets {
            opened.writer.begin_after(*partition, log.generation, tree)?;
            if tree.seq < log.base.seq {
                found.shortened.insert(*partition);
            }
        }
        found.partitions.insert(*partition, if meets { log.last_id() } else { tree });
    }
    opened.writer.close()?;
    Ok(found)
}

/// The part of the log to go on with, and the last entries of the trees then. The last part whose beginning every tree
/// has reached lacks nothing; else the first part is as good as any.
fn choose(
    context: &Arc<TreeContext>,
    log_dir: &Path,
    options: &Options,
    numbers: &[u64],
) -> Result<(Readable, BTreeMap<u16, LogId>), Error> {
    let folders = list_folders(&context.dir)?;
    let mut parts = replay_readable(&*options.disk, log_dir, numbers)?;
    let mut first = None;
    while let Some(part) = parts.pop() {
        let logs = &part.index.partitions;
        let trees = match open_trees(context, &folders, logs) {
            Ok(trees) => trees,
            Err(error) if parts.is_empty() => return Err(error),
            Err(_) => continue,
        };
        let (mut applied, mut whole) = (BTreeMap::new(), true);
        for (partition, log) in logs.iter().filter(|(_, log)| log.exists) {
            let tree = trees.get(partition);
            if tree.is_none() && (log.generation % 2 == 1 || log.base.seq > 0) {
                let detail = format!("its tree {} is missing", log.generation);
                let partition = Some(*partition);
                return Err(Error::Damaged { file: context.dir.clone(), offset: None, partition, detail });
            }
            let at = tree.map(|(_, tree)| tree.sealed_state()).transpose()?.unwrap_or_default().0;
            whole &= at.seq >= log.base.seq;
            applied.insert(*partition, at);
        }
        first = Some((part, applied));
        if whole {
            break;
        }
    }
    first.ok_or_else(|| Error::damaged(log_dir, 0, "there is no segment of the log that can be read"))
}

/// Writes all bytes of the trees anew. After a failed sync the system may treat unwritten pages in its cache as
/// written, so their files are not trusted.
fn renew_tree(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let path = entry.map_err(|e| Error::io("list", dir, e))?.path();
        if path.is_dir() {
            renew_tree(&path)?;
        } else {
            renew_file(&path).map_err(|e| Error::io("write anew", path, e))?;
        }
    }
    sync_dir(dir)
}

fn renew_file(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut bytes = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut bytes, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&bytes[..read], at)?;
        at += read as u64;
    }
}

/// Ends the log where it reads no further: the segments that are no part of it move away, and a copy of the one in
/// which it ends; behind the end there are zeros, and what is before it is written anew. Returns the folder that has
/// what was cut off, if anything was.
fn cut_off(dir: &Path, log_dir: &Path, numbers: &[u64], part: &Readable) -> Result<Option<PathBuf>, Error> {
    let last = log_dir.join(log::segment_name(part.last));
    let bytes = fs::read(&last).map_err(|e| Error::io("read", &last, e))?;
    let mut folder = None;
    if part.damage.is_some() {
        let cut = new_folder(dir)?;
        let copy = cut.join(log::segment_name(part.last));
        write_private(&copy, &bytes)
            .and_then(|()| File::open(&copy)?.sync_all())
            .map_err(|e| Error::io("write", copy, e))?;
        // The newest goes first, so that a crash in between leaves no hole.
        for number in numbers.iter().rev().filter(|number| !(part.first..=part.last).contains(number)) {
            let name = log::segment_name(*number);
            fs::rename(log_dir.join(&name), cut.join(&name))
                .map_err(|e| Error::io("move away", log_dir.join(&name), e))?;
        }
        sync_dir(&cut)?;
        sync_dir(log_dir)?;
        folder = Some(cut);
    }
    let file = File::options().write(true).open(&last).map_err(|e| Error::io("open", &last, e))?;
    let mut ended = bytes;
    ended[part.end..].fill(0);
    write_all_at(&file, &ended, 0).map_err(|e| Error::io("write", &last, e.source))?;
    file.sync_all().map_err(|e| Error::io("sync", &last, e))?;
    Ok(folder)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private::create_unfinished(path)?;
    file.write_all(bytes)
}

fn new_folder(dir: &Path) -> Result<PathBuf, Error> {
    let mut number = 1_u32;
    loop {
        let folder = dir.join(format!("cut-{number}"));
        match private::make_dir(&folder) {
            Ok(()) => return sync_dir(dir).map(|()| folder),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(Error::io("create", folder, e)),
        }
    }
}
