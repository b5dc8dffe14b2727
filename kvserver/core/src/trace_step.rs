//! The steps of a traced request, as the shell logs them.

use std::time::Duration;

use common::ids::{LogId, PartitionId, RequestId, ServerId};

/// A step of this server for a traced request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The id under which the request is traced.
    pub request: RequestId,
    /// The partition of the request, if it is known.
    pub partition: Option<PartitionId>,
    /// The time since this server got it.
    pub after: Duration,
    /// What was done.
    pub step: TraceStep,
}

/// A step of a traced request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceStep {
    /// It came from a client, or from a server that passed it on.
    Received {
        /// The server that passed it on.
        from: Option<ServerId>,
    },
    /// It was passed on to its coordinator.
    Forwarded {
        /// The coordinator.
        to: ServerId,
    },
    /// It is parked: the coordinator is not active yet, or too many writes are under way.
    Parked {},
    /// A write has its position in the log, and is on its way to this disk and to the replicas.
    Ordered {
        /// The position, which is the version that it makes.
        entry: LogId,
    },
    /// The coordinator's entry joined this replica's log.
    Appended {
        /// The entry's position.
        entry: LogId,
    },
    /// The entry is on this server's disk.
    Stored {},
    /// This replica acknowledged the entry to its coordinator.
    Acknowledged {
        /// The coordinator.
        to: ServerId,
    },
    /// A replica acknowledged the entry to this coordinator.
    AcknowledgedBy {
        /// The replica.
        by: ServerId,
    },
    /// All copies that count have it on disk, and this server's records show it.
    Applied {},
    /// A read looks at the records.
    Read {},
    /// The answer left.
    Answered {
        /// The outcome in a word.
        outcome: &'static str,
    },
}
