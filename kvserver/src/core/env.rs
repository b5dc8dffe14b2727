//! What all copies of a server share while they decide: who we are, the time, the view, leases, and the effects
//! that are being collected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{ClientId, Epoch, LogId, PartitionId, RequestNumber, Seq, ServerId};
use common::limits::Timers;
use common::messages::{PeerMessage, Promised, Reply, Sender, ServerReport};
use common::operation::Origin;
use common::status::{CaughtUp, ComparedStatus};
use common::time::{Now, Time};
use common::view::{Member, View};

use super::ask::{Ask, Query};
use super::digests::Digests;
use super::io::{Effect, LogRecord, ReadId, Ticket, Token};
use super::lease::Leases;
use super::limits::{DOUBTFUL_FOR, PACE_SLACK, STALLED, STOPPED_LONG};
use super::mutation::Mutation;
use super::partition_set::PartitionSet;
use super::traces::{TraceStep, Traces};
use super::waiting::Held;

/// What a read rests on (PROTOCOL.md, sections 4, 6 and 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// On leases: a coordinator reads by itself, a replica too where nothing is pending. Clocks may differ in rate
    /// by what [`Timers::clock_rate_margin`] says.
    #[default]
    Lease,
    /// On no clock: every member confirms the coordinator's epoch after the read began.
    Barrier,
}

/// What a core is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lease, promise and ping times.
    pub timers: Timers,
    /// How long a request waits here for what will pass before it is answered [`Reply::Busy`].
    pub park: Duration,
    /// What a read rests on.
    pub reads: Reads,
    /// Bytes of a value at most.
    pub value_bytes_max: usize,
    /// [`PENDING_BYTES_MAX`](super::PENDING_BYTES_MAX), less in tests.
    pub pending_bytes_max: usize,
    /// [`PARKED_BYTES_MAX`](super::PARKED_BYTES_MAX), less in tests.
    pub parked_bytes_max: usize,
    /// The client that writes without an origin are given. Random for each process: the numbers of its writes begin
    /// anew, and a former process's results must not be taken for theirs.
    pub session: ClientId,
    /// Bytes a second that copies of partitions are sent with, over all of them; 0: as fast as they go.
    pub transfer_rate: u64,
    /// [`COPY_FROM`](super::COPY_FROM), less in tests.
    pub copy_from: u64,
    /// A planted bug; it has no effect without the feature `mutations`.
    pub mutation: Option<Mutation>,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    /// A client of this server; `session` is the number that its write was given here.
    Client { token: Token, session: Option<RequestNumber> },
    /// Another server that passed a request on.
    Peer { server: ServerId, n: u64 },
    /// A replica that asked up to where it must have applied; `n` counts its questions, apart from its requests.
    Question { server: ServerId, n: u64 },
    /// A read that waits for a tick of log time.
    Read(ReadId),
}

/// What becomes true when a write to disk is done.
#[derive(Clone, Debug)]
pub(crate) enum After {
    /// The log was appended to, up to `last`, when it had been cut `cuts` times.
    Entries { partition: PartitionId, cuts: u64, last: Seq },
    /// The log is in step with the coordinator of `epoch`.
    Synced { partition: PartitionId, epoch: Epoch },
    /// The coordinator of `epoch` has noted whom it proposes.
    Proposed { partition: PartitionId, epoch: Epoch, member: Member },
    /// A staged copy is the partition's.
    Installed { partition: PartitionId, staging: u64, generation: u32, base: LogId, state: Bytes },
    /// The partition is gone.
    Dropped { partition: PartitionId },
    /// The copy is noted as failed.
    Failed { partition: PartitionId },
    /// A view is on disk.
    View(Arc<View>),
    /// What was promised to an ECS that is being rebuilt is on disk.
    Promised,
}

/// The effects of the present batch and what waits for the disk.
#[derive(Debug, Default)]
pub(crate) struct Out {
    effects: Vec<Effect>,
    records: Vec<LogRecord>,
    after: Vec<After>,
    views: Vec<Arc<View>>,
    promises: Vec<Option<Promised>>,
    waiting: BTreeMap<Ticket, Vec<After>>,
    last_ticket: u64,
}

impl Out {
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn send(&mut self, to: ServerId, message: PeerMessage) {
        self.effects.push(Effect::Send { to, message });
    }

    pub(crate) fn report(&mut self, report: ServerReport) {
        self.effects.push(Effect::Report { report });
    }

    /// Writes a record with this batch.
    pub(crate) fn persist(&mut self, record: LogRecord) {
        self.records.push(record);
    }

