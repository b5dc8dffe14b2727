//! V7: which members partitions lose, and which servers get no copies, because servers do not hear each other.

use std::collections::BTreeSet;

use common::ids::{PartitionId, ServerId};
use common::view::{Assignment, Member, ServerState};

use super::builder::Builder;
use crate::cause::Change;
use crate::planted::PlantedBug;
use crate::reach::{self, EdgeSets, Problem, edge};

impl Builder<'_> {
    /// Finds the edges between servers that the ECS hears. That no server hears one that is down is no news.
    pub(super) fn find_edges(&mut self) {
        let facts = self.facts;
        let is_heard = |server: &ServerId| {
            self.view.servers.get(server).is_some_and(|info| info.state != ServerState::Down)
        };
        let timers = &facts.config.timers;
        let mut counting = facts.reports.edges.counting(facts.now, timers);
        counting.retain(|(one, other)| is_heard(one) && is_heard(other));
        let mut reported = facts.reports.edges.there(facts.now, timers);
        reported.retain(|(one, other)| is_heard(one) && is_heard(other));
        assert!(counting.is_subset(&reported), "an edge that counts is there");
        self.edges = EdgeSets { counting, reported };
        if let Some(end) = facts.reports.edges.next_end(facts.now, timers) {
            self.wake_at(end);
        }
    }

    /// Chooses the coordinator and the members of a partition anew where members do not hear each other.
    pub(super) fn part_unheard(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        if self.facts.quiet || self.edges.counting.is_empty() {
            return;
        }
        let is_well = |member: &&Member| old.in_sync.contains(*member) && self.is_well(partition, **member);
        let members: Vec<ServerId> = new.in_sync.iter().filter(is_well).map(|member| member.server).collect();
        if !members.contains(&new.coordinator) {
            return;
        }
        let (edges, reported, minimum) = (&self.edges.counting, &self.edges.reported, self.floor());
        let (coordinator, members) = (new.coordinator, &members[..]);
        let choice = reach::choose(&Problem { members, coordinator, edges, reported, minimum });
        assert!(members.contains(&choice.coordinator), "a member is chosen");
        if choice.coordinator != new.coordinator {
            self.lost.insert(new.coordinator);
            new.coordinator = choice.coordinator;
            self.note(choice.coordinator, Change::Connected, 1);
        }
        for server in choice.leave {
            let Some(member) = new.in_sync_member(server) else { continue };
            if self.heard_may_leave(partition, old, new, member) {
                self.lost.insert(server);
                self.take_out(partition, new, member, Change::CutOff);
            }
        }
    }

    /// Whether two servers are known not to hear each other.
    pub(super) fn has_edge(&self, one: ServerId, other: ServerId) -> bool {
        self.edges.counting.contains(&edge(one, other))
    }

    /// Whether neither of two servers reports that it does not hear the other, for however short a time.
    pub(super) fn hear_each_other(&self, one: ServerId, other: ServerId) -> bool {
        !self.edges.reported.contains(&edge(one, other))
    }

    /// Whether a server does not hear half of the others or more: then no copies are made from it.
    pub(super) fn is_cut_off(&self, server: ServerId) -> bool {
        let heard = self.view.servers.values().filter(|info| info.state != ServerState::Down).count();
        let edges = reach::count(&self.edges.counting, server);
        edges > 0 && 2 * edges >= heard.saturating_sub(1)
    }

    /// Whether a joining copy and its coordinator do not hear each other. Then the one of the two that fewer servers
    /// hear counts as taken off.
    pub(super) fn is_cut_from(&mut self, coordinator: ServerId, joining: ServerId) -> bool {
        if self.facts.quiet || !self.edges.counting.contains(&edge(coordinator, joining)) {
            return false;
        }
        let edges = |server| reach::count(&self.edges.counting, server);
        let unheard = if edges(coordinator) > edges(joining) { coordinator } else { joining };
        self.lost.insert(unheard);
        true
    }

    /// Whether a server gets no new copies now: it was taken off partitions recently, or does not hear one of `others`.
    /// A later view asks again.
    pub(super) fn gets_nothing(&mut self, server: ServerId, others: impl Iterator<Item = ServerId>) -> bool {
        let forgotten = self.facts.config.planted(PlantedBug::FlapsForgotten);
        if let Some(until) = self.facts.reports.edges.pause(server, self.facts.now).filter(|_| !forgotten) {
            self.wake_at(until);
            return true;
        }
        let mut others = others;
        self.lost.contains(&server) || others.any(|other| self.has_edge(server, other))
    }

    /// Servers that hold nothing and get nothing for now: nothing is planned with them, as with those that are down.
    pub(super) fn unreached(&mut self) -> BTreeSet<ServerId> {
        let now = self.facts.now;
        let mut unreached: BTreeSet<ServerId> = self.view.servers.keys().copied().collect();
        unreached.retain(|&server| {
            self.lost.contains(&server) || self.facts.reports.edges.pause(server, now).is_some()
        });
        for assignment in &self.view.assignments {
            for member in assignment.in_sync.iter().chain(&assignment.joining) {
                unreached.remove(&member.server);
            }
        }
        for &server in &unreached {
            if let Some(until) = self.facts.reports.edges.pause(server, now) {
                self.wake_at(until);
            }
        }
        unreached
    }
}
