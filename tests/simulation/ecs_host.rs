//! The configuration service around its core: one disk, one clock, links to all servers.

use std::sync::Arc;
use std::time::Duration;

use common::ids::{ClusterId, PartitionId, ServerId};
use common::messages::{ProcessId, ServerReport};
use common::ring::Partitions;
use common::time::Time;
use common::view::View;
use ecs_core::{Config, Ecs, Effect, Input, RequestedState, Settings, State, Unfit};

use super::net::Place;
use super::scenario::Scenario;
use super::server::place_of;
use super::timeline::{Event, MS, Micros, Timeline};
use super::truth::Truth;

/// See the module's text.
pub(crate) struct EcsHost {
    config: Config,
    pub(crate) core: Option<Ecs>,
    durable: State,
    /// On its way to the disk.
    writing: Option<(u64, State)>,
    pub(crate) life: u64,
    ticks: u64,
    /// When the newest timer ends.
    tick_at: Option<Micros>,
    clock_offset: Micros,
    /// Share of syncs that are slow.
    pub(crate) slow: f64,
    pub(crate) paused: bool,
    /// What happened during a pause.
    pub(crate) held: Vec<Event>,
    /// Processes whose report links end.
    pub(crate) ended: Vec<ProcessId>,
    /// The partitions of the store that it was asked about last; none: any.
    suspected: Option<Vec<PartitionId>>,
    /// Earlier states of its directory.
    saved: Vec<State>,
    saves: f64,
    /// Its newest directory, while it runs on an older one.
    put_away: Option<State>,
}

impl EcsHost {
    pub(crate) fn new(scenario: &Scenario, line: &mut Timeline) -> Self {
        let Scenario { timers, min_in_sync, stand_by, slow, ecs_bug: bug, .. } = *scenario;
        let restart_wait = Some(Duration::from_micros(scenario.restart_wait));
        let partitions = Partitions::try_from(scenario.partitions).expect("a power of two");
        Self {
            config: Config { timers, restart_wait, bug, ..Config::default() },
            core: None,
            durable: State {
                settings: Settings {
                    min_copies: (min_in_sync > 0).then_some(min_in_sync),
                    stand_by,
                    ..Settings::default()
                },
                ..State::new(ClusterId(77), partitions)
            },
            writing: None,
            life: 0,
            ticks: 0,
            tick_at: None,
            clock_offset: line.between(0, 1_000_000 * MS),
            slow,
            paused: false,
            held: Vec::new(),
            ended: Vec::new(),
            suspected: None,
            saved: Vec::new(),
            saves: scenario.ecs_saves,
            put_away: None,
        }
    }

    fn time(&self, now: Micros) -> Time {
        Time(self.clock_offset + now)
    }

    pub(crate) fn start(&mut self, line: &mut Timeline, truth: &mut Truth) {
        self.life += 1;
        self.tick_at = None;
        self.core = Some(Ecs::new(self.config, self.durable.clone(), self.time(line.now)));
        line.note(|| "  ecs starts".to_owned());
        self.settle(line, truth);
    }

    /// The process dies; a state on its way to the disk may have got there.
    pub(crate) fn crash(&mut self, line: &mut Timeline, truth: &mut Truth) {
        self.core = None;
        self.paused = false;
        self.held.clear();
        self.life += 1;
        let writing = self.writing.take().filter(|_| line.chance(0.5));
        if let Some((_, state)) = writing {
            truth.on_view(&state.view);
            self.durable = state;
        }
    }

    /// The view that is on its way to the disk.
    pub(crate) fn writing(&self) -> Option<&Arc<View>> {
        self.writing.as_ref().map(|(_, state)| &state.view)
    }

    /// Its directory goes back to an earlier state of itself while it does not run. Whether there is one.
    pub(crate) fn go_back(&mut self, line: &mut Timeline) -> bool {
        assert!(self.core.is_none(), "a running process holds its directory");
        if self.saved.is_empty() || self.put_away.is_some() {
            return false;
        }
        let old = self.saved[line.rng.usize(0..self.saved.len())].clone();
        line.note(|| format!("  ecs goes back to view {}", old.view.number));
        self.put_away = Some(std::mem::replace(&mut self.durable, old));
        true
    }

    /// An operator puts the newest directory back, unless the ECS went on from the older one: that had the same view.
    pub(crate) fn restore(&mut self, line: &mut Timeline, truth: &mut Truth) {
        let Some(newest) = self.put_away.take() else { return };
        let goes_on = self.durable.view.number > newest.view.number;
        self.crash(line, truth);
        if !goes_on && self.durable.view.number <= newest.view.number {
            self.durable = newest;
        }
        self.start(line, truth);
    }

    /// A pause ends.
    pub(crate) fn resume(&mut self, line: &mut Timeline) {
        self.paused = false;
        for event in std::mem::take(&mut self.held) {
            line.after(0, event);
        }
    }

