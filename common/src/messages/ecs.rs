//! From servers to the ECS, as JSON. Nothing is answered; views come on a link of their own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::ids::{Epoch, Incarnation, LogId, PartitionId, RebuildId, Seq, ServerId, StoreId};
use crate::status::{Health, TransferStatus};
use crate::view::{Member, View};

/// What a server's log of one partition has, reported at its start. An ECS that is rebuilt without its disk learns from
/// it which server has what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTail {
    /// The partition whose log this is.
    pub partition: PartitionId,
    /// The last entry on disk.
    pub last: LogId,
    /// Members that this server as coordinator of `epoch` has proposed.
    pub proposed: Vec<Member>,
    /// The epoch that `proposed` belongs to.
    pub epoch: Epoch,
}

/// R6: a server's promise to an ECS that is being rebuilt. Until it promises a later generation, it takes only views of
/// this generation and rebuild, and of these only such as count its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// The generation of the views. A promise of a later generation replaces this one; another of the same or an older
    /// generation does not.
    pub generation: u32,
    /// The rebuild that makes these views.
    pub rebuild: RebuildId,
}

/// The state of one copy, sent in heartbeats when it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// The partition whose copy this is.
    pub partition: PartitionId,
    /// Its epoch at the sender.
    pub epoch: Epoch,
    /// The sender coordinates the partition and may acknowledge writes.
    pub active: bool,
    /// The last entry on disk.
    pub last: u64,
    /// Entries applied.
    pub applied: u64,
    /// V4a: the sender's process was in step in an epoch whose coordinator became active, so the copy has all that it
    /// has acknowledged.
    #[serde(default)]
    pub proved: bool,
}

/// R3: a store that failed, or that cannot be read, as its server found it at its start. It is not in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Where the server is reached, `host:port`.
    pub address: String,
    /// The store's directory at the server, for people.
    pub dir: String,
    /// What is wrong with it, for people.
    pub reason: String,
    /// The partitions that the store was in sync for, by the last view that its server used; `None`: there was no view,
    /// so it may be any.
    pub partitions: Option<Vec<PartitionId>>,
    /// The number of the last view that its server used; 0: there was none, or the server's version does not send it.
    #[serde(default)]
    pub view: Epoch,
}

/// R3: what becomes of a store that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum StoreVerdict {
    /// For each of its partitions another in-sync copy is being served: set it aside, and go on as an empty server
    /// under another store id.
    SetAside {},
    /// It may be the last store that has some data: keep it as it is, and wait.
    Keep {
        /// Partitions of which no other in-sync copy is being served.
        unserved: Vec<PartitionId>,
    },
}

/// R3: a store that was set aside and that the server still keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideStore {
    /// The server's directory, for people.
    pub dir: String,
    /// The folder in it, `damaged-<n>`.
    pub folder: String,
    /// The store's id.
    pub store: StoreId,
    /// Why it was set aside, for people.
    pub reason: String,
    /// The partitions that it was in sync for; `None`: not known.
    pub partitions: Option<Vec<PartitionId>>,
}

/// What a server reports to the ECS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum ServerReport {
    /// Once at the beginning of each link: the sender runs. The link's [`Hello`](super::Hello) names it.
    Hello {
        /// Where clients and peers reach the server, `host:port`.
        address: String,
        /// Its share of the ring, from 1.
        weight: u32,
        /// The number of the view that it has (0 for none).
        view: Epoch,
        /// The rebuild of the ECS that this view comes from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rebuild: Option<RebuildId>,
        /// Its logs.
        tails: Vec<LogTail>,
    },
    /// To an ECS that is being rebuilt, which asked for it: all that the sender knows of the cluster.
    Holdings {
        /// The newest promise that the sender has given, on its disk before this is sent. It is not the one that was
        /// asked for if the sender had given one of that generation or a later one before, or uses a view of such a
        /// generation.
        promised: Option<Promised>,
        /// The newest view that it uses.
        view: Arc<View>,
        /// Its logs, and what it has proposed.
        tails: Vec<LogTail>,
    },
    /// Every heartbeat time: the sender is alive.
    Heartbeat {
        /// The number of the view that it has. An older one than the ECS's is pushed again.
        view: Epoch,
        /// Copies whose state has changed since the last heartbeat.
        copies: Vec<CopyState>,
        /// Requests served since the last heartbeat.
        requests: u64,
        /// Keys over all copies, approximate.
        keys: u64,
        /// Bytes on disk.
        bytes: u64,
        /// Bytes free on the disk.
        free_bytes: u64,
        /// What is wrong with it.
        #[serde(default)]
        health: Health,
    },
    /// Beside a heartbeat, as long as there are any and once more: the copies that the sender sends to others.
    Transfers {
        /// All copies under way.
        transfers: Vec<TransferStatus>,
    },
    /// Once a second: the sender's figures, for people.
    Figures {
        /// The figures since the last report.
        figures: Figures,
    },
    /// V7: servers that the sender has heard nothing of for the report time, though it pings them as a coordinator of
    /// partitions that they share, or should be pinged by them. Sent again every report time while there are any.
    Unheard {
        /// All servers that are not heard.
        servers: Vec<ServerId>,
    },
    /// From a coordinator: an in-sync member has acknowledged nothing for the report time (W3).
    Silent {
        /// The partition that the sender coordinates.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
        /// The silent member.
        member: ServerId,
    },
    /// From a coordinator: this joining member has caught up, and writes already wait for it (J2). It asks the ECS to
    /// take the member into the in-sync set.
    Propose {
        /// The partition that the sender coordinates.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
        /// The member whose acknowledgements were counted.
        member: Member,
        /// The process whose acknowledgements were counted.
        incarnation: Incarnation,
    },
    /// The sender wants to leave the cluster: its copies are to be moved away.
    Leave {},
    /// The sender's copy of one partition is wrong and is not to be counted. The sender uses it no more, reports it
    /// again while a view counts it, drops it as soon as none does, and then joins with nothing.
    CopyFailed {
        /// The partition whose copy at the sender is wrong.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
    },
    /// P1: from a new coordinator whose log is too far behind that of another in-sync member to be completed from it:
    /// that member is to become the coordinator.
    Yield {
        /// The partition that the sender was to coordinate.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
        /// The in-sync member with the longest log.
        to: ServerId,
    },
    /// P5: an in-sync member has lost entries that it had acknowledged in this epoch.
    LostEntries {
        /// The partition that the sender coordinates.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
        /// The in-sync member that has lost entries.
        member: Member,
    },
    /// P2: a member has committed entries that the log of this epoch lacks. The sender has stopped for the partition.
    CopiesDisagree {
        /// The partition that the sender coordinates no more.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
        /// The member that is ahead.
        member: Member,
        /// Entries up to here are committed, as that member knows.
        commit: Seq,
    },
    /// The sender's store failed (fsync, checksum, disk full): none of its copies is to be counted. The server comes
    /// back under a new store id.
    StoreFailed {
        /// What failed, for people.
        reason: String,
    },
    /// Instead of a hello, at the start and then about once a second: the sender waits with a store that failed or
    /// cannot be read, and serves nothing. The ECS answers with a [`StoreVerdict`], on a link of its own.
    Suspect {
        /// The store.
        suspicion: Suspicion,
    },
    /// After the hello: the stores that the sender has set aside and still keeps, if there are any.
    Aside {
        /// All such stores.
        stores: Vec<AsideStore>,
    },
    /// A report that only a later version has: it is skipped, so that servers may be upgraded before their ECS. Never
    /// sent.
    #[serde(other)]
    Unknown,
}
