//! The next steps from where the copies are to where the plan wants them (J1, J5): add, then hand over, then drop.
//!
//! Each kind is bounded: copies in the making for each server, coordinators for each view. Partitions with the
//! fewest living copies go first, and copies that only move leave room for those that were lost. Where partitions have
//! fewer copies than a write needs, no other copy is begun before they have one more.

use std::collections::BTreeMap;

use common::ids::{PartitionId, ServerId};
use common::time::Time;
use common::view::{Assignment, Member, ServerState};

use super::builder::Builder;
use super::reconcile::Leave;
use crate::cause::Change;
use crate::limits::JOINING_PER_PARTITION_MAX;
use crate::planner::Target;

/// Copies in the making, by server that gives or receives.
type Busy = BTreeMap<ServerId, usize>;

impl Builder<'_> {
    /// Takes the next steps towards the target.
    pub(super) fn schedule_steps(&mut self, target: &Target) {
        assert!(
            target.is_empty() || target.len() == self.view.assignments.len(),
            "a plan is of all partitions"
        );
        let (mut wanted, mut busy, mut handed_over) = (Vec::new(), Busy::new(), 0);
        for (partition, target) in self.partitions().into_iter().zip(target) {
            if target.is_empty() || self.frozen.contains(&partition) {
                continue;
            }
            let mut now = self.view.assignments[usize::from(partition.0)].clone();
            self.unlist_unwanted(&mut now, target);
            if self.facts.settings.paused {
                // What fails is still replaced by what is in sync, and what is proposed is answered; no more.
                self.view.assignments[usize::from(partition.0)] = now;
                continue;
            }
            let there =
                |&server: &ServerId| now.in_sync_member(server).is_some_and(|member| self.living(member));
            let complete = target.iter().all(there);
            for joining in &now.joining {
                *busy.entry(now.coordinator).or_default() += 1;
                *busy.entry(joining.server).or_default() += 1;
            }
            if complete {
                if let Some(until) = self.facts.rebalancing.settling.until(partition, self.facts.now) {
                    self.wake_at(until);
                    self.view.assignments[usize::from(partition.0)] = now;
                    continue;
                }
                let moved = self.hand_over(partition, &mut now, target, handed_over);
                handed_over += usize::from(moved);
                if !moved {
                    self.drop_surplus(partition, &mut now, target);
                }
            } else {
                if let Some(to) = self.relief(partition, &now, target) {
                    handed_over += usize::from(self.hand_over(partition, &mut now, &[to], handed_over));
                }
                let living = now.in_sync.iter().filter(|&&member| self.living(member)).count();
                wanted.push((living, partition));
            }
            self.view.assignments[usize::from(partition.0)] = now;
        }
        assert!(handed_over <= self.facts.config.handovers_per_view_max);
        wanted.sort_unstable();
        let (limits, least) = (*self.facts.config, self.floor());
        let mut writes_wait = self.waits_for_a_copy(least);
        for (living, partition) in wanted {
            if living >= least && writes_wait {
                // They come first, and the rest when those are done.
                break;
            }
            let target = &target[usize::from(partition.0)];
            // What only moves a copy leaves room for what makes a lost one again.
            let moves = living >= target.len();
            let max = if moves { limits.moving_per_server_max } else { limits.joining_per_server_max };
            self.list(partition, target, max, &mut busy);
            writes_wait |=
                living < least && !self.view.assignments[usize::from(partition.0)].joining.is_empty();
        }
    }

    /// Whether a copy is being made of a partition that has fewer than a write needs: then no other copy is begun.
    fn waits_for_a_copy(&self, least: usize) -> bool {
        let living = |now: &Assignment| now.in_sync.iter().filter(|&&member| self.living(member)).count();
        self.view.assignments.iter().any(|now| !now.joining.is_empty() && living(now) < least)
    }

    fn unlist_unwanted(&mut self, now: &mut Assignment, target: &[ServerId]) {
        for member in std::mem::take(&mut now.joining) {
            if target.contains(&member.server) {
                now.joining.push(member);
            } else {
                self.note(member.server, Change::Unlisted, 1);
                now.epoch = self.number;
            }
        }
    }

    /// Lists one missing copy as joining, if its coordinator lives and both servers have room for one more transfer.
    fn list(&mut self, partition: PartitionId, target: &[ServerId], max: usize, busy: &mut Busy) {
        let now = self.view.assignments[usize::from(partition.0)].clone();
        let coordinator = now.coordinator;
        let lives = now.in_sync_member(coordinator).is_some_and(|member| self.living(member));
        if !lives || now.joining.len() >= JOINING_PER_PARTITION_MAX || self.is_cut_off(coordinator) {
            return;
        }
        for &server in target {
            let there = now.in_sync_member(server).is_some() || now.joining_member(server).is_some();
            if there || self.view.servers[&server].state != ServerState::Up {
                continue;
            }
            if let Some(&until) = self.facts.rebalancing.backed_off.get(&(partition, server))
                && until > self.facts.now
            {
                self.wake_at(until);
                continue;
            }
            if self.back_off.contains(&(partition, server)) {
                continue;
            }
            let members = now.in_sync.iter().map(|member| member.server);
            if self.gets_nothing(server, members) {
                continue;
            }
            let full = |server: &ServerId| busy.get(server).is_some_and(|&count| count >= max);
            if full(&coordinator) || full(&server) {
                continue;
            }
            *busy.entry(coordinator).or_default() += 1;
            *busy.entry(server).or_default() += 1;
            assert!(busy[&coordinator] <= max, "no more copies at a time than one server may make");
            assert!(busy[&server] <= max, "and none more than one may take");
            let member = Member { server, store: self.view.servers[&server].store };
            self.view.assignments[usize::from(partition.0)].joining.push(member);
            self.note(server, Change::Listed, 1);
            return;
        }
    }

    /// Makes the planned coordinator coordinate (J5: the same in-sync set). `true`: done.
    fn hand_over(
        &mut self,
        partition: PartitionId,
        now: &mut Assignment,
        target: &[ServerId],
        before: usize,
    ) -> bool {
        let old = &self.old[usize::from(partition.0)];
        let to = target[0];
        let from_living = now.in_sync_member(now.coordinator).is_some_and(|member| self.living(member));
        // In sync before this view (V2); and never with a second change to the same partition (J5).
        let other_change = now.epoch == self.number || now.in_sync != old.in_sync;
        let failed = now.in_sync_member(to).is_some_and(|member| self.has_failed(partition, member));
        // V4a: one that has just restarted first shows that it holds all.
        let proved = now.in_sync_member(to).is_some_and(|member| self.known().is_proved(partition, member));
        let fit = proved && !failed && from_living;
        if now.coordinator == to || old.in_sync_member(to).is_none() || other_change || !fit {
            return false;
        }
        let ready = self.ready(to).max(self.ready(now.coordinator)).max(self.facts.hand_over_from);
        if ready > self.facts.now {
            self.wake_at(ready);
            return false;
        }
        let members: Vec<ServerId> = now.in_sync.iter().map(|member| member.server).collect();
        if self.gets_nothing(to, members.into_iter()) || before >= self.facts.config.handovers_per_view_max {
            return false;
        }
        assert!(now.in_sync_member(to).is_some(), "J5: the in-sync set stays the same");
        assert!(!self.handed_over.contains(&partition), "J5: one change at a time");
        now.coordinator = to;
        now.epoch = self.number;
        self.handed_over.push(partition);
        self.note(to, Change::HandedOver, 1);
        true
    }

    /// From when a process can hand over or take over without a wait: promises of its server's earlier process have
    /// run out by then.
    fn ready(&self, server: ServerId) -> Time {
        let since = self.facts.reports.peers.get(&server).map_or(self.facts.now, |peer| peer.since);
        since + self.facts.config.timers.promise
    }

    /// Drops living in-sync copies that the target does not want, once all that it wants are in sync and one of them
    /// coordinates. Those of dead servers go by the rules of removal only.
    fn drop_surplus(&mut self, partition: PartitionId, now: &mut Assignment, target: &[ServerId]) {
        if !target.contains(&now.coordinator) {
            return;
        }
        let old = self.old[usize::from(partition.0)].clone();
        for member in now.in_sync.clone() {
            let unwanted = !target.contains(&member.server) && self.living(member);
            // V4a: after a restart the surplus copy may be the only one that is whole.
            if unwanted
                && self.enough_without(partition, now, member)
                && self.may_leave(partition, &old, now, member) == Leave::Proved
            {
                assert_ne!(member.server, now.coordinator, "the plan wants the coordinator");
                now.in_sync.retain(|&other| other != member);
                now.epoch = self.number;
                self.note(member.server, Change::Dropped, 1);
            }
        }
    }
}
