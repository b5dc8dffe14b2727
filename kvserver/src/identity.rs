//! Who this server is: kept in the storage directory, made at the first start.
//!
//! `identity` holds the server's and the store's ids, `incarnation` counts the starts (on disk before the first
//! message), `view` the newest view in use, `promised` what was promised to an ECS that was rebuilt, `failed`
//! why the store must not be used again.

use std::path::Path;
use std::sync::Arc;

use common::ids::{Incarnation, ServerId, StoreId};
use common::messages::{Promised, Sender};
use common::view::View;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::Error;

const IDENTITY: &str = "identity";
const INCARNATION: &str = "incarnation";
const VIEW: &str = "view";
const PROMISED: &str = "promised";
const FAILED: &str = "failed";

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
    storage::write_atomically(dir, name, &bytes)
}

/// Reads who we are, or decides it, and counts this start.
///
/// # Errors
/// When the directory is another program's or damaged.
pub(crate) fn begin(dir: &Path) -> Result<Sender, Error> {
    let identity = match read::<Identity>(dir, IDENTITY)? {
        Some(identity) if identity.format == FORMAT => identity,
        Some(Identity { format, .. }) => {
            let detail = format!("its format is {format}, this program's is {FORMAT}");
            return Err(Error::Foreign { file: dir.join(IDENTITY), detail });
        }
        None => {
            let identity = Identity { format: FORMAT, server: ServerId::random(), store: StoreId::random() };
            write(dir, IDENTITY, &identity).map_err(Error::storage(dir))?;
            identity
        }
    };
    let incarnation = Incarnation(read::<Incarnation>(dir, INCARNATION)?.unwrap_or_default().0 + 1);
    write(dir, INCARNATION, &incarnation).map_err(Error::storage(dir))?;
    Ok(Sender { server: identity.server, store: identity.store, incarnation })
}

/// The newest view that was kept.
///
/// # Errors
/// When the file is damaged or contradicts itself.
pub(crate) fn read_view(dir: &Path) -> Result<Option<Arc<View>>, Error> {
    let Some(view) = read::<View>(dir, VIEW)? else { return Ok(None) };
    let foreign =
        |error: &dyn std::fmt::Display| Error::Foreign { file: dir.join(VIEW), detail: error.to_string() };
    view.check().map_err(|error| foreign(&error))?;
    Ok(Some(Arc::new(view)))
}

/// Keeps a view.
pub(crate) fn write_view(dir: &Path, view: &View) -> Result<(), storage::Error> {
    write(dir, VIEW, view)
}

/// A promise is of a store: the one that comes after it has promised nothing.
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

/// Notes that the store must not count as in sync again. Where the disk refuses to sync the note, it is left unsynced:
/// what must not be read again is what the system still holds in memory and never wrote, and that goes with the note.
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
/// When the disk refuses.
pub(crate) fn condemn(dir: &Path, reason: &str) -> Result<(), Error> {
    write(dir, FAILED, &reason).map_err(Error::storage(dir))
}

/// The server goes on with a store that never was: the former identity is kept `aside`, and the note that the store
/// must not be used is taken back, now that there is another one.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn renew(dir: &Path, aside: &Path) -> Result<StoreId, Error> {
    let former = read::<Identity>(dir, IDENTITY)?;
    if let Some(former) = &former {
        write(aside, IDENTITY, former).map_err(Error::storage(aside))?;
    }
    let server = former.map_or_else(ServerId::random, |former| former.server);
    let identity = Identity { format: FORMAT, server, store: StoreId::random() };
    write(dir, IDENTITY, &identity).map_err(Error::storage(dir))?;
    std::fs::remove_file(dir.join(FAILED))
        .map_err(|source| Error::Directory { dir: dir.to_owned(), source })?;
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
