//! The next view, made of the last one and of what became known since. One function of values: [`make`].
//!
//! In this order: what was reported to an ECS that is being rebuilt ([`resume`]); which servers are members and in
//! which state ([`members`]); what each partition loses and gains by that and by proposals ([`reconcile`]), and by
//! links between servers that are cut ([`reach`]); where copies should be, if the members have changed (the planner);
//! the next steps to get there ([`steps`]). A partition gets a new epoch when its coordinator or its in-sync set
//! changes, when its coordinator restarted (V5), when its coordinator yields (P1), and when a joining copy is given up:
//! the coordinator may count that copy in its acknowledgements and forgets it only by a newer epoch (J3), so without
//! one its writes could wait for ever.

mod members;
mod reach;
mod reconcile;
mod relief;
mod resume;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{Epoch, Incarnation, PartitionId, ServerId, StoreId};
use common::messages::Sender;
use common::time::Time;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};

use super::backoff::Backoff;
use super::cause::{Cause, Change};
use super::config::Config;
use super::disks::Disks;
use super::peers::{Complaints, Disagreements, FailedCopies, LostEntries, Peer, Yields};
use super::plan::RequestedState;
use super::planner::{self, Target};
use super::planted::PlantedBug;
use super::proof::Known;
use super::reach::Edge;
use super::reach::edges::Edges;
use super::rebuild::{Rebuild, Report};
use super::settling::Settling;
use super::silence::Patience;
use super::state::{Registered, Settings, State, forget_some};
pub(super) use members::paused_until;

/// What a server said in its hello.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) sender: Sender,
    pub(super) address: String,
    pub(super) weight: u32,
}

/// R6: what a server has reported.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) member: Member,
    /// The generation that it promised, above every one that it had seen or promised before.
    pub(super) generation: u32,
    pub(super) view: Arc<View>,
    pub(super) report: Report,
}

/// A coordinator's wish to take a member into the in-sync set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposal {
    pub(super) sender: Sender,
    pub(super) epoch: Epoch,
    pub(super) member: Member,
    pub(super) incarnation: Incarnation,
}

/// Where copies should be, and for which members that was planned.
#[derive(Clone, Debug, Default)]
pub(super) struct Planned {
    members: BTreeMap<ServerId, (u32, StoreId)>,
    relieved: BTreeSet<ServerId>,
    target: Target,
}

impl Planned {
    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

/// What became known since the last view.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) now: Time,
    /// Whether it is the quiet time: no server may be removed for silence.
    pub(super) quiet: bool,
    /// For how long servers may be silent.
    pub(super) patience: Patience,
    /// How often servers were removed recently.
    pub(super) falls: &'a BTreeMap<ServerId, Backoff>,
    pub(super) peers: &'a BTreeMap<ServerId, Peer>,
    pub(super) disks: &'a Disks,
    /// In the order of their arrival.
    pub(super) registrations: &'a [Registration],
    /// Requested state changes (leave, stand by, serve) by server.
    pub(super) requested_states: &'a BTreeMap<ServerId, RequestedState>,
    /// R6: in the order of their arrival.
    pub(super) holdings: &'a [Holding],
    /// R7: partitions that are to go on from a server's copy.
    pub(super) recoveries: &'a BTreeMap<PartitionId, ServerId>,
    pub(super) settings: Settings,
    pub(super) proposals: &'a BTreeMap<PartitionId, Proposal>,
    pub(super) complaints: &'a Complaints,
    pub(super) edges: &'a Edges,
    pub(super) failed_copies: &'a FailedCopies,
    pub(super) lost_entries: &'a LostEntries,
    pub(super) yields: &'a Yields,
    pub(super) disagreements: &'a Disagreements,
    /// Copies that are not to be tried again before a time.
    pub(super) backed_off: &'a BTreeMap<(PartitionId, ServerId), Time>,
    /// Partitions that are left alone until their new coordinators are active.
    pub(super) settling: &'a Settling,
    /// A view that a server has which this ECS does not know: its number may have been given.
    pub(super) strangers_view: Epoch,
    /// The earliest time of the next planned hand-over.
    pub(super) hand_over_from: Time,
}

impl Facts<'_> {
    /// V6: the newest number of a view that was given, as far as is known. An ECS on an older copy of its directory may
    /// have given more than it knows of.
    fn given(&self, own: Epoch) -> Epoch {
        let counts = self.strangers_view.generation == own.generation;
        if counts && !self.config.planted(PlantedBug::NumberGivenAgain) {
            own.max(self.strangers_view)
        } else {
            own
        }
    }
}

/// The next view, if there is a reason for one.
pub(super) struct Next {
    pub(super) state: State,
    pub(super) causes: Vec<Cause>,
    /// Partitions whose coordinators changed as planned.
    pub(super) handed_over: Vec<PartitionId>,
}

