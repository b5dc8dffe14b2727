//! Messages between servers about one partition: those to its coordinator, and those to its replicas.
//! docs/protocol.md has the rules that comments name (P1, S4, ...).

use bytes::Bytes;

use super::client::Digest;
use crate::codec::{Malformed, Sink, Tagged, wire_struct, wire_variants};
use crate::ids::{Epoch, LogId, Nonce, RequestId, Seq, ServerId};

/// A log entry: its name and its body, an encoded [`Command`](crate::operation::Command).
/// The body is the same bytes in memory, on the wire and in the commit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's position and tag.
    pub id: LogId,
    /// The encoded command.
    pub body: Bytes,
}
wire_struct!(Entry { id, body });

/// Consecutive entries with one tag, from `first` up to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The epoch in which they were assigned.
    pub tag: Epoch,
    /// The position of the first of these entries.
    pub first: Seq,
}
wire_struct!(Run { tag, first });

/// A promise to a former coordinator that still binds the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The former coordinator.
    pub server: ServerId,
    /// Its process.
    pub nonce: Nonce,
    /// How long it still binds, in microseconds.
    pub for_us: u64,
}
wire_struct!(Bound { server, nonce, for_us });

/// Messages to the coordinator of an epoch from a server with a copy: answers, and the questions of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToCoordinator {
    /// The answer to a [`ToReplica::SyncRequest`]: where the log begins and ends, and where its tags change.
    SyncReply {
        /// The entry before the first that the log still has.
        base: LogId,
        /// The last entry on disk; equal to `base` if there is none.
        last: LogId,
        /// Entries up to here are known to be committed.
        commit: Seq,
        /// Tag changes after `base`, ascending.
        runs: Vec<Run>,
    },
    /// The answer to a [`ToReplica::FetchRequest`]: entries after `prev`, one at least. Where the log does not have
    /// them any more, the answer is a [`ToCoordinator::SyncReply`].
    FetchReply {
        /// The request's `prev`.
        prev: LogId,
        /// The entries, without a gap, with the tags that they have in the sender's log.
        entries: Vec<Entry>,
    },
    /// P2: from a member to its coordinator: the log of this epoch lacks entries that are committed at the member.
    /// Neither log is cut. The coordinator stops for the partition until an operator decides.
    Ahead {
        /// Entries up to here are committed, as the sender knows.
        commit: Seq,
    },
    /// From a member to its coordinator: the log is on disk up to `seq` and equal to the coordinator's up to there.
    Ack {
        /// The last entry on disk.
        seq: Seq,
        /// P4: no read lease that the sender has granted may still run.
        clean: bool,
        /// P3: promises of the sender to former coordinators of the partition that still bind it. The first
        /// acknowledgements of an epoch name them.
        bound: Vec<Bound>,
    },
    /// From a member to its coordinator: an append does not join the log, as something before it was lost on the way. A
    /// hint to send again from `last` on; without it the coordinator does so after a time-out.
    Gap {
        /// The last entry that the sender has.
        last: Seq,
    },
    /// From a member to its coordinator: chunks below `next` are taken; with `installed` the copy is on disk and in
    /// place.
    SnapshotAck {
        /// The `transfer` of its [`ToReplica::SnapshotBegin`].
        transfer: u64,
        /// The index of the chunk that the member waits for.
        next: u64,
        /// The whole copy is durable, and the member's log begins after its base.
        installed: bool,
    },
    /// From a replica to its coordinator: asks up to where the replica must have applied to answer a read that begins
    /// now (6.1).
    ReadIndex {
        /// Names the question; ascending at the sender.
        n: u64,
    },
    /// The digest of a copy, sent unasked as soon as it is made; also the answer to a request where none will be made.
    DigestReply {
        /// The entry at which the copies are compared.
        at: LogId,
        /// `None`: no digest was made at that entry, and the copy has gone beyond it.
        digest: Option<Digest>,
        /// Servers whose copies, with this one, were all found equal at some entry since this one was filled.
        equal_with: Vec<ServerId>,
    },
}
wire_variants!(ToCoordinator {
    6 => SyncReply { base, last, commit, runs },
    8 => Ack { seq, clean, bound },
    9 => Gap { last },
    12 => SnapshotAck { transfer, next, installed },
    13 => ReadIndex { n },
    20 => DigestReply { at, digest, equal_with },
    26 => FetchReply { prev, entries },
    27 => Ahead { commit },
});

