//! What a partition loses and gains by what became known, whatever is planned: V2 to V5 of the protocol.

use std::cmp::Reverse;

use common::ids::{PartitionId, ServerId};
use common::time::Time;
use common::view::{Assignment, Member, ServerState};

use super::builder::Builder;
use crate::cause::Change;
use crate::peers::Peer;
use crate::planted::PlantedBug;

/// Whether a member may leave an in-sync set (V4a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Yes: a member that stays is proved to hold all that was acknowledged.
    Proved,
    /// Yes: no member that stays is proved, but the wait is over. They go on without it, and the status says so.
    WaitIsOver,
    /// No: it is waited for.
    NotYet,
}

impl Builder<'_> {
    /// Settles one partition. `target` is the last plan, a preference among living coordinators.
    pub(super) fn reconcile(&mut self, partition: PartitionId, target: Option<&Vec<ServerId>>) {
        let index = usize::from(partition.0);
        let old = self.old[index].clone();
        let disagree = self.facts.reports.disagreements.contains_key(&partition);
        let offline = disagree
            || !old.in_sync.iter().any(|&member| self.is_well(partition, member))
            || !self.known().awaited(partition, &old).is_empty();
        if offline && self.force(partition) {
            return;
        }
        if disagree {
            return self.leave_to_operator(partition, &old);
        }
        let mut new = old.clone();
        let config = self.facts.config;
        let mut renewed =
            self.restarted.contains(&old.coordinator) && !config.planted(PlantedBug::RestartKeepsEpoch);
        let given_up = self.give_up_joining(partition, &mut new);
        let refused = self.take_proposal(partition, &old, &mut new);
        renewed |= (given_up || refused) && !config.planted(PlantedBug::ForgottenWithoutEpoch);
        self.remove_dead(partition, &old, &mut new);
        self.remove_failed(partition, &old, &mut new);
        self.remove_silent(partition, &old, &mut new);
        self.yield_to(partition, &old, &mut new);
        self.promote(partition, &old, &mut new, target);
        self.part_unheard(partition, &old, &mut new);
        assert!(new.in_sync_member(new.coordinator).is_some(), "V2: a coordinator is in sync");
        assert!(new.epoch >= old.epoch, "epochs only grow");
        if renewed || new.coordinator != old.coordinator || new.in_sync != old.in_sync {
            new.epoch = self.number;
        }
        self.view.assignments[index] = new;
    }

    /// R7: begins anew from the copy that an operator chose.
    pub(super) fn force(&mut self, partition: PartitionId) -> bool {
        let Some(&server) = self.facts.recoveries.get(&partition) else { return false };
        let info = self.view.servers.get(&server).filter(|info| info.state == ServerState::Up);
        let Some(info) = info else { return false };
        let member = Member { server, store: info.store };
        self.view.assignments[usize::from(partition.0)] = Assignment {
            epoch: self.number,
            coordinator: server,
            in_sync: vec![member],
            joining: Vec::new(),
        };
        self.view.forced.insert(partition, self.number);
        self.note(server, Change::Forced, 1);
        true
    }

    /// P2: copies disagree. Nothing is taken away or added until an operator decides, and the coordinator keeps its
    /// epoch, unless its process is a new one (V5).
    fn leave_to_operator(&mut self, partition: PartitionId, old: &Assignment) {
        if self.restarted.contains(&old.coordinator) {
            self.view.assignments[usize::from(partition.0)].epoch = self.number;
        }
        self.frozen.insert(partition);
    }

    /// Unlists joining copies that are gone or reported silent. `true`: the coordinator may have counted one that
    /// is gone or has restarted, and needs a new epoch to forget it.
    fn give_up_joining(&mut self, partition: PartitionId, new: &mut Assignment) -> bool {
        let mut renewed = false;
        for member in std::mem::take(&mut new.joining) {
            let living = self.living(member);
            let unheard = self.complaint(partition, new, member).is_some()
                || (living && self.is_cut_from(new.coordinator, member.server));
            if unheard {
                self.back_off.push((partition, member.server));
            }
            if unheard || !living {
                self.note(member.server, Change::Unlisted, 1);
                renewed = true;
            } else {
                renewed |= self.restarted.contains(&member.server);
                new.joining.push(member);
            }
        }
        renewed
    }

    /// Takes a proposed member into the in-sync set (V3). `true`: it was refused though it is of the present epoch.
    fn take_proposal(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) -> bool {
        let Some(proposal) = self.facts.reports.proposals.get(&partition) else { return false };
        let sender = proposal.sender;
        let info = self.view.servers.get(&sender.server);
        let known =
            info.is_some_and(|info| (info.store, info.incarnation) == (sender.store, sender.incarnation));
        let present = proposal.epoch == old.epoch && sender.server == old.coordinator && known;
        if !present && !self.facts.config.planted(PlantedBug::OldProposalTaken) {
            return false;
        }
        let member = proposal.member;
        if old.in_sync.contains(&member) {
            return false;
        }
        let process = self.view.servers.get(&member.server).map(|info| info.incarnation);
        let wanted = new.joining.contains(&member) && self.living(member);
        let other = process != Some(proposal.incarnation) || self.restarted.contains(&member.server);
        if !wanted || other {
            self.note(member.server, Change::ProposalRefused, 1);
            return true;
        }
        new.joining.retain(|&other| other != member);
        assert!(!new.in_sync.contains(&member), "a member is listed once");
        new.in_sync.push(member);
        self.note(member.server, Change::InSync, 1);
        false
    }

    /// Removes members that are gone, down to the last one that lives (V4). Below the minimum no write is acknowledged,
    /// so what lives has all that was; it answers reads, and another copy is made of it. Where no living member has a
    /// good copy, none is removed: any that comes back has all that was acknowledged.
    fn remove_dead(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        let all = self.facts.config.planted(PlantedBug::LastMemberRemoved);
        if !all && !old.in_sync.iter().any(|&member| self.is_well(partition, member)) {
            return;
        }
        for member in new.in_sync.clone() {
            if !self.removable(member) || !(all || new.in_sync.len() > 1) {
                continue;
            }
            let change = match self.may_leave(partition, old, new, member) {
                _ if all => Change::Removed,
                Leave::Proved => Change::Removed,
                Leave::WaitIsOver => Change::ResumedWithout,
                Leave::NotYet => continue,
            };
            self.take_out(partition, new, member, change);
        }
    }

    /// Removes a living member that acknowledges nothing to its coordinator, though the two hear each other, or no
    /// server hears it.
    fn remove_silent(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        let coordinator = old.in_sync_member(old.coordinator);
        if self.facts.quiet || !coordinator.is_some_and(|member| self.is_well(partition, member)) {
            return;
        }
        let replicas: Vec<Member> = new.replicas().filter(|&member| self.living(member)).collect();
        for member in replicas {
            let Some((since, lasting)) = self.complaint(partition, old, member) else { continue };
            let heard = self.hear_each_other(old.coordinator, member.server);
            let gone = self.is_doubtful(member.server) && self.is_believed(old.coordinator, since);
            if !((lasting && heard) || gone) || !self.enough_without(partition, new, member) {
                continue;
            }
            if self.heard_may_leave(partition, old, new, member) {
                self.back_off.push((partition, member.server));
                self.take_out(partition, new, member, Change::ReportedSilent);
            }
        }
    }

    /// Removes members that say that their copy has failed, if a living one stays that was in sync and has not. They
    /// are listed as joining again like others, and begin with nothing.
    fn remove_failed(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        let stays = |&member: &Member| old.in_sync.contains(&member) && self.is_well(partition, member);
        if !new.in_sync.iter().any(stays) {
            return;
        }
        for member in new.in_sync.clone() {
            if !self.has_failed(partition, member) {
                continue;
            }
            if self.may_leave(partition, old, new, member) != Leave::NotYet {
                let lost = self.facts.reports.lost_entries.contains(&(partition, member));
                let change = if lost { Change::LostEntries } else { Change::CopyFailed };
                self.take_out(partition, new, member, change);
            }
        }
    }

    /// P1: a coordinator whose log is too far behind another member's gives its part to that one.
    fn yield_to(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        let Some(wish) = self.facts.reports.yields.get(&partition) else { return };
        if wish.epoch != old.epoch || wish.from != old.coordinator {
            return;
        }
        if self.facts.config.planted(PlantedBug::YieldToJoiner)
            && let Some(joiner) = new.joining_member(wish.to).filter(|&member| self.living(member))
        {
            new.joining.retain(|&member| member != joiner);
            new.in_sync.push(joiner);
            new.coordinator = joiner.server;
            return;
        }
        let heir = new.in_sync_member(wish.to).filter(|member| old.in_sync.contains(member));
        if let Some(member) = heir.filter(|&member| self.is_well(partition, member)) {
            assert_ne!(member.server, old.coordinator, "P1: another member has the longer log");
            new.coordinator = member.server;
            self.note(member.server, Change::Yielded, 1);
        }
    }

    /// Gives the coordinator's part to a living member that was in sync before (V2), if the coordinator is gone or its
    /// copy has failed. One that is proved is the best; where none is, after a restart, the one with the longest log.
    fn promote(
        &mut self,
        partition: PartitionId,
        old: &Assignment,
        new: &mut Assignment,
        target: Option<&Vec<ServerId>>,
    ) {
        let present = new.in_sync_member(new.coordinator);
        let failed = present.is_some_and(|member| self.has_failed(partition, member));
        if !failed && present.is_some_and(|member| self.living(member) || !self.removable(member)) {
            return;
        }
        if self.facts.config.planted(PlantedBug::JoinerPromoted)
            && let Some(joiner) = new.joining.iter().copied().find(|&member| self.living(member))
        {
            new.joining.retain(|&member| member != joiner);
            new.in_sync.push(joiner);
            new.coordinator = joiner.server;
            return;
        }
        let candidates = new
            .in_sync
            .iter()
            .copied()
            .filter(|&member| old.in_sync.contains(&member) && self.living(member))
            .filter(|&member| !failed || !self.has_failed(partition, member));
        let known = self.known();
        let any_proved = old.in_sync.iter().any(|&member| known.is_proved(partition, member));
        let rank = |member: &Member| {
            let leaving = self.view.servers[&member.server].state == ServerState::Leaving;
            let planned = target.and_then(|target| target.iter().position(|&server| server == member.server));
            let edges = new.in_sync.iter().filter(|other| self.has_edge(member.server, other.server)).count();
            let relieved = self.is_relieved(member.server);
            let unproved = any_proved && !known.is_proved(partition, *member);
            let peer = self.facts.reports.peers.get(&member.server).filter(|_| !any_proved);
            // As reported at the start of the process: of use only while nothing was written since.
            let last = peer.and_then(|peer| peer.leftovers.get(&partition).copied());
            let failed = self.has_failed(partition, *member);
            (failed, edges, leaving, unproved, relieved, Reverse(last), planned.unwrap_or(usize::MAX))
        };
        if let Some(member) = candidates.min_by_key(rank) {
            assert!(old.in_sync.contains(&member), "V2: it was in sync before");
            new.coordinator = member.server;
            self.note(member.server, Change::Promoted, 1);
        }
    }

    /// Whether a server's heartbeat is late.
    fn is_doubtful(&self, server: ServerId) -> bool {
        let peer = self.facts.reports.peers.get(&server);
        peer.is_none_or(|peer| peer.doubtful(self.facts.now, &self.facts.patience))
    }

    /// Whether a coordinator's word, and a late heartbeat, are enough to take a member out. They are not where servers
    /// that are heard here do not hear the coordinator, or it not them: then it may be the coordinator that is cut off
    /// (V7). What it hears of the others is known soon after its first complaint, which was at `since`.
    fn is_believed(&mut self, coordinator: ServerId, since: Time) -> bool {
        assert!(since <= self.facts.now, "a complaint was heard");
        let timers = &self.facts.config.timers;
        let known_at = since + timers.report / 2;
        if self.facts.now < known_at {
            self.wake_at(known_at);
            return false;
        }
        let unheard = self.facts.reports.edges.of(coordinator, self.facts.now, timers);
        unheard.into_iter().all(|other| self.is_doubtful(other))
    }

    /// Since when the coordinator of the present epoch complains about a member; `true`: it has for long.
    fn complaint(&self, partition: PartitionId, now: &Assignment, member: Member) -> Option<(Time, bool)> {
        let Self { facts, .. } = self;
        let timers = &facts.config.timers;
        let gaps = |server| facts.reports.peers.get(&server).map(Peer::gaps);
        // Either of the two may be the one that stalls.
        let ends = [member.server, now.coordinator].into_iter().filter_map(gaps);
        let limit = ends.map(|gaps| facts.patience.stuck(gaps)).max().unwrap_or(timers.dead);
        facts.reports.complaints.of((partition, member.server), now.epoch, facts.now, limit, timers)
    }

    /// Takes a member out of the in-sync set.
    pub(super) fn take_out(
        &mut self,
        partition: PartitionId,
        new: &mut Assignment,
        member: Member,
        change: Change,
    ) {
        assert!(new.in_sync.contains(&member), "only a member is taken out");
        new.in_sync.retain(|&other| other != member);
        self.note(member.server, change, 1);
        if change == Change::ResumedWithout {
            self.view.resumed.insert(partition, self.number);
            self.left_out.entry(partition).or_default().insert(member);
        }
    }

    /// V4a: whether a member that is heard may leave an in-sync set: only where another one is proved to hold all,
    /// however long those that stay have waited.
    pub(super) fn heard_may_leave(
        &mut self,
        partition: PartitionId,
        old: &Assignment,
        new: &Assignment,
        member: Member,
    ) -> bool {
        match self.may_leave(partition, old, new, member) {
            Leave::Proved => true,
            Leave::WaitIsOver => self.facts.config.planted(PlantedBug::HeardMemberWaitedOut),
            Leave::NotYet => false,
        }
    }

    /// V4a: whether a member may leave an in-sync set: at once if one that stays is proved, else when those that stay
    /// have waited for it long enough since the first of them said hello.
    pub(super) fn may_leave(
        &mut self,
        partition: PartitionId,
        old: &Assignment,
        new: &Assignment,
        member: Member,
    ) -> Leave {
        // A process whose link has ended, or of whose store another one came, is dead, for all that is known: what its
        // successor has is to be shown first.
        let is_linked = |other: &Member| {
            let peer = self.facts.reports.peers.get(&other.server);
            peer.is_some_and(|peer| peer.is_linked() && !peer.doubted)
        };
        let stays =
            |other: &&Member| **other != member && self.is_well(partition, **other) && is_linked(other);
        let rest: Vec<Member> = new.in_sync.iter().filter(stays).copied().collect();
        assert!(!rest.contains(&member), "what leaves does not stay");
        let known = self.known();
        // A member that has just been proposed is proved by the acknowledgements that were counted.
        let proved = |&other: &Member| !old.in_sync.contains(&other) || known.is_proved(partition, other);
        if rest.iter().any(proved) || self.facts.config.planted(PlantedBug::NoProvedRule) {
            return Leave::Proved;
        }
        let hellos = rest
            .iter()
            .filter_map(|other| self.facts.reports.peers.get(&other.server))
            .map(|peer| peer.since);
        let (Some(first), Some(wait)) = (hellos.min(), self.facts.config.restart_wait) else {
            return Leave::NotYet;
        };
        if first + wait > self.facts.now {
            self.wake_at(first + wait);
            return Leave::NotYet;
        }
        Leave::WaitIsOver
    }

    /// Whether the member is gone for good, or silent outside the quiet time.
    fn removable(&self, member: Member) -> bool {
        let Some(info) = self.view.servers.get(&member.server) else { return true };
        let failed = self.facts.reports.peers.get(&member.server).is_some_and(|peer| peer.failed);
        let down = info.state == ServerState::Down;
        info.store != member.store || (down && (failed || !self.facts.quiet))
    }

    /// Members that an in-sync set keeps as long as they live, whatever is said of them.
    pub(super) fn floor(&self) -> usize {
        usize::from(self.view.min_copies)
    }

    /// V4: whether a member that lives may leave an in-sync set, as enough others stay that are well. Dead members and
    /// failed copies count for nothing, even where they are not removed yet: they are as soon as they may be.
    pub(super) fn enough_without(&self, partition: PartitionId, now: &Assignment, member: Member) -> bool {
        let stays = |other: &&Member| **other != member && self.is_well(partition, **other);
        now.in_sync.iter().filter(stays).count() >= self.floor()
    }
}
