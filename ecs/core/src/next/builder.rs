//! A view in the making: what every part of it needs.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{Epoch, PartitionId, ServerId};
use common::time::Time;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};

use super::facts::{Facts, Next, Outcome};
use crate::cause::{Cause, Change};
use crate::peers::Disagreements;
use crate::planner;
use crate::proof::Known;
use crate::reach::EdgeSets;
use crate::rebalancing::Planned;
use crate::rebuild::Rebuild;
use crate::state::{Registered, State, forget_some};

/// A view in the making.
pub(super) struct Builder<'a> {
    pub(super) facts: Facts<'a>,
    /// The number of the view to be.
    pub(super) number: Epoch,
    /// The assignments that the rules compare with.
    pub(super) old: Vec<Assignment>,
    pub(super) view: View,
    pub(super) registry: BTreeMap<ServerId, Registered>,
    pub(super) rebuild: Option<Rebuild>,
    /// Partitions that get no other change in this view (R6, P2).
    pub(super) frozen: BTreeSet<PartitionId>,
    pub(super) left_out: BTreeMap<PartitionId, BTreeSet<Member>>,
    /// Servers with a new process.
    pub(super) restarted: BTreeSet<ServerId>,
    pub(super) causes: BTreeMap<(ServerId, Change), u32>,
    pub(super) handed_over: Vec<PartitionId>,
    pub(super) wake: Option<Time>,
    pub(super) back_off: Vec<(PartitionId, ServerId)>,
    /// V7: the edges between servers that live.
    pub(super) edges: EdgeSets,
    pub(super) lost: BTreeSet<ServerId>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(base: &State, facts: Facts<'a>) -> Self {
        Self {
            facts,
            number: facts.reports.given(base.view.number, facts.config).next(),
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
            edges: EdgeSets::default(),
            lost: BTreeSet::new(),
        }
    }
}

impl Builder<'_> {
    /// How many copies a write needs from this view on. Servers that are to leave, or that stand by, do not count; one
    /// that is down is expected back and does.
    pub(super) fn ask_for_copies(&mut self) {
        let serves = |(server, info): &(&ServerId, &ServerInfo)| {
            info.state != ServerState::Leaving && !self.stands_by(**server)
        };
        let servers = self.view.servers.iter().filter(serves).count();
        let number = self.facts.settings.min_copies(servers, self.facts.config.copies);
        assert!(number <= self.facts.config.copies, "a write can have its copies");
        self.view.min_copies = u8::try_from(number).unwrap_or(u8::MAX);
    }

    pub(super) fn stands_by(&self, server: ServerId) -> bool {
        self.registry.get(&server).is_some_and(|known| known.stands_by)
    }

    /// The partitions, or none before the first server has joined.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        self.view.partitions.all().take(self.view.assignments.len()).collect()
    }

    pub(super) fn note(&mut self, server: ServerId, change: Change, partitions: u32) {
        *self.causes.entry((server, change)).or_default() += partitions;
    }

    pub(super) fn wake_at(&mut self, time: Time) {
        assert!(time > self.facts.now, "what is due is done now");
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    /// What is known of the copies, as of the view to be.
    pub(super) fn known(&self) -> Known<'_> {
        Known {
            view: &self.view,
            peers: &self.facts.reports.peers,
            failed: &self.facts.reports.failed_copies,
        }
    }

    /// The member's server is heard and has that store.
    pub(super) fn living(&self, member: Member) -> bool {
        let info = self.view.servers.get(&member.server);
        info.is_some_and(|info| info.store == member.store && info.state != ServerState::Down)
    }

    /// The member's server says that its copy is not what it should be.
    pub(super) fn has_failed(&self, partition: PartitionId, member: Member) -> bool {
        self.facts.reports.failed_copies.contains(&(partition, member))
    }

    /// Whether the member's server is heard, has that store, and does not say that its copy has failed.
    pub(super) fn is_well(&self, partition: PartitionId, member: Member) -> bool {
        self.known().is_well(partition, member)
    }

    /// Plans anew when the members are not those of the last plan.
    pub(super) fn plan(&mut self, planned: &mut Planned) {
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
            .filter_map(|server| self.facts.reports.peers.get(server))
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
    pub(super) fn awaited(&self) -> BTreeSet<ServerId> {
        if !self.facts.quiet {
            return BTreeSet::new();
        }
        let members = self.view.assignments.iter().flat_map(|now| &now.in_sync);
        let down = |member: &&Member| self.view.servers[&member.server].state == ServerState::Down;
        members.filter(down).map(|member| member.server).collect()
    }

    /// The servers with a living copy, whole or in the making, the coordinator first.
    pub(super) fn holders(&self, now: &Assignment, awaited: &BTreeSet<ServerId>) -> Vec<ServerId> {
        let coordinator = now.in_sync_member(now.coordinator);
        let all = coordinator.into_iter().chain(now.replicas()).chain(now.joining.iter().copied());
        all.filter(|&member| self.living(member) || awaited.contains(&member.server))
            .map(|member| member.server)
            .collect()
    }

    /// P2: what goes into the next state of copies that disagree.
    pub(super) fn note_disagreements(&mut self, base: &State) -> Disagreements {
        let mut now = self.facts.reports.disagreements.clone();
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

    pub(super) fn finish(mut self, base: &State) -> Outcome {
        assert!(self.number > base.view.number, "V1: views have ascending numbers");
        assert_eq!(self.view.cluster, base.view.cluster, "a view is of the same cluster");
        assert!(self.view.assignments.len() >= base.view.assignments.len(), "no partition is lost");
        for assignment in &self.view.assignments {
            assert!(assignment.epoch <= self.number, "no partition has an epoch of a later view");
            assert!(assignment.in_sync_member(assignment.coordinator).is_some(), "a coordinator is in sync");
        }
        for partition in &self.handed_over {
            assert_eq!(
                self.view.assignments[usize::from(partition.0)].epoch,
                self.number,
                "J5: in a new epoch"
            );
        }
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
