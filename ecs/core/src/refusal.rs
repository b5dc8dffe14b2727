//! Why a process may not be a server of the cluster, for logs, the status and the process itself.

use common::address::InvalidAddress;
use common::ids::{ClusterId, Epoch, Incarnation, PartitionId};
use common::messages;
use common::ring::Partitions;

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
        /// The partition that began anew there.
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
