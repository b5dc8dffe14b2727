//! How servers and the cluster do, as JSON for people and programs.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Epoch, Incarnation, ServerId, StoreId};
use crate::view::ServerState;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The server.
    pub server: ServerId,
    /// Its store.
    pub store: StoreId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Where it is reached.
    pub address: String,
    /// Where its ECS is, `host:port`, as given to this server.
    pub ecs: String,
    /// The number of its view.
    pub view: Epoch,
    /// Its copies.
    pub copies: Vec<CopyStatus>,
    /// Keys over all copies, approximate.
    pub keys: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes free on the disk.
    pub free_bytes: u64,
}

/// The part that a server has in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Orders and acknowledges writes.
    Coordinator,
    /// Keeps an in-sync copy.
    Replica,
    /// Is being brought up to date.
    Joining,
    /// Has a copy that no view lists (any more).
    None,
}

/// One copy at a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStatus {
    /// The partition.
    pub partition: u16,
    /// Its epoch at the server.
    pub epoch: Epoch,
    /// The server's part.
    pub role: Role,
    /// A coordinator that may acknowledge writes; a replica that has synced in this epoch.
    pub active: bool,
    /// The last log entry on disk.
    pub last: u64,
    /// The last log entry known to be committed.
    pub commit: u64,
    /// The last log entry applied.
    pub applied: u64,
}

/// What the ECS says of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The number of the newest view.
    pub view: Epoch,
    /// Partitions of the ring.
    pub partitions: u32,
    /// Partitions with fewer in-sync copies than they should have.
    pub under_replicated: u32,
    /// Partitions without a copy at a server that is up: they can be neither read nor written.
    #[serde(default)]
    pub offline: u32,
    /// Copies that are being brought up to date.
    pub joining: u32,
    /// The servers, by id.
    pub servers: Vec<MemberStatus>,
}

/// What the ECS says of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The server.
    pub server: ServerId,
    /// Where it is reached.
    pub address: String,
    /// Up, leaving or down.
    pub state: ServerState,
    /// The number of the view that it uses.
    pub view: Epoch,
    /// Partitions that it coordinates.
    pub coordinator: u32,
    /// Partitions that it keeps another in-sync copy of.
    pub replica: u32,
    /// Copies that are being brought up to date on it.
    pub joining: u32,
    /// Keys over all its copies, approximate.
    pub keys: u64,
    /// Bytes on its disk.
    pub bytes: u64,
    /// Bytes free on its disk.
    pub free_bytes: u64,
    /// Requests a second, over its last heartbeats.
    pub requests_per_second: f64,
    /// Since its last heartbeat; none before the first.
    pub heartbeat_age_ms: Option<u64>,
}
