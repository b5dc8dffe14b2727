//! What the log has of an operation.

use super::definition::Operation;
use crate::codec::wire_struct;
use crate::ids::{ClientId, RequestNumber};
use crate::time::WallTime;

/// The client that asked for a write, and its number. A retry carries the same ones, so the write is applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The id that each client draws at random at its start.
    pub client: ClientId,
    /// The client's number of this write.
    pub number: RequestNumber,
    /// The smallest number that the client has no answer to: results of smaller numbers are forgotten.
    pub first_unanswered: RequestNumber,
}
wire_struct!(Origin { client, number, first_unanswered });

/// The body of a log entry: an operation, the client that asked for it, and when the coordinator ordered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// `None` for operations of the coordinator itself.
    pub origin: Option<Origin>,
    /// The coordinator's clock (`stamps` of `kvserver_core`), 0 for none; log time is the largest stamp applied so far,
    /// unless it falls back.
    pub stamp: WallTime,
    /// What to do.
    pub operation: Operation,
}
wire_struct!(Command { origin, stamp, operation });
