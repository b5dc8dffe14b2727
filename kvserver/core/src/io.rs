//! The inputs and effects of the core: every input is a value, every effect a request to the shell: the driver
//! (`kvserver/src/driver`), or a simulation.
//!
//! An effect that promises something to others (an acknowledgement, a role taken, a proposal) leaves the core only
//! after the [`Input::Durable`] of the write that it depends on; the shell does not know that rule.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{LogId, PartitionId, RequestId, Seq, ServerId};
use common::messages::{
    Change, Digest, Entry, PeerMessage, ProcessId, Promised, Refusal, Reply, ServerReport,
};
use common::operation::Outcome;
use common::view::View;

use super::ask::{Answer, Ask, Query};
use super::trace_step::Traced;

/// Names a request of a client to the shell that passed it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Stored keys and values, as copies of partitions carry them.
pub type StoredPairs = Vec<(Bytes, Bytes)>;

/// Names a write to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names a read of applied state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// A record of the commit log, as `storage` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRecord {
    /// The next entry of a partition.
    Entry {
        /// The partition whose log the entry continues.
        partition: PartitionId,
        /// It follows the entry that was written before it.
        entry: Entry,
    },
    /// Entries after a position are void.
    Cut {
        /// The partition whose log is cut.
        partition: PartitionId,
        /// The last one that stays.
        after: Seq,
    },
    /// The partition's small durable state, see [`DurableState`](super::DurableState).
    DurableState {
        /// The partition whose copy the state is about.
        partition: PartitionId,
        /// An encoded [`DurableState`](crate::DurableState).
        durable_state: Bytes,
    },
    /// A staged copy takes the place of log and records.
    Install {
        /// The partition whose log and records are replaced.
        partition: PartitionId,
        /// The staged copy.
        generation: u32,
        /// The last entry that it contains.
        base: LogId,
    },
    /// The partition is gone from this server.
    Drop {
        /// The partition whose copy is removed.
        partition: PartitionId,
    },
}

impl LogRecord {
    /// What the record is about.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        match self {
            Self::Entry { partition, .. }
            | Self::Cut { partition, .. }
            | Self::DurableState { partition, .. }
            | Self::Install { partition, .. }
            | Self::Drop { partition } => *partition,
        }
    }
}

/// The purpose for which entries are read from the commit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// The state machine of this copy.
    Apply,
    /// A member that is behind.
    Member(ServerId),
    /// P1: a new coordinator whose log is shorter.
    Fetch,
    /// A client that watches, and asks for changes further back than those in memory.
    Watch,
}

