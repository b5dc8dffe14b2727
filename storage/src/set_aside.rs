//! Putting a damaged store out of the way, without deleting anything.
//!
//! Log and trees move into a folder of the storage directory itself: a rename, so it takes no room and no time, and it
//! works where the directory is a file system of its own or its parent may not be written to.

use crate::{Error, lock::Lock, private, tree::sync_dir, write_atomically};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folders that move. After a crash in between, the rest is moved by the next try.
const MOVED: [&str; 2] = ["log", "trees"];

/// Moves the log and the trees in `dir` into a new folder `damaged-<n>` there, with `reason` beside them in the atomic
/// file `reason`. The caller must have noted before, durably, that they are not to be opened.
///
/// # Errors
/// [`Error::InUse`], [`Error::Io`], [`Error::DiskFull`].
pub fn set_aside(dir: &Path, reason: &str) -> Result<PathBuf, Error> {
    let _lock = Lock::take(dir)?;
    let mut number = 1_u32;
    let aside = loop {
        let aside = dir.join(format!("damaged-{number}"));
        match private::make_dir(&aside) {
            Ok(()) => break aside,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(Error::io("create", aside, e)),
        }
    };
    write_atomically(&aside, "reason", reason.as_bytes())?;
    for name in MOVED {
        let from = dir.join(name);
        match fs::rename(&from, aside.join(name)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("move aside", from, e)),
        }
    }
    sync_dir(&aside)?;
    sync_dir(dir)?;
    Ok(aside)
}

/// Moves what [`set_aside`] has put into `folder` back. Log and trees must not be in `dir`; what a try before has moved
/// back already may be.
///
/// # Errors
/// [`Error::InUse`], [`Error::Io`].
pub fn bring_back(dir: &Path, folder: &str) -> Result<(), Error> {
    let _lock = Lock::take(dir)?;
    let aside = dir.join(folder);
    for name in MOVED {
        let from = aside.join(name);
        match fs::rename(&from, dir.join(name)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("move back", from, e)),
        }
    }
    sync_dir(&aside)?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogId, Options, Record, Store, Tag};

    #[test]
    fn what_was_there_is_kept_and_the_store_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { background: false, ..Options::default() };
        for _ in 0..2 {
            let mut store = Store::open(dir.path(), &options).unwrap();
            assert!(store.recovered.is_empty());
            let id = LogId { tag: Tag::default(), seq: 1 };
            store.log.append(&[Record::Entry { partition: 0, id, body: "x".into() }]).unwrap();
            store.log.sync().unwrap();
            assert!(matches!(set_aside(dir.path(), "why"), Err(Error::InUse { .. })));
            drop(store);
            let aside = set_aside(dir.path(), "why").unwrap();
            assert!(aside.join("log").read_dir().unwrap().next().is_some());
            assert_eq!(crate::read_atomic(&aside, "reason").unwrap().unwrap(), b"why");
        }
        bring_back(dir.path(), "damaged-2").unwrap();
        assert_eq!(Store::open(dir.path(), &options).unwrap().recovered[&0].last, 1);
        assert_eq!(set_aside(dir.path(), "again").unwrap(), dir.path().join("damaged-3"));
        assert!(dir.path().join("damaged-1/trees").is_dir() && dir.path().join("damaged-3/trees").is_dir());
    }
}
