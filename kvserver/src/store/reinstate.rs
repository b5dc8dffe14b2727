//! `kvserver reinstate`: takes a store back that failed or cannot be read as a whole, as far as it reads (R3, R7).
//!
//! An operator orders it where no better copies are left. The store keeps its id, so where the view still counts it,
//! its partitions go on from it and the other stores of their in-sync sets that came back. Every step is on disk before
//! the next, and the note of the failure goes last: if it is interrupted, the same command does the rest.

use std::path::Path;

use common::ids::LogId;

use crate::error::Error;
use crate::store::identity;
use crate::store::log_ids::from_log_id;
use crate::store::quarantine;

/// Takes the store in `dir` back, or the one in `from`, a folder there.
///
/// # Errors
/// When a server uses the directory, or the store cannot be opened even so: then nothing was changed.
pub(crate) fn run(dir: &Path, from: Option<&str>) -> Result<(), Error> {
    if identity::peek(dir)?.is_none() {
        let detail = "there is no identity in it: no server has used this directory".to_owned();
        return Err(Error::Foreign { file: dir.to_owned(), detail });
    }
    if let Some(folder) = from {
        exchange(dir, folder)?;
    }
    let refused = |error: storage::Error| match error {
        storage::Error::Damaged { .. } => Error::NotReinstated {
            dir: dir.to_owned(),
            reason: format!(
                "{error}. Nothing was changed. If the disk can be read better elsewhere, restore the directory from \
                 there; another store of the same partitions may be at another server"
            ),
        },
        error => Error::storage(dir)(error),
    };
    let found = storage::reinstate(dir, &storage::Options::default()).map_err(refused)?;
    identity::absolve(dir)?;
    print(dir, found);
    Ok(())
}

/// Puts the store of a folder in the place of the one in use, which is set aside in its turn.
fn exchange(dir: &Path, folder: &str) -> Result<(), Error> {
    let aside = dir.join(folder);
    if !quarantine::is_aside(folder) || !aside.is_dir() {
        let detail = "it is no folder of this storage directory that a store was set aside in".to_owned();
        return Err(Error::Foreign { file: aside, detail });
    }
    identity::condemn(dir, &format!("{folder} was not taken back to the end: run the command again"))?;
    // A former try may have been interrupted after it had changed the identity.
    let resumed = identity::peek(dir)? == identity::peek(&aside)?;
    if !resumed {
        let replaced = dir.join("log").is_dir().then(|| {
            quarantine::move_aside(dir, &format!("replaced by {folder}, which an operator took back"))
        });
        identity::resume(dir, &aside, replaced.transpose()?.as_deref())?;
    }
    storage::bring_back(dir, folder).map_err(Error::storage(dir))?;
    std::fs::remove_dir_all(&aside).map_err(|source| Error::Directory { dir: aside, source })
}

fn print(dir: &Path, found: storage::Reinstated) {
    println!("OK: the store in {} is taken back; start its server", dir.display());
    if let Some(damage) = found.damage {
        println!("The log did not read to its end: {damage}");
    }
    if let Some(cut) = found.cut {
        println!("What is no part of it any more is kept in {}", cut.display());
    }
    for (partition, last) in found.partitions {
        let last: LogId = from_log_id(last);
        let note =
            if found.shortened.contains(&partition) { ", as the log behind it is damaged" } else { "" };
        println!("partition {partition}: up to entry {last}{note}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::{Options, Record, Store};

    fn write(dir: &Path, entries: u64) {
        let mut store = Store::open(dir, &Options { background: false, ..Options::default() }).unwrap();
        for seq in 1..=entries {
            let id = storage::LogId { tag: storage::Tag::default(), seq };
            store.log.append(&[Record::Entry { partition: 0, id, body: "x".into() }]).unwrap();
        }
        store.log.close().unwrap();
    }

    #[test]
    fn a_store_that_was_set_aside_changes_places_with_the_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let before = identity::begin(dir).unwrap();
        write(dir, 7);
        quarantine::set_aside(dir, "a failed fsync").unwrap();
        let between = identity::begin(dir).unwrap();
        write(dir, 2);

        assert!(run(dir, Some("damaged-3")).is_err());
        assert!(run(dir, Some("log")).is_err());
        run(dir, Some("damaged-1")).unwrap();
        assert_eq!(identity::condemned(dir).unwrap(), None);
        let after = identity::begin(dir).unwrap();
        assert_eq!((after.server, after.store), (before.server, before.store));
        assert!(after.incarnation > between.incarnation);
        let options = Options { background: false, ..Options::default() };
        assert_eq!(Store::open(dir, &options).unwrap().recovered[&0].last, 7);
        assert!(!dir.join("damaged-1").exists());
        let [aside] = quarantine::aside(dir).try_into().unwrap();
        assert_eq!((aside.folder.as_str(), aside.store), ("damaged-2", between.store));
    }

    #[test]
    fn what_was_cut_short_is_done_by_the_same_command() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let before = identity::begin(dir).unwrap();
        write(dir, 7);
        quarantine::set_aside(dir, "a failed fsync").unwrap();
        // Interrupted after the identity and half of the moves.
        identity::condemn(dir, "cut short").unwrap();
        identity::resume(dir, &dir.join("damaged-1"), None).unwrap();
        std::fs::rename(dir.join("damaged-1/trees"), dir.join("trees")).unwrap();
        run(dir, Some("damaged-1")).unwrap();
        assert_eq!(identity::peek(dir).unwrap(), Some((before.server, before.store)));
        let options = Options { background: false, ..Options::default() };
        assert_eq!(Store::open(dir, &options).unwrap().recovered[&0].last, 7);
    }

    #[test]
    fn a_directory_of_nobody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(run(dir.path(), None), Err(Error::Foreign { .. })));
    }
}
