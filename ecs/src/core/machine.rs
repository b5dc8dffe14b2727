//! The state machine of the ECS.
//!
//! What it hears becomes facts; whenever no view is on its way to the disk, and there is reason to, the next view is
//! made of the last one and the facts (`next`), given out to be persisted, and published when it is
//! durable (V1). So one persist is under way at a time, and what becomes known meanwhile goes into the next view.
//!
//! States: *quiet* after its own start, after a pause of its own, and when the first server of a cluster that was
//! wholly down comes back: nobody is removed for silence. *Behind* when a server has a newer view than the ECS: its
//! disk is an old one, and making views would use numbers twice; it makes none.
//!
//! Invariants: the published view is durable; consecutive views keep the [`rules`].

mod io;
mod orders;
mod rebuild;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::ids::{Epoch, LogId, PartitionId, ServerId};
use common::limits::{COPIES, Timers};
use common::messages::Sender;
use common::status::ClusterStatus;
use common::time::Time;
use common::view::{ServerState, View};

use super::cause::{Cause, Event};
use super::mutation::Mutation;
use super::next::{self, Facts, Planned, Proposal, Registration};
use super::peers::{Complaints, FailedCopies, Peer};
use super::plan::Part;
use super::planner::Target;
use super::settling::Settling;
use super::state::{Settings, State};
use super::{rules, summary};
use crate::limits::{
    BARRED_DEAD_TIMES, HANDOVERS_PER_VIEW_MAX, JOINING_PER_SERVER_MAX, LOOKS_PER_HEARTBEAT,
    MOVING_PER_SERVER_MAX, VIEW_INTERVAL_MIN,
};
use rebuild::Asking;

pub use io::{Effect, Input, Refusal};

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Heartbeats, limits of silence, the quiet time.
    pub timers: Timers,
    /// Copies of each partition, the coordinator's included.
    pub copies: usize,
    /// Copies that are being brought up to date at once, for each server.
    pub joining_per_server_max: usize,
    /// As many of them at most only move a copy that is not lacking.
    pub moving_per_server_max: usize,
    /// Coordinators that one planned view moves.
    pub handovers_per_view_max: usize,
    /// Between two views, at least.
    pub view_interval: Duration,
    /// A planted bug; it has no effect without the feature `mutations`.
    pub mutation: Option<Mutation>,
}

impl Config {
    /// Whether a bug is planted.
    pub(super) fn mutated(&self, mutation: Mutation) -> bool {
        cfg!(feature = "mutations") && self.mutation == Some(mutation)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timers: Timers::FAST,
            copies: COPIES,
            joining_per_server_max: JOINING_PER_SERVER_MAX,
            moving_per_server_max: MOVING_PER_SERVER_MAX,
            handovers_per_view_max: HANDOVERS_PER_VIEW_MAX,
            view_interval: VIEW_INTERVAL_MIN,
            mutation: None,
        }
    }
}

/// A state that is being persisted.
#[derive(Debug)]
struct Sealed {
    ticket: u64,
    /// Orders that it contains, counted from the beginning.
    orders: u64,
    state: State,
    causes: Vec<Cause>,
}

/// The ECS.
#[derive(Debug)]
pub struct Ecs {
    config: Config,
    durable: State,
    sealed: Option<Sealed>,
    sealed_at: Option<Time>,
    tickets: u64,
    peers: BTreeMap<ServerId, Peer>,
    registrations: Vec<Registration>,
    /// Parts that are in no state yet.
    parts: BTreeMap<ServerId, Part>,
    asking: Asking,
    /// Partitions that operators want to go on, and from whose copy.
    recoveries: BTreeMap<PartitionId, ServerId>,
    /// What operators ordered, set and forced: how often, and up to where it is on disk.
    orders: u64,
    orders_durable: u64,
    /// Settings that are not in a state yet.
    wished: Option<Settings>,
    proposals: BTreeMap<PartitionId, Proposal>,
    complaints: Complaints,
    failed_copies: FailedCopies,
    barred: BTreeMap<(PartitionId, ServerId), Time>,
    planned: Planned,
    /// There is something to make a view of.
    wanted: bool,
    /// Something may be done from this time on.
    wake: Option<Time>,
    handed_over_at: Option<Time>,
    settling: Settling,
    quiet_until: Time,
    /// The quiet time has not ended at the last step.
    was_quiet: bool,
    /// When the servers are looked at next for silence.
    look_at: Time,
    /// When the last step wanted the next one: much later is a pause of our own.
    expected: Option<Time>,
    /// A server has this newer view.
    behind: Option<Epoch>,
    /// Servers that are to get the present view.
    owed: BTreeSet<ServerId>,
    effects: Vec<Effect>,
}