/// Messages from the coordinator of an epoch to a server with a copy. Those of any other server are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToReplica {
    /// P1: from a new coordinator to a member: asks what the member's log has.
    SyncRequest {},
    /// P1: from a new coordinator to the member with the largest log: asks for the entries after `prev`.
    FetchRequest {
        /// The last entry that both logs have, or the last one that was fetched.
        prev: LogId,
    },
    /// From a coordinator to a member: entries after `prev`. The receiver stores them and answers
    /// [`ToCoordinator::Ack`] when they are on disk. Without entries it only carries the commit.
    Append {
        /// P2: the receiver's process whose answer made `prev` the common point of both logs. If that process does not
        /// follow in this epoch yet, it cuts its log after `prev`. An append without it never shortens a log, and is
        /// ignored before the first one with it.
        sync: Option<Nonce>,
        /// The entry before the first one here.
        prev: LogId,
        /// Entries up to here are committed.
        commit: Seq,
        /// The entries, without a gap.
        entries: Vec<Entry>,
    },
    /// J1: from a coordinator to a joining member: a copy of the whole state as of `base` begins; it replaces the
    /// member's log. The first chunks carry the state besides the pairs.
    SnapshotBegin {
        /// Names this copy at its sender; a later copy replaces an earlier one.
        transfer: u64,
        /// The last entry that the copy contains.
        base: LogId,
    },
    /// The next piece of a copy: first the state besides the pairs, then the pairs in key order.
    SnapshotChunk {
        /// The `transfer` of its [`ToReplica::SnapshotBegin`].
        transfer: u64,
        /// The chunk's number, from 0; chunks are taken in order.
        index: u64,
        /// The next bytes of the state besides the pairs (results remembered for retries, log time), see
        /// `kvserver_core`'s `state`.
        state: Bytes,
        /// Stored keys and values.
        pairs: Vec<(Bytes, Bytes)>,
        /// This is the last chunk.
        done: bool,
    },
    /// The answer to a [`ToCoordinator::ReadIndex`], of a coordinator that may read itself.
    ReadIndexReply {
        /// The `n` of the question.
        n: u64,
        /// Entries up to here are committed.
        commit: Seq,
    },
    /// From a coordinator to an in-sync member: asks for the digest of the member's copy as it was at this entry. Sent
    /// again until it is answered.
    DigestRequest {
        /// An entry of [`Operation::Compare`](crate::operation::Operation::Compare).
        at: LogId,
    },
    /// From a coordinator to an in-sync member: the copies of these servers were found equal at this entry.
    Equal {
        /// The entry.
        at: LogId,
        /// All in-sync members, the coordinator too.
        servers: Vec<ServerId>,
    },
    /// From a coordinator to an in-sync member: most copies agree, and the receiver's differs, though all were equal
    /// before. The receiver treats its copy as failed, unless `digest` is the one that it has sent. Sent again until a
    /// newer epoch.
    Differs {
        /// The entry at which they were compared.
        at: LogId,
        /// The digest on which most copies agree.
        digest: Digest,
    },
    /// From a coordinator to a member: a [`ToReplica::Append`] after this message has an entry of a request that is
    /// traced. Only for the log: it may be lost.
    TraceEntry {
        /// The entry.
        seq: Seq,
        /// The id under which the request is traced.
        request: RequestId,
    },
}
wire_variants!(ToReplica {
    5 => SyncRequest {},
    7 => Append { sync, prev, commit, entries },
    10 => SnapshotBegin { transfer, base },
    11 => SnapshotChunk { transfer, index, state, pairs, done },
    14 => ReadIndexReply { n, commit },
    19 => DigestRequest { at },
    21 => Equal { at, servers },
    22 => Differs { at, digest },
    24 => TraceEntry { seq, request },
    25 => FetchRequest { prev },
});

/// A message about a partition, by direction. On the wire its tag is one of [`PeerMessage`](super::PeerMessage)'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionMessage {
    /// From a server with a copy to the coordinator of the epoch.
    ToCoordinator(ToCoordinator),
    /// From the coordinator of the epoch to a server with a copy.
    ToReplica(ToReplica),
}

impl PartitionMessage {
    /// Whether the sender waits for an answer: where its epoch is old, it is sent the newer view.
    pub fn asks(&self) -> bool {
        match self {
            Self::ToCoordinator(message) => matches!(message, ToCoordinator::ReadIndex { .. }),
            Self::ToReplica(message) => !matches!(message, ToReplica::ReadIndexReply { .. }),
        }
    }
}

impl Tagged for PartitionMessage {
    fn has(tag: u8) -> bool {
        ToCoordinator::has(tag) || ToReplica::has(tag)
    }

    fn tag(&self) -> u8 {
        match self {
            Self::ToCoordinator(message) => message.tag(),
            Self::ToReplica(message) => message.tag(),
        }
    }

    fn write_fields<S: Sink + ?Sized>(&self, out: &mut S) {
        match self {
            Self::ToCoordinator(message) => message.write_fields(out),
            Self::ToReplica(message) => message.write_fields(out),
        }
    }

    fn read_fields(tag: u8, input: &mut Bytes) -> Result<Self, Malformed> {
        if ToCoordinator::has(tag) {
            ToCoordinator::read_fields(tag, input).map(Self::ToCoordinator)
        } else {
            ToReplica::read_fields(tag, input).map(Self::ToReplica)
        }
    }
}
