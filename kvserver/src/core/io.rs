//! What goes into the core and what comes out: every input is a value, every effect a request to the shell.
//!
//! An effect that promises something to others (an acknowledgement, a role taken, a proposal) leaves the core only
//! after the [`Input::Durable`] of the write that it rests on; the shell needs to know nothing of that.

use std::sync::Arc;

use bytes::Bytes;
use common::ids::{LogId, PartitionId, RequestId, Seq, ServerId};
use common::messages::{Change, Digest, Entry, PeerMessage, Promised, Reply, Sender, ServerReport};
use common::operation::Outcome;
use common::view::View;

use super::ask::{Answer, Ask, Query};
use super::traces::Traced;

/// Names a request of a client to the shell that passed it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

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
        /// The partition.
        partition: PartitionId,
        /// The entry.
        entry: Entry,
    },
    /// Entries after a place are void.
    Cut {
        /// The partition.
        partition: PartitionId,
        /// The last one that stays.
        after: Seq,
    },
    /// The partition's small durable state, see [`Mark`](super::Mark).
    Mark {
        /// The partition.
        partition: PartitionId,
        /// An encoded mark.
        mark: Bytes,
    },
    /// A staged copy takes the place of log and records.
    Install {
        /// The partition.
        partition: PartitionId,
        /// The staged copy.
        generation: u32,
        /// The last entry that it contains.
        base: LogId,
    },
    /// The partition is gone from this server.
    Drop {
        /// The partition.
        partition: PartitionId,
    },
}

/// Who wants entries from the commit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// The state machine of this copy.
    Apply,
    /// A member that is behind.
    Member(ServerId),
    /// A client that watches, and was told of what lies further back than what is in memory.
    Watch,
}

/// What comes into the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// A view, from the ECS.
    View(Arc<View>),
    /// R6: an ECS that is being rebuilt asks for a promise, and for what this server holds.
    Promise(Promised),
    /// A message of another server.
    Peer {
        /// Who speaks.
        from: Sender,
        /// What it says.
        message: PeerMessage,
    },
    /// The link to a server was made anew: what was sent before may be lost.
    PeerLinked {
        /// The server.
        server: ServerId,
    },
    /// A client asks.
    Client {
        /// The reply carries it.
        token: Token,
        /// What it asks.
        ask: Ask,
    },
    /// The request that comes next under this token is traced.
    Trace {
        /// Of the request.
        token: Token,
        /// Names it at all servers.
        request: RequestId,
    },
    /// A client asks, and it is passed on if another server coordinates it.
    ClientAnywhere {
        /// The reply carries it.
        token: Token,
        /// What it asks.
        ask: Ask,
    },
    /// A write to disk, and all before it, is done.
    Durable {
        /// The write.
        ticket: Ticket,
    },
    /// Entries were applied.
    Applied {
        /// The partition.
        partition: PartitionId,
        /// What each did, in order.
        outcomes: Vec<Outcome>,
        /// What those that changed something changed, in order; nothing if that was not asked for.
        changes: Vec<(LogId, Vec<Change>)>,
    },
    /// A read is done.
    Answered {
        /// The read.
        read: ReadId,
        /// What it found.
        answer: Answer,
    },
    /// Entries were read back from the commit log.
    LogRead {
        /// The partition.
        partition: PartitionId,
        /// Who wanted them.
        reader: Reader,
        /// From the place asked for on, one at least; `None`: the commit log no longer holds the first.
        entries: Option<Vec<Entry>>,
    },
    /// The commit log no longer holds entries up to `seq`.
    Trimmed {
        /// The partition.
        partition: PartitionId,
        /// The last entry that is gone.
        seq: Seq,
    },
    /// A consistent picture of the applied state is open.
    SnapshotOpened {
        /// The partition.
        partition: PartitionId,
        /// As asked for.
        transfer: u64,
        /// The encoded state besides the records.
        state: Bytes,
        /// Bytes of the records, roughly.
        bytes: u64,
    },
    /// The next pairs of an open picture.
    SnapshotRead {
        /// The partition.
        partition: PartitionId,
        /// As asked for.
        transfer: u64,
        /// Of the chunk.
        index: u64,
        /// Stored keys and values.
        pairs: Vec<(Bytes, Bytes)>,
        /// There are no more.
        done: bool,
    },
    /// A chunk was put into the staged copy.
    Staged {
        /// The partition.
        partition: PartitionId,
        /// Of the copy.
        staging: u64,
        /// The chunk.
        index: u64,
        /// With the last chunk: the copy is whole and on disk under this number.
        generation: Option<u32>,
    },
    /// What is stored does not check, or an operation on it has failed that says the same of the store.
    Damaged {
        /// Where, and what is wrong, for people.
        reason: String,
    },
    /// A digest is made of a copy as it was at an entry that compares copies, as [`Operation::Compare`](common::operation::Operation::Compare) wants it.
    Digested {
        /// The partition.
        partition: PartitionId,
        /// The entry.
        at: LogId,
        /// None: too many were wanted, and this one was left out.
        digest: Option<Digest>,
    },
    /// What this server has of a partition was read through and found good: time to compare it with the other copies.
    Compare {
        /// The partition.
        partition: PartitionId,
    },
    /// Time has passed.
    Tick,
}

