//! Disks that fail, are lost, go back to what they held earlier, or are copied.

use common::ids::Epoch;
use common::limits::COPIES;
use common::messages::{ProcessId, ServerReport, StoreVerdict};
use common::view::{Assignment, ServerState};

use super::super::net::Place;
use super::super::server::{DiskFault, Server};
use super::super::timeline::{Event, MS, SECOND};
use super::super::world::World;

impl World {
    pub(super) fn fail_disk(&mut self, fault: DiskFault) {
        if let Some(server) = self.some_spareable() {
            self.servers[server].disk_fault = Some(fault);
        }
    }

    /// A disk has failed, and the process stops.
    pub(crate) fn on_disk_failed(&mut self, server: usize) {
        let Some(fault) = self.servers[server].failed else { return };
        let away = self.line.between(10 * MS, 2 * SECOND);
        if fault != DiskFault::Full && self.line.chance(0.5) {
            let reason = format!("{fault:?}");
            let report = ServerReport::StoreFailed { reason };
            let event = Event::Report { sender: self.servers[server].sender(), report };
            self.line.send_in_order(Place::Server(server), Place::Ecs, event);
        }
        self.crash(server, away);
        if fault != DiskFault::Full {
            self.give_up_store(server);
        }
    }

    /// A store failed. Mostly that is noted on the disk; where the disk takes not even that, the store is used again.
    fn give_up_store(&mut self, server: usize) {
        if !self.scenario.stores_wait {
            return self.servers[server].wipe();
        }
        self.truth.counts.syncs_failed += 1;
        self.servers[server].condemned = self.line.chance(0.8);
    }

    /// A server never comes back.
    pub(super) fn lose(&mut self) {
        if self.servers.iter().any(|server| server.lost) {
            return;
        }
        if let Some(index) = self.some_spareable() {
            self.stop(index);
            (self.servers[index].gone, self.servers[index].lost) = (true, true);
        }
    }

    /// Every server runs, uses the newest view, in which it is up, and has a link to the ECS, and no copy is being
    /// moved: no member is about to be taken out for what happened before.
    fn is_calm(&self) -> bool {
        let Some(view) = self.truth.newest() else { return false };
        let stays = |now: &Assignment| now.joining.is_empty() && now.in_sync.len() <= COPIES;
        self.ecs.core.is_some()
            && view.assignments.iter().all(stays)
            && self.servers.iter().filter(|server| server.life > 0 && !server.gone).all(|server| {
                let runs = !server.paused;
                let is_up = view.servers.get(&server.id).is_some_and(|info| info.state == ServerState::Up);
                runs && is_up
                    && server.process.as_ref().is_some_and(|process| {
                        process.linked == Some(self.ecs.life) && process.node.view().number == view.number
                    })
            })
    }

    /// Whether every partition has an in-sync member that is whole and none of `losers`.
    fn is_kept_without(&self, losers: &[usize]) -> bool {
        let Some(newest) = self.truth.newest() else { return false };
        // One that is on its way to the disk of the ECS may be the newest a moment later.
        [Some(newest), self.ecs.writing()].into_iter().flatten().all(|view| {
            view.iter().all(|(partition, _)| {
                let in_sync = self.in_sync_of(view, partition);
                in_sync
                    .iter()
                    .any(|index| !losers.contains(index) && self.servers[*index].is_whole(partition))
            })
        })
    }

    pub(super) fn one_goes_back(&mut self) {
        let Some(server) = self.some_running().filter(|_| self.is_calm()) else { return };
        if self.is_kept_without(&[server]) {
            let away = self.line.between(MS, 2 * SECOND);
            self.crash(server, away);
            self.go_back(server);
        }
    }

    pub(super) fn all_restart_and_some_go_back(&mut self) {
        if !self.is_calm() {
            return;
        }
        let mut running = self.running();
        let losers = self.losers_of(&mut running);
        if self.line.chance(0.5) {
            self.crash_ecs(10 * MS, 2 * SECOND);
        }
        for server in running {
            let longest = if self.line.chance(0.2) { 5 * SECOND } else { SECOND };
            let away = self.line.between(MS, longest);
            self.crash(server, away);
        }
        for server in losers {
            self.go_back(server);
        }
    }

    /// Some of them, in a random order, so that one in-sync member of every partition keeps all.
    fn losers_of(&mut self, running: &mut [usize]) -> Vec<usize> {
        self.line.rng.shuffle(running);
        let most = self.line.rng.usize(1..=running.len());
        let mut losers = Vec::new();
        for &server in running.iter().take(most) {
            losers.push(server);
            if !self.is_kept_without(&losers) {
                losers.pop();
            }
        }
        losers
    }

    fn newest_epochs(&self) -> Vec<Epoch> {
        let view = self.truth.newest().expect("some server coordinates");
        view.assignments.iter().map(|assignment| assignment.epoch).collect()
    }

    fn go_back(&mut self, server: usize) {
        let epochs = self.newest_epochs();
        self.truth.goes_back = true;
        self.servers[server].go_back(&mut self.line, &epochs);
    }

    /// All servers die, or those alone whose logs end early when they come back.
    pub(super) fn last_batches_are_lost(&mut self) {
        if !self.is_calm() {
            return;
        }
        let mut running = self.running();
        let losers = self.losers_of(&mut running);
        let dying = if self.line.chance(0.6) { running } else { losers.clone() };
        for server in dying {
            let longest = if self.line.chance(0.2) { 5 * SECOND } else { SECOND };
            let away = self.line.between(MS, longest);
            self.crash(server, away);
        }
        let epochs = self.newest_epochs();
        for server in losers {
            self.truth.goes_back = true;
            let batches = self.servers[server].lose_batches(&mut self.line, &epochs);
            self.truth.counts.batches_lost += u64::from(batches > 0);
        }
    }

