//! After restarts: of the ECS, which first compares its view with the servers' (V6), and of servers, whose copies are
//! to be proved (V4a).

use common::ids::{Epoch, PartitionId, ServerId};
use common::messages::{CopyState, ProcessId};
use common::time::Time;
use common::view::{Member, View};

use super::Ecs;
use crate::peers::Disagreement;
use crate::planted::PlantedBug;
use crate::proof::Known;

impl Ecs {
    /// Whether views may be made.
    pub(super) fn makes_views(&self, now: Time) -> bool {
        let compared =
            self.start.comparing.is_over(now) || self.config.planted(PlantedBug::ActsBeforeCompared);
        self.start.behind.is_none() && compared
    }

    /// A server's hello says that its view is not a newer one.
    pub(super) fn on_compared(&mut self, server: ServerId) {
        self.start.comparing.with.remove(&server);
    }

    /// V6: the servers that this ECS waits for before it makes its first view since its start.
    #[must_use]
    pub fn comparing_with(&self, now: Time) -> Vec<ServerId> {
        let with = self.start.comparing.with.iter().copied();
        with.filter(|_| !self.start.comparing.is_over(now)).collect()
    }

    /// What heartbeats say of the sender's copies.
    pub(super) fn on_copies(&mut self, sender: ProcessId, copies: &[CopyState]) {
        let view = self.newest().view.clone();
        for &CopyState { partition, epoch, active, proved, last, .. } in copies {
            if active {
                self.wanted |= self.rebalancing.settling.on_active(partition, epoch);
                self.on_active(partition, epoch);
            }
            let member = Member { server: sender.server, store: sender.store };
            let counts = view.assignment(partition).is_some_and(|now| now.in_sync.contains(&member));
            if counts
                && (active || proved)
                && let Some(peer) = self.reports.peers.get_mut(&sender.server)
            {
                self.wanted |= peer.proved.insert(partition);
            }
            self.note_emptied(member, partition, epoch, last);
        }
    }

    /// V4a: a server that a partition went on without has adopted that epoch, and says what it still holds of it.
    fn note_emptied(&mut self, member: Member, partition: PartitionId, epoch: Epoch, last: u64) {
        let newest = self.newest();
        let is_left_out = newest.left_out.get(&partition).is_some_and(|members| members.contains(&member));
        let knows = newest.view.resumed.get(&partition).is_none_or(|resumed| epoch >= *resumed);
        if !is_left_out || !knows {
            return;
        }
        let Some(peer) = self.reports.peers.get_mut(&member.server) else { return };
        if last > 0 {
            peer.emptied.remove(&partition);
        } else {
            self.wanted |= peer.emptied.insert(partition);
        }
    }

    /// A coordinator that became active in that epoch or a later one has all that is committed.
    fn on_active(&mut self, partition: PartitionId, epoch: Epoch) {
        let over = self.reports.disagreements.get(&partition).is_some_and(|found| epoch >= found.epoch);
        if over {
            self.reports.disagreements.remove(&partition);
            self.wanted = true;
        }
    }

    /// A member that was taken in on its coordinator's proposal becomes proved; a server that is no longer a member is
    /// not proved any more.
    pub(super) fn note_proved(&mut self, before: &View) {
        let view = self.durable.view.clone();
        for (partition, now) in view.iter() {
            let old = before.assignment(partition).map_or(&[][..], |old| &old.in_sync);
            if now.in_sync == old {
                continue;
            }
            for gone in old.iter().filter(|member| !now.in_sync.contains(member)) {
                if let Some(peer) = self.reports.peers.get_mut(&gone.server) {
                    peer.proved.remove(&partition);
                }
            }
            for new in now.in_sync.iter().filter(|member| !old.contains(member)) {
                // It holds something again.
                if let Some(peer) = self.reports.peers.get_mut(&new.server) {
                    peer.emptied.remove(&partition);
                }
            }
            if old.is_empty() || view.forced.get(&partition) == Some(&view.number) {
                continue;
            }
            for new in now.in_sync.iter().filter(|member| !old.contains(member)) {
                let process = view.servers.get(&new.server).map(|info| info.process(new.server));
                if let Some(peer) = self.reports.peers.get_mut(&new.server)
                    && Some(peer.sender) == process
                {
                    peer.proved.insert(partition);
                }
            }
        }
    }

    /// V4a: the members that the partition waits for since a restart: not heard, while no other one is known to hold
    /// all that was acknowledged.
    #[must_use]
    pub fn awaited_since_restart(&self, partition: PartitionId) -> Vec<Member> {
        let view = &*self.durable.view;
        let known = Known { view, peers: &self.reports.peers, failed: &self.reports.failed_copies };
        view.assignment(partition).map(|now| known.awaited(partition, now)).unwrap_or_default()
    }

    /// P2: partitions that have stopped, as their copies disagree, until an operator decides.
    pub fn disagreements(&self) -> impl Iterator<Item = (PartitionId, Disagreement)> + '_ {
        self.reports.disagreements.iter().map(|(&partition, &found)| (partition, found))
    }
}
