//! Requests and reads of all copies that are not answered yet.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{ClientId, Epoch, PartitionId, RequestNumber, Seq, ServerId};
use common::operation::Origin;
use common::time::Time;

use super::ask::{Ask, Query};
use super::io::{ReadId, Token};

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    /// A client of this server; `session` is the number that its write was given here.
    Client { token: Token, session: Option<RequestNumber> },
    /// To another server that passed a request on.
    Peer { server: ServerId, n: u64 },
    /// A replica that asked up to where it must have applied; `n` counts its questions, apart from its requests.
    Question { server: ServerId, n: u64 },
    /// To a read that waits for a tick of log time.
    Read(ReadId),
}

/// A read that is under way.
#[derive(Clone, Debug)]
pub(crate) struct PendingRead {
    pub(crate) to: ReplyTo,
    pub(crate) partition: PartitionId,
    pub(crate) query: Query,
    pub(crate) since: Time,
    pub(crate) kind: ReadKind,
}

/// What makes a read current.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadKind {
    /// The coordinator answers by its right to read, or names its commit to a replica (6.1).
    Coordinator(ReadPoint),
    /// A replica answers at a commit that the coordinator named.
    ByIndex,
    /// A replica answers alone, under its read lease.
    UnderLease,
}

/// From when on the right to read of a coordinator is needed, and what the answer must contain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPoint {
    /// Pings from this number on were sent after the read began.
    pub(crate) floor: u64,
    /// The epoch in which the coordinator read.
    pub(crate) epoch: Epoch,
    /// The commit when the coordinator was asked: what the answer must contain, and what a question by index is sent
    /// after the look at the clock.
    pub(crate) commit: Seq,
}

impl PendingRead {
    /// A replica asks for the commit, and nothing is read.
    pub(crate) fn is_question(&self) -> bool {
        matches!(self.to, ReplyTo::Question { .. })
    }

    /// What the coordinator's answer rests on.
    pub(crate) fn point(&self) -> ReadPoint {
        let ReadKind::Coordinator(point) = self.kind else {
            panic!("a read of a replica at a coordinator: {self:?}")
        };
        point
    }
}

/// A request, at its coordinator or on the way to it.
#[derive(Clone, Debug)]
pub(crate) struct ClientRequest {
    pub(crate) to: ReplyTo,
    pub(crate) ask: Ask,
    pub(crate) since: Time,
    /// The write may be in some log: it must not be answered as not done (W2).
    pub(crate) maybe_done: bool,
}

/// Origins for writes of clients that give none.
#[derive(Debug)]
struct Session {
    client: ClientId,
    last: u64,
    outstanding: BTreeSet<u64>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Requests {
    session: Session,
    pub(crate) reads: BTreeMap<ReadId, PendingRead>,
    last_read: u64,
    pub(crate) unrouted: Vec<ClientRequest>,
    /// Requests of other servers that are being answered: a further try of one is dropped.
    pub(crate) answering: BTreeSet<(ServerId, u64)>,
    /// Writes before this time may have waited unread while the process was stopped.
    pub(crate) doubtful_until: Time,
    /// The number of the last question for a coordinator's commit, over all partitions and roles.
    pub(crate) last_question: u64,
}

impl Requests {
    /// `session`: the client id for writes without an origin; `number`: the one after which numbers of messages begin.
    pub(crate) fn new(session: ClientId, number: u64) -> Self {
        Self {
            session: Session { client: session, last: 0, outstanding: BTreeSet::new() },
            reads: BTreeMap::new(),
            last_read: 0,
            unrouted: Vec::new(),
            answering: BTreeSet::new(),
            doubtful_until: Time(0),
            last_question: number,
        }
    }

    /// An origin for a write that has none; it counts as unanswered until its reply.
    pub(crate) fn session_origin(&mut self) -> Origin {
        let session = &mut self.session;
        session.last += 1;
        let is_new = session.outstanding.insert(session.last);
        assert!(is_new, "a write has a number of its own");
        Origin {
            client: session.client,
            number: RequestNumber(session.last),
            first_unanswered: RequestNumber(*session.outstanding.first().expect("just inserted")),
        }
    }

    /// Notes that a write with an origin of [`Self::session_origin`] is answered.
    pub(crate) fn on_session_answered(&mut self, number: RequestNumber) {
        self.session.outstanding.remove(&number.0);
    }

    /// Notes a read and names it.
    pub(crate) fn note_read(&mut self, read: PendingRead) -> ReadId {
        self.last_read += 1;
        let id = ReadId(self.last_read);
        let before = self.reads.insert(id, read);
        assert!(before.is_none(), "a read has a number of its own");
        id
    }

    /// Notes that a request of another server is being answered.
    pub(crate) fn begin_answering(&mut self, from: ServerId, n: u64) {
        let is_new = self.answering.insert((from, n));
        assert!(is_new, "a further try of a request is not answered beside the first");
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert!(self.reads.keys().all(|id| id.0 <= self.last_read), "a read that was never noted");
        let are_counted = self.session.outstanding.iter().all(|number| *number <= self.session.last);
        assert!(are_counted, "a write without a number is answered");
        let questions = self.reads.values().filter(|read| read.is_question());
        let are_asked = |read: &PendingRead| matches!(read.kind, ReadKind::Coordinator(_));
        assert!(questions.into_iter().all(are_asked), "a replica's question is for a coordinator");
    }

    /// Passes a read on to the partition's coordinator: this copy has lost the role to answer it.
    pub(crate) fn reroute_read(&mut self, id: ReadId) {
        if let Some(PendingRead { to, query, since, .. }) = self.reads.remove(&id) {
            assert!(!matches!(to, ReplyTo::Read(_)), "a read is not answered to another read");
            self.unrouted.push(ClientRequest { to, ask: Ask::Read(query), since, maybe_done: false });
        }
    }

    /// Passes reads on, see [`Self::reroute_read`].
    pub(crate) fn reroute_reads(&mut self, ids: impl IntoIterator<Item = ReadId>) {
        ids.into_iter().for_each(|id| self.reroute_read(id));
    }
}