impl Ecs {
    /// Begins with what is on disk: in the quiet time, with the durable view for everybody.
    #[must_use]
    pub fn new(config: Config, state: State, now: Time) -> Self {
        let peers = state.view.servers.iter().map(|(&server, info)| {
            let sender = Sender { server, store: info.store, incarnation: info.incarnation };
            (server, Peer::new(sender, now))
        });
        let mut ecs = Self {
            config,
            peers: peers.collect(),
            owed: state.view.servers.keys().copied().collect(),
            durable: state,
            sealed: None,
            sealed_at: None,
            tickets: 0,
            registrations: Vec::new(),
            parts: BTreeMap::new(),
            asking: Asking::default(),
            recoveries: BTreeMap::new(),
            orders: 0,
            orders_durable: 0,
            wished: None,
            proposals: BTreeMap::new(),
            complaints: Complaints::default(),
            failed_copies: FailedCopies::new(),
            barred: BTreeMap::new(),
            planned: Planned::default(),
            wanted: true,
            wake: None,
            handed_over_at: None,
            settling: Settling::default(),
            quiet_until: now + config.timers.quiet,
            was_quiet: true,
            look_at: now,
            expected: None,
            behind: None,
            effects: Vec::new(),
        };
        ecs.pay(now);
        ecs.expected = ecs.next_deadline(now);
        ecs
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: Input) {
        self.notice_own_pause(now);
        self.orders +=
            u64::from(matches!(input, Input::Order { .. } | Input::Set(_) | Input::Recover { .. }));
        match input {
            Input::Report { sender, report } => self.on_report(now, sender, report),
            Input::LinkEnded { sender } => self.on_link_ended(now, sender),
            Input::Durable { ticket } => self.on_durable(now, ticket),
            Input::Order { parts } => parts.into_iter().for_each(|(server, part)| self.on_part(server, part)),
            Input::Recover { partition, server } => {
                self.recoveries.insert(partition, server);
                self.wanted = true;
            }
            Input::Set(settings) => self.on_set(settings),
            Input::Tick => (),
        }
        self.notice_changes(now);
        self.advance(now);
        self.pay(now);
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

    /// What it was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The newest durable view.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.durable.view
    }

