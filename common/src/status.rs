//! The status of servers and of the cluster, as JSON for people and programs.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Epoch, Incarnation, LogId, ServerId, StoreId};
use crate::view::ServerState;

/// A server's status, as the server reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The server that says this of itself.
    pub server: ServerId,
    /// The content of its storage directory.
    pub store: StoreId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Where it is reached.
    pub address: String,
    /// Where its ECS is, `host:port`, as given to this server.
    pub ecs: String,
    /// The number of its view.
    pub view: Epoch,
    /// The copies of partitions that it has, and how far each is.
    pub copies: Vec<CopyStatus>,
    /// Records of all copies, with those that have expired and are not removed yet.
    pub keys: u64,
    /// Those of them that have an expiry.
    #[serde(default)]
    pub expiring: u64,
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
    /// Comparisons in which they were not, the newest last; only a bounded number is kept.
    pub differences: Vec<Difference>,
}

impl ComparedStatus {
    /// How many partitions have copies that differ without it being known which is right.
    #[must_use]
    pub fn undecided(&self) -> usize {
        self.differences.iter().filter(|one| one.wrong.is_empty()).count()
    }
}

/// Copies of a partition that have different data, by two comparisons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The partition whose copies were compared.
    pub partition: u16,
    /// The entry of the log at which they were compared.
    pub entry: LogId,
    /// Servers whose copies are wrong and are filled anew. Empty: it is not known which is right, and nothing is done.
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
    /// The partition whose state is on its way.
    pub partition: u16,
    /// The server that sends.
    pub from: ServerId,
    /// The server that receives.
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
    /// Entries of logs that were sent.
    pub log_entries: u64,
    /// Bytes of these entries.
    pub log_bytes: u64,
    /// Copies of the state that were begun.
    pub copies: u64,
    /// Bytes of keys and values in the chunks of these copies.
    pub copy_bytes: u64,
}

/// The role that a server has in a partition.
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
    /// The partition of which the server has this copy.
    pub partition: u16,
    /// Its epoch at the server.
    pub epoch: Epoch,
    /// The server's role.
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

/// Problems that a server reports of itself. The default: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Less is free on its disk than its reserve: it refuses writes.
    pub disk_full: bool,
    /// Bytes that stay free on the disk. None if the server is of an earlier version.
    pub reserve_bytes: Option<u64>,
    /// Microseconds that a sync of the commit log takes of late: the median of the last ones. None before the first.
    pub sync_us: Option<u64>,
    /// Partitions that it coordinates whose copies differ without it being known which is right.
    pub copies_differ: u32,
}

/// How bad a condition is; the cluster has the worst level of all conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// An operator's order waits for an operator.
    Paused,
    /// All keys are served, and something is not as it should be.
    Degraded,
    /// Some keys cannot be written, or neither read nor written.
    Offline,
    /// The ECS runs on an older copy of its directory: the servers have newer views, and what it says of the cluster is
    /// not true.
    Behind,
}

impl Level {
    /// The first word of a verdict.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Paused => "PAUSED",
            Self::Degraded => "DEGRADED",
            Self::Offline => "OFFLINE",
            Self::Behind => "ECS IS BEHIND",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its name for programs, such as `disk_full`; docs/ecs-api.md lists them.
    pub name: String,
    /// How bad it is.
    pub level: Level,
    /// The servers that it concerns, if any.
    pub servers: Vec<ServerId>,
    /// What the condition is, for people; servers are named by address.
    pub what: String,
    /// What to do next, for people.
    pub next: String,
}

