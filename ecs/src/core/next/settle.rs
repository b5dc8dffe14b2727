//! What a partition loses and gains by what became known, whatever is planned: V2 to V5 of the protocol.

use common::ids::{PartitionId, ServerId};
use common::view::{Assignment, Member, ServerState};

use super::Builder;
use crate::core::cause::Change;
use crate::core::mutation::Mutation;

impl Builder<'_> {
    /// Settles one partition. `target` is the last plan, a preference among living coordinators.
    pub(super) fn settle(&mut self, partition: PartitionId, target: Option<&Vec<ServerId>>) {
        let index = usize::from(partition.0);
        let old = self.old[index].clone();
        let offline = !old.in_sync.iter().any(|&member| self.is_well(partition, member));
        if offline && self.force(partition) {
            return;
        }
        let mut new = old.clone();
        let config = self.facts.config;
        let mut renewed =
            self.restarted.contains(&old.coordinator) && !config.mutated(Mutation::RestartKeepsEpoch);
        let given_up = self.give_up_joining(partition, &mut new);
        let refused = self.take_proposal(partition, &old, &mut new);
        renewed |= (given_up || refused) && !config.mutated(Mutation::ForgottenWithoutEpoch);
        self.remove_dead(partition, &old, &mut new);
        self.remove_silent(partition, &old, &mut new);
        self.remove_failed(partition, &old, &mut new);
        self.promote(partition, &old, &mut new, target);
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

    /// Unlists joining copies that are gone or reported silent. `true`: the coordinator may have counted one that
    /// is gone or has restarted, and needs a new epoch to forget it.
    fn give_up_joining(&mut self, partition: PartitionId, new: &mut Assignment) -> bool {
        let mut renewed = false;
        for member in std::mem::take(&mut new.joining) {
            let complaint = self.complaint(partition, new, member);
            if complaint.is_some() {
                self.bar.push((partition, member.server));
            }
            if complaint.is_some() || !self.living(member) {
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
        let Some(proposal) = self.facts.proposals.get(&partition) else { return false };
        let sender = proposal.sender;
        let info = self.view.servers.get(&sender.server);
        let known =
            info.is_some_and(|info| (info.store, info.incarnation) == (sender.store, sender.incarnation));
        let present = proposal.epoch == old.epoch && sender.server == old.coordinator && known;
        if !present && !self.facts.config.mutated(Mutation::OldProposalTaken) {
            return false;
        }
        let member = proposal.member;
        if old.in_sync.contains(&member) {
            return false;
        }
        let process = self.view.servers.get(&member.server).map(|info| info.incarnation);
        let wanted = new.joining.contains(&member) && self.living(member);
        if !wanted || process != Some(proposal.incarnation) {
            self.note(member.server, Change::ProposalRefused, 1);
            return true;
        }
        new.joining.retain(|&other| other != member);
        new.in_sync.push(member);
        self.note(member.server, Change::InSync, 1);
        false
    }

    /// Removes members that are gone, if a living one is left, and never below the minimum (V4). Where nobody
    /// lives whose copy is well, nobody is removed: whoever comes back first has all that was acknowledged.
    fn remove_dead(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        let all = self.facts.config.mutated(Mutation::LastMemberRemoved);
        if !all && !old.in_sync.iter().any(|&member| self.is_well(partition, member)) {
            return;
        }
        for member in new.in_sync.clone() {
            if self.removable(member) && (all || new.in_sync.len() > self.floor()) {
                new.in_sync.retain(|&other| other != member);
                self.note(member.server, Change::Removed, 1);
            }
        }
    }

    /// Removes a living member that acknowledges nothing to its coordinator.
    fn remove_silent(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        let coordinator = old.in_sync_member(old.coordinator);
        if self.facts.quiet || !coordinator.is_some_and(|member| self.is_well(partition, member)) {
            return;
        }
        let replicas: Vec<Member> = new.replicas().filter(|&member| self.living(member)).collect();
        for member in replicas {
            let Some(lasting) = self.complaint(partition, old, member) else { continue };
            let peer = self.facts.peers.get(&member.server);
            let doubtful = peer.is_none_or(|peer| peer.doubtful(self.facts.now, &self.facts.config.timers));
            if (lasting || doubtful) && new.in_sync.len() > self.floor() {
                new.in_sync.retain(|&other| other != member);
                self.bar.push((partition, member.server));
                self.note(member.server, Change::ReportedSilent, 1);
            }
        }
    }

    /// Removes members that say that their copy has failed, if a living one stays that was in sync and has not; never
    /// below the minimum (V4). They are listed as joining again like others, and begin with nothing.
    fn remove_failed(&mut self, partition: PartitionId, old: &Assignment, new: &mut Assignment) {
        let stays = |&member: &Member| old.in_sync.contains(&member) && self.is_well(partition, member);
        if !new.in_sync.iter().any(stays) {
            return;
        }
        for member in new.in_sync.clone() {
            if self.has_failed(partition, member) && new.in_sync.len() > self.floor() {
                new.in_sync.retain(|&other| other != member);
                self.note(member.server, Change::CopyFailed, 1);
            }
        }
    }

    /// Gives the coordinator's part to a living member that was in sync before (V2), if the coordinator is gone or its
    /// copy has failed.
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
        if self.facts.config.mutated(Mutation::JoinerPromoted)
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
        let rank = |member: &Member| {
            let leaving = self.view.servers[&member.server].state == ServerState::Leaving;
            let planned = target.and_then(|target| target.iter().position(|&server| server == member.server));
            (self.has_failed(partition, *member), leaving, planned.unwrap_or(usize::MAX))
        };
        if let Some(member) = candidates.min_by_key(rank) {
            new.coordinator = member.server;
            self.note(member.server, Change::Promoted, 1);
        }
    }

    /// The coordinator of the present epoch complains about a member; `true`: for long.
    fn complaint(&self, partition: PartitionId, now: &Assignment, member: Member) -> Option<bool> {
        let Self { facts, .. } = self;
        facts.complaints.of((partition, member.server), now.epoch, facts.now, &facts.config.timers)
    }

    /// Gone for good, or silent while nobody asks for patience.
    fn removable(&self, member: Member) -> bool {
        let Some(info) = self.view.servers.get(&member.server) else { return true };
        let failed = self.facts.peers.get(&member.server).is_some_and(|peer| peer.failed);
        let down = info.state == ServerState::Down;
        info.store != member.store || (down && (failed || !self.facts.quiet))
    }

    /// Members that an in-sync set keeps, whatever they do.
    pub(super) fn floor(&self) -> usize {
        self.facts.settings.min_copies.max(1)
    }
}
