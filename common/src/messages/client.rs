//! Between a client library and a server. Requests are answered in any order, by number.

use bytes::Bytes;

use super::watch::{Change, Selection};
use crate::codec::{wire_enum, wire_struct};
use crate::ids::{Epoch, LogId, PartitionId, RequestId};
use crate::operation::{Found, Operation, Origin, Outcome, Pair, Version};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A change to one key. Answered by [`Reply::Outcome`] when every in-sync copy has it on disk.
    Write {
        /// Names the write, which makes a retry harmless.
        origin: Origin,
        /// How long ago the client first sent this write, in milliseconds of its own clock. Beyond the
        /// limit [`CLIENT_RETRY_FOR`](crate::limits::CLIENT_RETRY_FOR) the write is refused.
        age_ms: u64,
        /// What to do.
        operation: Operation,
    },
    /// The value of a key, linearizable. Answered by [`Reply::Value`].
    Get {
        /// 1..=[`KEY_BYTES_MAX`](crate::limits::KEY_BYTES_MAX) bytes.
        key: Bytes,
    },
    /// The value of a key, linearizable, if it has no more than `bytes_max` bytes. Answered by [`Reply::Value`] or
    /// [`Reply::TooLarge`].
    GetUpTo {
        /// 1..=[`KEY_BYTES_MAX`](crate::limits::KEY_BYTES_MAX) bytes.
        key: Bytes,
        /// Bytes of the value at most.
        bytes_max: u32,
    },
    /// Keys of one partition and their values, in key order. Answered by [`Reply::Page`], each page as
    /// fresh as a get.
    Scan {
        /// The partition whose keys are read; a client that reads all keys asks for each partition.
        partition: PartitionId,
        /// Begin after this key; `None`: from the first.
        after: Option<Bytes>,
        /// Only keys with this prefix.
        prefix: Bytes,
        /// Pairs in the page at most. The server may give fewer.
        limit: u32,
    },
    /// Keys of one partition by their position on the ring. Answered by [`Reply::Keys`].
    Keys {
        /// The partition whose keys are listed.
        partition: PartitionId,
        /// Begin behind this position; 0 is before all.
        after: u64,
        /// Keys at least, if there are so many. There may be more.
        limit: u32,
    },
    /// How many keys a partition has. Answered by [`Reply::Keys`] without any.
    Count {
        /// The partition whose keys are counted.
        partition: PartitionId,
    },
    /// The newest view that the server has. Answered by [`Reply::View`].
    View {},
    /// The server's status, as JSON. Answered by [`Reply::Status`].
    Status {},
    /// The digest of the server's own copy as it was at an entry of [`Operation::Compare`]. Answered by
    /// [`Reply::Digest`], or by [`Reply::Busy`] while there is none, for whatever reason.
    Digest {
        /// The partition whose copy at the receiver is meant.
        partition: PartitionId,
        /// The entry.
        at: LogId,
    },
    /// The next request in the same frame is followed under this id: every server that handles the request logs what it
    /// does. Not answered. A server of a version that does not know it closes the link.
    Trace {
        /// The id. That of a write has its origin's client and number.
        request: RequestId,
    },
    /// The next changes of watched keys of one partition, in the order of its log. Answered by [`Reply::Changes`] as
    /// soon as there are some, and without any when the time is over; by the coordinator only.
    Watch {
        /// The partition of the watched keys. A prefix is watched in each partition with a request of its own.
        partition: PartitionId,
        /// The position up to which the client knows the changes: that of the last answer, or a version that it knows.
        /// `None`: the answer is to name the position that is the last one now.
        after: Option<Version>,
        /// The keys.
        selection: Selection,
        /// Bytes of changes at most, as [`Change::bytes`] counts them. The server may give fewer.
        bytes_max: u32,
        /// How long the server may wait for a change before it answers, in milliseconds.
        hold_ms: u32,
    },
}
wire_enum!(Request {
    1 => Write { origin, age_ms, operation },
    2 => Get { key },
    3 => Scan { partition, after, prefix, limit },
    4 => View {},
    5 => Status {},
    6 => Keys { partition, after, limit },
    7 => Count { partition },
    8 => Digest { partition, at },
    9 => GetUpTo { key, bytes_max },
    10 => Trace { request },
    11 => Watch { partition, after, selection, bytes_max, hold_ms },
});

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A write is on disk at every in-sync copy, and this is what it did.
    Outcome {
        /// What it did.
        outcome: Outcome,
    },
    /// A get's answer.
    Value {
        /// None: there is no value.
        found: Option<Found>,
    },
    /// There is a value, and it is larger than the request allows.
    TooLarge {
        /// The key whose value was asked for.
        key: Bytes,
        /// Bytes of the value.
        bytes: u64,
    },
    /// A scan's answer.
    Page {
        /// In key order.
        pairs: Vec<Pair>,
        /// There are more after the last pair (or, if there are no pairs, ask again).
        more: bool,
    },
    /// The answer to a question for keys, or for their number.
    Keys {
        /// By position.
        keys: Vec<Bytes>,
        /// How many they are.
        count: u64,
        /// The position of the last one, if there are more behind it; else 0.
        next: u64,
    },
    /// A view as JSON.
    View {
        /// An encoded [`View`](crate::view::View).
        json: Bytes,
    },
    /// A server's state as JSON.
    Status {
        /// An encoded [`ServerStatus`](crate::status::ServerStatus).
        json: Bytes,
    },
    /// Changes of watched keys: all that there are after the position that the request names, up to and with `through`.
    Changes {
        /// The changes, in the order of the log.
        changes: Vec<Change>,
        /// The position that the next request names.
        through: Version,
        /// Bytes of the change behind `through`, if they are more than the request allows: ask again with this bound.
        /// Else 0.
        next_bytes: u64,
    },
    /// A copy's digest.
    Digest {
        /// The digest of records, results and log time, independent of the order in which they are stored.
        digest: Digest,
    },
    /// Nothing was done here: by this server's view, another one coordinates the key. Fetch the view if yours is
    /// older, and ask there.
    Moved {
        /// The number of the server's view.
        view: Epoch,
    },
    /// Nothing was done, and it will pass: the partition waits for its coordinator to become active, or a queue is
    /// full. Ask again after a moment.
    Busy {
        /// What is awaited.
        reason: String,
    },
    /// The write may or may not happen: it is in some log. Ask again with the same origin to learn the outcome.
    Unknown {
        /// Why it is not known.
        reason: String,
    },
    /// Nothing was done, and asking again is no use.
    Refused {
        /// What is wrong and what to do.
        reason: String,
    },
}
wire_enum!(Reply {
    1 => Outcome { outcome },
    2 => Value { found },
    3 => Page { pairs, more },
    4 => View { json },
    5 => Status { json },
    6 => Moved { view },
    7 => Busy { reason },
    8 => Unknown { reason },
    9 => Refused { reason },
    10 => Keys { keys, count, next },
    11 => Digest { digest },
    12 => TooLarge { key, bytes },
    13 => Changes { changes, through, next_bytes },
});

/// A digest of a copy of a partition. Equal copies have equal digests; copies that differ have different ones, unless
/// the difference was crafted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The sum, modulo 2^128, of the MD5 of each record that has not expired (length of the key, key, stored value) and
    /// of the state besides the records.
    pub sum: u128,
    /// How many records were digested.
    pub records: u64,
    /// Bytes of their keys and stored values.
    pub bytes: u64,
}
wire_struct!(Digest { sum, records, bytes });

/// A request on a client's link. A frame holds one or more of them, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMessage {
    /// Chosen by the client; the answer carries it.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}
wire_struct!(ClientMessage { id, request });

/// A reply on a client's link. A frame holds one or more of them, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMessage {
    /// The id of the request that this answers.
    pub id: u64,
    /// The answer.
    pub reply: Reply,
}
wire_struct!(ServerMessage { id, reply });