    /// When this batch is on disk.
    pub(crate) fn after(&mut self, after: After) {
        self.after.push(after);
    }

    fn ticket(&mut self, after: Vec<After>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, after);
        ticket
    }

    /// Writes a view behind this batch's records.
    pub(crate) fn persist_view(&mut self, view: Arc<View>) {
        self.views.push(view);
    }

    /// Writes a promise to the ECS behind this batch's records and views.
    pub(crate) fn persist_promise(&mut self, promised: Option<Promised>) {
        self.promises.push(promised);
    }

    /// What the writes up to `ticket` make true.
    pub(crate) fn on_durable(&mut self, ticket: Ticket) -> Vec<After> {
        let later = self.waiting.split_off(&Ticket(ticket.0 + 1));
        std::mem::replace(&mut self.waiting, later).into_values().flatten().collect()
    }

    /// Ends the batch: its writes go first, so that the disk works while the rest is carried out. Tickets ascend in
    /// the order of the writes: one that is durable says so of all before it.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.records.is_empty() || !self.after.is_empty() {
            let after = std::mem::take(&mut self.after);
            let ticket = self.ticket(after);
            let records = std::mem::take(&mut self.records);
            effects.push(Effect::Persist { ticket, records });
        }
        for view in std::mem::take(&mut self.views) {
            let ticket = self.ticket(vec![After::View(Arc::clone(&view))]);
            effects.push(Effect::PersistView { ticket, view });
        }
        for promised in std::mem::take(&mut self.promises) {
            let ticket = self.ticket(vec![After::Promised]);
            effects.push(Effect::PersistPromise { ticket, promised });
        }
        effects.append(&mut self.effects);
        effects
    }
}

/// Numbers in messages begin after this one: an answer to a former process of this server, which may come late, is
/// never taken for an answer to this one. No process makes 2^32 of them.
pub(crate) fn first_number(me: Sender) -> u64 {
    me.incarnation.0 << 32
}

/// Numbers for writes of clients that have none.
#[derive(Debug)]
struct Session {
    client: ClientId,
    last: u64,
    outstanding: BTreeSet<u64>,
}

/// A read that is under way.
#[derive(Clone, Debug)]
pub(crate) struct PendingRead {
    pub(crate) to: ReplyTo,
    pub(crate) partition: PartitionId,
    pub(crate) query: Query,
    pub(crate) since: Time,
    /// Answered by a replica at a commit that the coordinator named.
    pub(crate) indexed: bool,
    /// Answered by a replica alone, under its read lease.
    pub(crate) alone: bool,
    /// Pings from this number on were sent after the read began.
    pub(crate) floor: u64,
    /// The epoch in which the coordinator read.
    pub(crate) epoch: Epoch,
    /// The commit when the coordinator was asked: what the answer must contain, and what a question by index is told
    /// after the look at the clock.
    pub(crate) commit: Seq,
}

/// A request that has lost its coordinator and looks for the next one.
#[derive(Clone, Debug)]
pub(crate) struct Stray {
    pub(crate) to: ReplyTo,
    pub(crate) ask: Ask,
    pub(crate) since: Time,
    /// It may be in some log: it must not be answered as not done.
    pub(crate) maybe_done: bool,
}

impl Stray {
    /// Answers that it cannot be done now, without a word that may be untrue (W2).
    pub(crate) fn put_off(self, env: &mut Env, reason: String) {
        let reply = match self.ask {
            Ask::Write { .. } if self.maybe_done => Reply::Unknown { reason },
            _ => Reply::Busy { reason },
        };
        env.reply(self.to, reply);
    }
}

/// Keeps what is sent to a rate: each piece moves the time on from which the next may go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    next: Time,
}

impl Pace {
    /// Whether a piece may go now.
    pub(crate) fn is_open(self, now: Time) -> bool {
        now >= self.next
    }

