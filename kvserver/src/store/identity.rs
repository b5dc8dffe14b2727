//! The server's identity: kept in the storage directory, made at the first start.
//!
//! `identity` has the server's and the store's ids, `incarnation` counts the starts (on disk before the first
//! message), `view` the newest view in use, `promised` what was promised to an ECS that was rebuilt, `failed`
//! why the store must not be used again.

use std::path::Path;
use std::sync::Arc;

use common::ids::{Incarnation, Nonce, PartitionId, ServerId, StoreId};
use common::messages::{ProcessId, Promised};
use common::view::View;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::spare;
use crate::error::Error;

const IDENTITY: &str = "identity";
const INCARNATION: &str = "incarnation";
const VIEW: &str = "view";
const PROMISED: &str = "promised";
const FAILED: &str = "failed";
const HELD: &str = "partitions";

/// A store whose count of starts is lost goes on so far beyond the last incarnation that a view names. More starts than
/// that without a view are not to be expected, and the nonce distinguishes processes as well.
const INCARNATION_LEAP: u64 = 1_000;

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    server: ServerId,
    store: StoreId,
}

/// The form of storage directories that this program reads and writes.
const FORMAT: u32 = 1;

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let Some(bytes) = storage::read_atomic(dir, name).map_err(Error::storage(dir))? else { return Ok(None) };
    let foreign =
        |error: serde_json::Error| Error::Foreign { file: dir.join(name), detail: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(foreign)
}

fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), storage::Error> {
    let bytes = serde_json::to_vec(value).expect("plain values are JSON");
    match storage::write_atomically(dir, name, &bytes) {
        Err(storage::Error::DiskFull { .. }) if spare::give_up(dir) => {
            tracing::warn!("the disk is full: the spare room of {} is used now", dir.display());
            storage::write_atomically(dir, name, &bytes)
        }
        done => done,
    }
}

/// Checks that this program can read what is in the directory, before anything is opened there.
///
/// # Errors
/// When something is of another version. Damage is reported by the code that reads the file.
pub(crate) fn check_versions(dir: &Path) -> Result<(), Error> {
    for name in [IDENTITY, INCARNATION, VIEW, PROMISED, FAILED] {
        if let Err(error @ storage::Error::OtherVersion { .. }) = storage::read_atomic(dir, name) {
            return Err(Error::storage(dir)(error));
        }
    }
    match read::<Identity>(dir, IDENTITY) {
        Ok(Some(Identity { format: found, .. })) if found != FORMAT => {
            let (file, own) = (dir.join(IDENTITY), FORMAT);
            Err(Error::storage(dir)(storage::Error::OtherVersion { file, found, own }))
        }
        _ => Ok(()),
    }
}

/// Reads the server's identity, or makes it, and counts this start.
///
/// # Errors
/// When the directory is another program's or damaged.
pub(crate) fn begin(dir: &Path) -> Result<ProcessId, Error> {
    let found = read::<Identity>(dir, IDENTITY)?;
    let is_new = found.is_none();
    let identity = match found {
        Some(identity) if identity.format == FORMAT => identity,
        Some(Identity { format: found, .. }) => {
            let (file, own) = (dir.join(IDENTITY), FORMAT);
            return Err(Error::storage(dir)(storage::Error::OtherVersion { file, found, own }));
        }
        None => {
            let identity = Identity { format: FORMAT, server: ServerId::random(), store: StoreId::random() };
            write(dir, IDENTITY, &identity).map_err(Error::storage(dir))?;
            identity
        }
    };
    let incarnation = match read::<Incarnation>(dir, INCARNATION) {
        Ok(Some(last)) => Incarnation(last.0 + 1),
        Ok(None) if is_new => Incarnation(1),
        Ok(None) => recount(dir, &identity, "it is missing")?,
        Err(error) if is_damage(&error) => recount(dir, &identity, &error.to_string())?,
        Err(error) => return Err(error),
    };
    write(dir, INCARNATION, &incarnation).map_err(Error::storage(dir))?;
    Ok(ProcessId { server: identity.server, store: identity.store, incarnation, nonce: Nonce::random() })
}

/// Restores a count of starts that is lost: it goes on beyond the last incarnation that a view names.
fn recount(dir: &Path, identity: &Identity, why: &str) -> Result<Incarnation, Error> {
    let view = read_view(dir)?;
    let info = view.as_ref().and_then(|view| view.servers.get(&identity.server));
    let last = info.filter(|info| info.store == identity.store).map_or(0, |info| info.incarnation.0);
    let incarnation = Incarnation(last + INCARNATION_LEAP);
    tracing::warn!(
        "{}: {why}. It counts the starts of this server; the last one that is known is {last}, and this one is counted \
         as {}",
        dir.join(INCARNATION).display(),
        incarnation.0
    );
    Ok(incarnation)
}

