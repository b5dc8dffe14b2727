//! What goes into the state machine and what comes out.

use std::sync::Arc;

use common::ids::{Epoch, PartitionId, ServerId};
use common::messages::{Promised, Sender, ServerReport};
use common::view::View;

use crate::core::cause::Event;
use crate::core::plan::Part;
use crate::core::state::{Settings, State};

/// What the ECS is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A server's report. The shell refuses links of another cluster before.
    Report {
        /// Who says it.
        sender: Sender,
        /// What.
        report: ServerReport,
    },
    /// A server's report link ended.
    LinkEnded {
        /// Whose.
        sender: Sender,
    },
    /// The state of this persist is on disk.
    Durable {
        /// Of the [`Effect::Persist`].
        ticket: u64,
    },
    /// An operator gives servers other parts, all in one view.
    Order {
        /// The servers and their parts.
        parts: Vec<(ServerId, Part)>,
    },
    /// R7: an operator lets a partition that is offline begin anew from what this server has of it. Acknowledged writes
    /// that only other copies hold are lost.
    Recover {
        /// The partition.
        partition: PartitionId,
        /// A server that is up.
        server: ServerId,
    },
    /// An operator sets something.
    Set(Settings),
    /// Time has passed: wanted at [`Ecs::deadline`](super::Ecs::deadline) at the latest.
    Tick,
}

/// What the ECS wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write the state to disk, then say [`Input::Durable`]. One at a time.
    Persist {
        /// Names this persist.
        ticket: u64,
        /// All of the durable state.
        state: State,
    },
    /// Bring this view to a server. A newer one replaces it if it was not sent yet.
    Publish {
        /// The server.
        to: ServerId,
        /// Where it listens.
        address: String,
        /// A durable view.
        view: Arc<View>,
    },
    /// R6: ask a server for a promise, and to report what it holds.
    Ask {
        /// The server.
        to: ServerId,
        /// Where it listens.
        address: String,
        /// The promise.
        promise: Promised,
    },
    /// A new view is durable, for the log and the list of events.
    Made(Event),
    /// A hello was not accepted.
    Refused {
        /// Who said it.
        sender: Sender,
        /// Why not.
        refusal: Refusal,
    },
}

/// Why a server's hello is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A newer process of the server, or a newer store, is known.
    #[error("it is from an older process of the server")]
    OldProcess,
    /// The process has left the cluster.
    #[error("this process has left the cluster; start it anew to join again")]
    Left,
    /// The cluster has as many servers as it may.
    #[error("the cluster has its greatest number of servers; drain one first")]
    TooManyServers,
    /// Its address is empty or too long.
    #[error("its address is empty or longer than a host name and a port can be")]
    Address,
    /// What it reports to an ECS that is being rebuilt is of another cluster, or contradicts itself.
    #[error("what it holds is not of this cluster, or contradicts itself")]
    Holdings,
    /// It has promised to follow a later rebuild of the ECS, or does already.
    #[error(
        "it has seen generation {seen}, of another rebuild of the ECS, and this one makes generation {own}: if no other \
         ECS of the cluster runs, stop this one and start it with --rebuild and another empty directory, with all servers \
         running"
    )]
    LaterRebuild {
        /// The generation that it has seen.
        seen: u32,
        /// The generation of this ECS's views.
        own: u32,
    },
    /// Its view is of an ECS that was lost, and an operator had let a partition begin anew there, which this ECS had
    /// resumed from other servers before it heard of that.
    #[error(
        "its copy of partition {partition} began anew by an operator's order before the ECS was lost, and the partition \
         goes on from older copies since the rebuild, which lack what was written after that order: stop this ECS, and \
         start it with --rebuild and another empty directory while this server runs and the older copies do not"
    )]
    UnknownForce {
        /// The partition.
        partition: PartitionId,
    },
    /// It has a newer view than the ECS.
    #[error(
        "it has the newer view {server}, this ECS has {own}: the ECS runs on an old copy of its directory and makes \
         no views; start it on the newest copy"
    )]
    Behind {
        /// The server's view.
        server: Epoch,
        /// The ECS's view.
        own: Epoch,
    },
}
