//! The faults of a run, chosen by its seed.

mod disks;
mod links;
mod orders;

use ecs_core::{Order, Unfit};

use super::net::{Place, Weather};
use super::scenario::Fault;
use super::server::DiskFault;
use super::timeline::{Event, MS, Micros, SECOND};
use super::world::World;
use orders::checked;

/// A process has heard by then of other clocks than its own.
const CLOCKS_KNOWN_AFTER: Micros = 1_500 * MS;

impl World {
    /// The next fault, and when the one after it comes.
    pub(super) fn on_fault(&mut self) {
        if self.line.now >= self.scenario.heal_at || self.scenario.faults.is_empty() {
            return;
        }
        let (shortest, longest) = self.scenario.fault_every;
        let pause = self.line.between(shortest, longest);
        self.line.after(pause, Event::Fault);
        let fault = self.scenario.faults[self.line.rng.usize(0..self.scenario.faults.len())];
        self.line.note(|| format!("  fault: {fault:?}"));
        self.strike(fault);
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::CrashShort => self.crash_some(MS, 250 * MS),
            Fault::CrashLong => self.crash_some(SECOND, 4 * SECOND),
            Fault::CrashAll => {
                for server in self.running() {
                    let away = self.line.between(MS, 1_500 * MS);
                    self.crash(server, away);
                }
            }
            Fault::CrashCoordinator => {
                if let Some(server) = self.some_coordinator() {
                    let away = self.line.between(MS, 800 * MS);
                    self.crash(server, away);
                }
            }
            Fault::Pause => {
                if let Some(server) = self.some_running() {
                    self.servers[server].paused = true;
                    let away = self.line.between(20 * MS, 2_500 * MS);
                    self.line.after(away, Event::Resume { server });
                }
            }
            Fault::ClockJump => {
                let steady = self.some_running().filter(|server| {
                    self.line.now > self.servers[*server].started + CLOCKS_KNOWN_AFTER
                        && self.servers.iter().all(|server| server.wall_jump_ms == 0)
                });
                let Some(server) = steady else { return };
                let far = i64::try_from(self.line.between(5_000, 365 * 86_400_000)).expect("a year");
                self.servers[server].wall_jump_ms = if self.line.chance(0.5) { far } else { -far };
                let lasts = self.line.between(100 * MS, 3 * SECOND);
                self.line.after(lasts, Event::ClockRight { server });
            }
            Fault::CutPair => {
                let (one, two) = (self.some_place(), self.some_place());
                self.cut_both_or_one(&[(one, two)]);
            }
            Fault::Isolate => {
                let one = self.some_place();
                let others = (0..self.servers.len()).map(Place::Server).filter(|&other| other != one);
                let links: Vec<_> = others.map(|other| (one, other)).collect();
                self.cut_both_or_one(&links);
            }
            Fault::Ring => {
                let mut places: Vec<Place> = (0..self.servers.len()).map(Place::Server).collect();
                self.line.rng.shuffle(&mut places);
                let next = places.iter().cycle().skip(1);
                let links: Vec<_> = places.iter().copied().zip(next.copied()).collect();
                self.cut_both_or_one(&links);
            }
            Fault::Flap => self.flap(),
            Fault::Split => {
                let one = self.some_coordinator().map_or_else(|| self.some_place(), Place::Server);
                let pair = [one, self.some_place()];
                let rest = (0..self.servers.len()).map(Place::Server).chain([Place::Ecs]);
                let rest: Vec<Place> = rest.filter(|place| !pair.contains(place)).collect();
                let links =
                    pair.iter().flat_map(|&inside| rest.iter().map(move |&outside| (inside, outside)));
                self.cut_both_or_one(&links.collect::<Vec<_>>());
            }
            Fault::CutEcs => {
                let one = self.some_coordinator().map_or_else(|| self.some_place(), Place::Server);
                self.cut_both_or_one(&[(one, Place::Ecs)]);
            }
            Fault::Halves => {
                let away: Vec<usize> = (0..self.servers.len()).filter(|_| self.line.chance(0.5)).collect();
                let lasts = self.line.between(500 * MS, 3 * SECOND);
                self.split(&away, lasts);
            }
            Fault::CutEcsAndOne => {
                let Some(server) = self.some_coordinator() else { return };
                let (one, other) = (Place::Server(server), self.some_place());
                let lasts = self.line.between(1_200 * MS, 3 * SECOND);
                self.cut(vec![(one, Place::Ecs), (Place::Ecs, one), (one, other), (other, one)], lasts);
            }
            Fault::CutClients => {
                let one = self.some_place();
                self.cut_both_or_one(&[(one, Place::Clients)]);
            }
            Fault::Storm => {
                self.line.net.weather = Weather::STORM;
                let lasts = self.line.between(100 * MS, 1_500 * MS);
                self.line.after(lasts, Event::Calm);
            }
            Fault::EcsCrash => {
                self.crash_ecs(10 * MS, 2_500 * MS);
            }
            Fault::Join => self.join(),
            Fault::Leave => self.leave(),
            Fault::TakeBack => self.order(|ecs, _, _| ecs.states_before(&[])),
            Fault::Add => {
                self.order(|ecs, standing, _| checked(ecs, Order::Add(standing.ok_or(Unfit::Last)?)))
            }
            Fault::Replace => self.order(|ecs, standing, serving| {
                let (old, new) = serving.zip(standing).ok_or(Unfit::Last)?;
                checked(ecs, Order::Replace { old, new })
            }),
            Fault::Hold => {
                self.ecs.hold(&mut self.line, &mut self.truth, true);
                let lasts = self.line.between(100 * MS, 2 * SECOND);
                self.line.after(lasts, Event::LetGo);
            }
            Fault::CutEcsThenCrash => self.cut_ecs_then_crash(),
            Fault::CutEcsAndSlow => self.cut_ecs_and_slow(),
            Fault::Lose => self.lose(),
            Fault::EcsCrashThenCrash => {
                self.crash_ecs(800 * MS, 2_500 * MS);
                if let Some(server) = self.some_coordinator() {
                    let before = self.line.between(0, 300 * MS);
                    let away = self.line.between(MS, 40 * MS);
                    self.line.after(before, Event::CrashAt { server, away });
                }
            }
            Fault::Wipe => {
                if let Some(server) = self.some_spareable() {
                    let away = self.line.between(10 * MS, 2 * SECOND);
                    self.crash(server, away);
                    self.servers[server].wipe();
                }
            }
            Fault::DiskFull => self.fail_disk(DiskFault::Full),
            Fault::SyncFails => self.fail_disk(DiskFault::Sync),
            Fault::Rot => self.fail_disk(DiskFault::Rot),
            Fault::Misread => {
                if let Some(server) = self.some_running() {
                    self.truth.misread = true;
                    let lasts = self.line.between(300 * MS, 2 * SECOND);
                    self.servers[server].misreads_until = self.line.now + lasts;
                }
            }
            Fault::SlowDisk | Fault::NoRoom => {
                if let Some(server) = self.some_running() {
                    let lasts = self.line.between(SECOND, 15 * SECOND);
                    let gray = &mut self.servers[server].gray;
                    let until =
                        if fault == Fault::SlowDisk { &mut gray.slow_until } else { &mut gray.full_until };
                    *until = self.line.now + lasts;
                }
            }
            Fault::PowerLoss => {
                let running: Vec<usize> = (0..self.servers.len())
                    .filter(|&server| self.servers[server].process.is_some())
                    .collect();
                for server in running {
                    let away = self.line.between(100 * MS, 1_500 * MS);
                    self.crash(server, away);
                }
                self.crash_ecs(10 * MS, 2_000 * MS);
            }
            Fault::EcsPause => {
                self.ecs.paused = true;
                let away = self.line.between(20 * MS, 3_000 * MS);
                self.line.after(away, Event::EcsResume);
            }
            Fault::CrashSource | Fault::CrashJoiner | Fault::LeaveInTransfer => {
                let Some((source, joiner)) = self.some_transfer() else { return };
                match fault {
                    Fault::LeaveInTransfer => {
                        let server = if self.line.chance(0.5) { source } else { joiner };
                        self.leave_as_planned(server);
                    }
                    _ => {
                        let server = if fault == Fault::CrashSource { source } else { joiner };
                        let longest = if self.line.chance(0.5) { 100 * MS } else { 3 * SECOND };
                        let away = self.line.between(MS, longest);
                        self.crash_at(server, away);
                    }
                }
            }
            Fault::StrikeProposers => self.strikes += self.line.between(1, 2),
            Fault::GoBack => self.one_goes_back(),
            Fault::Twin => self.start_twin(),
            Fault::GoBackAll => self.all_restart_and_some_go_back(),
            Fault::LastBatch => self.last_batches_are_lost(),
            Fault::AllDisksFail => self.all_disks_fail(),
            Fault::EcsGoesBack => self.ecs_goes_back(),
            Fault::ThreeInARow => {
                let mut running = self.running();
                self.line.rng.shuffle(&mut running);
                let dead = u64::try_from(self.scenario.timers.dead.as_micros()).expect("seconds");
                let mut after = 0;
                for &server in running.iter().take(3) {
                    let away = self.line.between(SECOND, 4 * SECOND);
                    self.line.after(after, Event::CrashAt { server, away });
                    after += dead / 2 + self.line.between(0, dead);
                }
            }
        }
    }

    /// A server reports a proposal.
    pub(super) fn on_proposed(&mut self, server: usize) {
        if self.strikes == 0 {
            return;
        }
        self.strikes -= 1;
        let before = self.line.between(0, 3 * MS);
        match self.line.between(0, 3) {
            0 => {
                // The members know nothing of the answer, the joiner does.
                let id = self.servers[server].id;
                let view = self.truth.newest().cloned().expect("some server coordinates");
                let own = view.iter().map(|(_, assignment)| assignment).filter(|own| own.coordinator == id);
                let away: Vec<usize> = own
                    .filter(|own| !own.joining.is_empty())
                    .flat_map(|own| own.in_sync.iter().map(|member| self.index_of(member.server)))
                    .collect();
                let lasts = self.line.between(1_200 * MS, 2_500 * MS);
                self.split(&away, lasts);
            }
            1 => {
                // No server hears of the proposal, and the member that it names is gone.
                self.crash_ecs(10 * MS, 600 * MS);
                let joiner = self.some_transfer().filter(|(source, _)| *source == server);
                if let Some((_, joiner)) = joiner.filter(|(_, joiner)| self.is_spareable(*joiner)) {
                    let away = self.line.between(10 * MS, SECOND);
                    self.crash(joiner, away);
                    self.servers[joiner].wipe();
                }
            }
            2 => {
                let away = self.line.between(MS, 2 * SECOND);
                self.line.after(before, Event::CrashAt { server, away });
            }
            _ => {
                let lasts = self.line.between(900 * MS, 2 * SECOND);
                self.line.after(before, Event::LoseEcs { server, lasts });
            }
        }
    }

    /// The source and the member of a copy that is being brought up.
    fn some_transfer(&mut self) -> Option<(usize, usize)> {
        let view = self.truth.newest().cloned()?;
        let joining = view.iter().flat_map(|(_, assignment)| {
            assignment.joining.iter().map(|member| (assignment.coordinator, member.server))
        });
        let joining: Vec<_> = joining.collect();
        let nth = self.line.rng.usize(0..joining.len().max(1));
        joining.get(nth).map(|&(source, joiner)| (self.index_of(source), self.index_of(joiner)))
    }

    fn crash_ecs(&mut self, shortest: Micros, longest: Micros) {
        self.ecs.crash(&mut self.line, &mut self.truth);
        let away = self.line.between(shortest, longest);
        self.line.after(away, Event::EcsStart);
    }

    fn running(&self) -> Vec<usize> {
        let runs = |index: &usize| self.servers[*index].process.is_some() && !self.servers[*index].paused;
        (0..self.servers.len()).filter(runs).collect()
    }

    fn some_running(&mut self) -> Option<usize> {
        let running = self.running();
        (!running.is_empty()).then(|| running[self.line.rng.usize(0..running.len())])
    }

    fn some_place(&mut self) -> Place {
        Place::Server(self.line.rng.usize(0..self.servers.len()))
    }

    fn some_coordinator(&mut self) -> Option<usize> {
        let view = self.truth.newest().cloned()?;
        let nth = self.line.rng.usize(0..view.assignments.len().max(1));
        let server = self.index_of(view.assignments.get(nth)?.coordinator);
        self.servers[server].process.is_some().then_some(server)
    }

    fn crash_some(&mut self, shortest: Micros, longest: Micros) {
        if let Some(server) = self.some_running() {
            let away = self.line.between(shortest, longest);
            self.crash(server, away);
        }
    }

    fn crash(&mut self, server: usize, away: Micros) {
        self.stop(server);
        self.line.after(away, Event::Start { server });
    }

    /// A running server without which all partitions have an in-sync copy that runs.
    fn some_spareable(&mut self) -> Option<usize> {
        let index = self.some_running()?;
        self.is_spareable(index).then_some(index)
    }

    fn is_spareable(&self, index: usize) -> bool {
        let Some(view) = self.truth.newest() else { return false };
        let running = self.running();
        let server = self.servers[index].id;
        let has_others = view.iter().all(|(partition, assignment)| {
            let others = self.in_sync(partition);
            let holds = assignment.in_sync_member(server).is_some();
            !holds || others.iter().any(|other| *other != index && running.contains(other))
        });
        has_others && running.len() > 1 && running.contains(&index)
    }

    /// A server dies now, if it runs.
    pub(super) fn crash_at(&mut self, server: usize, away: Micros) {
        if self.servers[server].process.is_some() {
            self.crash(server, away);
        }
    }
}