/// Whether the error means that bytes are not what was written, whatever their version.
fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Storage { source, .. } if matches!(**source, storage::Error::Damaged { .. }))
}

/// Whether a view should be there and is not: the store has data, which it can only have got under a view.
pub(crate) fn lacks_view(dir: &Path, holds_something: bool) -> bool {
    holds_something && !dir.join(VIEW).exists()
}

/// The newest view that was kept; `None` also where its file is damaged: the ECS has that view or a newer one.
///
/// # Errors
/// When the file is of another program, or cannot be read.
pub(crate) fn read_view(dir: &Path) -> Result<Option<Arc<View>>, Error> {
    let read = match read::<View>(dir, VIEW) {
        Err(error) if is_damage(&error) => {
            tracing::warn!("{error}. The view is fetched anew from the ECS");
            return Ok(None);
        }
        read => read?,
    };
    let Some(view) = read else { return Ok(None) };
    let foreign =
        |error: &dyn std::fmt::Display| Error::Foreign { file: dir.join(VIEW), detail: error.to_string() };
    view.check().map_err(|error| foreign(&error))?;
    Ok(Some(Arc::new(view)))
}

/// Keeps a view.
pub(crate) fn write_view(dir: &Path, view: &View) -> Result<(), storage::Error> {
    write(dir, VIEW, view)?;
    spare::make(dir);
    Ok(())
}

/// A promise, with the store that gave it: the store that replaces it has promised nothing.
#[derive(Serialize, Deserialize)]
struct Promise {
    store: StoreId,
    promised: Option<Promised>,
}

/// What this store has promised to an ECS that was rebuilt.
///
/// # Errors
/// When the file is damaged.
pub(crate) fn read_promise(dir: &Path, store: StoreId) -> Result<Option<Promised>, Error> {
    let promise = read::<Promise>(dir, PROMISED)?.filter(|promise| promise.store == store);
    Ok(promise.and_then(|promise| promise.promised))
}

/// Keeps a promise.
pub(crate) fn write_promise(
    dir: &Path,
    store: StoreId,
    promised: Option<Promised>,
) -> Result<(), storage::Error> {
    write(dir, PROMISED, &Promise { store, promised })
}

/// Notes that the store must not count as in sync again. Where the disk refuses to sync the note, it stays unsynced:
/// the danger is pages that the system has in memory and never wrote, and a crash that loses the note loses them as
/// well.
pub(crate) fn write_failed(dir: &Path, reason: &str) {
    if let Err(error) = write(dir, FAILED, &reason)
        && let Err(again) = std::fs::rename(dir.join(format!("{FAILED}.tmp")), dir.join(FAILED))
    {
        tracing::error!("cannot note the failure in {}: {error}; {again}", dir.display());
    }
}

/// Why the store must not be used again, if a former process has noted that.
///
/// # Errors
/// When the note is damaged.
pub(crate) fn condemned(dir: &Path) -> Result<Option<String>, Error> {
    read::<String>(dir, FAILED)
}

/// Notes durably that the store must not be used again.
///
/// # Errors
/// When a disk operation fails.
pub(crate) fn condemn(dir: &Path, reason: &str) -> Result<(), Error> {
    write(dir, FAILED, &reason).map_err(Error::storage(dir))
}