/// The status of the cluster, as the ECS reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// There is no condition: the wanted number of copies is there, no server that runs is left out, and the ECS makes
    /// views.
    #[serde(default)]
    pub healthy: bool,
    /// The verdict as a line for people: a word (`healthy`, or that of the worst condition's level) and why.
    #[serde(default)]
    pub verdict: String,
    /// Figures for people, behind the verdict: the epoch, the servers, what the cluster survives, what is under way.
    #[serde(default)]
    pub facts: String,
    /// What is not as it should be, the worst first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The id that was drawn when the ECS was started first.
    pub cluster: ClusterId,
    /// The number of the newest view.
    pub view: Epoch,
    /// Partitions of the ring.
    pub partitions: u32,
    /// Copies that each partition should have (`--copies`).
    #[serde(default)]
    pub copies: u32,
    /// Partitions with fewer living in-sync copies than `copies`.
    pub under_replicated: u32,
    /// Partitions without a copy at a server that is up: they can be neither read nor written.
    #[serde(default)]
    pub offline: u32,
    /// How many more servers may fail at once, whichever they are, so that every partition is still read and written.
    #[serde(default)]
    pub survives: u32,
    /// How many more servers may be lost for good with their disks, whichever they are, without the loss of an
    /// acknowledged write. It is more than `survives` where writes stop before (`--min-copies`).
    #[serde(default)]
    pub data_survives: u32,
    /// Pairs of servers of which one does not hear the other, though both are heard by the ECS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut_links: Vec<(ServerId, ServerId)>,
    /// Copies that a write needs to be acknowledged: where fewer are in sync, writes wait and reads go on.
    #[serde(default)]
    pub min_copies: u32,
    /// An operator has paused all copying: copies under way stand still, and none is begun.
    #[serde(default)]
    pub paused: bool,
    /// The ECS lost its disk and gathers the servers' reports: it has made no view yet.
    #[serde(default)]
    pub gathering: bool,
    /// Partitions that a rebuilt ECS leaves as they are until the servers in `awaited` have reported.
    #[serde(default)]
    pub waiting: u32,
    /// The servers whose reports a rebuilt ECS waits for.
    #[serde(default)]
    pub awaited: Vec<ServerId>,
    /// Stores that failed or cannot be read, and whose servers wait for a decision.
    #[serde(default)]
    pub stores_waiting: Vec<WaitingStore>,
    /// Copies that are being brought up to date.
    pub joining: u32,
    /// Partitions whose coordinator or copies are not where the plan wants them: what is left of a rebalancing.
    #[serde(default)]
    pub misplaced: u32,
    /// The servers, by id.
    pub servers: Vec<MemberStatus>,
    /// Copies of partitions on their way between servers, as the senders reported last.
    #[serde(default)]
    pub transfers: Vec<TransferStatus>,
}

/// How the ECS judges a server's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskState {
    /// No problem.
    #[default]
    Well,
    /// Its syncs take many times as long as the others': it coordinates nothing while others can.
    Slow,
    /// No more than its reserve is free, so its server refuses writes and coordinates nothing while others can.
    Full,
}

/// A store that failed or cannot be read. Its server keeps it and serves nothing, until the ECS says that it is not
/// needed, or an operator takes it back (`kvserver reinstate`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingStore {
    /// The server whose store it is.
    pub server: ServerId,
    /// The server's address.
    pub address: String,
    /// The store's directory at the server.
    pub dir: String,
    /// What is wrong with the store.
    pub reason: String,
    /// Partitions of the store of which no other in-sync copy is being served now.
    pub unserved: u32,
}

/// The status of one server, as the ECS reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The id of the server, which may have had other addresses.
    pub server: ServerId,
    /// Where it is reached.
    pub address: String,
    /// Up, leaving or down.
    pub state: ServerState,
    /// It has no copies until an operator lets it serve.
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
    /// Bytes that it leaves free: with less it refuses writes. `None` if it has not reported them.
    #[serde(default)]
    pub reserve_bytes: Option<u64>,
    /// Microseconds that a sync of its commit log takes of late, the median. `None` if it has not reported it.
    #[serde(default)]
    pub sync_median_us: Option<u64>,
    /// How the ECS judges its disk.
    #[serde(default)]
    pub disk: DiskState,
    /// It gave its copies to others because of its disk, or is about to.
    #[serde(default)]
    pub gave_up: bool,
    /// Requests a second, over its last heartbeats.
    pub requests_per_second: f64,
    /// Milliseconds since its last heartbeat; `None` before the first.
    pub heartbeat_age_ms: Option<u64>,
    /// Milliseconds of silence after which it counts as gone, as of now: it grows with the jitter of heartbeats.
    #[serde(default)]
    pub silence_limit_ms: u64,
    /// Milliseconds until it may get partitions again: it is down and was so several times of late, or others did not
    /// hear it.
    #[serde(default)]
    pub pause_ms: Option<u64>,
}
