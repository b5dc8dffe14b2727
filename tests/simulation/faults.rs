//! The faults of a run, chosen by its seed.

use super::net::{Place, Weather};
use super::scenario::Fault;
use super::timeline::{Event, MS, Micros, SECOND};
use super::world::World;

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
                self.ecs.crash(&mut self.line, &mut self.truth);
                let away = self.line.between(10 * MS, 2_500 * MS);
                self.line.after(away, Event::EcsStart);
            }
            Fault::Join => self.join(),
            Fault::Leave => self.leave(),
            Fault::CutEcsThenCrash => self.cut_ecs_then_crash(),
            Fault::CutEcsAndSlow => self.cut_ecs_and_slow(),
            Fault::Lose => self.lose(),
            Fault::EcsCrashThenCrash => {
                self.ecs.crash(&mut self.line, &mut self.truth);
                let away = self.line.between(800 * MS, 2_500 * MS);
                self.line.after(away, Event::EcsStart);
                if let Some(server) = self.some_coordinator() {
                    let before = self.line.between(0, 300 * MS);
                    self.line.after(before, Event::CrashAt { server });
                }
            }
        }
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

    /// Cuts links in one direction or in both, for a while.
    fn cut_both_or_one(&mut self, links: &[(Place, Place)]) {
        let which = self.line.between(0, 3);
        let there = links.iter().copied().filter(|_| which != 0);
        let back = links.iter().map(|&(one, two)| (two, one)).filter(|_| which != 1);
        let cuts: Vec<_> = there.chain(back).collect();
        let lasts = self.line.between(50 * MS, 3 * SECOND);
        self.cut(cuts, lasts);
    }

    fn cut(&mut self, cuts: Vec<(Place, Place)>, lasts: Micros) {
        self.line.note(|| format!("  cut {cuts:?}"));
        self.line.net.cut(&cuts);
        for &(one, two) in &cuts {
            // The stream to the ECS breaks: there will be another one.
            if let (Place::Server(server), Place::Ecs) | (Place::Ecs, Place::Server(server)) = (one, two)
                && let Some(process) = &mut self.servers[server].process
            {
                process.linked = None;
            }
        }
        self.line.after(lasts, Event::Mend { cuts });
    }

    /// A cut ends; links may be made anew.
    pub(super) fn mend(&mut self, cuts: &[(Place, Place)]) {
        self.line.net.mend(cuts);
        for &(one, two) in cuts {
            if let (Place::Server(one), Place::Server(two)) = (one, two)
                && self.line.chance(0.5)
            {
                let delay = self.line.between(0, 20 * MS);
                self.line.after(delay, Event::Linked { to: one, other: two });
            }
        }
    }

    fn join(&mut self) {
        let away = (0..self.servers.len()).find(|&index| {
            let server = &self.servers[index];
            server.process.is_none() && !server.lost && (server.life == 0 || server.gone)
        });
        if let Some(index) = away {
            self.servers[index].gone = false;
            self.servers[index].leaving = false;
            self.servers[index].start(&mut self.line);
        }
    }

    /// A planned leave, as long as two servers stay.
    fn leave(&mut self) {
        let stays =
            self.servers.iter().filter(|server| server.life > 0 && !server.gone && !server.leaving).count();
        if stays <= 2 {
            return;
        }
        if let Some(index) = self.some_running().filter(|&index| !self.servers[index].leaving) {
            self.servers[index].leaving = true;
            let id = self.servers[index].id;
            self.ecs.leave(&mut self.line, &mut self.truth, id);
        }
    }

    /// A server never comes back.
    fn lose(&mut self) {
        let Some(view) = self.truth.newest().cloned() else { return };
        let running = self.running();
        let Some(index) = self.some_running().filter(|_| !self.servers.iter().any(|server| server.lost))
        else {
            return;
        };
        let member = self.servers[index].id;
        let has_others = view.iter().all(|(_, assignment)| {
            let mut others = assignment.in_sync.iter().filter(|other| other.server != member);
            let holds = assignment.in_sync_member(member).is_some();
            !holds || others.any(|other| running.contains(&self.index_of(other.server)))
        });
        if has_others && running.len() > 1 {
            self.stop(index);
            (self.servers[index].gone, self.servers[index].lost) = (true, true);
        }
    }

    /// The promise of a server that died in between is the only thing in the way of two readers.
    fn cut_ecs_then_crash(&mut self) {
        let Some(cut) = self.some_coordinator() else { return };
        let place = Place::Server(cut);
        let lasts = self.line.between(1_200 * MS, 3 * SECOND);
        self.cut(vec![(place, Place::Ecs), (Place::Ecs, place)], lasts);
        let dead = u64::try_from(self.scenario.timers.dead.as_micros()).expect("seconds");
        for server in self.running().into_iter().filter(|&server| server != cut) {
            let before = self.line.between(0, 150 * MS);
            self.line.after(dead - before, Event::CrashAt { server });
        }
    }

    /// Answers of other servers are older than they seem.
    fn cut_ecs_and_slow(&mut self) {
        let Some(server) = self.some_coordinator() else { return };
        let place = Place::Server(server);
        let lasts = self.line.between(1_200 * MS, 3 * SECOND);
        self.cut(vec![(place, Place::Ecs), (Place::Ecs, place)], lasts);
        let by = self.line.between(100 * MS, 900 * MS);
        self.line.net.slow_down(place, by);
        self.line.after(lasts, Event::Hasten { server });
    }

    /// A server dies now and is back at once.
    pub(super) fn crash_at(&mut self, server: usize) {
        if self.servers[server].process.is_some() {
            let away = self.line.between(MS, 40 * MS);
            self.crash(server, away);
        }
    }
}
