//! The loop that owns the core: takes events in batches, lets the core decide, carries out what it wants. It is a task
//! on the core's thread, beside those that read the sockets.
//!
//! The loop: wait for an event or the next tick; step the core with all that have come; take its effects; writes and
//! messages leave first, then the state machine is served, and what it found goes back into the core. The clock is
//! read again after the state machine was read, as the lease rule demands.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::clock;
use common::ids::ServerId;
use common::messages::{PeerMessage, Reply, Sender, ServerReport};
use common::status::ServerStatus;
use common::time::Time;
use common::view::View;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::core::{Ask, Effect, Input, LogRecord, Node, Reader, TICK, Ticket, Token};
use crate::disk::{Job, LogQueue};
use crate::error::Failure;
use crate::limits::{BATCH_EVENTS_MAX, ROOM_AGAIN};
use crate::machine::Machine;
use crate::peers::Peers;

/// Replies of one batch to one connection, with the connection's own numbers of the requests.
pub(crate) type Replies = Vec<(u64, Reply)>;

/// Where a connection's replies go. What waits there is bounded by the requests that the connection may have open.
pub(crate) trait Deliver: Send + Sync {
    /// Takes replies, without waiting. Those of a connection that is gone are dropped.
    fn deliver(&self, replies: Replies);
}

/// A connection's, shared.
pub(crate) type Outbox = Arc<dyn Deliver>;

/// How events come to the core.
pub(crate) type Events = UnboundedSender<Event>;

/// What comes to the core.
pub(crate) enum Event {
    /// An input for the core as it is.
    Core(Input),
    /// A frame of another server.
    Peer(Sender, Vec<PeerMessage>),
    /// Requests of one connection.
    Asks(Outbox, Vec<(u64, Ask)>),
    /// The same, and what others coordinate is passed on to them.
    AsksAnywhere(Outbox, Vec<(u64, Ask)>),
    /// The link to the ECS is new.
    Hello(oneshot::Sender<ServerReport>),
    /// Somebody wants to know how the server does.
    Status(oneshot::Sender<ServerStatus>),
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
    pub(crate) peers: Peers,
    pub(crate) views: watch::Sender<Option<Arc<View>>>,
    pub(crate) reports: UnboundedSender<ServerReport>,
    pub(crate) me: Sender,
    pub(crate) address: String,
    pub(crate) ecs: String,
    pub(crate) weight: u32,
}

/// See the module's text.
pub(crate) struct Driver {
    parts: Parts,
    /// Requests that the core has not answered: whose they are.
    open: BTreeMap<Token, (Outbox, u64)>,
    last_token: u64,
    outgoing: BTreeMap<ServerId, Vec<PeerMessage>>,
    replies: BatchReplies,
    next_tick: Time,
    next_room: Time,
    free_bytes: u64,
    has_room: bool,
    totals: (u64, u64),
    requests: u64,
    totals_age: u32,
}

