//! Sets a store aside that is not needed any more (R3). The server begins anew with an empty store, the same server id,
//! and another store id, which no view counts as in sync.
//!
//! Every step is on disk before the next, and the note of the failure goes last: a crash in between leaves a directory
//! whose next start does the rest. Nothing is deleted.

use std::path::{Path, PathBuf};

use common::messages::AsideStore;
use common::view::Member;

use crate::error::Error;
use crate::store::identity;
use kvserver_core::in_sync_partitions;

/// Sets the store in `dir` aside. The ECS must have said that it is not needed.
///
/// # Errors
/// When a disk operation fails.
pub(crate) fn set_aside(dir: &Path, reason: &str) -> Result<(), Error> {
    identity::condemn(dir, reason)?;
    let aside = move_aside(dir, reason)?;
    let store = identity::renew(dir, &aside)?;
    tracing::error!(
        "the store failed and is not used again: {reason}. The ECS says that all of it is served from other in-sync \
         copies. It is kept in {}; the server goes on as an empty one under the new store id {store} and is filled \
         anew from the other copies. Remove the folder when it is no longer needed",
        aside.display()
    );
    Ok(())
}

/// Moves log and trees into a folder of their own, and notes beside them what they may contain.
pub(crate) fn move_aside(dir: &Path, reason: &str) -> Result<PathBuf, Error> {
    let view = identity::read_view(dir)?;
    let me = identity::peek(dir)?.map(|(server, store)| Member { server, store });
    let partitions = view.zip(me).map(|(view, me)| in_sync_partitions(&view, me));
    let aside = storage::set_aside(dir, reason).map_err(Error::storage(dir))?;
    identity::write_held(&aside, partitions.as_ref()).map_err(Error::storage(dir))?;
    Ok(aside)
}

/// The stores that were set aside in `dir` and are still there. What cannot be read there is left out and logged: a
/// person decides about it.
pub(crate) fn aside(dir: &Path) -> Vec<AsideStore> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut stores = Vec::new();
    for entry in entries.flatten() {
        let Ok(folder) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if !is_aside(&folder) || !path.join("log").is_dir() {
            continue;
        }
        let Ok(Some((_, store))) = identity::peek(&path) else { continue };
        let reason = storage::read_atomic(&path, "reason").ok().flatten().unwrap_or_default();
        stores.push(AsideStore {
            dir: std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string(),
            folder,
            store,
            reason: String::from_utf8_lossy(&reason).into_owned(),
            partitions: identity::read_held(&path),
        });
    }
    stores.sort_by(|one, other| one.folder.cmp(&other.folder));
    stores
}

/// Whether a folder of a storage directory is named like a store that was set aside.
pub(crate) fn is_aside(folder: &str) -> bool {
    folder.strip_prefix("damaged-").is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{ClusterId, Epoch, PartitionId, ServerId, StoreId};
    use common::ring::Partitions;
    use common::view::{Assignment, View};

    /// A view of one partition with this server and perhaps another one in sync.
    fn keep_view(dir: &Path, others: &[Member]) {
        let (server, store) = identity::peek(dir).unwrap().unwrap();
        let number = Epoch { generation: 0, version: 3 };
        let mut view = View::new(ClusterId(1), number, Partitions::try_from(1).unwrap());
        let in_sync = [&[Member { server, store }], others].concat();
        let info = common::view::ServerInfo {
            store,
            incarnation: common::ids::Incarnation(1),
            nonce: Default::default(),
            address: "localhost:1".to_owned(),
            weight: 1,
            state: common::view::ServerState::Up,
        };
        view.servers = in_sync.iter().map(|member| (member.server, info.clone())).collect();
        view.assignments = vec![Assignment { epoch: number, coordinator: server, in_sync, joining: vec![] }];
        identity::write_view(dir, &view).unwrap();
    }

    #[test]
    fn the_server_goes_on_with_another_store() {
        let dir = tempfile::tempdir().unwrap();
        let before = identity::begin(dir.path()).unwrap();
        keep_view(dir.path(), &[Member { server: ServerId(7), store: StoreId(7) }]);
        set_aside(dir.path(), "a flipped byte").unwrap();
        assert_eq!(identity::condemned(dir.path()).unwrap(), None);
        let after = identity::begin(dir.path()).unwrap();
        assert_eq!(after.server, before.server);
        assert_ne!(after.store, before.store);
        assert!(after.incarnation > before.incarnation);
        let aside = dir.path().join("damaged-1");
        assert_eq!(identity::peek(&aside).unwrap(), Some((before.server, before.store)));
        assert!(super::aside(dir.path()).is_empty(), "it has no log");
        std::fs::create_dir(aside.join("log")).unwrap();
        let [kept] = super::aside(dir.path()).try_into().unwrap();
        assert_eq!((kept.folder.as_str(), kept.store), ("damaged-1", before.store));
        assert_eq!((kept.reason.as_str(), kept.partitions), ("a flipped byte", Some(vec![PartitionId(0)])));
    }
}
