//! The loop that owns the core: passes it inputs and the time, and carries out its effects.

mod difference;
mod operators;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use common::clock;
use common::frame::write_frame;
use common::histogram::Histogram;
use common::ids::{Epoch, PartitionId, ServerId};
use common::limits::SERVERS_MAX;
use common::messages::{ProcessId, StoreVerdict};
use common::status::ClusterStatus;
use common::time::{Time, WallTime};
use common::view::View;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::board::Board;
use super::outbound::Outbound;
use crate::error::Error;
use crate::journal::Journal;
use crate::limits::{ANSWER_WITHIN, COMMANDS_MAX, COMMANDS_PER_TURN_MAX, EVENTS_MAX};
use ecs_core::{
    Disagreement, Ecs, Effect, Event, Input, Order, Plan, Refusal, RequestedState, Settings, Severity, Unfit,
};

pub use difference::Difference;
pub(super) use operators::{NotApplied, Recovery, Shown};

/// A view change, with the time for people.
#[derive(Clone, Debug, Serialize)]
pub struct EventRecord {
    /// When the view became durable.
    pub at: WallTime,
    /// What changed and why.
    #[serde(flatten)]
    pub event: Event,
    /// The causes in words.
    pub text: String,
    /// What differs from the view before.
    pub difference: Difference,
}

/// Where copies are and should be, at one moment.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) view: Arc<View>,
    /// By partition, the coordinator first.
    pub(super) target: Vec<Vec<ServerId>>,
    /// Partitions of which no copy that counts is at a server that is up.
    pub(super) offline: BTreeSet<PartitionId>,
    /// Partitions that wait for servers that have not reported to this rebuilt ECS.
    pub(super) waiting: BTreeSet<PartitionId>,
}

impl Placement {
    /// Whether a partition is served, in a word.
    pub(super) fn state(&self, partition: PartitionId) -> &'static str {
        match (self.waiting.contains(&partition), self.offline.contains(&partition)) {
            (true, _) => "waiting",
            (false, true) => "offline",
            (false, false) => "served",
        }
    }
}

/// Counters since the start of the process.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) views: u64,
    /// By kind, named as in the list of events.
    pub(super) changes: BTreeMap<&'static str, u64>,
    /// How long writing a state to disk took, in microseconds.
    pub(super) persists: Histogram,
    /// Commands that wait for the driver.
    pub(super) waiting: usize,
}

/// What other tasks ask of the driver.
pub(super) enum Command {
    Input(Input),
    /// A process has opened its report link; it is ended by this.
    Linked(ProcessId, oneshot::Sender<()>),
    Status(oneshot::Sender<ClusterStatus>),
    /// The changes after this view.
    Events(Epoch, oneshot::Sender<Vec<EventRecord>>),
    Counts(oneshot::Sender<Counts>),
    Placement(oneshot::Sender<Placement>),
    /// Whether a server is leaving, or about to.
    Leaves(ServerId, oneshot::Sender<bool>),
    /// What an order would move.
    Plan(Order, oneshot::Sender<Result<Plan, Unfit>>),
    /// Gives an order, if the view has this number, or whichever it has.
    Apply(Order, Option<Epoch>, oneshot::Sender<Result<Plan, NotApplied>>),
    /// Takes back the orders that are under way with servers.
    Cancel(Vec<ServerId>, oneshot::Sender<Result<Vec<(ServerId, RequestedState)>, Unfit>>),
    Settings(oneshot::Sender<Shown>),
    /// The settings in force then, or the number of copies, below which they must stay.
    Set(Settings, oneshot::Sender<Result<Shown, usize>>),
    /// R7: the server that the partition begins anew from, if one is chosen.
    Recover(PartitionId, Option<ServerId>, oneshot::Sender<Recovery>),
    /// The journal has done its work, or failed.
    Journal(Result<u64, Error>),
}

/// The driver does not answer: it is stopping, or far behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoAnswer;

/// How other tasks reach the driver.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<View>>,
    board: Board,
}

