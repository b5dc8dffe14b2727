//! The loop that owns the core: takes inputs, gives it the time, carries out its effects.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use common::clock;
use common::frame::write_frame;
use common::ids::{Epoch, LogId, PartitionId, ServerId};
use common::messages::Sender;
use common::status::ClusterStatus;
use common::time::WallTime;
use common::view::{ServerState, View};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::outbound::Outbound;
use crate::core::{Ecs, Effect, Event, Input, Refusal, Settings};
use crate::error::Error;
use crate::journal::Journal;
use crate::limits::{ANSWER_WITHIN, COMMANDS_MAX, COMMANDS_PER_TURN_MAX, EVENTS_MAX};

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
}

/// What becomes of the wish to drain a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// Its copies are being moved away.
    Begun,
    /// No other server is up that could take them.
    Last,
    /// There is no such server.
    Unknown,
}

/// What becomes of the wish to force a partition to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// It begins anew from this server's copy; the last entry there, as told at the server's start.
    Begun(ServerId, Option<LogId>),
    /// A server that is up has a copy that counts.
    Served,
    /// The server that was named is not up, or none is.
    NotUp,
    /// There is no such partition.
    Unknown,
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

/// What the driver is asked.
pub(super) enum Command {
    Input(Input),
    Status(oneshot::Sender<ClusterStatus>),
    Events(oneshot::Sender<Vec<EventRecord>>),
    Placement(oneshot::Sender<Placement>),
    Drain(ServerId, oneshot::Sender<Drain>),
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
}

impl Handle {
    /// Passes an input on; waits while the driver is behind.
    pub(super) async fn input(&self, input: Input) {
        // The driver goes away only with the process.
        let _ = self.commands.send(Command::Input(input)).await;
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

/// See the module's text.
pub(super) struct Driver {
    ecs: Ecs,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<Arc<View>>,
    outbound: Outbound,
    /// The newest view as the frame that is sent.
    frame: Option<(Epoch, Arc<Vec<u8>>)>,
    events: VecDeque<EventRecord>,
    /// Copies are in the making.
    moving: bool,
    /// Whose refusal was logged last: a server that tries again and again is logged once.
    refused: Option<(Sender, Refusal)>,
}

impl Driver {
    /// The driver, how to reach it, and what the journal is to call.
    pub(super) fn new(ecs: Ecs) -> (Self, Handle, impl FnMut(Result<u64, Error>) + Send + 'static) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (view, watching) = watch::channel(ecs.view().clone());
        let outbound = Outbound::new(ecs.view().cluster);
        let (frame, events, refused) = (None, VecDeque::new(), None);
        let driver = Self { ecs, commands, view, outbound, frame, events, moving: false, refused };
        let handle = Handle { commands: sender.clone(), view: watching };
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
                        self.ecs.step(clock::time(), Input::Durable { ticket });
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
            Command::Events(answer) => drop(answer.send(self.events.iter().cloned().collect())),
            Command::Placement(answer) => drop(answer.send(self.placement())),
            Command::Drain(server, answer) => drop(answer.send(self.drain(server))),
            Command::Settings(answer) => drop(answer.send(self.ecs.settings())),
            Command::Set(settings, answer) => drop(answer.send(self.set(settings))),
            Command::Recover(partition, server, answer) => {
                drop(answer.send(self.recover(partition, server)));
            }
            Command::Journal(_) => unreachable!("taken by the caller"),
        }
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

    fn drain(&mut self, server: ServerId) -> Drain {
        let servers = &self.ecs.view().servers;
        if !servers.contains_key(&server) {
            return Drain::Unknown;
        }
        if !servers.iter().any(|(&other, info)| other != server && info.state == ServerState::Up) {
            return Drain::Last;
        }
        self.ecs.step(clock::time(), Input::Leave { server });
        Drain::Begun
    }

    fn set(&mut self, settings: Settings) -> Result<Settings, usize> {
        let copies = self.ecs.config().copies;
        if !(1..=copies).contains(&settings.min_copies) {
            return Err(copies);
        }
        info!(min_copies = settings.min_copies, "an operator sets");
        self.ecs.step(clock::time(), Input::Set(settings));
        Ok(self.ecs.settings())
    }

    fn recover(&mut self, partition: PartitionId, server: Option<ServerId>) -> Recovery {
        if self.ecs.view().assignment(partition).is_none() {
            return Recovery::Unknown;
        }
        if !self.ecs.is_offline(partition) && !self.ecs.is_waiting(partition) {
            return Recovery::Served;
        }
        let candidates = self.ecs.candidates(partition);
        let chosen = candidates.into_iter().find(|&(up, _)| server.is_none_or(|server| server == up));
        let Some((server, last)) = chosen else { return Recovery::NotUp };
        warn!(
            %partition, server = server.short(),
            "an operator forces the partition to go on from this server's copy: acknowledged writes may be lost"
        );
        self.ecs.step(clock::time(), Input::Recover { partition, server });
        Recovery::Begun(server, last)
    }

    fn carry_out(&mut self, journal: &Journal) {
        for effect in self.ecs.effects() {
            match effect {
                Effect::Persist { ticket, state } => journal.persist(ticket, state),
                Effect::Publish { to, address, view } => {
                    let frame = self.frame_of(&view);
                    self.outbound.publish(to, address, &view, frame);
                }
                Effect::Ask { to, address, promise } => self.outbound.ask(to, address, promise),
                Effect::Made(event) => self.on_made(event),
                Effect::Refused { sender, refusal } => self.on_refused(sender, refusal),
            }
        }
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
        self.events.push_back(EventRecord { at: clock::wall(), event, text });
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