/// An input of the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// A view, from the ECS.
    View(Arc<View>),
    /// R6: an ECS that is being rebuilt asks for a promise, and for a report of what this server has.
    Promise(Promised),
    /// N1: the ECS refuses this process.
    Refused(Refusal),
    /// A message of another server.
    Peer {
        /// The process that sent it.
        from: ProcessId,
        /// The content, which [`check_message`](super::check_message) has accepted.
        message: PeerMessage,
    },
    /// The link to a server was made anew: what was sent before may be lost.
    PeerLinked {
        /// The other end of the link.
        server: ServerId,
    },
    /// A client asks.
    Client {
        /// Names the request; the reply carries it.
        token: Token,
        /// The request.
        ask: Ask,
    },
    /// The request that comes next under this token is traced.
    Trace {
        /// The request's token.
        token: Token,
        /// The id of the request, the same at all servers.
        request: RequestId,
    },
    /// A client asks, and it is passed on if another server coordinates it.
    ClientAnywhere {
        /// Names the request; the reply carries it.
        token: Token,
        /// The request.
        ask: Ask,
    },
    /// A write to disk, and all before it, is done.
    Durable {
        /// The write.
        ticket: Ticket,
    },
    /// Entries were applied.
    Applied {
        /// The partition whose records the entries changed.
        partition: PartitionId,
        /// What each did, in order.
        outcomes: Vec<Outcome>,
        /// The changes that they made, in order; empty unless they were asked for.
        changes: Vec<(LogId, Vec<Change>)>,
    },
    /// A read is done.
    Answered {
        /// The id under which the read was asked for.
        read: ReadId,
        /// What it found.
        answer: Answer,
    },
    /// Entries were read back from the commit log.
    LogRead {
        /// The partition whose log was read.
        partition: PartitionId,
        /// The purpose for which they were read.
        reader: Reader,
        /// The entries from the position asked for on, one at least; `None`: the commit log no longer has the first.
        entries: Option<Vec<Entry>>,
    },
    /// The commit log no longer has entries up to `seq`.
    Trimmed {
        /// The partition whose log begins later from now on.
        partition: PartitionId,
        /// The last entry that is gone.
        seq: Seq,
    },
    /// A consistent snapshot of the applied state is open.
    SnapshotOpened {
        /// The partition whose state is in the snapshot.
        partition: PartitionId,
        /// The number under which it was asked for.
        transfer: u64,
        /// The encoded state besides the records.
        state: Bytes,
        /// Bytes of the records, roughly.
        bytes: u64,
    },
    /// The next pairs of an open snapshot.
    SnapshotRead {
        /// The partition whose snapshot was read.
        partition: PartitionId,
        /// The number under which it was asked for.
        transfer: u64,
        /// The number of the chunk.
        index: u64,
        /// Stored keys and values.
        pairs: Vec<(Bytes, Bytes)>,
        /// These are the last pairs.
        done: bool,
    },
    /// A chunk was put into the staged copy.
    Staged {
        /// The partition whose copy is being received.
        partition: PartitionId,
        /// The number of the copy.
        staging: u64,
        /// The chunk.
        index: u64,
        /// With the last chunk: the copy is whole and on disk, with this generation.
        generation: Option<u32>,
    },
    /// Stored bytes fail their checksum, or an operation has failed in a way that condemns the store as well.
    Damaged {
        /// Where, and what is wrong, for people.
        reason: String,
    },
    /// A digest is made of a copy as it was at an entry that compares copies, as
    /// [`Operation::Compare`](common::operation::Operation::Compare) wants it.
    Digested {
        /// The partition whose copy was read.
        partition: PartitionId,
        /// The entry.
        at: LogId,
        /// `None`: too many were asked for, and this one was left out.
        digest: Option<Digest>,
    },
    /// This server's copy of a partition was read through and its checksums are right: it may be compared with the
    /// other copies.
    Compare {
        /// The partition whose copies are to be compared.
        partition: PartitionId,
    },
    /// A copy has records that have expired by this server's clock, and not by log time.
    Expiring {
        /// The partition whose records have expired.
        partition: PartitionId,
    },
    /// Time has passed.
    Tick,
}

/// An effect that is carried out before the rest of its batch: what is written to disk, and what is sent.
#[derive(Clone, Debug)]
pub enum First {
    /// Write to the commit log, in order, and answer [`Input::Durable`] when it is on disk.
    Persist {
        /// Names the write in [`Input::Durable`].
        ticket: Ticket,
        /// All or none of them.
        records: Vec<LogRecord>,
    },
    /// Keep a view on disk, in order with the records.
    PersistView {
        /// Names the write in [`Input::Durable`].
        ticket: Ticket,
        /// It takes the place of the one on disk.
        view: Arc<View>,
    },
    /// Keep the promise to an ECS that is being rebuilt on disk, in order with the views.
    PersistPromise {
        /// Names the write in [`Input::Durable`].
        ticket: Ticket,
        /// The newest promise, if there is any.
        promised: Option<Promised>,
    },
    /// Send to a server. It may be lost.
    Send {
        /// The server.
        to: ServerId,
        /// It follows all that was sent to the server before.
        message: PeerMessage,
    },
    /// Log what was done with a traced request.
    Trace {
        /// The step, and when it was done.
        traced: Traced,
    },
}

