//! One documented enum for each link: between servers, from clients to servers, between servers and ECS.
//!
//! A link begins with a preface and a [`Hello`] frame (see [`crate::frame`]); all later frames are of the kind
//! that the hello names, and everything in them is from the sender that it names.

mod client;
mod ecs;
mod hello;
mod partition;
mod peer;
mod watch;

pub use client::{ClientMessage, Digest, Reply, Request, ServerMessage};
pub use ecs::{AsideStore, CopyState, LogTail, Promised, ServerReport, StoreVerdict, Suspicion};
pub use hello::{Hello, Refusal};
pub use partition::{Bound, Entry, PartitionMessage, Run, ToCoordinator, ToReplica};
pub use peer::{PeerMessage, ReadGrant};
pub use watch::{Change, Selection};

pub use crate::ids::ProcessId;
