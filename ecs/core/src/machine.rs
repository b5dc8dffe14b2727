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
//! Invariants: the published view is durable; consecutive views keep the [`rules`].

mod io;
mod orders;
mod rebuild;
mod reports;
mod restart;
mod suspects;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::ids::{Epoch, LogId, PartitionId, ServerId};
use common::limits::{COPIES, Timers};
use common::status::ClusterStatus;
use common::time::Time;
use common::view::{ServerState, View};

use super::backoff::Backoff;
use super::cause::{Cause, Change, Event};
use super::disks::Disks;
use super::left_out::LeftOut;
use super::next::{self, Facts, Planned, Proposal, Registration};
use super::peers::{Complaints, Disagreements, FailedCopies, LostEntries, Peer, Yields};
use super::plan::RequestedState;
use super::planner::Target;
use super::planted::PlantedBug;
use super::reach::edges::Edges;
use super::served::Served;
use super::settling::Settling;
use super::silence::{FLAPPING, Patience};
use super::state::{Settings, State};
use super::verdict::Known;
use super::{rules, summary};
use crate::limits::{
    BACKED_OFF_DEAD_TIMES, HANDOVERS_PER_VIEW_MAX, JOINING_PER_SERVER_MAX, LOOKS_PER_HEARTBEAT,
    MOVING_PER_SERVER_MAX, RESTART_WAIT, VIEW_INTERVAL_MIN,
};
use rebuild::Asking;
use restart::Comparing;
use suspects::Suspects;
use twins::Newcomer;

pub use io::{Effect, Input, Refusal};
pub use suspects::KeptStore;

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Heartbeats, limits of silence, the quiet time.
    pub timers: Timers,
    /// Copies of each partition, the coordinator's included.
    pub copies: usize,
    /// Copies that are being brought up to date at once, for each server.
    pub joining_per_server_max: usize,
    /// Of those, how many may be rebalancing rather than repair.
    pub moving_per_server_max: usize,
    /// Coordinators that one planned view moves.
    pub handovers_per_view_max: usize,
    /// The shortest time between two views.
    pub view_interval: Duration,
    /// V4a, V6: how long after a restart the ECS waits for a server whose copies may be the only ones with all
    /// acknowledged writes, or whose view may be newer; `None`: for ever.
    pub restart_wait: Option<Duration>,
    /// A planted bug; it has no effect without the feature `planted-bugs`.
    pub bug: Option<PlantedBug>,
}

impl Config {
    /// Whether a bug is planted.
    pub(super) fn planted(&self, bug: PlantedBug) -> bool {
        cfg!(feature = "planted-bugs") && self.bug == Some(bug)
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
            restart_wait: Some(RESTART_WAIT),
            bug: None,
        }
    }
}

/// A view that is newer than the ECS's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behind {
    pub(super) view: Epoch,
    /// The server that has it.
    pub(super) server: ServerId,
}

