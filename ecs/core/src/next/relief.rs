//! What is done about servers whose disk is slow or full (`disks`): they coordinate nothing while others can, and where
//! there are more servers than copies the others hold their copies as well.
//!
//! A hand-over moves no data and is done at once. It spares reads and refusals; writes still wait for a slow disk as
//! long as it has a copy that counts. To replace that copy moves data, so it is done when the disk does not recover
//! ([`GIVES_UP_AFTER`]), and only while a server more than the copies need is well: with fewer, the next failure would
//! find no place. Those that gave up are needed again when fewer are well than there are copies.

use std::time::Duration;

use common::ids::{PartitionId, ServerId};
use common::status::DiskState;
use common::view::{Assignment, Member, ServerState};

use super::builder::Builder;
use crate::cause::Change;

/// A disk that is slow or full for this long gives its copies to others.
const GIVES_UP_AFTER: Duration = Duration::from_secs(10);

impl Builder<'_> {
    /// Finds the servers whose disk is slow, full or well again.
    pub(super) fn judge_disks(&mut self) {
        let heard = self.view.servers.iter().filter(|(_, info)| info.state != ServerState::Down);
        let servers: Vec<ServerId> = heard.map(|(&server, _)| server).collect();
        for &server in &servers {
            let state = self.facts.reports.disks.state(server);
            let known = self.registry.entry(server).or_default();
            if std::mem::replace(&mut known.disk, state) != state {
                let change = match state {
                    DiskState::Well => Change::DiskWell,
                    DiskState::Slow => Change::DiskSlow,
                    DiskState::Full => Change::DiskFull,
                };
                self.note(server, change, 0);
            }
        }
        let well = servers.iter().filter(|&&server| self.is_well_and_serves(server)).count();
        for server in servers {
            self.rate_copies(server, well);
        }
    }

    /// Decides whether other servers get this server's copies, given how many servers are well.
    fn rate_copies(&mut self, server: ServerId, well: usize) {
        let copies = self.facts.config.copies;
        let Some(known) = self.registry.get_mut(&server) else { return };
        if known.disk == DiskState::Well || (known.gave_up && well < copies) {
            known.gave_up = false;
            return;
        }
        if known.gave_up || known.stands_by || well <= copies {
            return;
        }
        let at =
            self.facts.reports.disks.since(server).map_or(self.facts.now, |since| since + GIVES_UP_AFTER);
        if at > self.facts.now {
            self.wake_at(at);
            return;
        }
        known.gave_up = true;
        self.note(server, Change::GaveUp, 0);
    }

    fn is_well_and_serves(&self, server: ServerId) -> bool {
        let stands_by = self.registry.get(&server).is_some_and(|known| known.stands_by);
        self.view.servers[&server].state == ServerState::Up && !stands_by && !self.is_relieved(server)
    }

    /// Whether the server coordinates nothing while others can.
    pub(super) fn is_relieved(&self, server: ServerId) -> bool {
        self.registry.get(&server).is_some_and(|known| known.disk != DiskState::Well)
    }

    /// The server that is to coordinate a partition, whose copies are not all in place, instead of one with a slow or
    /// full disk.
    pub(super) fn relief(
        &mut self,
        partition: PartitionId,
        now: &Assignment,
        target: &[ServerId],
    ) -> Option<ServerId> {
        if !self.is_relieved(now.coordinator) {
            return None;
        }
        let place = |member: &Member| target.iter().position(|&server| server == member.server);
        let fit = |member: &Member| {
            let is_up =
                self.view.servers.get(&member.server).is_some_and(|info| info.state == ServerState::Up);
            is_up && self.is_well(partition, *member) && !self.is_relieved(member.server)
        };
        let heirs = now.in_sync.iter().filter(|member| fit(member));
        let heir = heirs.min_by_key(|member| place(member).unwrap_or(usize::MAX))?.server;
        if let Some(until) = self.facts.rebalancing.settling.until(partition, self.facts.now) {
            self.wake_at(until);
            return None;
        }
        Some(heir)
    }
}
