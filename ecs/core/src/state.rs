//! All that must survive a restart of the ECS: on disk before any of it is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{ClusterId, Epoch, Incarnation, PartitionId, RebuildId, ServerId, StoreId};
use common::ring::Partitions;
use common::status::DiskState;
use common::view::{Member, View};
use serde::{Deserialize, Serialize};

use super::peers::Disagreements;
use super::rebuild::Rebuild;
use crate::limits::{LEFT_REMEMBERED_MAX, MIN_COPIES, MIN_COPIES_FROM, STORES_REMEMBERED_MAX};

/// What is durable. The view names each member's present store, process, address and weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest view.
    pub view: Arc<View>,
    /// What else must be known of servers, including those that left.
    pub registry: BTreeMap<ServerId, Registered>,
    /// What operators have set.
    #[serde(default)]
    pub settings: Settings,
    /// This ECS was made from what servers reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
    /// V4a: the members without which partitions went on after a restart, until they are filled again or gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<PartitionId, BTreeSet<Member>>,
    /// P2: partitions that have stopped, as their copies disagree, until an operator decides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disagreements: Disagreements,
}

/// What operators set for the whole cluster, while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Copies that must be in sync for a write to be acknowledged, 1 at least. `None`: by the number of servers, see
    /// [`Settings::min_copies`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_copies: Option<usize>,
    /// Copying is paused: no copy is begun or moved, and those under way stop.
    #[serde(default)]
    pub paused: bool,
    /// New servers stand by: they hold nothing until they are ordered to serve.
    #[serde(default)]
    pub stand_by: bool,
}

impl Settings {
    /// Copies that must be in sync for a write to be acknowledged, in a cluster of so many servers that serve or are to
    /// serve again, with so many copies of each partition: what was set, or, from [`MIN_COPIES_FROM`] servers on,
    /// [`MIN_COPIES`]. Two servers would stop writing with the first failure if both had to have each write.
    #[must_use]
    pub fn min_copies(&self, servers: usize, copies: usize) -> usize {
        let automatic = if servers >= MIN_COPIES_FROM { MIN_COPIES } else { 1 };
        self.min_copies.unwrap_or(automatic).clamp(1, copies.max(1))
    }
}

/// What is remembered of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// It is to leave: its copies are being moved away. A new process of the server takes that back.
    pub leaving: bool,
    /// The server that is to take its place, if it is to leave for that: while that one is not up, it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<ServerId>,
    /// It holds nothing until it is ordered to serve.
    #[serde(default)]
    pub stands_by: bool,
    /// It is new, or has come back or been added, and has not had all of its share since.
    #[serde(default)]
    pub added: bool,
    /// The state of its disk, as decisions use it.
    #[serde(default, skip_serializing_if = "is_well")]
    pub disk: DiskState,
    /// Other servers have its copies because its disk was slow or full for long; until the disk is well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gave_up: bool,
    /// The process that left the cluster, as was ordered. It does not join again; a later one may.
    pub left: Option<Incarnation>,
    /// It left, came back, and has held no copy in sync since: if it goes down so, it is forgotten again instead of
    /// being listed as down for ever. The same process may come back then.
    #[serde(default)]
    pub returned: bool,
    /// The last process seen of each of its stores, [`STORES_REMEMBERED_MAX`] at most.
    pub stores: BTreeMap<StoreId, Incarnation>,
}

/// Whether the disk is well: then the field is left out of the file.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_well(disk: &DiskState) -> bool {
    *disk == DiskState::Well
}

impl State {
    /// A new cluster, without servers. Its view has the number 0, which is never published.
    #[must_use]
    pub fn new(cluster: ClusterId, partitions: Partitions) -> Self {
        let number = Epoch::default();
        let view = Arc::new(View::new(cluster, number, partitions));
        let (registry, settings, rebuild, left_out, disagreements) = Default::default();
        Self { view, registry, settings, rebuild, left_out, disagreements }
    }

    /// An ECS without its disk, which is to learn of a cluster from its servers.
    #[must_use]
    pub fn rebuild(cluster: ClusterId, id: RebuildId) -> Self {
        Self { rebuild: Some(Rebuild::new(id)), ..Self::new(cluster, Partitions::default()) }
    }
}

impl Registered {
    /// Remembers the newest process of a store.
    pub(super) fn saw(&mut self, store: StoreId, incarnation: Incarnation) {
        self.stores.insert(store, incarnation);
        if self.stores.len() > STORES_REMEMBERED_MAX {
            let oldest = self.stores.keys().copied().find(|&other| other != store);
            oldest.map(|oldest| self.stores.remove(&oldest));
        }
        assert!(self.stores.len() <= STORES_REMEMBERED_MAX);
        assert_eq!(self.stores.get(&store), Some(&incarnation), "the newest store is remembered");
    }
}

/// Forgets servers that left, beyond the limit.
pub(super) fn forget_some(registry: &mut BTreeMap<ServerId, Registered>, view: &View) {
    let left: Vec<ServerId> =
        registry.keys().copied().filter(|server| !view.servers.contains_key(server)).collect();
    for server in left.iter().skip(LEFT_REMEMBERED_MAX) {
        registry.remove(server);
    }
    let remembered = registry.keys().filter(|server| !view.servers.contains_key(server)).count();
    assert!(remembered <= LEFT_REMEMBERED_MAX);
}