/// Heartbeats between two countings of keys and bytes.
const HEARTBEATS_PER_COUNT: u32 = 10;

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = clock::time();
        Self {
            parts,
            open: BTreeMap::new(),
            last_token: 0,
            outgoing: BTreeMap::new(),
            replies: BatchReplies::default(),
            next_tick: now,
            next_room: now,
            free_bytes: 0,
            has_room: true,
            totals: (0, 0),
            requests: 0,
            totals_age: HEARTBEATS_PER_COUNT,
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
                    for _ in 0..BATCH_EVENTS_MAX {
                        let Ok(event) = events.try_recv() else { break };
                        if !self.take(event)? {
                            return Ok(());
                        }
                    }
                }
                Ok(None) => return Ok(()),
                Err(_elapsed) => {}
            }
            self.tick()?;
            self.carry_out()?;
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
            Event::Peer(from, messages) => {
                let now = clock::now();
                for message in messages {
                    self.parts.node.step(now, Input::Peer { from, message });
                }
            }
            Event::Asks(outbox, asks) => self.on_asks(&outbox, asks, false),
            Event::AsksAnywhere(outbox, asks) => self.on_asks(&outbox, asks, true),
            Event::Hello(answer) => {
                let _gone = answer.send(self.parts.node.hello(self.parts.address.clone(), self.parts.weight));
            }
            Event::Status(answer) => {
                let _gone = answer.send(self.status());
            }
            Event::Failed(reason) => return Err(reason),
            Event::Stop => return Ok(false),
        }
        Ok(true)
    }

    fn on_asks(&mut self, outbox: &Outbox, asks: Vec<(u64, Ask)>, anywhere: bool) {
        let now = clock::now();
        for (id, ask) in asks {
            self.requests += 1;
            if !self.has_room && matches!(ask, Ask::Write { .. }) {
                let reason = format!(
                    "disk full: {} bytes are free, less than the reserve; free some, reads go on",
                    self.free_bytes
                );
                self.replies.push(outbox, id, Reply::Refused { reason });
                continue;
            }
            self.last_token += 1;
            let token = Token(self.last_token);
            self.open.insert(token, (outbox.clone(), id));
            let input =
                if anywhere { Input::ClientAnywhere { token, ask } } else { Input::Client { token, ask } };
            self.parts.node.step(now, input);
        }
    }

    fn tick(&mut self) -> Result<(), Failure> {
        let now = clock::time();
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + TICK;
        self.step(Input::Tick);
        self.parts.machine.seal_due()?;
        self.parts.machine.make_tree()?;
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
        Ok(())
    }

    /// Carries out what the core wants, until it wants nothing more.
    fn carry_out(&mut self) -> Result<(), Failure> {
        loop {
            let effects = self.parts.node.effects();
            if effects.is_empty() {
                break;
            }
            let mut later = Vec::with_capacity(effects.len());
            let mut own = None;
            for effect in effects {
                match effect {
                    Effect::Persist { ticket, records } if self.parts.log.suits(&records) => {
                        own = Some((ticket, records));
                    }
                    Effect::Persist { ticket, records } => {
                        self.parts.log.submit(Job::Records(ticket, records))?;
                    }
                    Effect::PersistView { ticket, view } => {
                        self.write_own(own.take())?;
                        self.parts.log.submit(Job::View(ticket, view))?;
                    }
                    Effect::Send { to, message } => self.outgoing.entry(to).or_default().push(message),
                    effect => later.push(effect),
                }
            }
            for (to, messages) in std::mem::take(&mut self.outgoing) {
                self.parts.peers.send(to, messages);
            }
            let mut answers = Vec::new();
            for effect in later {
                match effect {
                    Effect::Read { read, partition, query } => {
                        let answer = self.parts.machine.read(partition, &query)?;
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
            // Last: messages and replies do not wait for it.
            self.write_own(own)?;
        }
        self.replies.deliver();
        Ok(())
    }

    /// Writes to the log on this thread.
    fn write_own(&mut self, own: Option<(Ticket, Vec<LogRecord>)>) -> Result<(), Failure> {
        let Some((ticket, records)) = own else { return Ok(()) };
        self.parts.log.write(ticket, records)?;
        self.step(Input::Durable { ticket });
        Ok(())
    }

    fn carry_out_one(&mut self, effect: Effect) -> Result<(), Failure> {
        let machine = &mut self.parts.machine;
        match effect {
            Effect::Apply { partition, entries } => {
                let outcomes = machine.apply(partition, entries)?;
                self.step(Input::Applied { partition, outcomes });
            }
            Effect::Reply { token, reply } => {
                if let Some((outbox, id)) = self.open.remove(&token) {
                    self.replies.push(&outbox, id, reply);
                }
            }
            Effect::ReadLog { partition, reader, from, bytes_max } => {
                let found = machine.read_log(partition, from, bytes_max)?;
                self.on_log_read(partition, reader, found);
            }
            Effect::PinLog { partition, from } => machine.pin(partition, from),
            Effect::OpenSnapshot { partition, transfer } => {
                let state = machine.open_snapshot(partition, transfer)?;
                self.step(Input::SnapshotOpened { partition, transfer, state });
            }
            Effect::ReadSnapshot { partition, transfer, index } => {
                if let Some((pairs, done)) = machine.read_snapshot(partition, transfer)? {
                    self.step(Input::SnapshotRead { partition, transfer, index, pairs, done });
                }
            }
            Effect::CloseSnapshot { partition, transfer } => machine.close_snapshot(partition, transfer),
            Effect::Stage { partition, transfer, index, pairs, done } => {
                let generation = machine.stage(partition, transfer, index, &pairs, done)?;
                self.step(Input::Staged { partition, transfer, index, generation });
            }
            Effect::Install { partition, generation, state } => {
                machine.install(partition, generation, state)?
            }
            Effect::Drop { partition } => machine.drop_partition(partition),
            Effect::Adopted { view } => {
                tracing::debug!(view = %view.number, servers = view.servers.len(), "view adopted");
                self.parts.peers.on_view(&view);
                self.parts.machine.on_view(&view, self.parts.me.server);
                self.parts.views.send_replace(Some(view));
            }
            Effect::Report { report } => self.report(report),
            Effect::Warn { reason } => tracing::warn!("{reason}"),
            Effect::Fatal { reason } => return Err(Failure::Broken(reason)),
            Effect::Persist { .. }
            | Effect::PersistView { .. }
            | Effect::Send { .. }
            | Effect::Read { .. } => {
                unreachable!("carried out before")
            }
        }
        Ok(())
    }

    fn on_log_read(
        &mut self,
        partition: common::ids::PartitionId,
        reader: Reader,
        found: Result<Vec<common::messages::Entry>, common::ids::Seq>,
    ) {
        let entries = match found {
            Ok(entries) => Some(entries),
            Err(seq) => {
                self.step(Input::Trimmed { partition, seq });
                None
            }
        };
        self.step(Input::LogRead { partition, reader, entries });
    }

    /// The core knows the protocol's part of a heartbeat; the load figures are added here.
    fn report(&mut self, mut report: ServerReport) {
        if let ServerReport::Heartbeat { requests, keys, bytes, free_bytes, .. } = &mut report {
            self.totals_age += 1;
            if self.totals_age > HEARTBEATS_PER_COUNT {
                self.totals_age = 0;
                self.totals = self.parts.machine.totals();
            }
            *requests = std::mem::take(&mut self.requests);
            (*keys, *bytes) = self.totals;
            *free_bytes = self.free_bytes;
        }
        // Without a link to the ECS nobody waits for reports.
        let _gone = self.parts.reports.send(report);
    }

    fn status(&self) -> ServerStatus {
        let Parts { me, address, ecs, node, machine, .. } = &self.parts;
        let (keys, bytes) = machine.totals();
        ServerStatus {
            server: me.server,
            store: me.store,
            incarnation: me.incarnation,
            address: address.clone(),
            ecs: ecs.clone(),
            view: node.view().number,
            copies: node.status(),
            keys,
            bytes,
            free_bytes: self.free_bytes,
        }
    }
}

/// Replies of one batch, by connection.
#[derive(Default)]
struct BatchReplies {
    lists: Vec<(Outbox, Replies)>,
    /// By the address of an outbox: its place in `lists`.
    places: BTreeMap<usize, usize>,
}

impl BatchReplies {
    /// Adds a reply to those that its connection gets with this batch.
    fn push(&mut self, outbox: &Outbox, id: u64, reply: Reply) {
        let lists = &mut self.lists;
        let place = *self.places.entry(Arc::as_ptr(outbox).addr()).or_insert_with(|| {
            lists.push((outbox.clone(), Vec::new()));
            lists.len() - 1
        });
        lists[place].1.push((id, reply));
    }

    fn deliver(&mut self) {
        self.places.clear();
        for (outbox, replies) in self.lists.drain(..) {
            outbox.deliver(replies);
        }
    }
}
