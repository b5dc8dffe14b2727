//! `kvserver new-store`: gives a directory the id of a new store, and keeps its content.
//!
//! For a directory that is an older copy of itself (a backup, the snapshot of a machine), or a copy of one that is in
//! use: under its old id it would be taken for a store that has all that it has acknowledged. A new id is in no in-sync
//! set: the store joins as a new copy, and its content saves the transfer. The count of starts goes on.

use std::path::Path;

use crate::error::Error;
use crate::store::identity;

/// Renames the store in `dir`; its server too if `new_server`, for a copy that is to run beside the original.
///
/// # Errors
/// When a server uses the directory, none ever has, or the store failed.
pub(crate) fn run(dir: &Path, new_server: bool) -> Result<(), Error> {
    let lock = storage::Lock::take(dir).map_err(Error::storage(dir))?;
    let Some((server, store)) = identity::peek(dir)? else {
        let detail = "there is no identity in it: no server has used this directory".to_owned();
        return Err(Error::Foreign { file: dir.to_owned(), detail });
    };
    if let Some(failed) = identity::condemned(dir)? {
        let reason = format!("it failed ({failed}): take it back first, with kvserver reinstate");
        return Err(Error::NotReinstated { dir: dir.to_owned(), reason });
    }
    let (now, renamed) = identity::rename(dir, new_server)?;
    drop(lock);
    println!("OK: the store in {} has the id {renamed} now (before: {store})", dir.display());
    if new_server {
        println!("Its server has the id {now} now (before: {server}): it may run beside the original");
    } else {
        println!(
            "Its server is still {server}: where another directory of that server is in use, add --new-server"
        );
    }
    println!("Its content stays. It counts for nothing until it has joined, and saves the transfer then");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_another_one_and_its_starts_are_counted_on() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(run(dir.path(), false), Err(Error::Foreign { .. })));
        let first = identity::begin(dir.path()).unwrap();
        run(dir.path(), false).unwrap();
        let second = identity::begin(dir.path()).unwrap();
        assert_eq!(second.server, first.server);
        assert_ne!(second.store, first.store);
        assert!(second.incarnation > first.incarnation);
        run(dir.path(), true).unwrap();
        let third = identity::begin(dir.path()).unwrap();
        assert_ne!(third.server, second.server);
        assert_ne!(third.store, second.store);
        let lock = storage::Lock::take(dir.path()).unwrap();
        assert!(matches!(run(dir.path(), true), Err(Error::InUse { .. })));
        drop(lock);
        identity::condemn(dir.path(), "a failed fsync").unwrap();
        assert!(run(dir.path(), true).unwrap_err().to_string().contains("kvserver reinstate"));
    }
}