    pub(crate) fn step(&mut self, line: &mut Timeline, truth: &mut Truth, input: Input) {
        let now = self.time(line.now);
        let Some(core) = &mut self.core else { return };
        if let Input::Report { report: ServerReport::Suspect { suspicion }, .. } = &input {
            self.suspected.clone_from(&suspicion.partitions);
        }
        core.step(now, input);
        self.settle(line, truth);
    }

    pub(crate) fn on_synced(&mut self, line: &mut Timeline, truth: &mut Truth, ticket: u64) {
        let (_, state) = self.writing.take_if(|(writing, _)| *writing == ticket).expect("one at a time");
        truth.on_view(&state.view);
        self.durable = state;
        /// States of its directory that it may go back to.
        const SAVED_MAX: usize = 6;
        if self.saves > 0.0 && line.chance(self.saves) {
            if self.saved.len() == SAVED_MAX {
                self.saved.remove(line.rng.usize(0..SAVED_MAX));
            }
            self.saved.push(self.durable.clone());
        }
        self.step(line, truth, Input::Durable { ticket });
    }

    /// No copy is begun or moved from now on, or they are again.
    pub(crate) fn hold(&mut self, line: &mut Timeline, truth: &mut Truth, paused: bool) {
        let settings = Settings { paused, ..self.durable.settings };
        self.step(line, truth, Input::Set(settings));
    }

    /// Nothing is held, and whoever comes serves.
    pub(crate) fn let_all_serve(&mut self, line: &mut Timeline, truth: &mut Truth) {
        let settings = Settings { paused: false, stand_by: false, ..self.durable.settings };
        self.step(line, truth, Input::Set(settings));
    }

    /// Gives an order, if it can be given; returns which servers leave by it, and which do not leave any more.
    pub(crate) fn order(
        &mut self,
        line: &mut Timeline,
        truth: &mut Truth,
        order: impl FnOnce(&Ecs) -> Result<Vec<(ServerId, RequestedState)>, Unfit>,
    ) -> Vec<(ServerId, RequestedState)> {
        let states = self.core.as_ref().and_then(|core| order(core).ok()).unwrap_or_default();
        if !states.is_empty() {
            line.note(|| format!("  ordered: {states:?}"));
            self.step(line, truth, Input::Order { states: states.clone() });
        }
        states
    }

    pub(crate) fn leave(&mut self, line: &mut Timeline, truth: &mut Truth, server: ServerId) {
        self.step(line, truth, Input::Order { states: vec![(server, RequestedState::Leave)] });
    }

    fn settle(&mut self, line: &mut Timeline, truth: &mut Truth) {
        let life = self.life;
        let Some(core) = &mut self.core else { return };
        let effects = core.effects();
        if !effects.is_empty() {
            core.invariants();
        }
        for effect in effects {
            line.note(|| format!("    ecs: {effect:?}"));
            match effect {
                Effect::Persist { ticket, state } => {
                    self.writing = Some((ticket, state));
                    let slow = line.chance(self.slow);
                    let delay = if slow { line.between(1, 300) * MS } else { line.between(100, 1_500) };
                    line.after(delay, Event::EcsSynced { life, ticket });
                }
                Effect::Publish { address, view, .. } => {
                    truth.on_view(&view);
                    assert!(view.number <= self.durable.view.number, "V1: published before it was durable");
                    let to = place_of(&address);
                    line.send(Place::Ecs, Place::Server(to), Event::View { to, view: Arc::clone(&view) });
                }
                Effect::EndLink { sender } => self.ended.push(sender),
                Effect::Refused { sender, address: Some(address), refusal } => {
                    let to = place_of(&address);
                    let (process, refusal) = (sender, refusal.message());
                    line.send(Place::Ecs, Place::Server(to), Event::Refused { to, process, refusal });
                }
                Effect::Verdict { to, address, verdict } => {
                    truth.check_verdict(&self.durable.view, self.suspected.as_deref(), &verdict);
                    let (at, process) = (place_of(&address), to);
                    let event = Event::Verdict { to: at, process, verdict };
                    line.send(Place::Ecs, Place::Server(at), event);
                }
                Effect::Made(_)
                | Effect::Ask { .. }
                | Effect::CopiesDisagree { .. }
                | Effect::Refused { .. } => {}
            }
        }
        let now = Time(self.clock_offset + line.now);
        if let Some(deadline) = core.deadline() {
            let wait = u64::try_from(deadline.since(now).as_micros()).expect("soon");
            let at = line.now + wait;
            // A timer that ends before does no harm: there will be another one.
            if self.tick_at.is_none_or(|tick_at| at < tick_at) {
                self.ticks += 1;
                self.tick_at = Some(at);
                line.after(wait, Event::EcsTick { life, tick: self.ticks });
            }
        }
    }

    /// A timer: only the newest one counts.
    pub(crate) fn on_tick(&mut self, line: &mut Timeline, truth: &mut Truth, tick: u64) {
        if tick == self.ticks {
            self.tick_at = None;
            self.step(line, truth, Input::Tick);
        }
    }
}
