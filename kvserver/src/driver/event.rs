//! Events for the core's thread: what everything else sends to it.

use common::ids::{LogId, PartitionId, RequestId, ServerId};
use common::messages::{Digest, PeerMessage, ProcessId, ServerReport};
use common::status::ServerStatus;
use kvserver_core::{Ask, Input};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::driver::replies::Outbox;
use crate::error::Failure;
use crate::store::sealed::Counts;
use crate::workers::pieces::{DigestPiece, ScrubPiece, TransferId};

/// The channel by which events come to the core.
pub(crate) type Events = UnboundedSender<Event>;

/// An event for the core's thread.
pub(crate) enum Event {
    /// An input for the core as it is.
    Core(Input),
    /// A frame of another server, and the room that it takes until the core has it.
    Peer(ProcessId, Vec<PeerMessage>, OwnedSemaphorePermit),
    /// The server that listens at this address has opened a link here.
    Incoming(ServerId, String),
    /// A link that this server had opened here has ended.
    IncomingEnded(ServerId),
    /// Requests of one connection.
    Asks(Outbox, Vec<(u64, Ask)>),
    /// Requests of one connection; those that other servers coordinate are passed on to them.
    AsksAnywhere(Outbox, Vec<(u64, Ask)>),
    /// A request of one connection that is traced.
    Traced(Outbox, u64, Ask, RequestId),
    /// A link to the ECS was opened: asks for the report that it begins with.
    Hello(oneshot::Sender<ServerReport>),
    /// The status is asked for.
    Status(oneshot::Sender<ServerStatus>),
    /// A chunk of a copy is in place; with the last one the copy is whole and on disk.
    Staged { copy: TransferId, index: u64, whole: Option<(storage::Staging, Counts)> },
    /// A piece of a copy that is compared with others was read.
    DigestRead(DigestPiece),
    /// Asks for the digest of a copy as it was at an entry; the answer is `None` if there is none.
    Digest(PartitionId, LogId, oneshot::Sender<Option<Digest>>),
    /// A piece of what is stored was read through.
    Scrubbed(ScrubPiece),
    /// The disk or the store failed.
    Failed(Failure),
    /// The server stops.
    Stop,
}