/// What the shell must do. In order, but for the writes to disk, which it does beside the rest.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write to the commit log, in order, and say when it is on disk.
    Persist {
        /// For [`Input::Durable`].
        ticket: Ticket,
        /// All or none of them.
        records: Vec<LogRecord>,
    },
    /// Keep a view on disk, in order with the records.
    PersistView {
        /// For [`Input::Durable`].
        ticket: Ticket,
        /// The view.
        view: Arc<View>,
    },
    /// Keep on disk, in order with the views, what is promised to an ECS that is being rebuilt.
    PersistPromise {
        /// For [`Input::Durable`].
        ticket: Ticket,
        /// The newest promise, if there is any.
        promised: Option<Promised>,
    },
    /// A view is in use from now on.
    Adopted {
        /// The view.
        view: Arc<View>,
    },
    /// Send to a server. It may be lost.
    Send {
        /// The server.
        to: ServerId,
        /// The message.
        message: PeerMessage,
    },
    /// Send to the ECS. It may be lost.
    Report {
        /// The report.
        report: ServerReport,
    },
    /// Apply entries to a partition's records and answer [`Input::Applied`].
    Apply {
        /// The partition.
        partition: PartitionId,
        /// Consecutive, the first one is the next to apply.
        entries: Vec<Entry>,
        /// Somebody watches: the changes are wanted too.
        tell: bool,
    },
    /// Read applied state and answer [`Input::Answered`].
    Read {
        /// Names it.
        read: ReadId,
        /// The partition.
        partition: PartitionId,
        /// What to look for.
        query: Query,
    },
    /// Read entries back from the commit log and answer [`Input::LogRead`].
    ReadLog {
        /// The partition.
        partition: PartitionId,
        /// For whom.
        reader: Reader,
        /// The first one.
        from: Seq,
        /// About so many bytes at most, one entry at least.
        bytes_max: usize,
    },
    /// Keep the commit log's entries from a place on until they are released.
    PinLog {
        /// The partition.
        partition: PartitionId,
        /// The first entry to keep; `None` releases.
        from: Option<Seq>,
    },
    /// Open a consistent picture of the applied state and answer [`Input::SnapshotOpened`].
    OpenSnapshot {
        /// The partition.
        partition: PartitionId,
        /// Names it.
        transfer: u64,
    },
    /// Read the next pairs of it and answer [`Input::SnapshotRead`].
    ReadSnapshot {
        /// The partition.
        partition: PartitionId,
        /// The picture.
        transfer: u64,
        /// Of the chunk; they are asked for in order.
        index: u64,
    },
    /// The picture is no longer needed.
    CloseSnapshot {
        /// The partition.
        partition: PartitionId,
        /// The picture.
        transfer: u64,
    },
    /// Put pairs into a staged copy (a new one with chunk 0) and answer [`Input::Staged`]; with `done` make it whole
    /// and durable first.
    Stage {
        /// The partition.
        partition: PartitionId,
        /// The copy, by this server's own number: two coordinators may give theirs the same one.
        staging: u64,
        /// Of the chunk; they come in order.
        index: u64,
        /// Stored keys and values.
        pairs: Vec<(Bytes, Bytes)>,
        /// The copy's last entry and the state besides the records, with the last chunk.
        done: Option<(LogId, Bytes)>,
    },
    /// A staged copy, whose install record is on disk, takes the place of the partition's records.
    Install {
        /// The partition.
        partition: PartitionId,
        /// The copy.
        generation: u32,
        /// The state besides the records.
        state: Bytes,
    },
    /// Remove the partition's records; its drop record is on disk.
    Drop {
        /// The partition.
        partition: PartitionId,
    },
    /// Answer a client.
    Reply {
        /// Of the request.
        token: Token,
        /// The answer.
        reply: Reply,
    },
    /// Log what was done with a traced request.
    Trace {
        /// What, and when.
        traced: Traced,
    },
    /// Tell whoever reads the log.
    Warn {
        /// What was dropped, and why.
        reason: String,
    },
    /// Tell a person, who must look; the server goes on.
    Alarm {
        /// What was found, and what to do.
        reason: String,
    },
    /// Stop the process: its store is damaged and must not be used again (R3).
    Condemn {
        /// What does not check.
        reason: String,
    },
    /// Stop the process: going on would break a promise.
    Fatal {
        /// What happened.
        reason: String,
    },
}
