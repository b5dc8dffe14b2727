//! One documented enum for each link: between servers, from clients to servers, between servers and ECS.
//!
//! A link begins with a preface and a [`Hello`] frame (see [`crate::frame`]); all later frames are of the kind
//! that the hello names, and everything in them is from the sender that it names.

mod client;
mod ecs;
mod peer;
mod watch;

use serde::{Deserialize, Serialize};

pub use client::{ClientMessage, Digest, Reply, Request, ServerMessage};
pub use ecs::{CopyState, LogTail, Promised, ServerReport};
pub use peer::{Entry, PeerMessage, ReadGrant, Run};
pub use watch::{Change, Selection};

use crate::ids::{ClusterId, Incarnation, ServerId, StoreId};

/// A server's process: everything that it says is said by exactly this start of exactly this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sender {
    /// The server.
    pub server: ServerId,
    /// Its store.
    pub store: StoreId,
    /// Its process.
    pub incarnation: Incarnation,
}

/// The first frame of a link, as JSON: who speaks, and what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "link", rename_all = "snake_case")]
pub enum Hello {
    /// A server to a server: frames of [`PeerMessage`]s follow, in this direction only.
    Peer {
        /// Another cluster's link is closed.
        cluster: ClusterId,
        /// The speaker.
        sender: Sender,
        /// Who is meant: at a reused address somebody else may listen.
        to: ServerId,
    },
    /// A client to a server or the ECS: [`ClientMessage`]s follow, [`ServerMessage`]s come back.
    Client {},
    /// A server to the ECS: frames of one [`ServerReport`] each, as JSON, follow. Nothing comes back.
    Report {
        /// None before the server has seen its first view.
        cluster: Option<ClusterId>,
        /// The speaker.
        sender: Sender,
    },
    /// An ECS that is being rebuilt to a server: promise this, then report what you hold
    /// ([`ServerReport::Holdings`], on the report link). Nothing follows, nothing comes back.
    Rebuild {
        /// The cluster.
        cluster: ClusterId,
        /// Who is meant.
        to: ServerId,
        /// What is asked for.
        promise: Promised,
    },
    /// The ECS to a server: frames of one [`View`](crate::view::View) each, as JSON, follow. Nothing comes back.
    Views {
        /// The cluster.
        cluster: ClusterId,
        /// Who is meant.
        to: ServerId,
    },
}
