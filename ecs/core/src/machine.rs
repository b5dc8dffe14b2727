//! The state machine of the ECS.
//!
//! What it hears becomes facts; whenever no view is on its way to the disk, and there is reason to, the next view is
//! made of the last one and the facts (`next`), given out to be persisted, and published when it is
//! durable (V1). So one persist is under way at a time, and what becomes known meanwhile goes into the next view.
//!
//! States: *quiet* after its own start, after a pause of its own, and when the first server of a cluster that was
//! wholly down comes back: no server is removed for silence. *Behind* when a server has a newer view than the ECS: its
//! disk is an old one, and making views would use numbers twice; it makes none. *Comparing* after its own start, for
//! the same reason, until it has heard which views the servers have (`restart`).
//!
//! Invariants: the published view is durable; consecutive views keep the [rules](crate::rules).

mod io;
mod orders;
mod queries;
mod rebuild;
mod reports;
mod restart;
mod suspects;
mod twins;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::{Epoch, PartitionId, ServerId};
use common::time::Time;
use common::view::ServerState;

use super::backoff::Backoff;
use super::config::Config;
use super::disks::Disks;
use super::left_out::LeftOut;
use super::next::{self, Planned, Proposal, Registration};
use super::peers::{Behind, Complaints, Disagreements, FailedCopies, LostEntries, Peer, Yields};
use super::plan::RequestedState;
use super::planted::PlantedBug;
use super::reach::edges::Edges;
use super::refusal::Refusal;
use super::served::Served;
use super::settling::Settling;
use super::silence::Patience;
use super::state::{Settings, State};
use crate::limits::LOOKS_PER_HEARTBEAT;
use rebuild::Asking;
use restart::Comparing;
use suspects::Suspects;
use twins::Newcomer;
use views::Persisting;

pub use io::{Effect, Input};
pub use suspects::KeptStore;

/// The state machine: what is durable, what is being persisted, and what became known since.
#[derive(Debug)]
pub struct Ecs {
    config: Config,
    durable: State,
    persisting: Option<Persisting>,
    persisting_since: Option<Time>,
    tickets: u64,
    peers: BTreeMap<ServerId, Peer>,
    registrations: Vec<Registration>,
    /// Ordered state changes (leave, stand by, serve) that are in no persisted state yet, by server.
    requested_states: BTreeMap<ServerId, RequestedState>,
    asking: Asking,
    /// Offline partitions that operators want to resume, and the server whose copy they resume from.
    recoveries: BTreeMap<PartitionId, ServerId>,
    /// How many orders, settings and forced recoveries operators have given; `orders_durable`: how many of them are on
    /// disk.
    orders: u64,
    orders_durable: u64,
    /// Settings that operators chose and that are in no persisted state yet.
    requested_settings: Option<Settings>,
    proposals: BTreeMap<PartitionId, Proposal>,
    complaints: Complaints,
    edges: Edges,
    failed_copies: FailedCopies,
    suspects: Suspects,
    lost_entries: LostEntries,
    yields: Yields,
    /// P2: disagreements of copies, those of the newest state and those found since.
    disagreements: Disagreements,
    comparing: Comparing,
    /// N1: by server, a process that says hello while an earlier one of the same store lives.
    newcomers: BTreeMap<ServerId, Newcomer>,
    backed_off: BTreeMap<(PartitionId, ServerId), Time>,
    planned: Planned,
    /// Whether something became known that may need a new view.
    wanted: bool,
    /// When something can be done that could not be done at the last step.
    wake: Option<Time>,
    handed_over_at: Option<Time>,
    settling: Settling,
    served: Served,
    quiet_until: Time,
    /// Whether it was the quiet time at the last step.
    was_quiet: bool,
    /// When the servers are next checked for silence.
    look_at: Time,
    disks: Disks,
    /// How often servers were removed recently.
    falls: BTreeMap<ServerId, Backoff>,
    /// Gaps between heartbeats count from this time on: before, this process was suspended.
    judged_from: Time,
    /// When the last step asked for the next one. When that comes much later, this process itself was suspended.
    expected: Option<Time>,
    /// A server has a newer view.
    behind: Option<Behind>,
    /// The number of the view with which this ECS began.
    began_at: Epoch,
    /// V6: the newest view that a server reported which this ECS does not know, and refused.
    strangers_view: Epoch,
    /// Processes that were refused recently.
    left_out: LeftOut,
    /// Servers that are to get the present view.
    await_view: BTreeSet<ServerId>,
    effects: Vec<Effect>,
}