    /// The newest durable state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.durable
    }

    /// How the cluster does, by the newest durable view.
    #[must_use]
    pub fn status(&self, now: Time) -> ClusterStatus {
        summary::status(
            &self.durable,
            self.planned.target(),
            &self.peers,
            &self.failed_copies,
            &self.config,
            now,
        )
    }

    /// Whether no copy that counts, and is not said to have failed, is at a server that is up: nothing of the partition can
    /// be read or written.
    #[must_use]
    pub fn is_offline(&self, partition: PartitionId) -> bool {
        summary::is_offline(&self.durable.view, &self.failed_copies, partition)
    }

    /// R6: whether the partition waits for servers that have not reported to this rebuilt ECS, which leaves it as it is.
    #[must_use]
    pub fn is_waiting(&self, partition: PartitionId) -> bool {
        self.durable.rebuild.as_ref().is_some_and(|rebuild| rebuild.waiting.contains(&partition))
    }

    /// The servers that are up, by what they have of a partition: the one that has most is the first. `None`: it told of
    /// nothing when it started.
    #[must_use]
    pub fn candidates(&self, partition: PartitionId) -> Vec<(ServerId, Option<LogId>)> {
        let up = self.durable.view.servers.iter().filter(|(_, info)| info.state == ServerState::Up);
        let mut found: Vec<(ServerId, Option<LogId>)> = up
            .map(|(&server, _)| {
                let peer = self.peers.get(&server);
                (server, peer.and_then(|peer| peer.leftovers.get(&partition).copied()))
            })
            .collect();
        // An in-sync member of the newest epoch that is known is a better choice than any leftover.
        let now = self.durable.view.assignment(partition);
        let stray = |server| now.is_none_or(|now| now.in_sync_member(server).is_none());
        found.sort_by_key(|&(server, last)| (stray(server), std::cmp::Reverse(last), server));
        found
    }

    /// The settings in force, or about to be.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let newest = self.sealed.as_ref().map_or(&self.durable, |sealed| &sealed.state);
        self.wished.unwrap_or(newest.settings)
    }

    /// Nobody is removed for silence at this time.
    #[must_use]
    pub fn is_quiet(&self, now: Time) -> bool {
        now < self.quiet_until
    }

    /// Where the copies should be, by partition: the coordinator first. Empty before the first server has joined.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.planned.target()
    }

    /// Checks what must hold between two steps.
    ///
    /// # Panics
    /// When it does not: a bug.
    pub fn invariants(&self) {
        if let Err(invalid) = self.durable.view.check() {
            panic!("the durable view: {invalid}");
        }
        if let Some(sealed) = &self.sealed {
            self.check_rules(&sealed.state);
        }
        for server in self.durable.view.servers.keys() {
            assert!(self.peers.contains_key(server), "{server:?} is a member and not watched");
        }
    }

    fn check_rules(&self, state: &State) {
        if let Err(broken) = rules::check_states(&self.durable, state) {
            panic!("view {} after {}: {broken}", state.view.number, self.durable.view.number);
        }
    }

    /// A step that comes long after it was wanted: this process was stopped, and the servers' heartbeats wait in
    /// its sockets. Judging them by the clock now would remove everybody.
    fn notice_own_pause(&mut self, now: Time) {
        let pause_max = self.config.timers.dead / 2;
        let ignores = self.config.mutated(Mutation::OwnPauseIgnored);
        if !ignores && self.expected.is_some_and(|expected| now.since(expected) > pause_max) {
            self.be_quiet(now);
        }
    }

    fn on_set(&mut self, settings: Settings) {
        let min_copies = settings.min_copies.clamp(1, self.config.copies);
        self.wished = Some(Settings { min_copies, ..settings });
        self.wanted = true;
    }

    fn be_quiet(&mut self, now: Time) {
        self.quiet_until = self.quiet_until.max(now + self.config.timers.quiet);
    }

    /// Finds out whether time alone gives a reason for a view.
    fn notice_changes(&mut self, now: Time) {
        if self.wake.is_some_and(|wake| wake <= now) {
            (self.wake, self.wanted) = (None, true);
        }
        let newest = self.sealed.as_ref().map_or(&self.durable, |sealed| &sealed.state);
        let timers = &self.config.timers;
        let quiet = now < self.quiet_until;
        self.wanted |= self.was_quiet && !quiet;
        self.was_quiet = quiet;
        if now < self.look_at {
            return;
        }
        self.look_at = now + timers.heartbeat / LOOKS_PER_HEARTBEAT;
        let changed = newest.view.servers.iter().any(|(server, info)| {
            let Some(peer) = self.peers.get(server) else { return false };
            if info.state == ServerState::Down {
                return peer.back(now, timers);
            }
            peer.failed || (!quiet && peer.gone(now, timers).is_some())
        });
        self.wanted |= changed;
    }

    fn on_durable(&mut self, now: Time, ticket: u64) {
        let Some(sealed) = self.sealed.take_if(|sealed| sealed.ticket == ticket) else { return };
        self.orders_durable = sealed.orders;
        let before = std::mem::replace(&mut self.durable, sealed.state);
        let view = self.durable.view.clone();
        let gone = before.view.servers.iter().filter(|(server, _)| !view.servers.contains_key(server));
        let gone: Vec<(ServerId, String)> =
            gone.map(|(&server, info)| (server, info.address.clone())).collect();
        self.effects.push(Effect::Made(Event { view: view.number, causes: sealed.causes }));
        for (to, address) in gone {
            // It learns that it is out, and may go. A later process of it may have said hello already.
            if !self.registrations.iter().any(|registration| registration.sender.server == to) {
                self.peers.remove(&to);
            }
            self.effects.push(Effect::Publish { to, address, view: view.clone() });
        }
        self.owed.extend(view.servers.keys());
        for (&server, info) in &view.servers {
            // Named by what others reported to an ECS that is being rebuilt.
            let sender = Sender { server, store: info.store, incarnation: info.incarnation };
            self.peers.entry(server).or_insert_with(|| Peer::new(sender, now));
        }
        self.complaints.retain(|partition, epoch| {
            view.assignment(partition).is_some_and(|assignment| assignment.epoch == epoch)
        });
        self.failed_copies.retain(|(partition, member)| {
            let now = view.assignment(*partition);
            now.is_some_and(|now| now.in_sync.contains(member) && now.in_sync.len() > 1)
        });
        self.barred.retain(|_, until| *until > now);
        self.settling.sift(now);
        self.wanted = true;
    }

    /// Makes the next view, if there is reason to and none is on its way.
    fn advance(&mut self, now: Time) {
        let too_soon = self.sealed_at.is_some_and(|at| now < at + self.config.view_interval);
        if self.sealed.is_some() || !self.wanted || too_soon || self.behind.is_some() {
            return;
        }
        if !self.has_gathered(now) {
            self.wanted = false;
            return;
        }
        let mut planned = std::mem::take(&mut self.planned);
        let outcome = next::make(&self.durable, self.facts(now), &mut planned);
        self.planned = planned;
        self.wanted = false;
        self.registrations.clear();
        self.parts.clear();
        self.asking.holdings.clear();
        self.recoveries.clear();
        self.wished = None;
        self.proposals.clear();
        self.wake = outcome.wake;
        let until = now + self.config.timers.dead * BARRED_DEAD_TIMES;
        self.barred.extend(outcome.bar.into_iter().map(|key| (key, until)));
        if let Some(next) = outcome.next {
            let until = now + self.config.timers.promise;
            for partition in next.handed_over {
                self.handed_over_at = Some(now);
                self.settling.begin(partition, next.state.view.number, until);
            }
            self.seal(now, next.state, next.causes);
        } else {
            // All is as it was ordered already.
            self.orders_durable = self.orders;
        }
    }

    /// What became known since the last view.
    fn facts(&self, now: Time) -> Facts<'_> {
        Facts {
            config: &self.config,
            now,
            quiet: now < self.quiet_until,
            peers: &self.peers,
            registrations: &self.registrations,
            parts: &self.parts,
            holdings: &self.asking.holdings,
            recoveries: &self.recoveries,
            settings: self.settings(),
            proposals: &self.proposals,
            complaints: &self.complaints,
            failed_copies: &self.failed_copies,
            barred: &self.barred,
            settling: &self.settling,
            hand_over_from: self.handed_over_at.map_or(now, |at| at + self.config.timers.heartbeat),
        }
    }

    fn seal(&mut self, now: Time, state: State, causes: Vec<Cause>) {
        self.check_rules(&state);
        if self.config.mutated(Mutation::PublishedBeforeFsync) {
            for (&to, info) in &state.view.servers {
                let (address, view) = (info.address.clone(), state.view.clone());
                self.effects.push(Effect::Publish { to, address, view });
            }
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.effects.push(Effect::Persist { ticket, state: state.clone() });
        self.sealed = Some(Sealed { ticket, orders: self.orders, state, causes });
        self.sealed_at = Some(now);
    }

    /// Publishes the durable view to those that are to get it, unless a newer one is about to come.
    fn pay(&mut self, now: Time) {
        if self.sealed.is_some() || (self.wanted && self.behind.is_none() && !self.proposals.is_empty()) {
            return;
        }
        for to in std::mem::take(&mut self.owed) {
            let Some(info) = self.durable.view.servers.get(&to) else { continue };
            if let Some(peer) = self.peers.get_mut(&to) {
                peer.on_pushed(now);
            }
            let view = self.durable.view.clone();
            self.effects.push(Effect::Publish { to, address: info.address.clone(), view });
        }
    }

    /// Heartbeats come at least this often, and so do ticks: a pause of our own is seen as one.
    fn next_deadline(&self, now: Time) -> Option<Time> {
        let watch = (!self.peers.is_empty()).then(|| now + self.config.timers.heartbeat);
        let can_make = self.wanted && self.sealed.is_none() && self.behind.is_none();
        let make = can_make.then(|| self.sealed_at.map_or(now, |at| at + self.config.view_interval));
        [watch, make, self.wake].into_iter().flatten().min()
    }
}
