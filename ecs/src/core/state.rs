//! All that must survive a restart of the ECS: on disk before anyone is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::{ClusterId, Epoch, Incarnation, RebuildId, ServerId, StoreId};
use common::ring::Partitions;
use common::view::View;
use serde::{Deserialize, Serialize};

use super::rebuild::Rebuild;
use crate::limits::{LEFT_REMEMBERED_MAX, STORES_REMEMBERED_MAX};

/// What is durable. The view names each member's present store, process, address and weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest view.
    pub view: Arc<View>,
    /// What must be known of servers besides, also of those that left.
    pub registry: BTreeMap<ServerId, Registered>,
    /// What operators have set.
    #[serde(default)]
    pub settings: Settings,
    /// This ECS was made from what servers reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
}

/// What operators set for the whole cluster, while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// V4: an in-sync set is never shrunk below this many members; 1 at least. A member that is gone stays in it
    /// instead, so writes wait until it is back or a copy that has caught up has taken its place.
    pub min_copies: usize,
    /// No copy is begun or moved, and those on their way are held.
    #[serde(default)]
    pub paused: bool,
    /// New servers stand by: they hold nothing until they are ordered to serve.
    #[serde(default)]
    pub stand_by: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { min_copies: 1, paused: false, stand_by: false }
    }
}

/// What is remembered of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// It is to leave: its copies are being moved away. A new process of the server takes that back.
    pub leaving: bool,
    /// It holds nothing until it is ordered to serve.
    #[serde(default)]
    pub stands_by: bool,
    /// It is new, or has come back or been added, and has not had all of its share since.
    #[serde(default)]
    pub added: bool,
    /// The process that left the cluster. It does not join again; a later one may.
    pub left: Option<Incarnation>,
    /// It left, came back, and has held no copy in sync since: if it goes down so, it is forgotten again instead of
    /// being listed as down for ever.
    #[serde(default)]
    pub returned: bool,
    /// The last process seen of each of its stores, [`STORES_REMEMBERED_MAX`] at most.
    pub stores: BTreeMap<StoreId, Incarnation>,
}

impl State {
    /// A new cluster, without servers. Its view has the number 0, which is never published.
    #[must_use]
    pub fn new(cluster: ClusterId, partitions: Partitions) -> Self {
        let number = Epoch::default();
        let view = Arc::new(View::new(cluster, number, partitions));
        Self { view, registry: BTreeMap::new(), settings: Settings::default(), rebuild: None }
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
    }
}

/// Forgets servers that left, beyond the limit.
pub(super) fn forget_some(registry: &mut BTreeMap<ServerId, Registered>, view: &View) {
    let left: Vec<ServerId> =
        registry.keys().copied().filter(|server| !view.servers.contains_key(server)).collect();
    for server in left.iter().skip(LEFT_REMEMBERED_MAX) {
        registry.remove(server);
    }
}
