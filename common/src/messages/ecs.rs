//! From servers to the ECS, as JSON. Nothing is answered; views come on a link of their own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::ids::{Epoch, Incarnation, LogId, PartitionId, RebuildId, ServerId};
use crate::status::TransferStatus;
use crate::view::{Member, View};

/// What a server's log of one partition holds, told at its start. The ECS uses it to say who has what when
/// it is rebuilt without its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTail {
    /// The partition.
    pub partition: PartitionId,
    /// The last entry on disk.
    pub last: LogId,
    /// Members that this server as coordinator of `epoch` has proposed.
    pub proposed: Vec<Member>,
    /// The epoch that `proposed` belongs to.
    pub epoch: Epoch,
}

/// R6: a server's promise to an ECS that is being rebuilt. It takes no view but those of this generation and rebuild that
/// count what it has reported, until it promises a later generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// Of the views. A later one replaces it, an older one does not, nor one of the same generation.
    pub generation: u32,
    /// Whose views.
    pub rebuild: RebuildId,
}

/// The state of one copy, told in heartbeats when it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// The partition.
    pub partition: PartitionId,
    /// Its epoch at the sender.
    pub epoch: Epoch,
    /// The sender coordinates the partition and may acknowledge writes.
    pub active: bool,
    /// The last entry on disk.
    pub last: u64,
    /// Entries applied.
    pub applied: u64,
}

/// What a server tells the ECS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum ServerReport {
    /// Once at the beginning of each link: I am here. The sender is named by the link.
    Hello {
        /// Where clients and peers reach the server, `host:port`.
        address: String,
        /// Its share of the ring, from 1.
        weight: u32,
        /// The number of the view that it has (0 for none).
        view: Epoch,
        /// The rebuild of the ECS that this view comes of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rebuild: Option<RebuildId>,
        /// Its logs.
        tails: Vec<LogTail>,
    },
    /// To an ECS that is being rebuilt, which asked for it: all that this server knows of the cluster.
    Holdings {
        /// The newest promise that it has given, on its disk before this is said. It is not the one that was asked for if
        /// it had given one of that generation or a later one before, or uses a view of such a generation.
        promised: Option<Promised>,
        /// The newest view that it uses.
        view: Arc<View>,
        /// Its logs, and what it has proposed.
        tails: Vec<LogTail>,
    },
    /// One way, every heartbeat time: I am alive.
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
    },
    /// Beside a heartbeat, as long as there are any and once more: the copies that the sender sends to others.
    Transfers {
        /// All of them.
        transfers: Vec<TransferStatus>,
    },
    /// Once a second: what the sender has counted, for people.
    Figures {
        /// Since the last ones.
        figures: Figures,
    },
    /// Coordinator: an in-sync member has acknowledged nothing for the report time.
    Silent {
        /// The partition.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
        /// Who is silent.
        member: ServerId,
    },
    /// Coordinator: this joining member is caught up and counts in my acknowledgements; take it into the
    /// in-sync set.
    Propose {
        /// The partition.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
        /// Whose acknowledgements were counted.
        member: Member,
        /// The process whose acknowledgements were counted.
        incarnation: Incarnation,
    },
    /// The sender wants to leave the cluster: move its copies away.
    Leave {},
    /// The sender's copy of one partition is not what it should be: do not count it. The sender uses it no more,
    /// says so again while it is counted, drops it as soon as it is not, and then joins with nothing.
    CopyFailed {
        /// The partition.
        partition: PartitionId,
        /// Its epoch at the sender.
        epoch: Epoch,
    },
    /// The sender's store failed (fsync, checksum, disk full): count none of its copies. It comes back
    /// under a new store id.
    StoreFailed {
        /// What failed, for people.
        reason: String,
    },
    /// What a server of a later version says: it is skipped, so that servers may be upgraded before their ECS. Never sent.
    #[serde(other)]
    Unknown,
}