    /// All disks give errors for a while, from about the same moment on.
    pub(super) fn all_disks_fail(&mut self) {
        let lasts = self.line.between(300 * MS, 3 * SECOND);
        for server in &mut self.servers {
            server.fails_until = self.line.now + lasts + self.line.between(0, 300 * MS);
        }
    }

    /// The ECS says what becomes of a store with which a server waits.
    pub(crate) fn on_verdict(&mut self, server: usize, process: ProcessId, verdict: &StoreVerdict) {
        let waiting = &mut self.servers[server];
        if !waiting.waits || waiting.sender() != process {
            return;
        }
        match verdict {
            StoreVerdict::Keep { .. } => {
                self.truth.counts.kept += 1;
                waiting.keeps = true;
            }
            StoreVerdict::SetAside {} => {
                assert!(
                    self.is_kept_without(&[server]),
                    "R3: server {server} sets its store aside, and no other member of some partition is whole"
                );
                self.truth.counts.set_aside += 1;
                let away = self.line.between(MS, 300 * MS);
                self.crash(server, away);
                self.servers[server].wipe();
            }
        }
    }

    /// An operator takes all stores back that wait, where those of all in-sync copies of some partition do; and at
    /// times one though nothing asks for it.
    pub(crate) fn take_stores_back(&mut self) {
        let next = self.line.between(500 * MS, 3 * SECOND);
        self.line.after(next, Event::TakeStoresBack);
        let Some(view) = self.truth.newest().cloned() else { return };
        let keeps = |index: &usize| self.servers[*index].waits && self.servers[*index].keeps;
        let kept: Vec<usize> = (0..self.servers.len()).filter(keeps).collect();
        let is_offline = view.iter().any(|(partition, _)| self.in_sync(partition).iter().all(keeps));
        let hasty = self.line.chance(0.03);
        for server in kept {
            if is_offline || hasty {
                self.truth.counts.reinstated += 1;
                let away = self.line.between(10 * MS, SECOND);
                self.crash(server, away);
                self.servers[server].reinstate();
            }
        }
    }

    /// V4a: a partition has gone on without a copy that has entries which no other copy has. An operator gives the
    /// server an empty directory, as its coordinator says, once no partition has its only whole copy there.
    pub(crate) fn replace_those_aside(&mut self) {
        for reason in std::mem::take(&mut self.truth.kept_aside) {
            let named = |server: &Server| {
                server.process.is_some() && reason.contains(&format!("server {} holds", server.id.short()))
            };
            let Some(server) = self.servers.iter().position(named) else { continue };
            if !self.is_kept_without(&[server]) {
                self.truth.kept_aside.push(reason);
                continue;
            }
            self.truth.counts.kept_aside += 1;
            let away = self.line.between(10 * MS, SECOND);
            self.crash(server, away);
            self.servers[server].wipe();
        }
    }

    /// The ECS runs on an older directory for a while.
    pub(super) fn ecs_goes_back(&mut self) {
        self.crash_ecs(MS, 500 * MS);
        // No server misses a view that none has seen.
        let newest = self.truth.newest().map(|view| view.number);
        let used = self.servers.iter().filter_map(|server| server.process.as_ref());
        let is_seen = used.map(|process| process.node.view().number).max() == newest;
        if !is_seen || !self.ecs.go_back(&mut self.line) {
            return;
        }
        self.truth.counts.ecs_went_back += 1;
        let lasts = self.line.between(SECOND, 4 * SECOND);
        self.line.after(lasts, Event::EcsRestored);
    }

    /// A copy of a server's directory is started beside it; at times the original dies or stands still then.
    pub(super) fn start_twin(&mut self) {
        let Some(server) = self.some_running().filter(|_| self.is_calm()) else { return };
        let id = self.servers[server].id;
        let alone = self.servers.iter().all(|other| other.index == server || other.id != id || other.gone);
        if !alone || !self.is_kept_without(&[server]) {
            return;
        }
        self.truth.goes_back = true;
        let index = self.servers.len();
        let twin = self.servers[server].twin(index, &mut self.line);
        self.servers.push(twin);
        self.line.note(|| format!("  s{index} is a copy of s{server}"));
        let before = self.line.between(0, 500 * MS);
        self.line.after(before, Event::Start { server: index });
        let away = self.line.between(100 * MS, 3 * SECOND);
        match self.line.between(0, 2) {
            0 => self.crash(server, away),
            1 => {
                self.servers[server].paused = true;
                self.line.after(away, Event::Resume { server });
            }
            _ => {}
        }
    }

    /// The ECS has refused a process, which has done nothing yet: an operator gives its directory a new store id.
    pub(crate) fn on_refused(&mut self, server: usize) {
        if std::mem::take(&mut self.servers[server].refused) {
            self.stop(server);
            let id = self.servers[server].id;
            if self.servers.iter().any(|other| other.index != server && other.id == id && !other.gone) {
                // One of the two is enough.
                self.servers[server].gone = true;
                return;
            }
            self.servers[server].renew();
            let away = self.line.between(100 * MS, SECOND);
            self.line.after(away, Event::Start { server });
        }
    }
}