/// What [`make`] found.
pub(super) struct Outcome {
    pub(super) next: Option<Next>,
    /// When to make a view again, because something may not be done before this time.
    pub(super) wake: Option<Time>,
    /// Copies that were given up because their coordinator complained.
    pub(super) back_off: Vec<(PartitionId, ServerId)>,
    /// Servers that were taken off partitions because others do not hear them.
    pub(super) lost: BTreeSet<ServerId>,
}

/// A view in the making.
struct Builder<'a> {
    facts: Facts<'a>,
    /// The number of the view to be.
    number: Epoch,
    /// The assignments that the rules compare with.
    old: Vec<Assignment>,
    view: View,
    registry: BTreeMap<ServerId, Registered>,
    rebuild: Option<Rebuild>,
    /// Partitions that get no other change in this view (R6, P2).
    frozen: BTreeSet<PartitionId>,
    left_out: BTreeMap<PartitionId, BTreeSet<Member>>,
    /// Servers with a new process.
    restarted: BTreeSet<ServerId>,
    causes: BTreeMap<(ServerId, Change), u32>,
    handed_over: Vec<PartitionId>,
    wake: Option<Time>,
    back_off: Vec<(PartitionId, ServerId)>,
    /// V7: edges that count, between servers that live.
    edges: BTreeSet<Edge>,
    lost: BTreeSet<ServerId>,
}

/// Where copies would be wanted if the requested state changes were the only facts.
pub(super) fn preview(base: &State, facts: Facts<'_>) -> Target {
    let mut builder = Builder::new(base, facts);
    builder.find_states();
    builder.find_edges();
    let mut planned = Planned::default();
    builder.plan(&mut planned);
    planned.target
}

/// Makes the next view.
pub(super) fn make(base: &State, facts: Facts<'_>, planned: &mut Planned) -> Outcome {
    let mut builder = Builder::new(base, facts);
    builder.take_holdings();
    builder.register();
    builder.find_states();
    builder.judge_disks();
    builder.ask_for_copies();
    builder.find_edges();
    builder.old.clone_from(&builder.view.assignments);
    for partition in builder.partitions() {
        if builder.holds_still(partition) {
            continue;
        }
        builder.reconcile(partition, planned.target.get(usize::from(partition.0)));
    }
    builder.plan(planned);
    builder.schedule_steps(&planned.target);
    builder.note_settled(&planned.target);
    builder.note_filled(&planned.target);
    builder.finish_leaving();
    builder.finish(base)
}

impl<'a> Builder<'a> {
    fn new(base: &State, facts: Facts<'a>) -> Self {
        Self {
            facts,
            number: facts.given(base.view.number).next(),
            old: Vec::new(),
            view: View::clone(&base.view),
            registry: base.registry.clone(),
            rebuild: base.rebuild.clone(),
            frozen: BTreeSet::new(),
            left_out: base.left_out.clone(),
            restarted: BTreeSet::new(),
            causes: BTreeMap::new(),
            handed_over: Vec::new(),
            wake: None,
            back_off: Vec::new(),
            edges: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }
}

impl Builder<'_> {
    /// How many copies a write needs from this view on. Servers that are to leave, or that stand by, do not count; one
    /// that is down is expected back and does.
    fn ask_for_copies(&mut self) {
        let serves = |(server, info): &(&ServerId, &ServerInfo)| {
            info.state != ServerState::Leaving && !self.stands_by(**server)
        };
        let servers = self.view.servers.iter().filter(serves).count();
        let number = self.facts.settings.min_copies(servers, self.facts.config.copies);
        self.view.min_copies = u8::try_from(number).unwrap_or(u8::MAX);
    }

    fn stands_by(&self, server: ServerId) -> bool {
        self.registry.get(&server).is_some_and(|known| known.stands_by)
    }

    /// The partitions, or none before the first server has joined.
    fn partitions(&self) -> Vec<PartitionId> {
        self.view.partitions.all().take(self.view.assignments.len()).collect()
    }

    fn note(&mut self, server: ServerId, change: Change, partitions: u32) {
        *self.causes.entry((server, change)).or_default() += partitions;
    }

