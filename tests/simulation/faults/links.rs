//! Links that are cut, slow, or come and go.

use super::super::net::Place;
use super::super::timeline::{Event, MS, Micros, SECOND};
use super::super::world::World;

impl World {
    /// Separates servers from the others and from the ECS.
    pub(super) fn split(&mut self, away: &[usize], lasts: Micros) {
        let others = (0..self.servers.len()).filter(|other| !away.contains(other)).map(Place::Server);
        let others: Vec<Place> = others.chain([Place::Ecs]).collect();
        let links = away.iter().flat_map(|&one| others.iter().map(move |&other| (Place::Server(one), other)));
        let cuts = links.flat_map(|(one, other)| [(one, other), (other, one)]).collect();
        self.cut(cuts, lasts);
    }

    /// A server and the ECS no longer reach each other.
    pub(crate) fn lose_ecs(&mut self, server: usize, lasts: Micros) {
        let place = Place::Server(server);
        self.cut(vec![(place, Place::Ecs), (Place::Ecs, place)], lasts);
    }

    /// Cuts links in one direction or in both, for a while.
    pub(super) fn cut_both_or_one(&mut self, links: &[(Place, Place)]) {
        let which = self.line.between(0, 3);
        let there = links.iter().copied().filter(|_| which != 0);
        let back = links.iter().map(|&(one, two)| (two, one)).filter(|_| which != 1);
        let cuts: Vec<_> = there.chain(back).collect();
        let lasts = self.line.between(50 * MS, 3 * SECOND);
        self.cut(cuts, lasts);
    }

    /// The links of a server, or one of them, come and go.
    pub(super) fn flap(&mut self) {
        let one = self.some_place();
        let others: Vec<Place> =
            (0..self.servers.len()).map(Place::Server).filter(|&other| other != one).collect();
        let others = if self.line.chance(0.5) { &others[..1] } else { &others[..] };
        let cuts: Vec<_> = others.iter().flat_map(|&other| [(one, other), (other, one)]).collect();
        let (lasts, well) = (self.line.between(200 * MS, SECOND), self.line.between(200 * MS, SECOND));
        for turn in 0..4 {
            self.line.after(turn * (lasts + well), Event::Cut { cuts: cuts.clone(), lasts });
        }
    }

    pub(crate) fn cut(&mut self, cuts: Vec<(Place, Place)>, lasts: Micros) {
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
    pub(crate) fn mend(&mut self, cuts: &[(Place, Place)]) {
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

    /// The promise of a server that died in between is the only thing in the way of two readers.
    pub(super) fn cut_ecs_then_crash(&mut self) {
        let Some(cut) = self.some_coordinator() else { return };
        let place = Place::Server(cut);
        let lasts = self.line.between(1_200 * MS, 3 * SECOND);
        self.cut(vec![(place, Place::Ecs), (Place::Ecs, place)], lasts);
        let dead = u64::try_from(self.scenario.timers.dead.as_micros()).expect("seconds");
        for server in self.running().into_iter().filter(|&server| server != cut) {
            let before = self.line.between(0, 150 * MS);
            let away = self.line.between(MS, 40 * MS);
            self.line.after(dead - before, Event::CrashAt { server, away });
        }
    }

    /// Answers of other servers are older than they seem.
    pub(super) fn cut_ecs_and_slow(&mut self) {
        let Some(server) = self.some_coordinator() else { return };
        let place = Place::Server(server);
        let lasts = self.line.between(1_200 * MS, 3 * SECOND);
        self.cut(vec![(place, Place::Ecs), (Place::Ecs, place)], lasts);
        let by = self.line.between(100 * MS, 900 * MS);
        self.line.net.slow_down(place, by);
        self.line.after(lasts, Event::Hasten { server });
    }
}
