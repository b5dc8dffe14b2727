//! The beginning of a link: its sender, and what it is for.

use serde::{Deserialize, Serialize};

use super::ecs::{Promised, StoreVerdict};
use crate::ids::{ClusterId, Incarnation, ProcessId, ServerId};

/// The first frame of a link, as JSON: the sender, and what kind of frames follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "link", rename_all = "snake_case")]
pub enum Hello {
    /// From a server to a server. Frames of [peer messages](super::PeerMessage) follow, in this direction only.
    Peer {
        /// The sender's cluster. The link of another cluster is closed.
        cluster: ClusterId,
        /// The process that sends.
        sender: ProcessId,
        /// The server that the link is meant for: another one may listen at a reused address.
        to: ServerId,
        /// The port that the sender listens at, on the host that the link comes from: a server that is in no view any
        /// more passes requests on, and their answers go there. 0: not stated.
        #[serde(default)]
        port: u16,
        /// Large messages follow: they may wait behind what comes by another link of the same sender.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bulk: bool,
    },
    /// From a client to a server or the ECS. [`ClientMessage`](super::ClientMessage)s follow,
    /// [`ServerMessage`](super::ServerMessage)s come back.
    Client {},
    /// From a server to the ECS. Frames of one [`ServerReport`](super::ServerReport) each, as JSON, follow. Nothing
    /// comes back.
    Report {
        /// The sender's cluster; `None` before it has seen its first view.
        cluster: Option<ClusterId>,
        /// The process that sends.
        sender: ProcessId,
    },
    /// From an ECS that is being rebuilt to a server: give this promise, then report what you have
    /// ([`Holdings`](super::ServerReport::Holdings), on the report link). Nothing follows, nothing comes back.
    Rebuild {
        /// The ECS's cluster: a server that has a view of another one refuses the link.
        cluster: ClusterId,
        /// The server that the link is meant for.
        to: ServerId,
        /// The promise that is asked for.
        promise: Promised,
    },
    /// From the ECS to a server whose hello it does not accept. Nothing follows, nothing comes back.
    Refused {
        /// The ECS's cluster: a server that has a view of another one refuses the link.
        cluster: ClusterId,
        /// The process that the link is meant for, and no other of the same server.
        to: ProcessId,
        /// Why.
        refusal: Refusal,
    },
    /// R3: from the ECS to a server that waits with a store that failed ([`Suspect`](super::ServerReport::Suspect)):
    /// what becomes of the store. Nothing follows, nothing comes back.
    StoreVerdict {
        /// The ECS's cluster: a server that has a view of another one refuses the link.
        cluster: ClusterId,
        /// The process that the link is meant for, and no other of the same server.
        to: ProcessId,
        /// The decision on the store, as things are now.
        verdict: StoreVerdict,
    },
    /// From the ECS to a server. Frames of one [`View`](crate::view::View) each, as JSON, follow. Nothing comes back.
    Views {
        /// The ECS's cluster: a server that has a view of another one refuses the link.
        cluster: ClusterId,
        /// The server that the link is meant for.
        to: ServerId,
    },
}

/// Why the ECS does not accept a process as a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Refusal {
    /// N1: a later process of this store is known. The directory is an older copy of itself.
    OlderProcess {
        /// The incarnation of the newest process that is known of the store.
        known: Incarnation,
    },
    /// N1: another process of this store is alive.
    Twin {
        /// The address of that process.
        address: String,
    },
    /// Anything else, for people.
    Other {
        /// What is wrong, and what to do.
        reason: String,
    },
}