/// A state that is being persisted.
#[derive(Debug)]
struct Persisting {
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
        let known = Known {
            state: &self.durable,
            peers: &self.peers,
            failed: &self.failed_copies,
            edges: &self.edges,
            config: &self.config,
            disagreements: &self.disagreements,
            comparing: self.comparing_with(now),
            behind: self.behind,
            patience: self.patience(now),
            falls: &self.falls,
            disks: &self.disks,
            stores: self.stores_waiting(now),
            left_out: &self.left_out,
            served: &self.served,
            persisting: self.persisting.as_ref().and(self.persisting_since).map(|at| now.since(at)),
            now,
        };
        summary::status(&known, self.planned.target())
    }

    /// Whether nothing of the partition can be read or written: no copy that counts, and is not said to have failed, is
    /// at a server that is up; or the copies disagree (P2); or it waits for a member since a restart (V4a).
    #[must_use]
    pub fn is_offline(&self, partition: PartitionId) -> bool {
        summary::is_offline(&self.durable.view, &self.failed_copies, partition)
            || self.disagreements.contains_key(&partition)
            || !self.awaited_since_restart(partition).is_empty()
    }

    /// R6: whether the partition waits for servers that have not reported to this rebuilt ECS, which leaves it as it
    /// is.
    #[must_use]
    pub fn is_waiting(&self, partition: PartitionId) -> bool {
        self.durable.rebuild.as_ref().is_some_and(|rebuild| rebuild.waiting.contains(&partition))
    }

    /// The servers that are up, by what they have of a partition: the one that has most is the first. `None`: it
    /// reported nothing when it started.
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
        let newest = self.persisting.as_ref().map_or(&self.durable, |persisting| &persisting.state);
        self.requested_settings.unwrap_or(newest.settings)
    }

    /// Copies that a write needs to be acknowledged, by the newest view or the one about to come.
    #[must_use]
    pub fn min_copies(&self) -> usize {
        let number = usize::from(self.newest().view.min_copies);
        self.settings().min_copies.unwrap_or(number)
    }

    /// Whether it is the quiet time, in which no server is removed for silence.
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
        if let Some(persisting) = &self.persisting {
            self.check_rules(&persisting.state);
        }
        for server in self.durable.view.servers.keys() {
            assert!(self.peers.contains_key(server), "{server:?} is a member and not watched");
        }
    }

    fn check_rules(&self, state: &State) {
        if let Err(broken) = rules::check_states(&self.durable, state, &self.failed_copies) {
            panic!("view {} after {}: {broken}", state.view.number, self.durable.view.number);
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
        Patience::new(self.config.timers, peers, now)
    }

    /// Counts the servers that the next view removes only because they were not heard.
    fn note_falls(&mut self, now: Time, causes: &[Cause]) {
        self.falls.retain(|_, falls| !falls.is_forgotten(&FLAPPING, now));
        let fell = |cause: &&Cause| matches!(cause.change, Change::Silent | Change::LinkEnded);
        for cause in causes.iter().filter(fell) {
            self.falls.entry(cause.server).or_default().on_failure(&FLAPPING, now);
        }
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

    fn on_durable(&mut self, now: Time, ticket: u64) {
        let Some(persisting) = self.persisting.take_if(|persisting| persisting.ticket == ticket) else {
            return;
        };
        self.orders_durable = persisting.orders;
        let before = std::mem::replace(&mut self.durable, persisting.state);
        let view = self.durable.view.clone();
        let gone = before.view.servers.iter().filter(|(server, _)| !view.servers.contains_key(server));
        let gone: Vec<(ServerId, String)> =
            gone.map(|(&server, info)| (server, info.address.clone())).collect();
        self.effects.push(Effect::Made(Event { view: view.number, causes: persisting.causes }));
        for (to, address) in gone {
            // It learns that it is out, and may go. A later process of it may have said hello already.
            if !self.registrations.iter().any(|registration| registration.sender.server == to) {
                self.peers.remove(&to);
            }
            self.effects.push(Effect::Publish { to, address, view: view.clone() });
        }
        self.await_view.extend(view.servers.keys());
        for (&server, info) in &view.servers {
            // Named by what others reported to an ECS that is being rebuilt.
            let sender = info.process(server);
            self.peers.entry(server).or_insert_with(|| Peer::new(sender, now));
        }
        self.note_proved(&before.view);
        self.served.on_view(now, &before.view, &view);
        let down = view.servers.iter().filter(|(_, info)| info.state == ServerState::Down);
        down.for_each(|(&server, _)| self.edges.forget(server));
        self.edges.sift(now, &self.config.timers);
        self.complaints.retain(|partition, epoch| {
            view.assignment(partition).is_some_and(|assignment| assignment.epoch == epoch)
        });
        self.failed_copies.retain(|(partition, member)| {
            let now = view.assignment(*partition);
            now.is_some_and(|now| now.in_sync.contains(member) && now.in_sync.len() > 1)
        });
        self.disks.retain(&view);
        self.lost_entries.retain(|failed| self.failed_copies.contains(failed));
        self.disagreements.retain(|&partition, found| !found.is_decided(&view, partition));
        self.backed_off.retain(|_, until| *until > now);
        self.settling.sift(now);
        self.sift_suspects(now);
        self.wanted = true;
    }

    /// Makes the next view, if there is reason to and none is on its way.
    fn advance(&mut self, now: Time) {
        let too_soon = self.persisting_since.is_some_and(|at| now < at + self.config.view_interval);
        if self.persisting.is_some() || !self.wanted || too_soon || !self.makes_views(now) {
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
        self.requested_states.clear();
        self.asking.holdings.clear();
        self.recoveries.clear();
        self.requested_settings = None;
        self.proposals.clear();
        self.yields.clear();
        self.wake = outcome.wake;
        let until = now + self.config.timers.dead * BACKED_OFF_DEAD_TIMES;
        self.backed_off.extend(outcome.back_off.into_iter().map(|key| (key, until)));
        for server in outcome.lost {
            self.edges.on_lost(server, now, &self.config.timers);
        }
        if let Some(next) = outcome.next {
            self.note_falls(now, &next.causes);
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
            patience: self.patience(now),
            falls: &self.falls,
            peers: &self.peers,
            disks: &self.disks,
            registrations: &self.registrations,
            requested_states: &self.requested_states,
            holdings: &self.asking.holdings,
            recoveries: &self.recoveries,
            settings: self.settings(),
            proposals: &self.proposals,
            complaints: &self.complaints,
            edges: &self.edges,
            failed_copies: &self.failed_copies,
            lost_entries: &self.lost_entries,
            yields: &self.yields,
            disagreements: &self.disagreements,
            backed_off: &self.backed_off,
            settling: &self.settling,
            strangers_view: self.strangers_view,
            hand_over_from: self.handed_over_at.map_or(now, |at| at + self.config.timers.heartbeat),
        }
    }

    fn seal(&mut self, now: Time, state: State, causes: Vec<Cause>) {
        self.check_rules(&state);
        if self.config.planted(PlantedBug::PublishedBeforeFsync) {
            for (&to, info) in &state.view.servers {
                let (address, view) = (info.address.clone(), state.view.clone());
                self.effects.push(Effect::Publish { to, address, view });
            }
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.effects.push(Effect::Persist { ticket, state: state.clone() });
        self.persisting = Some(Persisting { ticket, orders: self.orders, state, causes });
        self.persisting_since = Some(now);
    }

    /// Publishes the durable view to the servers that await it, unless a newer one is about to be durable.
    fn publish_pending(&mut self, now: Time) {
        if self.persisting.is_some() || (self.wanted && self.makes_views(now) && !self.proposals.is_empty()) {
            return;
        }
        for to in std::mem::take(&mut self.await_view) {
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
        let can_make = self.wanted && self.persisting.is_none() && self.makes_views(now);
        let make = can_make.then(|| self.persisting_since.map_or(now, |at| at + self.config.view_interval));
        let compared = self.comparing.until().filter(|&until| until > now);
        [watch, make, self.wake, compared, self.newcomers_until()].into_iter().flatten().min()
    }
}