/// Takes the note back: the store is to be used again.
///
/// # Errors
/// When a disk operation fails.
pub(crate) fn absolve(dir: &Path) -> Result<(), Error> {
    let refused = |source| Error::Directory { dir: dir.to_owned(), source };
    match std::fs::remove_file(dir.join(FAILED)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(refused)
}

/// Notes beside a store that was set aside which partitions it was in sync for, if that is known.
pub(crate) fn write_held(aside: &Path, partitions: Option<&Vec<PartitionId>>) -> Result<(), storage::Error> {
    write(aside, HELD, &partitions)
}

/// The partitions that a store that was set aside was in sync for; `None`: not known.
pub(crate) fn read_held(aside: &Path) -> Option<Vec<PartitionId>> {
    read::<Option<Vec<PartitionId>>>(aside, HELD).ok().flatten().flatten()
}

/// Makes the store in `aside` the server's again. Its present store, if it is another, is kept in `replaced`.
///
/// # Errors
/// When a disk operation fails, or there is no identity aside.
pub(crate) fn resume(dir: &Path, aside: &Path, replaced: Option<&Path>) -> Result<(), Error> {
    let Some(former) = read::<Identity>(aside, IDENTITY)? else {
        let detail = "there is no identity in it: it is no store that was set aside".to_owned();
        return Err(Error::Foreign { file: aside.to_owned(), detail });
    };
    if let (Some(replaced), Some(present)) = (replaced, read::<Identity>(dir, IDENTITY)?) {
        write(replaced, IDENTITY, &present).map_err(Error::storage(replaced))?;
    }
    write(dir, IDENTITY, &former).map_err(Error::storage(dir))
}

/// Gives the store another id, and its server too if `new_server`. Returns both ids.
///
/// # Errors
/// When a disk operation fails.
pub(crate) fn rename(dir: &Path, new_server: bool) -> Result<(ServerId, StoreId), Error> {
    let former = peek(dir)?.map(|(server, _)| server).filter(|_| !new_server);
    let server = former.unwrap_or_else(ServerId::random);
    let identity = Identity { format: FORMAT, server, store: StoreId::random() };
    write(dir, IDENTITY, &identity).map_err(Error::storage(dir))?;
    Ok((server, identity.store))
}

/// Gives the server a new, empty store: the former identity is kept `aside`, and the note that the store
/// must not be used is taken back, now that there is another one.
///
/// # Errors
/// When a disk operation fails.
pub(crate) fn renew(dir: &Path, aside: &Path) -> Result<StoreId, Error> {
    let former = read::<Identity>(dir, IDENTITY)?;
    if let Some(former) = &former {
        write(aside, IDENTITY, former).map_err(Error::storage(aside))?;
    }
    let server = former.map_or_else(ServerId::random, |former| former.server);
    let identity = Identity { format: FORMAT, server, store: StoreId::random() };
    write(dir, IDENTITY, &identity).map_err(Error::storage(dir))?;
    absolve(dir)?;
    Ok(identity.store)
}

/// The server's id, for listings; none if the directory has no identity.
///
/// # Errors
/// When the file is damaged.
pub(crate) fn peek(dir: &Path) -> Result<Option<(ServerId, StoreId)>, Error> {
    Ok(read::<Identity>(dir, IDENTITY)?.map(|identity| (identity.server, identity.store)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_stays_and_starts_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let first = begin(dir.path()).unwrap();
        let second = begin(dir.path()).unwrap();
        assert_eq!((first.server, first.store), (second.server, second.store));
        assert_eq!((first.incarnation, second.incarnation), (Incarnation(1), Incarnation(2)));
    }

    #[test]
    fn a_lost_count_of_starts_reuses_no_number() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            begin(dir.path()).unwrap();
        }
        std::fs::remove_file(dir.path().join(INCARNATION)).unwrap();
        let after = begin(dir.path()).unwrap().incarnation;
        assert!(after > Incarnation(3), "{after:?}");
        std::fs::write(dir.path().join(INCARNATION), b"\0\0\0").unwrap();
        assert_eq!(begin(dir.path()).unwrap().incarnation, Incarnation(INCARNATION_LEAP));
        assert_eq!(begin(dir.path()).unwrap().incarnation, Incarnation(INCARNATION_LEAP + 1));
    }

    #[test]
    fn a_damaged_view_is_none() {
        let dir = tempfile::tempdir().unwrap();
        begin(dir.path()).unwrap();
        std::fs::write(dir.path().join(VIEW), b"TRFATOM1, and then something else").unwrap();
        assert_eq!(read_view(dir.path()).unwrap(), None);
        assert!(!lacks_view(dir.path(), true) && !lacks_view(dir.path(), false));
        std::fs::remove_file(dir.path().join(VIEW)).unwrap();
        assert!(lacks_view(dir.path(), true) && !lacks_view(dir.path(), false));
    }

    #[test]
    fn a_failure_is_noted_until_there_is_another_store() {
        let dir = tempfile::tempdir().unwrap();
        begin(dir.path()).unwrap();
        assert_eq!(condemned(dir.path()).unwrap(), None);
        write_failed(dir.path(), "fsync: input/output error");
        assert_eq!(condemned(dir.path()).unwrap().unwrap(), "fsync: input/output error");
    }
    #[test]
    fn a_promise_is_of_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let me = begin(dir.path()).unwrap();
        assert_eq!(read_promise(dir.path(), me.store).unwrap(), None);
        let promised = Some(Promised { generation: 3, rebuild: common::ids::RebuildId(7) });
        write_promise(dir.path(), me.store, promised).unwrap();
        assert_eq!(read_promise(dir.path(), me.store).unwrap(), promised);
        assert_eq!(read_promise(dir.path(), StoreId(7)).unwrap(), None);
    }
}