impl Ecs {
    /// Begins with what is on disk: in the quiet time, with the durable view for all servers.
    #[must_use]
    pub fn new(config: Config, state: State, now: Time) -> Self {
        let peers = state.view.servers.iter().map(|(&server, info)| {
            let sender = info.process(server);
            (server, Peer::new(sender, now))
        });
        let comparing = Comparing::begin(&state.view, config.restart_wait, now);
        let began_at = state.view.number;
        let mut ecs = Self {
            config,
            peers: peers.collect(),
            await_view: state.view.servers.keys().copied().collect(),
            disagreements: state.disagreements.clone(),
            durable: state,
            persisting: None,
            persisting_since: None,
            tickets: 0,
            registrations: Vec::new(),
            requested_states: BTreeMap::new(),
            asking: Asking::default(),
            recoveries: BTreeMap::new(),
            orders: 0,
            orders_durable: 0,
            requested_settings: None,
            proposals: BTreeMap::new(),
            complaints: Complaints::default(),
            edges: Edges::default(),
            failed_copies: FailedCopies::new(),
            suspects: Suspects::default(),
            lost_entries: LostEntries::new(),
            yields: Yields::new(),
            comparing,
            newcomers: BTreeMap::new(),
            backed_off: BTreeMap::new(),
            planned: Planned::default(),
            wanted: true,
            wake: None,
            handed_over_at: None,
            settling: Settling::default(),
            served: Served::default(),
            quiet_until: now + config.timers.quiet,
            was_quiet: true,
            look_at: now,
            disks: Disks::default(),
            falls: BTreeMap::new(),
            judged_from: now,
            expected: None,
            behind: None,
            began_at,
            strangers_view: Epoch::default(),
            left_out: LeftOut::default(),
            effects: Vec::new(),
        };
        ecs.served = Served::new(ecs.durable.view.number);
        ecs.disks = Disks::new(&ecs.durable.registry, now);
        ecs.publish_pending(now);
        ecs.expected = ecs.next_deadline(now);
        ecs
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: Input) {
        self.notice_own_pause(now);
        let is_order = matches!(input, Input::Order { .. } | Input::Set(_) | Input::Recover { .. });
        self.orders += u64::from(is_order);
        // An order that changes nothing gets an answer too.
        self.wanted |= is_order;
        match input {
            Input::Report { sender, report } => self.on_report(now, sender, report),
            Input::LinkEnded { sender } => self.on_link_ended(now, sender),
            Input::Durable { ticket } => self.on_durable(now, ticket),
            Input::Order { states } => {
                states.into_iter().for_each(|(server, state)| self.on_requested_state(server, state));
            }
            Input::Recover { partition, server } => drop(self.recoveries.insert(partition, server)),
            Input::Foreign { sender, cluster } => {
                self.left_out.note(now, sender, None, Refusal::OtherCluster(cluster));
            }
            Input::Set(settings) => self.on_set(settings),
            Input::Tick => (),
        }
        self.judge_newcomers(now);
        self.notice_changes(now);
        self.advance(now);
        self.publish_pending(now);
        self.expected = self.next_deadline(now);
    }

