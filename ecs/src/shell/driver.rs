//! The loop that owns the core: takes inputs, gives it the time, carries out its effects.

mod difference;
mod operators;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use common::clock;
use common::frame::write_frame;
use common::histogram::Histogram;
use common::ids::{Epoch, PartitionId, ServerId};
use common::messages::Sender;
use common::status::ClusterStatus;
use common::time::{Time, WallTime};
use common::view::View;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::board::Board;
use super::outbound::Outbound;
use crate::core::{Ecs, Effect, Event, Input, Order, Part, Plan, Refusal, Settings, Unfit};
use crate::error::Error;
use crate::journal::Journal;
use crate::limits::{ANSWER_WITHIN, COMMANDS_MAX, COMMANDS_PER_TURN_MAX, EVENTS_MAX};

pub use difference::Difference;
pub(super) use operators::{NotApplied, Recovery};

/// A view change, with the time for people.
#[derive(Clone, Debug, Serialize)]
pub struct EventRecord {
    /// When the view was durable.
    pub at: WallTime,
    /// What changed and why.
    #[serde(flatten)]
    pub event: Event,
    /// The causes in words.
    pub text: String,
    /// What is other than in the view before.
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

/// What is counted since the start.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) views: u64,
    /// By kind, named as in the list of events.
    pub(super) changes: BTreeMap<&'static str, u64>,
    /// Times to get a state onto the disk, in microseconds.
    pub(super) persists: Histogram,
    /// Commands that wait for the driver.
    pub(super) waiting: usize,
    /// Silence after which a server is removed.
    pub(super) dead: Duration,
}

/// What the driver is asked.
pub(super) enum Command {
    Input(Input),
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
    /// Gives servers the parts back that they had before what is under way with them.
    Cancel(Vec<ServerId>, oneshot::Sender<Result<Vec<(ServerId, Part)>, Unfit>>),
    Settings(oneshot::Sender<Settings>),
    /// The settings in force then, or the number of copies, below which they must stay.
    Set(Settings, oneshot::Sender<Result<Settings, usize>>),
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
    dead: Duration,
}

impl Handle {
    /// What servers tell of their load.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Passes an input on; waits while the driver is behind.
    pub(super) async fn input(&self, input: Input) {
        // The driver goes away only with the process.
        let _ = self.commands.send(Command::Input(input)).await;
    }

    /// Silence after which a server is removed.
    pub(super) fn dead(&self) -> Duration {
        self.dead
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

/// Tells somebody something.
type Answer = Box<dyn FnOnce() + Send>;

/// See the module's text.
pub(super) struct Driver {
    ecs: Ecs,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<Arc<View>>,
    outbound: Outbound,
    /// The newest view as the frame that is sent.
    frame: Option<(Epoch, Arc<Vec<u8>>)>,
    events: VecDeque<EventRecord>,
    /// Answers to operators, each until so many of their orders are on disk.
    answers: VecDeque<(u64, Answer)>,
    /// Copies are in the making.
    moving: bool,
    /// Whose refusal was logged last: a server that tries again and again is logged once.
    refused: Option<(Sender, Refusal)>,
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
        let counts = Counts {
            views: 0,
            changes: BTreeMap::new(),
            persists: Histogram::durations(),
            waiting: 0,
            dead: ecs.config().timers.dead,
        };
        let handle =
            Handle { commands: sender.clone(), view: watching, board: Board::default(), dead: counts.dead };
        let driver = Self {
            made: ecs.view().clone(),
            ecs,
            commands,
            view,
            outbound,
            frame,
            events,
            answers,
            moving: false,
            refused,
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
        // Whoever asked may have gone; then the answer is for nobody.
        match command {
            Command::Input(input) => self.ecs.step(clock::time(), input),
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
                let applied = self.apply(order, epoch);
                self.answer_durable(answer, applied);
            }
            Command::Cancel(servers, answer) => {
                let cancelled = self.cancel(&servers);
                self.answer_durable(answer, cancelled);
            }
            Command::Settings(answer) => drop(answer.send(self.ecs.settings())),
            Command::Set(settings, answer) => {
                let set = self.set(settings);
                self.answer_durable(answer, set);
            }
            Command::Recover(partition, server, answer) => {
                let recovery = self.recover(partition, server);
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
                Effect::Made(event) => self.on_made(event),
                Effect::Refused { sender, refusal } => self.on_refused(sender, refusal),
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
        // A join of one server makes hundreds of views: people are told of its beginning and its end.
        let routine = event.causes.iter().all(|cause| cause.change.is_routine());
        if routine {
            debug!(view = %event.view, "{text}");
        } else {
            info!(view = %event.view, "{text}");
        }
        let moving = self.ecs.view().assignments.iter().any(|now| !now.joining.is_empty());
        if std::mem::replace(&mut self.moving, moving) && !moving {
            info!(view = %event.view, "no copies are in the making any more");
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        let made = self.ecs.view().clone();
        let difference = Difference::between(&self.made, &made);
        self.made = made;
        self.events.push_back(EventRecord { at: clock::wall(), event, text, difference });
    }

    fn on_refused(&mut self, sender: Sender, refusal: Refusal) {
        if self.refused.replace((sender, refusal)) == Some((sender, refusal)) {
            return;
        }
        let server = sender.server.short();
        if let Refusal::Behind { .. } = refusal {
            error!(server, "{refusal}");
        } else {
            warn!(server, "a hello is not accepted: {refusal}");
        }
    }
}
