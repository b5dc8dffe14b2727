//! The next view, made of the last one and of what became known since. One function of values: [`make`].
//!
//! In this order: what was reported to an ECS that is being rebuilt ([`resume`]); who the members are and how they do
//! ([`members`]); what each partition loses and gains by that and by proposals ([`settle`]); where copies should be, if
//! the members have changed (the planner); the next steps to get there ([`steps`]). A partition gets a new epoch when its coordinator or its in-sync set changes, when its
//! coordinator restarted (V5), and when a joining copy is given up: the coordinator may count that copy in its
//! acknowledgements and forgets it only by a newer epoch (J3), so without one its writes could wait for ever.

mod members;
mod resume;
mod settle;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{Epoch, Incarnation, PartitionId, ServerId, StoreId};
use common::messages::Sender;
use common::time::Time;
use common::view::{Assignment, Member, ServerState, View};

use super::cause::{Cause, Change};
use super::machine::Config;
use super::peers::{Complaints, FailedCopies, Peer};
use super::plan::Part;
use super::planner::{self, Target};
use super::rebuild::{Rebuild, Report};
use super::settling::Settling;
use super::state::{Registered, Settings, State, forget_some};

/// What a server said at its start.
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
    /// That it promised: above all that it had seen or promised before.
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
    /// Nobody may be removed for silence.
    pub(super) quiet: bool,
    pub(super) peers: &'a BTreeMap<ServerId, Peer>,
    /// In the order of their arrival.
    pub(super) registrations: &'a [Registration],
    /// Servers that are to have another part.
    pub(super) parts: &'a BTreeMap<ServerId, Part>,
    /// R6: in the order of their arrival.
    pub(super) holdings: &'a [Holding],
    /// R7: partitions that are to go on from a server's copy.
    pub(super) recoveries: &'a BTreeMap<PartitionId, ServerId>,
    pub(super) settings: Settings,
    pub(super) proposals: &'a BTreeMap<PartitionId, Proposal>,
    pub(super) complaints: &'a Complaints,
    pub(super) failed_copies: &'a FailedCopies,
    /// Copies that are not to be tried again before a time.
    pub(super) barred: &'a BTreeMap<(PartitionId, ServerId), Time>,
    /// Partitions whose coordinators are to become active first.
    pub(super) settling: &'a Settling,
    /// Before this, no coordinator moves as planned.
    pub(super) hand_over_from: Time,
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
    /// Something is to be done that may not be done before this time.
    pub(super) wake: Option<Time>,
    /// Copies that were given up because their coordinator complained.
    pub(super) bar: Vec<(PartitionId, ServerId)>,
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
    /// R6: partitions that get no other change in this view.
    still: BTreeSet<PartitionId>,
    /// Servers with a new process of the same store.
    restarted: BTreeSet<ServerId>,
    causes: BTreeMap<(ServerId, Change), u32>,
    handed_over: Vec<PartitionId>,
    wake: Option<Time>,
    bar: Vec<(PartitionId, ServerId)>,
}

/// Where copies would be wanted, were nothing known but the parts.
pub(super) fn preview(base: &State, facts: Facts<'_>) -> Target {
    let mut builder = Builder::new(base, facts);
    builder.rate();
    let mut planned = Planned::default();
    builder.plan(&mut planned);
    planned.target
}

/// Makes the next view.
pub(super) fn make(base: &State, facts: Facts<'_>, planned: &mut Planned) -> Outcome {
    let mut builder = Builder::new(base, facts);
    builder.take_holdings();
    builder.register();
    builder.rate();
    builder.old.clone_from(&builder.view.assignments);
    for partition in builder.partitions() {
        if builder.holds_still(partition) {
            continue;
        }
        builder.settle(partition, planned.target.get(usize::from(partition.0)));
    }
    builder.plan(planned);
    builder.approach(&planned.target);
    builder.note_settled(&planned.target);
    builder.see_off();
    builder.finish(base)
}

impl<'a> Builder<'a> {
    fn new(base: &State, facts: Facts<'a>) -> Self {
        Self {
            facts,
            number: base.view.number.next(),
            old: Vec::new(),
            view: View::clone(&base.view),
            registry: base.registry.clone(),
            rebuild: base.rebuild.clone(),
            still: BTreeSet::new(),
            restarted: BTreeSet::new(),
            causes: BTreeMap::new(),
            handed_over: Vec::new(),
            wake: None,
            bar: Vec::new(),
        }
    }
}

impl Builder<'_> {
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

    /// The member's server is heard and has that store.
    fn living(&self, member: Member) -> bool {
        let info = self.view.servers.get(&member.server);
        info.is_some_and(|info| info.store == member.store && info.state != ServerState::Down)
    }

    /// The member's server says that its copy is not what it should be.
    fn has_failed(&self, partition: PartitionId, member: Member) -> bool {
        self.facts.failed_copies.contains(&(partition, member))
    }

    /// Living, and not failed: what the others are counted against.
    fn is_well(&self, partition: PartitionId, member: Member) -> bool {
        self.living(member) && !self.has_failed(partition, member)
    }

    /// Plans anew when the members are others than at the last time.
    fn plan(&mut self, planned: &mut Planned) {
        let awaited = self.awaited();
        let stands_by = |server: &ServerId| self.registry.get(server).is_some_and(|known| known.stands_by);
        let counts = |server: &ServerId, state| {
            !stands_by(server) && (state == ServerState::Up || awaited.contains(server))
        };
        let up = self.view.servers.iter().filter(|(server, info)| counts(server, info.state));
        let members: BTreeMap<_, _> = up.map(|(&server, info)| (server, (info.weight, info.store))).collect();
        if members == planned.members && planned.target.len() == self.view.assignments.len() {
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
            partitions: self.view.partitions,
            copies: self.facts.config.copies,
            current: &current,
            leftovers: &leftovers.collect(),
        });
        let target = if self.view.assignments.is_empty() { Vec::new() } else { target };
        *planned = Planned { members, target };
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

    /// Who holds a living copy, whole or in the making, the coordinator first.
    fn holders(&self, now: &Assignment, awaited: &BTreeSet<ServerId>) -> Vec<ServerId> {
        let coordinator = now.in_sync_member(now.coordinator);
        let all = coordinator.into_iter().chain(now.replicas()).chain(now.joining.iter().copied());
        all.filter(|&member| self.living(member) || awaited.contains(&member.server))
            .map(|member| member.server)
            .collect()
    }

    fn finish(mut self, base: &State) -> Outcome {
        forget_some(&mut self.registry, &self.view);
        let settings = self.facts.settings;
        let same_view =
            self.view.servers == base.view.servers && self.view.assignments == base.view.assignments;
        let next = (!same_view
            || self.registry != base.registry
            || settings != base.settings
            || self.rebuild != base.rebuild)
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
                    },
                }
            });
        Outcome { next, wake: self.wake, bar: self.bar }
    }
}