impl Handle {
    /// The load that servers report.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Passes an input to the core; waits while the driver's queue is full.
    pub(super) async fn input(&self, input: Input) {
        // The driver goes away only with the process.
        let _ = self.commands.send(Command::Input(input)).await;
    }

    /// A process has opened its report link: what comes of this says when to end it.
    pub(super) async fn linked(&self, sender: ProcessId) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        let _ = self.commands.send(Command::Linked(sender, end)).await;
        ended
    }

    /// Changes with each durable view.
    pub(super) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// The newest durable view.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.commands.send(command(answer)).await.map_err(|_| NoAnswer)?;
            answered.await.map_err(|_| NoAnswer)
        };
        timeout(ANSWER_WITHIN, asking).await.unwrap_or(Err(NoAnswer))
    }
}

/// Sends an answer to the task that waits for it.
type Answer = Box<dyn FnOnce() + Send>;

/// The loop that owns the ECS's core: commands and reports come in, effects are carried out.
pub(super) struct Driver {
    ecs: Ecs,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<Arc<View>>,
    outbound: Outbound,
    /// For each process, the sender that closes its newest report link.
    links: BTreeMap<ProcessId, oneshot::Sender<()>>,
    /// The newest view as the frame that is sent.
    frame: Option<(Epoch, Arc<Vec<u8>>)>,
    events: VecDeque<EventRecord>,
    /// Answers to operators, each until so many of their orders are on disk.
    answers: VecDeque<(u64, Answer)>,
    /// Copies are in the making.
    moving: bool,
    /// The refusal that was logged last: a server that tries again and again is logged once.
    refused: Option<(ProcessId, Refusal)>,
    /// The last verdicts that were sent to servers that wait with a store.
    verdicts: BTreeMap<ServerId, (ProcessId, StoreVerdict)>,
    counts: Counts,
    /// The view of the newest event.
    made: Arc<View>,
    /// When the state that is on its way to the disk was given to the journal.
    persisting: Option<Time>,
}

impl Driver {
    /// The driver, how to reach it, and what the journal is to call.
    pub(super) fn new(ecs: Ecs) -> (Self, Handle, impl FnMut(Result<u64, Error>) + Send + 'static) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (view, watching) = watch::channel(ecs.view().clone());
        let outbound = Outbound::new(ecs.view().cluster);
        let (frame, events, answers, refused) = (None, VecDeque::new(), VecDeque::new(), None);
        let counts =
            Counts { views: 0, changes: BTreeMap::new(), persists: Histogram::durations(), waiting: 0 };
        let handle = Handle { commands: sender.clone(), view: watching, board: Board::default() };
        let driver = Self {
            made: ecs.view().clone(),
            ecs,
            commands,
            view,
            outbound,
            links: BTreeMap::new(),
            frame,
            events,
            answers,
            moving: false,
            refused,
            verdicts: BTreeMap::new(),
            counts,
            persisting: None,
        };
        let done = move |result| {
            let _ = sender.blocking_send(Command::Journal(result));
        };
        (driver, handle, done)
    }

    /// Works until the journal fails.
    pub(super) async fn run(mut self, journal: &Journal) -> Error {
        let mut batch = Vec::with_capacity(COMMANDS_PER_TURN_MAX);
        self.carry_out(journal);
        loop {
            let receiving = self.commands.recv_many(&mut batch, COMMANDS_PER_TURN_MAX);
            let in_time = match self.ecs.deadline() {
                Some(deadline) => timeout(deadline.since(clock::time()), receiving).await.is_ok(),
                None => receiving.await > 0,
            };
            if !in_time {
                self.ecs.step(clock::time(), Input::Tick);
            }
            for command in batch.drain(..) {
                match command {
                    Command::Journal(Err(error)) => {
                        error!(%error, "the state cannot be written");
                        return error;
                    }
                    Command::Journal(Ok(ticket)) => {
                        let now = clock::time();
                        if let Some(began) = self.persisting.take() {
                            let took = now.since(began).as_micros();
                            self.counts.persists.record(u64::try_from(took).unwrap_or(u64::MAX));
                        }
                        self.ecs.step(now, Input::Durable { ticket });
                    }
                    other => self.take(other),
                }
            }
            self.carry_out(journal);
        }
    }

