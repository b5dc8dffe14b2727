//! A store that must not be used again (R3): kept aside, and the server begins anew as an empty one with the same server
//! id and another store id, which nobody counts as in sync.
//!
//! Every step is on disk before the next, and the note of the failure goes last: a crash in between leaves a directory
//! whose next start does the rest. Nothing is deleted.

use std::path::Path;

use common::ids::PartitionId;
use common::view::Member;

use crate::core::sole_copies;
use crate::error::Error;
use crate::identity;

/// Sets the store in `dir` aside, unless it may be the only one that has some data.
///
/// # Errors
/// [`Error::LastCopy`], and what the disk refuses.
pub(crate) fn set_aside(dir: &Path, reason: &str) -> Result<(), Error> {
    let kept = identity::peek(dir)?;
    if let (Some(view), Some((server, store))) = (identity::read_view(dir)?, kept) {
        let sole = sole_copies(&view, Member { server, store });
        if !sole.is_empty() {
            let (dir, reason) = (dir.to_owned(), reason.to_owned());
            return Err(Error::LastCopy { dir, reason, partitions: names(&sole) });
        }
    }
    identity::condemn(dir, reason)?;
    let aside = storage::set_aside(dir, reason).map_err(Error::storage(dir))?;
    let store = identity::renew(dir, &aside)?;
    tracing::error!(
        "the store failed and is not used again: {reason}. It is kept in {}; the server goes on as an empty one under the \
         new store id {store} and is filled anew from the other copies. Remove the folder when nobody needs it",
        aside.display()
    );
    Ok(())
}

fn names(partitions: &[PartitionId]) -> String {
    /// More are counted.
    const NAMED_MAX: usize = 8;
    let named: Vec<String> = partitions.iter().take(NAMED_MAX).map(PartitionId::to_string).collect();
    let word = if partitions.len() == 1 { "partition" } else { "partitions" };
    match partitions.len().saturating_sub(NAMED_MAX) {
        0 => format!("{word} {}", named.join(", ")),
        more => format!("{word} {} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{ClusterId, Epoch, ServerId, StoreId};
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
    }

    #[test]
    fn the_only_copy_is_not_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let before = identity::begin(dir.path()).unwrap();
        keep_view(dir.path(), &[]);
        let error = set_aside(dir.path(), "a flipped byte").unwrap_err().to_string();
        assert!(error.contains("partition 0") && error.contains("a flipped byte"), "{error}");
        assert_eq!(identity::peek(dir.path()).unwrap(), Some((before.server, before.store)));
        assert!(!dir.path().join("damaged-1").exists());
    }
}
