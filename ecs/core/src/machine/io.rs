//! What goes into the state machine and what comes out.

use std::sync::Arc;

use common::address::InvalidAddress;
use common::ids::{ClusterId, Epoch, Incarnation, PartitionId, ServerId};
use common::messages::{self, Promised, Sender, ServerReport, StoreVerdict};
use common::ring::Partitions;
use common::view::View;

use crate::cause::Event;
use crate::peers::Disagreement;
use crate::plan::RequestedState;
use crate::state::{Settings, State};

/// What goes into the core of the ECS.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A server's report. The shell refuses links of another cluster before.
    Report {
        /// The process that sent it.
        sender: Sender,
        /// The report.
        report: ServerReport,
    },
    /// A server's report link ended.
    LinkEnded {
        /// The process whose link it was.
        sender: Sender,
    },
    /// A server of another cluster wants to report; the shell closes its link.
    Foreign {
        /// The process.
        sender: Sender,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// The state of this persist is on disk.
    Durable {
        /// The ticket of the [`Effect::Persist`].
        ticket: u64,
    },
    /// An operator requests other states of servers, all in one view.
    Order {
        /// The servers and their states.
        states: Vec<(ServerId, RequestedState)>,
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

/// What the core wants done, in the order in which it is returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write the state to disk, then give the core [`Input::Durable`]. Only one is under way at a time.
    Persist {
        /// Names this persist.
        ticket: u64,
        /// All of the durable state.
        state: State,
    },
    /// Send this view to a server. A newer one replaces it if it was not sent yet.
    Publish {
        /// The server.
        to: ServerId,
        /// Where it listens.
        address: String,
        /// A durable view.
        view: Arc<View>,
    },
    /// R6: ask a server for a promise, and for a report of its copies.
    Ask {
        /// The server.
        to: ServerId,
        /// Where it listens.
        address: String,
        /// The promise.
        promise: Promised,
    },
    /// R3: inform a server that waits with a store what becomes of the store.
    Verdict {
        /// The process.
        to: Sender,
        /// Where it listens.
        address: String,
        /// What becomes of it, as things are now.
        verdict: StoreVerdict,
    },
    /// A new view is durable, for the log and the list of events.
    Made(Event),
    /// Close the report link of a process: it is not a member, or not any more, and must say hello (again).
    EndLink {
        /// Which process.
        sender: Sender,
    },
    /// P2: a partition has stopped, as its copies disagree, and needs an operator.
    CopiesDisagree {
        /// The partition.
        partition: PartitionId,
        /// What was found.
        found: Disagreement,
    },
    /// A hello was not accepted: log it, and send the refusal to the server.
    Refused {
        /// The process that said hello.
        sender: Sender,
        /// Where it listens, if that is known.
        address: Option<String>,
        /// Why not.
        refusal: Refusal,
    },
}

/// Why a server's hello is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// N1: a newer process of the server, or a newer store, is known; or this start of the store is another process.
    #[error("it is from an older process of the server")]
    OldProcess {
        /// The incarnation of the newest process that is known of the store.
        known: Incarnation,
    },
    /// N1: another process of its store is alive.
    #[error(
        "two servers run with one storage directory, or with copies of it: the one at {known} is known and lives, the \
         one at {newcomer} is refused; stop the one that is not wanted"
    )]
    Twin {
        /// Where the known one listens.
        known: String,
        /// Where the other one listens.
        newcomer: String,
    },
    /// The process has left the cluster.
    #[error("this process has left the cluster; start it anew to join again")]
    Left,
    /// The cluster has as many servers as it may.
    #[error("the cluster has its greatest number of servers; drain one first")]
    TooManyServers,
    /// The address that it announces is not valid.
    #[error("it gives no address that others could reach it at: {0}")]
    Address(InvalidAddress),
    /// It is a server of another cluster.
    #[error("it belongs to the cluster {0}")]
    OtherCluster(ClusterId),
    /// Its report to an ECS that is being rebuilt is of another cluster, or contradicts itself.
    #[error("its report is not of this cluster, or contradicts itself")]
    Holdings,
    /// Its report to an ECS that is being rebuilt has another number of partitions than the reports of other servers.
    #[error(
        "it reports {} partitions, and other servers have reported {}: the number never changes, so one of them \
         is of another cluster. If this server is right, stop this ECS and the others, and start the ECS with \
         --rebuild and another empty directory while they do not run",
        said.count(),
        own.count()
    )]
    OtherRing {
        /// The partitions of the view that it holds.
        said: Partitions,
        /// Those of what is known here.
        own: Partitions,
    },
    /// It has promised to follow a later rebuild of the ECS, or does already.
    #[error(
        "it has seen generation {seen}, of another rebuild of the ECS, and this one makes generation {own}: if no \
         other ECS of the cluster runs, stop this one and start it with --rebuild and another empty directory, with \
         all servers running"
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
        "its copy of partition {partition} began anew by an operator's order before the ECS was lost, and the \
         partition goes on from older copies since the rebuild, which lack what was written after that order: stop \
         this ECS, and start it with --rebuild and another empty directory while this server runs and the older copies \
         do not"
    )]
    UnknownForce {
        /// The partition.
        partition: PartitionId,
    },
    /// It says that it is a start (incarnation) that its directory cannot have reached.
    #[error(
        "it says that it is start {said} of its directory, and start {known} is the last that is known: no server \
         starts so often. If it is the real one, let it begin with an empty directory"
    )]
    IncarnationLeaps {
        /// The last start that is known of the server.
        known: u64,
        /// The start that it says it is.
        said: u64,
    },
    /// It says that it has a view whose number no ECS can have reached.
    #[error("it says that it has the view {server}, which no ECS can have made: this one has {own}")]
    ViewLeaps {
        /// The view that it says it has.
        server: Epoch,
        /// The ECS's view.
        own: Epoch,
    },
    /// It says that it has a newer view than the ECS, which has never heard of it.
    #[error(
        "it has the newer view {server}, and this ECS, which has {own}, has never heard of it: it is of another \
         cluster, or this ECS runs on an old copy of its directory"
    )]
    NewerStranger {
        /// The view that it says it has.
        server: Epoch,
        /// The ECS's view.
        own: Epoch,
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

impl Refusal {
    /// The refusal as it is sent to the server.
    #[must_use]
    pub fn message(&self) -> messages::Refusal {
        match self {
            Self::OldProcess { known } => messages::Refusal::OlderProcess { known: *known },
            Self::Twin { known, .. } => messages::Refusal::Twin { address: known.clone() },
            other => messages::Refusal::Other { reason: other.to_string() },
        }
    }
}