    fn take(&mut self, command: Command) {
        // The asking task may have ended; then the answer is dropped.
        match command {
            Command::Input(input) => self.ecs.step(clock::time(), input),
            Command::Linked(sender, end) => {
                self.links.retain(|_, end| !end.is_closed());
                self.links.insert(sender, end);
            }
            Command::Status(answer) => drop(answer.send(self.ecs.status(clock::time()))),
            Command::Events(after, answer) => {
                let from = self.events.partition_point(|record| record.event.view <= after);
                drop(answer.send(self.events.range(from..).cloned().collect()));
            }
            Command::Counts(answer) => drop(answer.send(self.counts())),
            Command::Placement(answer) => drop(answer.send(self.placement())),
            Command::Leaves(server, answer) => drop(answer.send(self.ecs.leaves(server))),
            Command::Plan(order, answer) => drop(answer.send(self.ecs.plan(clock::time(), order))),
            Command::Apply(order, epoch, answer) => {
                let applied = operators::apply(&mut self.ecs, order, epoch);
                self.answer_durable(answer, applied);
            }
            Command::Cancel(servers, answer) => {
                let cancelled = operators::cancel(&mut self.ecs, &servers);
                self.answer_durable(answer, cancelled);
            }
            Command::Settings(answer) => drop(answer.send(operators::shown(&self.ecs))),
            Command::Set(settings, answer) => {
                let set = operators::set(&mut self.ecs, settings);
                self.answer_durable(answer, set);
            }
            Command::Recover(partition, server, answer) => {
                let recovery = operators::recover(&mut self.ecs, partition, server);
                self.answer_durable(answer, recovery);
            }
            Command::Journal(_) => unreachable!("taken by the caller"),
        }
    }