    /// A piece goes. `rate`: bytes a second, 0 for no limit.
    pub(crate) fn take(&mut self, now: Time, bytes: usize, rate: u64) {
        let begin = self.next.max(now - PACE_SLACK);
        let micros = (bytes as u64).saturating_mul(1_000_000).checked_div(rate).unwrap_or(0);
        self.next = begin + Duration::from_micros(micros);
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) config: Config,
    pub(crate) me: Sender,
    pub(crate) now: Now,
    pub(crate) view: Arc<View>,
    /// R6: only views that this promise allows are taken.
    pub(crate) promised: Option<Promised>,
    view_json: Option<Bytes>,
    pub(crate) leases: Leases,
    /// Promises that a former process of this server gave may bind until then.
    pub(crate) bound_by_past: Time,
    pub(crate) out: Out,
    session: Session,
    pub(crate) reads: BTreeMap<ReadId, PendingRead>,
    last_read: u64,
    pub(crate) strays: Vec<Stray>,
    /// Requests of other servers that are being answered: a further try of one is dropped.
    pub(crate) answering: BTreeSet<(ServerId, u64)>,
    /// Writes before this time may have waited unread while the process was stopped.
    pub(crate) doubtful_until: Time,
    /// For how long this process has stood still, all in all.
    stalled: Duration,
    /// Numbers copies of partitions' states.
    pub(crate) last_transfer: u64,
    /// Numbers questions for the coordinator's commit, over all partitions and roles.
    pub(crate) last_question: u64,
    /// Numbers copies that are received.
    pub(crate) last_staging: u64,
    /// Copies that are being sent, over all partitions.
    pub(crate) transfers_open: usize,
    /// By server: the newest view that it was heard to use.
    pub(crate) used_views: BTreeMap<ServerId, Epoch>,
    /// Members to ping with this batch, for reads without leases.
    pub(crate) to_confirm: BTreeSet<ServerId>,
    pub(crate) pace: Pace,
    pub(crate) caught_up: CaughtUp,
    pub(crate) digests: Digests,
    /// The store must not be used any more: the process is about to end.
    pub(crate) condemned: bool,
    /// Damage that was told and that the server goes on with.
    pub(crate) told_damage: BTreeSet<String>,
    pub(crate) compared: ComparedStatus,
    /// Writes that are ordered and not applied, in all copies.
    pub(crate) pending: Held,
    /// Requests that wait in all copies.
    pub(crate) parked: Held,
    /// Requests for changes that wait, and bytes of changes that are kept for them, in all copies.
    pub(crate) watches: usize,
    pub(crate) told_bytes: usize,
    /// Copies that somebody watches, or has watched of late.
    pub(crate) watched: BTreeSet<PartitionId>,
    /// Copies that were touched in this batch.
    pub(crate) touched: PartitionSet,
    pub(crate) traces: Traces,
}

impl Env {
    pub(crate) fn new(config: Config, me: Sender, view: Arc<View>, now: Now) -> Self {
        let mut leases = Leases::new(config.timers, first_number(me) + 1);
        #[cfg(feature = "mutations")]
        {
            leases.count_from_receipt = config.mutation == Some(Mutation::LeaseFromReceipt);
        }
        let _ = &mut leases;
        let forgets =
            cfg!(feature = "mutations") && config.mutation == Some(Mutation::RestartForgetsPromises);
        let bound_by_past = if forgets { now.time } else { now.time + config.timers.promise };
        Self {
            session: Session { client: config.session, last: 0, outstanding: BTreeSet::new() },
            leases,
            bound_by_past,
            pending: Held::new(config.pending_bytes_max),
            parked: Held::new(config.parked_bytes_max),
            config,
            me,
            now,
            view,
            promised: None,
            view_json: None,
            out: Out::default(),
            reads: BTreeMap::new(),
            last_read: 0,
            strays: Vec::new(),
            answering: BTreeSet::new(),
            doubtful_until: Time(0),
            stalled: Duration::ZERO,
            last_transfer: first_number(me),
            last_question: first_number(me),
            last_staging: first_number(me),
            transfers_open: 0,
            used_views: BTreeMap::new(),
            to_confirm: BTreeSet::new(),
            pace: Pace::default(),
            caught_up: CaughtUp::default(),
            digests: Digests::default(),
            condemned: false,
            told_damage: BTreeSet::new(),
            compared: ComparedStatus::default(),
            watches: 0,
            told_bytes: 0,
            watched: BTreeSet::new(),
            touched: PartitionSet::default(),
            traces: Traces::default(),
        }
    }

    /// The time goes on. If the process was stopped for long, requests that lie in its sockets are of unknown age.
    pub(crate) fn set_now(&mut self, now: Now) {
        let gap = now.time.since(self.now.time);
        if gap >= STALLED {
            self.stalled += gap;
        }
        if now.time.since(self.now.time) >= STOPPED_LONG {
            self.doubtful_until = now.time + DOUBTFUL_FOR;
        }
        self.now = now;
    }

    /// Whether a bug is planted.
    #[inline]
    pub(crate) fn mutated(&self, mutation: Mutation) -> bool {
        cfg!(feature = "mutations") && self.config.mutation == Some(mutation)
    }