/// An effect that is carried out behind all of [`First`] of its batch, in order.
#[derive(Clone, Debug)]
pub enum Later {
    /// A view is in use from now on.
    Adopted {
        /// It is on disk, and newer than the one before.
        view: Arc<View>,
    },
    /// Send to the ECS. It may be lost.
    Report {
        /// What the ECS is to know.
        report: ServerReport,
    },
    /// Apply entries to a partition's records and answer [`Input::Applied`].
    Apply {
        /// The partition whose records the entries change.
        partition: PartitionId,
        /// Consecutive, the first one is the next to apply.
        entries: Vec<Entry>,
        /// The changes are to be returned too, as clients watch.
        with_changes: bool,
    },
    /// Read applied state and answer [`Input::Answered`].
    Read {
        /// Names the read.
        read: ReadId,
        /// The partition whose state is read.
        partition: PartitionId,
        /// What to look for.
        query: Query,
    },
    /// Read entries back from the commit log and answer [`Input::LogRead`].
    ReadLog {
        /// The partition whose log is read.
        partition: PartitionId,
        /// The purpose.
        reader: Reader,
        /// The first entry.
        from: Seq,
        /// About so many bytes at most, one entry at least.
        bytes_max: usize,
    },
    /// Keep the commit log's entries from a position on until they are released.
    PinLog {
        /// The partition whose log is kept.
        partition: PartitionId,
        /// The first entry to keep; `None` releases.
        from: Option<Seq>,
    },
    /// Open a consistent snapshot of the applied state and answer [`Input::SnapshotOpened`].
    OpenSnapshot {
        /// The partition whose state the snapshot shows.
        partition: PartitionId,
        /// Names the snapshot.
        transfer: u64,
    },
    /// Read the next pairs of a snapshot and answer [`Input::SnapshotRead`].
    ReadSnapshot {
        /// The partition whose snapshot is read.
        partition: PartitionId,
        /// The number of the snapshot.
        transfer: u64,
        /// The number of the chunk; chunks are asked for in order.
        index: u64,
    },
    /// Close a snapshot, which is no longer needed.
    CloseSnapshot {
        /// The partition whose snapshot is closed.
        partition: PartitionId,
        /// The number of the snapshot.
        transfer: u64,
    },
    /// Put pairs into a staged copy (a new one with chunk 0) and answer [`Input::Staged`]; with `done` make it whole
    /// and durable first.
    Stage {
        /// The partition whose copy is being received.
        partition: PartitionId,
        /// The copy, by this server's own number, as copies of two coordinators may have the same number.
        staging: u64,
        /// The number of the chunk; chunks come in order.
        index: u64,
        /// Stored keys and values.
        pairs: Vec<(Bytes, Bytes)>,
        /// The copy's last entry and the state besides the records, with the last chunk.
        done: Option<(LogId, Bytes)>,
    },
    /// A staged copy, whose install record is on disk, takes the place of the partition's records.
    Install {
        /// The partition whose records are replaced.
        partition: PartitionId,
        /// The copy.
        generation: u32,
        /// The state besides the records.
        state: Bytes,
    },
    /// Remove the partition's records; its drop record is on disk.
    Drop {
        /// The partition whose records are removed.
        partition: PartitionId,
    },
    /// Answer a client.
    Reply {
        /// The token of the request.
        token: Token,
        /// The answer.
        reply: Reply,
    },
    /// Log a warning.
    Warn {
        /// What was dropped, and why.
        reason: String,
    },
    /// Log an error that a person must look at; the server goes on.
    Alarm {
        /// What was found, and what to do.
        reason: String,
    },
    /// Stop the process: its store is damaged and must not be used again (R3).
    Condemn {
        /// What does not check.
        reason: String,
    },
    /// Stop the process. Its store may be opened again.
    Stop {
        /// Why, and what to do.
        reason: String,
    },
    /// Stop the process: going on would break a promise.
    Fatal {
        /// What happened.
        reason: String,
    },
}

/// An effect, which the shell must carry out. Writes to disk run beside the rest.
#[derive(Clone)]
pub enum Effect {
    /// It is carried out first.
    First(First),
    /// It is carried out later.
    Later(Later),
}

impl From<First> for Effect {
    fn from(first: First) -> Self {
        Self::First(first)
    }
}

impl From<Later> for Effect {
    fn from(later: Later) -> Self {
        Self::Later(later)
    }
}

/// Shown as what it is; the phase follows from that.
impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(first) => first.fmt(f),
            Self::Later(later) => later.fmt(f),
        }
    }
}
