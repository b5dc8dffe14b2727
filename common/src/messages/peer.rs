//! Between servers. The names are those of the replication protocol's specification.

use bytes::Bytes;

use crate::ids::{Epoch, LogId, PartitionId, RequestId, Seq, ServerId};
use crate::messages::client::{Digest, Reply, Request};
use crate::{wire_enum, wire_struct};

/// A log entry: its name and its body, an encoded [`Command`](crate::operation::Command).
/// The body is the same bytes in memory, on the wire and in the commit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place and tag.
    pub id: LogId,
    /// The encoded command.
    pub body: Bytes,
}
wire_struct!(Entry { id, body });

/// Consecutive entries with one tag: from `first` on, up to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The epoch in which they were assigned.
    pub tag: Epoch,
    /// The first of them.
    pub first: Seq,
}
wire_struct!(Run { tag, first });

/// A read lease on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadGrant {
    /// The partition.
    pub partition: PartitionId,
    /// The epoch in which it is given; it is void in any other.
    pub epoch: Epoch,
    /// How long it runs, in microseconds.
    pub for_us: u64,
}
wire_struct!(ReadGrant { partition, epoch, for_us });

/// What servers tell each other. Every message about a partition carries the partition's epoch at its sender;
/// a receiver with a newer one answers [`PeerMessage::View`] and does nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Coordinator to replica, one for each pair of servers: asks for a promise (and so for leases on all
    /// partitions that the two share). The receiver answers [`PeerMessage::Pong`], or its view if that is newer.
    Ping {
        /// Ascending within the sender's incarnation.
        n: u64,
        /// The number of the sender's view.
        view: Epoch,
    },
    /// Binds its sender for the promise time from the receipt of the ping: it coordinates no partition that the
    /// receiver coordinated in the sender's view.
    Pong {
        /// Of the ping.
        n: u64,
        /// The number of the sender's view when it promised.
        view: Epoch,
    },
    /// A newer view than the receiver seems to have, as JSON. It replaces every other answer to a message of
    /// an old epoch.
    View {
        /// Its number: who has it, or a newer one, need not read it.
        number: Epoch,
        /// An encoded [`View`](crate::view::View).
        json: Bytes,
    },
    /// The sender has only an older view than this message's receiver: it asks for the newer one.
    WantView {
        /// The number of the view that the sender has.
        have: Epoch,
    },
    /// New coordinator to member: what is in your log?
    SyncRequest {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// The answer: where the log begins and ends, and where its tags change.
    SyncReply {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// The entry before the first that the log still holds.
        base: LogId,
        /// The last entry on disk; equal to `base` if there is none.
        last: LogId,
        /// Entries up to here are known to be committed.
        commit: Seq,
        /// Tag changes after `base`, ascending.
        runs: Vec<Run>,
    },
    /// Coordinator to member: entries after `prev`. The receiver stores them and answers [`PeerMessage::Ack`] when
    /// they are on disk. Without entries it only tells the commit.
    Append {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// `prev` is the common point of both logs: a receiver that has not synced in this epoch cuts its log
        /// after it. An append without this flag never shortens a log and is ignored before the first sync.
        sync: bool,
        /// The entry before the first one here.
        prev: LogId,
        /// Entries up to here are committed.
        commit: Seq,
        /// Consecutive.
        entries: Vec<Entry>,
    },
    /// Member to coordinator: the log is on disk up to `seq` and equal to the coordinator's up to there.
    Ack {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// The last entry on disk.
        seq: Seq,
        /// The sender holds no read lease of its own giving that may still run.
        clean: bool,
    },
    /// Member to coordinator: an append was not joined to the log (something before it was lost on the way).
    /// A hint to send again from `last` on; sending again without it happens after a time-out.
    Gap {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// The last entry that the sender has.
        last: Seq,
    },
    /// Coordinator to joining member: a copy of the whole state as of `base` begins; it replaces the member's log. The
    /// first chunks carry the state besides the pairs.
    SnapshotBegin {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// Names this copy at its sender; a later one replaces an earlier one.
        transfer: u64,
        /// The last entry that the copy contains.
        base: LogId,
    },
    /// The next piece of a copy: of the state besides the pairs first, then pairs in key order.
    SnapshotChunk {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// Of the begin.
        transfer: u64,
        /// From 0; chunks are taken in order.
        index: u64,
        /// The next bytes of the state besides the pairs (results remembered for retries, log time), see `core::state`.
        state: Bytes,
        /// Stored keys and values.
        pairs: Vec<(Bytes, Bytes)>,
        /// There are no more.
        done: bool,
    },
    /// Member to coordinator: chunks below `next` are taken; with `installed` the copy is on disk and in place.
    SnapshotAck {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// Of the begin.
        transfer: u64,
        /// The index of the chunk that the member waits for.
        next: u64,
        /// The whole copy is durable, and the member's log begins after its base.
        installed: bool,
    },
    /// Replica to coordinator: up to where must I have applied to answer a read that begins now?
    ReadIndex {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// Ascending at the sender; names the question.
        n: u64,
    },
    /// The answer of a coordinator that may read itself.
    ReadIndexReply {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// Of the question.
        n: u64,
        /// Entries up to here are committed.
        commit: Seq,
    },
    /// Replica to coordinator, one for each pair of servers: may I answer reads by myself in these partitions
    /// (PROTOCOL.md, section 7)? The receiver answers [`PeerMessage::ReadLease`] where it may give that. Without
    /// partitions it only says which view is in use: read leases of older epochs are void.
    ReadLeaseRequest {
        /// Ascending within the sender's incarnation; names the question.
        n: u64,
        /// The number of the sender's view.
        view: Epoch,
        /// Partitions that clients read at the sender, with their epochs.
        partitions: Vec<(PartitionId, Epoch)>,
    },
    /// The answer of an active coordinator with leases of its own. Binds it: it commits nothing that the receiver
    /// lacks while one of these may run.
    ReadLease {
        /// Of the question; the receiver counts from its sending.
        n: u64,
        /// The partitions in which the receiver may answer.
        partitions: Vec<ReadGrant>,
    },
    /// A client's request, passed on to the coordinator of its key. The origin of a write stays that of the client,
    /// so passing it on twice does no harm.
    Forward {
        /// Ascending at the sender; names the request.
        n: u64,
        /// What the client asked.
        request: Request,
    },
    /// The answer to a forwarded request.
    ForwardReply {
        /// Of the forwarded request.
        n: u64,
        /// For the client.
        reply: Reply,
    },
    /// Coordinator to in-sync member that has not told it: what is the digest of your copy as it was at this entry? Asked
    /// again until it is answered.
    DigestRequest {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// An entry of [`Operation::Compare`](crate::operation::Operation::Compare).
        at: LogId,
    },
    /// The answer, when there will be none; and unasked when a digest is made.
    DigestReply {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// Of the request.
        at: LogId,
        /// None: the copy was not looked at there, and is beyond it.
        digest: Option<Digest>,
        /// Servers whose copies, with this one, were all found equal at some entry since this one was filled.
        equal_with: Vec<ServerId>,
    },
    /// Coordinator to in-sync member: the copies of these servers were found equal at this entry.
    Equal {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// The entry.
        at: LogId,
        /// All in-sync members, the coordinator too.
        servers: Vec<ServerId>,
    },
    /// Coordinator to in-sync member: most copies agree, and yours is another one, which was equal to them before. The receiver takes its copy for
    /// failed, unless this is the digest that it has told. Said again until a newer epoch.
    Differs {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// The entry at which they were compared.
        at: LogId,
        /// Of most copies.
        digest: Digest,
    },
    /// The [`PeerMessage::Forward`] behind this one passes on a request that is followed. Only for the log: it may be
    /// lost.
    TraceForward {
        /// Of the forward.
        n: u64,
        /// The request.
        request: RequestId,
    },
    /// Coordinator to member: a [`PeerMessage::Append`] behind this one has an entry of a request that is followed. Only
    /// for the log: it may be lost.
    TraceEntry {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// The entry.
        seq: Seq,
        /// The request.
        request: RequestId,
    },
}
wire_enum!(PeerMessage {
    1 => Ping { n, view },
    2 => Pong { n, view },
    3 => View { number, json },
    4 => WantView { have },
    5 => SyncRequest { partition, epoch },
    6 => SyncReply { partition, epoch, base, last, commit, runs },
    7 => Append { partition, epoch, sync, prev, commit, entries },
    8 => Ack { partition, epoch, seq, clean },
    9 => Gap { partition, epoch, last },
    10 => SnapshotBegin { partition, epoch, transfer, base },
    11 => SnapshotChunk { partition, epoch, transfer, index, state, pairs, done },
    12 => SnapshotAck { partition, epoch, transfer, next, installed },
    13 => ReadIndex { partition, epoch, n },
    14 => ReadIndexReply { partition, epoch, n, commit },
    15 => Forward { n, request },
    16 => ForwardReply { n, reply },
    17 => ReadLeaseRequest { n, view, partitions },
    18 => ReadLease { n, partitions },
    19 => DigestRequest { partition, epoch, at },
    20 => DigestReply { partition, epoch, at, digest, equal_with },
    21 => Equal { partition, epoch, at, servers },
    22 => Differs { partition, epoch, at, digest },
    23 => TraceForward { n, request },
    24 => TraceEntry { partition, epoch, seq, request },
});