    pub(crate) fn is_me(&self, server: ServerId) -> bool {
        server == self.me.server
    }

    /// This server with its present store.
    pub(crate) fn my_member(&self) -> Member {
        Member { server: self.me.server, store: self.me.store }
    }

    /// The time as far as this process was there to see it: what others said while it stood still is not read yet, so
    /// they were not silent then.
    pub(crate) fn watched(&self) -> Time {
        self.now.time - self.stalled
    }

    pub(crate) fn set_view(&mut self, view: Arc<View>) {
        self.view = view;
        self.view_json = None;
    }

    /// A server was heard to use a view; what is older is void there.
    pub(crate) fn saw_view(&mut self, server: ServerId, view: Epoch) {
        let known = self.used_views.entry(server).or_default();
        *known = view.max(*known);
    }

    /// Whether a server was heard to use the view of `epoch`, or a newer one.
    pub(crate) fn has_left(&self, server: ServerId, epoch: Epoch) -> bool {
        self.used_views.get(&server).is_some_and(|view| *view >= epoch)
    }

    /// Tells a server whose view is older about ours.
    pub(crate) fn send_view(&mut self, to: ServerId) {
        let view = &self.view;
        let json = self.view_json.get_or_insert_with(|| {
            Bytes::from(serde_json::to_vec(&**view).expect("a view has only names as keys"))
        });
        let (number, json) = (view.number, json.clone());
        self.out.send(to, PeerMessage::View { number, json });
    }

    /// A number for a write that has none; it counts as unanswered until its reply.
    pub(crate) fn session_origin(&mut self) -> Origin {
        let session = &mut self.session;
        session.last += 1;
        session.outstanding.insert(session.last);
        Origin {
            client: session.client,
            number: RequestNumber(session.last),
            first_unanswered: RequestNumber(*session.outstanding.first().expect("just inserted")),
        }
    }

    /// Answers whoever asked.
    pub(crate) fn reply(&mut self, to: ReplyTo, reply: Reply) {
        self.trace_answered(to, &reply);
        match to {
            ReplyTo::Client { token, session } => {
                if let Some(number) = session {
                    self.session.outstanding.remove(&number.0);
                }
                self.out.effect(Effect::Reply { token, reply });
            }
            ReplyTo::Peer { server, n } => {
                self.answering.remove(&(server, n));
                self.out.send(server, PeerMessage::ForwardReply { n, reply });
            }
            // The tick is applied and its copy looks at the read again; a question is answered by the commit alone.
            ReplyTo::Read(_) | ReplyTo::Question { .. } => {}
        }
    }

    /// Notes a read and names it.
    pub(crate) fn note_read(&mut self, read: PendingRead) -> ReadId {
        self.last_read += 1;
        let id = ReadId(self.last_read);
        self.reads.insert(id, read);
        id
    }

    /// Asks the shell to carry out a noted read.
    pub(crate) fn issue_read(&mut self, id: ReadId) {
        let Some(read) = self.reads.get(&id) else { return };
        let (to, partition, query) = (read.to, read.partition, read.query.clone());
        self.trace_request(to, TraceStep::Read {});
        self.out.effect(Effect::Read { read: id, partition, query });
    }

    /// Something that another server said makes no sense: it is dropped, and a person may look.
    pub(crate) fn warn(&mut self, reason: String) {
        self.out.effect(Effect::Warn { reason });
    }

    /// Something is wrong with what is stored, and the server goes on: a person must look.
    pub(crate) fn alarm(&mut self, reason: String) {
        self.out.effect(Effect::Alarm { reason });
    }

    /// The members' logs cannot be what they are: going on would break a promise.
    pub(crate) fn fatal(&mut self, reason: String) {
        self.out.effect(Effect::Fatal { reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_on_average_and_none_is_no_limit() {
        const PIECE: usize = 100_000;
        let (mut pace, mut sent) = (Pace::default(), 0);
        // Ten seconds of ticks of 10 ms, at a million bytes a second.
        for tick in 0..1000 {
            let now = Time(1_000_000_000 + tick * 10_000);
            while pace.is_open(now) {
                pace.take(now, PIECE, 1_000_000);
                sent += PIECE;
            }
        }
        assert!((9_900_000..=10_200_000).contains(&sent), "{sent}");
        pace = Pace::default();
        let now = Time(1_000_000_000);
        (0..1000).for_each(|_| pace.take(now, PIECE, 0));
        assert!(pace.is_open(now));
    }
}
