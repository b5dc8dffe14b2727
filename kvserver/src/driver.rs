//! The loop that owns the core: takes events in batches, lets the core decide, carries out what it wants. It is a task
//! on the core's thread, beside those that read the sockets.
//!
//! The loop: wait for an event or the next tick; step the core with all that have come; take its effects; writes and
//! messages leave first, then the state machine is served, and what it found goes back into the core. The clock is
//! read again after the state machine was read, as the lease rule demands.

mod figures;
pub(crate) mod traces;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender as Sending;

use common::clock;
use common::ids::{LogId, PartitionId, RequestId, Seq, ServerId};
use common::messages::{Digest, Entry, PeerMessage, Reply, Sender, ServerReport};
use common::status::ServerStatus;
use common::time::Time;
use common::view::View;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::timeout;

use crate::copies::{BuildJob, Copy, ReadJob};
use crate::core::{
    Answer, Ask, Effect, Input, LogRecord, Node, PartitionKeys, Query, ReadId, Reader, Scrub, ScrubStep,
    TICK, Ticket, Token,
};
use crate::digests::{DigestJob, DigestPiece};
use crate::disk::{Job, LogQueue};
use crate::error::Failure;
use crate::farewell::Traffic;
use crate::limits::{BATCH_EVENTS_MAX, ROOM_AGAIN};
use crate::machine::Machine;
use crate::metrics::{Asked, Meter, Sizes, SlowLog, Snapshot};
use crate::peers::Peers;
use crate::replies::{BatchReplies, Outbox};
use crate::scrub::{Piece, ScrubJob};
use crate::walks::Walk;

/// How events come to the core.
pub(crate) type Events = UnboundedSender<Event>;

/// What comes to the core.
pub(crate) enum Event {
    /// An input for the core as it is.
    Core(Input),
    /// A frame of another server, and the room that it takes until the core has it.
    Peer(Sender, Vec<PeerMessage>, OwnedSemaphorePermit),
    /// Requests of one connection.
    Asks(Outbox, Vec<(u64, Ask)>),
    /// The same, and what others coordinate is passed on to them.
    AsksAnywhere(Outbox, Vec<(u64, Ask)>),
    /// A request of one connection that is traced.
    Traced(Outbox, u64, Ask, RequestId),
    /// The link to the ECS is new.
    Hello(oneshot::Sender<ServerReport>),
    /// Somebody wants to know how the server does.
    Status(oneshot::Sender<ServerStatus>),
    /// A chunk of a copy is in place; with the last one the copy is whole and on disk.
    Staged { copy: Copy, index: u64, whole: Option<storage::Staging> },
    /// A piece of a copy that is compared with others was read.
    DigestRead(DigestPiece),
    /// Somebody wants the digest of a copy as it was at an entry, if it is made.
    Digest(PartitionId, LogId, oneshot::Sender<Option<Digest>>),
    /// A piece of what is stored was read through.
    Scrubbed(Piece),
    /// The disk or the store failed.
    Failed(Failure),
    /// The server stops.
    Stop,
}

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) node: Node,
    pub(crate) machine: Machine,
    pub(crate) log: LogQueue,
    pub(crate) readers: Sending<ReadJob>,
    pub(crate) builders: Sending<BuildJob>,
    pub(crate) scrubber: Sending<ScrubJob>,
    pub(crate) digester: Sending<DigestJob>,
    pub(crate) walker: Sending<Walk>,
    pub(crate) scrub: Scrub,
    pub(crate) peers: Peers,
    pub(crate) views: watch::Sender<Option<Arc<View>>>,
    pub(crate) reports: UnboundedSender<ServerReport>,
    pub(crate) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    pub(crate) traffic: Traffic,
    pub(crate) me: Sender,
    pub(crate) address: String,
    pub(crate) ecs: String,
    pub(crate) weight: u32,
    pub(crate) slow_ms: u64,
    pub(crate) traces: traces::TraceLog,
}

/// See the module's text.
pub(crate) struct Driver {
    parts: Parts,
    /// Requests that the core has not answered.
    open: BTreeMap<Token, Open>,
    last_token: u64,
    outgoing: BTreeMap<ServerId, Vec<PeerMessage>>,
    replies: BatchReplies,
    next_tick: Time,
    next_room: Time,
    free_bytes: u64,
    has_room: bool,
    sizes: Sizes,
    /// Asked for since the last heartbeat.
    requests: u64,
    meter: Meter,
    /// The clock at the first reply of a batch; the others leave with it.
    replied: Option<Time>,
    told_damage: bool,
}

