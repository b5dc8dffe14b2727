//! How servers and the cluster do, as JSON for people and programs.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Epoch, Incarnation, LogId, ServerId, StoreId};
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
    /// Copies of partitions that it sends to other servers now.
    #[serde(default)]
    pub transfers: Vec<TransferStatus>,
    /// What it has sent to members that were behind, since its process began.
    #[serde(default)]
    pub caught_up: CaughtUp,
    /// The reading of everything that is stored, against its checksums.
    #[serde(default)]
    pub scrub: ScrubStatus,
    /// The comparing of copies of the partitions that it coordinates.
    #[serde(default)]
    pub compared: ComparedStatus,
}

/// What a server has found by comparing the copies of the partitions that it coordinates, since its process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedStatus {
    /// Comparisons in which all in-sync copies were equal.
    pub equal: u64,
    /// Those in which they were not, the newest last; only so many are kept.
    pub differences: Vec<Difference>,
}

/// Copies of a partition that hold different data, seen twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The partition.
    pub partition: u16,
    /// The entry of the log at which they were compared.
    pub entry: LogId,
    /// Servers whose copies are wrong and are filled anew. Empty: it cannot be told which is right, and nothing is done.
    pub wrong: Vec<ServerId>,
    /// The servers that were compared: those whose copies are equal together, most first.
    pub groups: Vec<Vec<ServerId>>,
}

/// How far a server has read what it stores, since its process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Times that all of it was read and found good.
    pub passes: u64,
    /// The partition that is being read; none between two passes.
    pub partition: Option<u16>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Records that had expired and were removed.
    pub expired: u64,
}

/// A copy of a partition's state on its way from one server to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// The partition.
    pub partition: u16,
    /// Who sends.
    pub from: ServerId,
    /// Who takes.
    pub to: ServerId,
    /// Bytes of keys and values that were taken.
    pub bytes_done: u64,
    /// Bytes in all, roughly: what the sender's files and memory hold, where values are compressed and some are
    /// obsolete.
    pub bytes_all: u64,
    /// Bytes a second since it began.
    pub bytes_per_second: u64,
}

/// What was sent to members that joined or had been away: a member that was away for a moment gets entries of the log,
/// in proportion to the writes that it missed; one that was away for long, or is new, a copy of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// Entries of the log.
    pub log_entries: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Copies that were begun.
    pub copies: u64,
    /// Bytes of keys and values in their chunks.
    pub copy_bytes: u64,
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
    /// So many servers more may fail at once, whichever they are, and every partition is still read and written.
    #[serde(default)]
    pub survives: u32,
    /// An operator holds all copies that are on their way, and none is begun.
    #[serde(default)]
    pub paused: bool,
    /// The ECS lost its disk, and gathers what the servers hold: it has made no view yet.
    #[serde(default)]
    pub gathering: bool,
    /// Partitions that a rebuilt ECS leaves as they are until the servers in `awaited` have reported.
    #[serde(default)]
    pub waiting: u32,
    /// Whose reports a rebuilt ECS waits for.
    #[serde(default)]
    pub awaited: Vec<ServerId>,
    /// Copies that are being brought up to date.
    pub joining: u32,
    /// Partitions whose coordinator or copies are not where the plan wants them: what is left of a rebalancing.
    #[serde(default)]
    pub misplaced: u32,
    /// The servers, by id.
    pub servers: Vec<MemberStatus>,
    /// Copies of partitions on their way between servers, as the senders told last.
    #[serde(default)]
    pub transfers: Vec<TransferStatus>,
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
    /// It holds nothing until an operator lets it serve.
    #[serde(default)]
    pub stands_by: bool,
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