    /// Answers when all that was ordered so far is on disk.
    fn answer_durable<T: Send + 'static>(&mut self, answer: oneshot::Sender<T>, what: T) {
        let (taken, _) = self.ecs.orders();
        self.answers.push_back((taken, Box::new(move || drop(answer.send(what)))));
    }

    fn give_answers(&mut self) {
        let (_, durable) = self.ecs.orders();
        while let Some((_, answer)) = self.answers.pop_front_if(|(taken, _)| *taken <= durable) {
            answer();
        }
    }

    fn counts(&self) -> Counts {
        Counts { waiting: self.commands.len(), ..self.counts.clone() }
    }

    fn placement(&self) -> Placement {
        let view = self.ecs.view().clone();
        let target = self.ecs.target().clone();
        let of = |holds: &dyn Fn(PartitionId) -> bool| {
            view.iter().map(|(partition, _)| partition).filter(|&partition| holds(partition)).collect()
        };
        let waiting = of(&|partition| self.ecs.is_waiting(partition));
        let offline = of(&|partition| self.ecs.is_offline(partition));
        Placement { view, target, offline, waiting }
    }

    fn carry_out(&mut self, journal: &Journal) {
        for effect in self.ecs.effects() {
            match effect {
                Effect::Persist { ticket, state } => {
                    self.persisting = Some(clock::time());
                    journal.persist(ticket, state);
                }
                Effect::Publish { to, address, view } => {
                    let frame = self.frame_of(&view);
                    self.outbound.publish(to, address, &view, frame);
                }
                Effect::Ask { to, address, promise } => self.outbound.ask(to, address, promise),
                Effect::Verdict { to, address, verdict } => {
                    self.on_verdict(to, &address, &verdict);
                    self.outbound.send_verdict(to, address, verdict);
                }
                Effect::EndLink { sender } => {
                    if let Some(end) = self.links.remove(&sender) {
                        debug!(server = sender.server.short(), "it is no member, and is to say hello again");
                        let _ = end.send(());
                    }
                }
                Effect::Made(event) => self.on_made(event),
                Effect::CopiesDisagree { partition, found } => on_disagree(partition, found),
                Effect::Refused { sender, address, refusal } => self.on_refused(sender, address, refusal),
            }
        }
        self.give_answers();
        if self.view.borrow().number != self.ecs.view().number {
            self.view.send_replace(self.ecs.view().clone());
        }
    }

    /// A view is encoded once for all servers.
    fn frame_of(&mut self, view: &View) -> Arc<Vec<u8>> {
        if let Some((number, frame)) = &self.frame
            && *number == view.number
        {
            return frame.clone();
        }
        let mut frame = Vec::new();
        write_frame(&mut frame, |out| {
            serde_json::to_writer(out, view).expect("a view is JSON, and a vector takes it");
        });
        let frame = Arc::new(frame);
        self.frame = Some((view.number, frame.clone()));
        frame
    }

    fn on_made(&mut self, event: Event) {
        self.counts.views += 1;
        for cause in &event.causes {
            *self.counts.changes.entry(cause.change.name()).or_default() += 1;
        }
        let text: Vec<String> = event.causes.iter().map(ToString::to_string).collect();
        let text = text.join("; ");
        // The join of one server makes hundreds of views: at the default level only its beginning and end are logged.
        let severity = event.causes.iter().map(|cause| cause.change.severity()).max();
        match severity.unwrap_or(Severity::Debug) {
            Severity::Debug => debug!(view = %event.view, "{text}"),
            Severity::Info => info!(view = %event.view, "{text}"),
            Severity::Warn => warn!(view = %event.view, "{text}"),
            Severity::Error => error!(view = %event.view, "{text}"),
        }
        let moving = self.ecs.view().assignments.iter().any(|now| !now.joining.is_empty());
        if std::mem::replace(&mut self.moving, moving) && !moving {
            info!(view = %event.view, "all copies are complete");
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        let made = self.ecs.view().clone();
        let difference = Difference::between(&self.made, &made);
        self.made = made;
        self.events.push_back(EventRecord { at: clock::wall(), event, text, difference });
    }

    /// Logs a verdict once: servers that wait ask again and again.
    fn on_verdict(&mut self, to: ProcessId, address: &str, verdict: &StoreVerdict) {
        if self.verdicts.len() >= SERVERS_MAX {
            self.verdicts.clear();
        }
        let earlier = self.verdicts.insert(to.server, (to, verdict.clone()));
        if earlier.is_some_and(|earlier| earlier == (to, verdict.clone())) {
            return;
        }
        let server = to.server.short();
        match verdict {
            StoreVerdict::SetAside {} => {
                info!(
                    server,
                    address, "its store failed, and is not needed: all of it is served from other copies"
                );
            }
            StoreVerdict::Keep { unserved } => error!(
                server,
                address,
                partitions = unserved.len(),
                "a store failed, and of so many of its partitions no other in-sync copy is served: the server waits \
                 with it. Start the servers with the other copies. If there are none, stop this server, run \
                 `kvserver reinstate -d DIR` on its machine, and start it again"
            ),
        }
    }

    fn on_refused(&mut self, sender: ProcessId, address: Option<String>, refusal: Refusal) {
        if let Some(address) = address {
            self.outbound.refuse(clock::time(), sender, address, refusal.message());
        }
        let refused = (sender, refusal.clone());
        if self.refused.replace(refused.clone()) == Some(refused) {
            return;
        }
        let server = sender.server.short();
        match refusal {
            Refusal::Behind { .. } | Refusal::Twin { .. } => error!(server, "{refusal}"),
            _ => warn!(server, "a hello is not accepted: {refusal}"),
        }
    }
}

fn on_disagree(partition: PartitionId, found: Disagreement) {
    let Disagreement { epoch, coordinator, member, commit } = found;
    let (coordinator, member) = (coordinator.short(), member.short());
    error!(
        %partition, %epoch, coordinator, member, %commit,
        "COPIES DISAGREE: the member has committed entries that the log of its coordinator lacks. The partition is not \
         served until an operator decides from which copy it goes on: kvclient admin recover-partition {partition}"
    );
}