/// A request that is not answered: whose it is.
struct Open {
    outbox: Outbox,
    id: u64,
    asked: Asked,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = clock::time();
        Self {
            open: BTreeMap::new(),
            last_token: 0,
            outgoing: BTreeMap::new(),
            replies: BatchReplies::default(),
            next_tick: now,
            next_room: now,
            free_bytes: 0,
            has_room: true,
            sizes: Sizes::default(),
            requests: 0,
            meter: Meter::new(now, SlowLog::new(parts.slow_ms)),
            replied: None,
            told_damage: false,
            parts,
        }
    }

    /// Runs until it is told to stop, or until going on would break a promise: then the reason.
    pub(crate) async fn run(mut self, mut events: UnboundedReceiver<Event>) -> Result<(), Failure> {
        self.carry_out()?;
        loop {
            let wait = self.next_tick.since(clock::time());
            match timeout(wait, events.recv()).await {
                Ok(Some(event)) => {
                    if !self.take(event)? {
                        return Ok(());
                    }
                    let mut taken = 1;
                    for _ in 0..BATCH_EVENTS_MAX {
                        let Ok(event) = events.try_recv() else { break };
                        if !self.take(event)? {
                            return Ok(());
                        }
                        taken += 1;
                    }
                    self.meter.on_batch(taken);
                }
                Ok(None) => return Ok(()),
                Err(_elapsed) => {}
            }
            self.tick(events.len())?;
            self.carry_out()?;
            self.parts.traffic.set_unanswered(self.open.len());
        }
    }

    fn step(&mut self, input: Input) {
        self.parts.node.step(clock::now(), input);
    }

    /// Takes one event; false: stop.
    fn take(&mut self, event: Event) -> Result<bool, Failure> {
        match event {
            Event::Core(input) => {
                if let Input::Durable { ticket } = input {
                    self.parts.log.on_durable(ticket);
                }
                self.step(input);
            }
            Event::Peer(from, messages, _room) => {
                let now = clock::now();
                for message in messages {
                    self.parts.node.step(now, Input::Peer { from, message });
                }
            }
            Event::Asks(outbox, asks) => self.on_asks(&outbox, asks, false),
            Event::Traced(outbox, id, ask, request) => self.on_traced(&outbox, id, ask, request),
            Event::AsksAnywhere(outbox, asks) => self.on_asks(&outbox, asks, true),
            Event::Hello(answer) => {
                let _gone = answer.send(self.parts.node.hello(self.parts.address.clone(), self.parts.weight));
            }
            Event::Status(answer) => {
                let _gone = answer.send(self.status());
            }
            Event::Staged { copy: (partition, staging), index, whole } => {
                let generation = whole.map(|staging| self.parts.machine.keep_whole(partition, staging));
                self.step(Input::Staged { partition, staging, index, generation });
            }
            Event::DigestRead(DigestPiece { bytes, done }) => {
                self.parts.scrub.on_digest_read(clock::time(), bytes, done);
                self.scrub()?;
            }
            Event::Digest(partition, at, answer) => {
                let _gone = answer.send(self.parts.node.digest(partition, at));
            }
            Event::Scrubbed(piece) => self.on_scrubbed(piece)?,
            Event::Failed(Failure::Damaged(reason)) => self.step(Input::Damaged { reason }),
            Event::Failed(failure) => return Err(failure),
            Event::Stop => return Ok(false),
        }
        Ok(true)
    }

    /// What is stored is read through, as far as the rate allows.
    fn scrub(&mut self) -> Result<(), Failure> {
        loop {
            let Parts { machine, scrub, scrubber, digester, .. } = &mut self.parts;
            match scrub.next(clock::time(), || machine.partitions()) {
                None => return Ok(()),
                Some(ScrubStep::Open(partition)) => match machine.open_for_scrub(partition) {
                    Ok(stored) => hand(scrubber, ScrubJob::Open(stored))?,
                    Err(Failure::Damaged(reason)) => {
                        scrub.on_damaged();
                        self.step(Input::Damaged { reason });
                    }
                    Err(failure) => return Err(failure),
                },
                Some(ScrubStep::Read) => hand(scrubber, ScrubJob::Read)?,
                Some(ScrubStep::ReadDigest) => hand(digester, DigestJob::Read)?,
            }
        }
    }

    fn on_scrubbed(&mut self, piece: Piece) -> Result<(), Failure> {
        let Piece { partition, bytes, expired, is_good, done } = piece;
        for key in expired {
            if self.parts.machine.remove_expired(partition, &key)? {
                self.parts.scrub.on_removed();
            }
        }
        if is_good {
            self.parts.scrub.on_read(clock::time(), bytes, done);
        } else {
            self.parts.scrub.on_damaged();
        }
        if is_good && done {
            self.step(Input::Compare { partition });
        }
        self.scrub()
    }

    fn on_asks(&mut self, outbox: &Outbox, asks: Vec<(u64, Ask)>, anywhere: bool) {
        let now = clock::now();
        let partitions = self.parts.node.view().partitions;
        for (id, ask) in asks {
            self.requests += 1;
            let asked = self.meter.on_ask(now.time, &ask, partitions);
            if !self.has_room && matches!(ask, Ask::Write { .. }) {
                let reason = format!(
                    "disk full: {} bytes are free, less than the reserve; free some, reads go on",
                    self.free_bytes
                );
                let reply = Reply::Refused { reason };
                self.meter.on_reply(now.time, &asked, &reply);
                self.replies.push(outbox, id, reply);
                continue;
            }
            self.last_token += 1;
            let token = Token(self.last_token);
            self.open.insert(token, Open { outbox: outbox.clone(), id, asked });
            let input =
                if anywhere { Input::ClientAnywhere { token, ask } } else { Input::Client { token, ask } };
            self.parts.node.step(now, input);
        }
    }

    /// `waiting`: events that were not taken yet.
    fn tick(&mut self, waiting: usize) -> Result<(), Failure> {
        let now = clock::time();
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + TICK;
        self.step(Input::Tick);
        self.parts.machine.seal_due()?;
        self.parts.machine.make_tree();
        if !self.told_damage
            && let Some(reason) = self.parts.machine.damage()
        {
            self.told_damage = true;
            self.step(Input::Damaged { reason });
        }
        self.scrub()?;
        if now >= self.next_room {
            self.next_room = now + ROOM_AGAIN;
            let (free, has_room) = self.parts.machine.room();
            if has_room != self.has_room {
                tracing::warn!(
                    "{free} bytes are free on the disk: writes are {}",
                    if has_room { "taken" } else { "refused" }
                );
            }
            (self.free_bytes, self.has_room) = (free, has_room);
        }
        self.tell_figures(now, waiting);
        Ok(())
    }

    /// Carries out what the core wants, until it wants nothing more. What this thread writes to the log itself comes
    /// last: messages and replies do not wait for it.
    fn carry_out(&mut self) -> Result<(), Failure> {
        let mut own = None;
        loop {
            let effects = self.parts.node.effects();
            self.replied = None;
            if effects.is_empty() {
                self.replies.deliver();
                let Some((ticket, records)) = own.take() else { return Ok(()) };
                self.parts.log.write(ticket, records)?;
                self.step(Input::Durable { ticket });
                continue;
            }
            let mut later = Vec::with_capacity(effects.len());
            for effect in effects {
                match effect {
                    Effect::Persist { ticket, records }
                        if own.is_none() && self.parts.log.suits(&records) =>
                    {
                        own = Some((ticket, records));
                    }
                    Effect::Persist { ticket, records } => {
                        self.submit(&mut own, Job::Records(ticket, records))?;
                    }
                    Effect::PersistView { ticket, view } => self.submit(&mut own, Job::View(ticket, view))?,
                    Effect::PersistPromise { ticket, promised } => {
                        let store = self.parts.me.store;
                        self.submit(&mut own, Job::Promise(ticket, store, promised))?;
                    }
                    Effect::Send { to, message } => self.outgoing.entry(to).or_default().push(message),
                    // Before what it tells of has left, so that the lines of all servers are in order.
                    Effect::Trace { traced } => self.parts.traces.log(&traced),
                    effect => later.push(effect),
                }
            }
            for (to, messages) in std::mem::take(&mut self.outgoing) {
                self.parts.peers.send(to, messages);
            }
            let mut answers = Vec::new();
            for effect in later {
                match effect {
                    Effect::Read { read, partition, query: Query::Keys { after, limit, .. } } => {
                        self.walk(read, partition, PartitionKeys::new(after, Some(limit)))?;
                    }
                    Effect::Read { read, partition, query: Query::Count { .. } } => {
                        self.walk(read, partition, PartitionKeys::new(0, None))?;
                    }
                    Effect::Read { read, partition, query } => {
                        let answer = match self.parts.machine.read(partition, &query) {
                            Err(Failure::Damaged(reason)) => Answer::Damaged(reason),
                            found => found?,
                        };
                        answers.push(Input::Answered { read, answer });
                    }
                    effect => self.carry_out_one(effect)?,
                }
            }
            // Read the state, then look at the clock, then answer.
            let now = clock::now();
            for answer in answers {
                self.parts.node.step(now, answer);
            }
            self.replies.deliver();
        }
    }

    /// Has a partition gone over beside all else.
    fn walk(&mut self, read: ReadId, partition: PartitionId, keys: PartitionKeys) -> Result<(), Failure> {
        match self.parts.machine.picture(partition) {
            Ok((records, log_time)) => hand(&self.parts.walker, Walk { read, records, log_time, keys }),
            Err(Failure::Damaged(reason)) => {
                self.step(Input::Answered { read, answer: Answer::Damaged(reason) });
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Passes a job to the log thread, behind what this thread was to write before it.
    fn submit(&mut self, own: &mut Option<(Ticket, Vec<LogRecord>)>, job: Job) -> Result<(), Failure> {
        if let Some((ticket, records)) = own.take() {
            self.parts.log.submit(Job::Records(ticket, records))?;
        }
        self.parts.log.submit(job)
    }

    fn carry_out_one(&mut self, effect: Effect) -> Result<(), Failure> {
        let machine = &mut self.parts.machine;
        match effect {
            Effect::Apply { partition, entries, tell } => {
                let waits = !machine.has_tree(partition);
                let outcomes = self.parts.log.watched(waits, || machine.apply(partition, entries, tell))?;
                let changes = machine.take_changes();
                let (pictures, left_out) = machine.take_pictures();
                self.step(Input::Applied { partition, outcomes, changes });
                for picture in pictures {
                    if picture.paced {
                        self.parts.scrub.on_picture();
                    }
                    hand(&self.parts.digester, DigestJob::Make(picture))?;
                }
                for at in left_out {
                    self.step(Input::Digested { partition, at, digest: None });
                }
            }
            Effect::Reply { token, reply } => {
                if let Some(Open { outbox, id, asked }) = self.open.remove(&token) {
                    let now = *self.replied.get_or_insert_with(clock::time);
                    self.meter.on_reply(now, &asked, &reply);
                    self.replies.push(&outbox, id, reply);
                }
            }
            Effect::ReadLog { partition, reader, from, bytes_max } => {
                let found = machine.read_log(partition, from, bytes_max)?;
                self.on_log_read(partition, reader, found);
            }
            Effect::PinLog { partition, from } => machine.pin(partition, from),
            Effect::OpenSnapshot { partition, transfer } => {
                let (picture, state) = machine.open_snapshot(partition)?;
                hand(&self.parts.readers, ReadJob::Open((partition, transfer), picture))?;
                let bytes = self.parts.machine.bytes_of(partition);
                self.step(Input::SnapshotOpened { partition, transfer, state, bytes });
            }
            Effect::ReadSnapshot { partition, transfer, index } => {
                hand(&self.parts.readers, ReadJob::Read((partition, transfer), index))?;
            }
            Effect::CloseSnapshot { partition, transfer } => {
                hand(&self.parts.readers, ReadJob::Close((partition, transfer)))?;
            }
            Effect::Stage { partition, staging, index, pairs, done } => {
                let copy = (partition, staging);
                let staging = (index == 0).then(|| machine.stage(partition));
                hand(&self.parts.builders, BuildJob::Put { copy, index, staging, pairs, done })?;
            }
            Effect::Install { partition, generation, state } => {
                machine.install(partition, generation, state)?
            }
            Effect::Drop { partition } => {
                machine.drop_partition(partition);
                hand(&self.parts.builders, BuildJob::Abandon(partition))?;
            }
            Effect::Adopted { view } => {
                tracing::debug!(view = %view.number, servers = view.servers.len(), "view adopted");
                self.parts.peers.on_view(&view);
                self.parts.machine.on_view(&view, self.parts.me.server);
                self.parts.views.send_replace(Some(view));
            }
            Effect::Report { report } => self.report(report),
            Effect::Warn { reason } => tracing::warn!("{reason}"),
            Effect::Alarm { reason } => tracing::error!("{reason}"),
            Effect::Condemn { reason } => return Err(Failure::Damaged(reason)),
            Effect::Fatal { reason } => return Err(Failure::Store(reason)),
            Effect::Persist { .. }
            | Effect::PersistView { .. }
            | Effect::PersistPromise { .. }
            | Effect::Send { .. }
            | Effect::Trace { .. }
            | Effect::Read { .. } => {
                unreachable!("carried out before")
            }
        }
        Ok(())
    }

    fn on_log_read(&mut self, partition: PartitionId, reader: Reader, found: Result<Vec<Entry>, Seq>) {
        let entries = match found {
            Ok(entries) => Some(entries),
            Err(seq) => {
                self.step(Input::Trimmed { partition, seq });
                None
            }
        };
        self.step(Input::LogRead { partition, reader, entries });
    }
}

/// Gives a thread something to do. One that has ended has said why before, or panicked.
fn hand<T>(thread: &Sending<T>, job: T) -> Result<(), Failure> {
    thread.send(job).map_err(|_| Failure::Stopped("a thread has ended; see the log above".to_owned()))
}