    fn wake_at(&mut self, time: Time) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    /// What is known of the copies, as of the view to be.
    fn known(&self) -> Known<'_> {
        Known { view: &self.view, peers: self.facts.peers, failed: self.facts.failed_copies }
    }

    /// The member's server is heard and has that store.
    fn living(&self, member: Member) -> bool {
        let info = self.view.servers.get(&member.server);
        info.is_some_and(|info| info.store == member.store && info.state != ServerState::Down)
    }

    /// The member's server says that its copy is not what it should be.
    fn has_failed(&self, partition: PartitionId, member: Member) -> bool {
        self.facts.failed_copies.contains(&(partition, member))
    }

    /// Whether the member's server is heard, has that store, and does not say that its copy has failed.
    fn is_well(&self, partition: PartitionId, member: Member) -> bool {
        self.known().is_well(partition, member)
    }

    /// Plans anew when the members are not those of the last plan.
    fn plan(&mut self, planned: &mut Planned) {
        let awaited = self.awaited();
        let unreached = self.unreached();
        let holds = |server: &ServerId| {
            !unreached.contains(server)
                && self.registry.get(server).is_none_or(|known| !known.stands_by && !known.gave_up)
        };
        let counts = |server: &ServerId, state| {
            holds(server) && (state == ServerState::Up || awaited.contains(server))
        };
        let up = self.view.servers.iter().filter(|(server, info)| counts(server, info.state));
        let members: BTreeMap<_, _> = up.map(|(&server, info)| (server, (info.weight, info.store))).collect();
        let relieved: BTreeSet<ServerId> =
            members.keys().copied().filter(|&server| self.is_relieved(server)).collect();
        let same = members == planned.members && relieved == planned.relieved;
        if same && planned.target.len() == self.view.assignments.len() {
            return;
        }
        let weights = members.iter().map(|(&server, &(weight, _))| (server, weight)).collect();
        let current: Vec<Vec<ServerId>> =
            self.view.assignments.iter().map(|now| self.holders(now, &awaited)).collect();
        let leftovers = members
            .keys()
            .filter_map(|server| self.facts.peers.get(server))
            .flat_map(|peer| peer.leftovers.keys().map(|&partition| (peer.sender.server, partition)));
        let target = planner::plan(&planner::Problem {
            members: &weights,
            relieved: &relieved,
            partitions: self.view.partitions,
            copies: self.facts.config.copies,
            current: &current,
            leftovers: &leftovers.collect(),
        });
        let target = if self.view.assignments.is_empty() { Vec::new() } else { target };
        *planned = Planned { members, relieved, target };
    }

    /// In the quiet time, servers that are down and hold in-sync copies may come back at any moment: nothing is
    /// planned without them.
    fn awaited(&self) -> BTreeSet<ServerId> {
        if !self.facts.quiet {
            return BTreeSet::new();
        }
        let members = self.view.assignments.iter().flat_map(|now| &now.in_sync);
        let down = |member: &&Member| self.view.servers[&member.server].state == ServerState::Down;
        members.filter(down).map(|member| member.server).collect()
    }

    /// The servers with a living copy, whole or in the making, the coordinator first.
    fn holders(&self, now: &Assignment, awaited: &BTreeSet<ServerId>) -> Vec<ServerId> {
        let coordinator = now.in_sync_member(now.coordinator);
        let all = coordinator.into_iter().chain(now.replicas()).chain(now.joining.iter().copied());
        all.filter(|&member| self.living(member) || awaited.contains(&member.server))
            .map(|member| member.server)
            .collect()
    }

    /// P2: what goes into the next state of copies that disagree.
    fn note_disagreements(&mut self, base: &State) -> Disagreements {
        let mut now = self.facts.disagreements.clone();
        now.retain(|&partition, found| !found.is_decided(&self.view, partition));
        for (_, found) in now.iter().filter(|(partition, _)| !base.disagreements.contains_key(partition)) {
            self.note(found.member, Change::CopiesDisagree, 1);
        }
        for (&partition, found) in
            base.disagreements.iter().filter(|(partition, _)| !now.contains_key(partition))
        {
            if !found.is_decided(&self.view, partition) {
                let coordinator = self.view.assignment(partition).map(|assignment| assignment.coordinator);
                self.note(coordinator.unwrap_or(found.coordinator), Change::CopiesAgree, 1);
            }
        }
        now
    }

    fn finish(mut self, base: &State) -> Outcome {
        forget_some(&mut self.registry, &self.view);
        let settings = self.facts.settings;
        let disagreements = self.note_disagreements(base);
        let same_view = self.view.servers == base.view.servers
            && self.view.assignments == base.view.assignments
            && self.view.resumed == base.view.resumed
            && self.view.min_copies == base.view.min_copies;
        let next = (!same_view
            || self.registry != base.registry
            || settings != base.settings
            || self.rebuild != base.rebuild
            || self.left_out != base.left_out
            || disagreements != base.disagreements)
            .then(|| {
                (self.view.number, self.view.paused) = (self.number, settings.paused);
                let cause =
                    |(&(server, change), &partitions): (&_, &u32)| Cause { change, server, partitions };
                Next {
                    causes: self.causes.iter().map(cause).collect(),
                    handed_over: self.handed_over,
                    state: State {
                        view: self.view.into(),
                        registry: self.registry,
                        settings,
                        rebuild: self.rebuild,
                        left_out: self.left_out,
                        disagreements,
                    },
                }
            });
        Outcome { next, wake: self.wake, back_off: self.back_off, lost: self.lost }
    }
}