    /// Takes the effects of the steps since the last call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When it wants [`Input::Tick`], if nothing else comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.expected
    }

    /// Checks what must hold between two steps.
    ///
    /// # Panics
    /// When it does not: a bug.
    pub fn invariants(&self) {
        if let Err(invalid) = self.durable.view.check() {
            panic!("the durable view: {invalid}");
        }
        if let Some(persisting) = &self.persisting {
            self.check_rules(&persisting.state);
        }
        for server in self.durable.view.servers.keys() {
            assert!(self.peers.contains_key(server), "{server:?} is a member and not watched");
        }
    }

    /// A step that comes long after it was wanted: this process was stopped, and the servers' heartbeats wait in
    /// its sockets. Judging them by the clock now would remove them all.
    fn notice_own_pause(&mut self, now: Time) {
        let pause_max = self.config.timers.dead / 2;
        let ignores = self.config.planted(PlantedBug::OwnPauseIgnored);
        let late = self.expected.map_or(Duration::ZERO, |expected| now.since(expected));
        if !ignores && late > pause_max {
            self.be_quiet(now);
            // What the known processes said meanwhile is not heard yet.
            self.newcomers.values_mut().for_each(|newcomer| newcomer.at = now);
        }
        if late > self.config.timers.dead_max {
            self.judged_from = now;
        }
    }

    /// For how long servers may be silent.
    fn patience(&self, now: Time) -> Patience {
        let servers = self.durable.view.servers.iter();
        let watched = servers.filter(|(_, info)| info.state != ServerState::Down);
        let peers = watched.filter_map(|(server, _)| self.peers.get(server));
        Patience::new(self.config.timers, peers.map(|peer| peer.rhythm(now, &self.config.timers)))
    }

    fn on_set(&mut self, settings: Settings) {
        let min_copies = settings.min_copies.map(|number| number.clamp(1, self.config.copies));
        self.requested_settings = Some(Settings { min_copies, ..settings });
    }

    fn be_quiet(&mut self, now: Time) {
        self.quiet_until = self.quiet_until.max(now + self.config.timers.quiet);
    }

    /// Finds out whether time alone gives a reason for a view.
    fn notice_changes(&mut self, now: Time) {
        if self.wake.is_some_and(|wake| wake <= now) {
            (self.wake, self.wanted) = (None, true);
        }
        let quiet = now < self.quiet_until;
        self.wanted |= self.was_quiet && !quiet;
        self.was_quiet = quiet;
        if now < self.look_at {
            return;
        }
        self.look_at = now + self.config.timers.heartbeat / LOOKS_PER_HEARTBEAT;
        let patience = self.patience(now);
        let newest = self.persisting.as_ref().map_or(&self.durable, |persisting| &persisting.state);
        let changed = newest.view.servers.iter().any(|(server, info)| {
            let Some(peer) = self.peers.get(server) else { return false };
            if info.state == ServerState::Down {
                return peer.back(now, &patience) && !self.is_paused(*server, now);
            }
            peer.failed || (!quiet && peer.gone(now, &patience).is_some())
        });
        self.wanted |= changed;
    }

    /// Whether a server may not come back yet because it was removed several times recently.
    fn is_paused(&self, server: ServerId, now: Time) -> bool {
        let newest = self.persisting.as_ref().map_or(&self.durable, |persisting| &persisting.state);
        next::paused_until(&newest.view, &self.falls, server, now).is_some()
    }

    /// Heartbeats come at least this often, and so do ticks: a pause of our own is seen as one.
    fn next_deadline(&self, now: Time) -> Option<Time> {
        let watch = (!self.peers.is_empty()).then(|| now + self.config.timers.heartbeat);
        let can_make = self.wanted && self.persisting.is_none() && self.makes_views(now);
        let make = can_make.then(|| self.persisting_since.map_or(now, |at| at + self.config.view_interval));
        let compared = self.comparing.until().filter(|&until| until > now);
        [watch, make, self.wake, compared, self.newcomers_until()].into_iter().flatten().min()
    }
}
