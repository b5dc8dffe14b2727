//! One documented enum for each link: between servers, from clients to servers, between servers and ECS.
//!
//! A link begins with a preface and a [`Hello`] frame (see [`crate::frame`]); all later frames are of the kind
//! that the hello names, and everything in them is from the sender that it names.

mod client;
mod ecs;
mod partition;
mod peer;
mod watch;

use serde::{Deserialize, Serialize};

pub use client::{ClientMessage, Digest, Reply, Request, ServerMessage};
pub use ecs::{AsideStore, CopyState, LogTail, Promised, ServerReport, StoreVerdict, Suspicion};
pub use partition::{PartitionMessage, ToCoordinator, ToReplica};
pub use peer::{Bound, Entry, PeerMessage, ReadGrant, Run};
pub use watch::{Change, Selection};

use crate::ids::{ClusterId, Incarnation, Nonce, ServerId, StoreId};

/// A server's process: one start of one store. Every message comes from exactly one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// The server.
    pub server: ServerId,
    /// Its store.
    pub store: StoreId,
    /// How often this store has been started.
    pub incarnation: Incarnation,
    /// Distinguishes two processes that have the same incarnation, as copies of one directory may have.
    #[serde(default)]
    pub nonce: Nonce,
}

/// The first frame of a link, as JSON: the sender, and what kind of frames follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "link", rename_all = "snake_case")]
pub enum Hello {
    /// From a server to a server. Frames of [`PeerMessage`]s follow, in this direction only.
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
    /// From a client to a server or the ECS. [`ClientMessage`]s follow, [`ServerMessage`]s come back.
    Client {},
    /// From a server to the ECS. Frames of one [`ServerReport`] each, as JSON, follow. Nothing comes back.
    Report {
        /// The sender's cluster; `None` before it has seen its first view.
        cluster: Option<ClusterId>,
        /// The process that sends.
        sender: ProcessId,
    },
    /// From an ECS that is being rebuilt to a server: give this promise, then report what you have
    /// ([`ServerReport::Holdings`], on the report link). Nothing follows, nothing comes back.
    Rebuild {
        /// The cluster.
        cluster: ClusterId,
        /// The server that the link is meant for.
        to: ServerId,
        /// The promise that is asked for.
        promise: Promised,
    },
    /// From the ECS to a server whose hello it does not accept. Nothing follows, nothing comes back.
    Refused {
        /// The cluster.
        cluster: ClusterId,
        /// The process that the link is meant for, and no other of the same server.
        to: ProcessId,
        /// Why.
        refusal: Refusal,
    },
    /// R3: from the ECS to a server that waits with a store that failed ([`ServerReport::Suspect`]): what becomes of
    /// the store. Nothing follows, nothing comes back.
    StoreVerdict {
        /// The cluster.
        cluster: ClusterId,
        /// The process that the link is meant for, and no other of the same server.
        to: ProcessId,
        /// The decision on the store, as things are now.
        verdict: StoreVerdict,
    },
    /// From the ECS to a server. Frames of one [`View`](crate::view::View) each, as JSON, follow. Nothing comes back.
    Views {
        /// The cluster.
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
