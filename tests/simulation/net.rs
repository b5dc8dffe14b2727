//! The network: which process reaches which, and how late, how often and in which order messages arrive.

use fastrand::Rng;

use super::timeline::{MS, Micros};

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A server by its index.
    Server(usize),
    /// The configuration service.
    Ecs,
    /// All clients.
    Clients,
}

/// Places that there are at most: the ECS, the clients, and servers.
const PLACES: usize = 16;

impl Place {
    fn index(self) -> usize {
        match self {
            Self::Ecs => 0,
            Self::Clients => 1,
            Self::Server(server) => server + 2,
        }
    }
}

/// The index of a direction.
fn direction(from: Place, to: Place) -> usize {
    from.index() * PLACES + to.index()
}

/// How messages between servers fare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Share of messages that are lost.
    pub(crate) loss: f64,
    /// Share of messages that arrive twice.
    pub(crate) duplicates: f64,
    /// Share of messages that are very late.
    pub(crate) late: f64,
    /// How late those are at most.
    pub(crate) late_max: Micros,
    /// How late those are at least; then all between are as likely.
    pub(crate) late_min: Micros,
    /// Messages of a pair do not overtake each other.
    pub(crate) in_order: bool,
}

impl Weather {
    pub(crate) const CALM: Self =
        Self { loss: 0.0, duplicates: 0.0, late: 0.0, late_min: 0, late_max: MS, in_order: true };
    pub(crate) const ROUGH: Self =
        Self { loss: 0.01, duplicates: 0.02, late: 0.02, late_min: 0, late_max: 300 * MS, in_order: false };
    pub(crate) const STORM: Self =
        Self { loss: 0.10, duplicates: 0.10, late: 0.15, late_min: 0, late_max: 1_500 * MS, in_order: false };
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// By direction: how many cuts lie over it.
    cuts: Vec<u32>,
    /// By place: how much later everything from other servers arrives.
    slow_to: Vec<Micros>,
    /// By direction: when the last message in order arrives.
    last: Vec<Micros>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            weather: Weather::CALM,
            cuts: vec![0; PLACES * PLACES],
            slow_to: vec![0; PLACES],
            last: vec![0; PLACES * PLACES],
        }
    }
}

impl Network {
    pub(crate) fn passes(&self, from: Place, to: Place) -> bool {
        self.cuts[direction(from, to)] == 0
    }

    pub(crate) fn cut(&mut self, cuts: &[(Place, Place)]) {
        for &(from, to) in cuts {
            self.cuts[direction(from, to)] += 1;
        }
    }

    /// Ends one cut in each of these directions.
    pub(crate) fn mend(&mut self, cuts: &[(Place, Place)]) {
        for &(from, to) in cuts {
            let count = &mut self.cuts[direction(from, to)];
            *count = count.saturating_sub(1);
        }
    }

    pub(crate) fn mend_all(&mut self) {
        self.cuts.fill(0);
        self.slow_to.fill(0);
    }

    /// Everything that servers send to this one comes so much later, until this is set to 0.
    pub(crate) fn slow_down(&mut self, to: Place, by: Micros) {
        self.slow_to[to.index()] = by;
    }

    pub(crate) fn slowness(&self, from: Place, to: Place) -> Micros {
        let between_servers = matches!((from, to), (Place::Server(_), Place::Server(_)));
        if between_servers { self.slow_to[to.index()] } else { 0 }
    }

    pub(crate) fn delay(&self, rng: &mut Rng) -> Micros {
        let usual = rng.u64(50..=600);
        let is_late = self.weather.late > 0.0 && rng.f64() < self.weather.late;
        let Weather { late_min, late_max, .. } = self.weather;
        match (is_late, late_min) {
            (false, _) => usual,
            (true, 0) => usual + heavy_tailed(rng, late_max),
            (true, _) => usual + rng.u64(late_min..=late_max),
        }
    }

    /// When a message that would arrive at `at` arrives behind those before it.
    pub(crate) fn in_order(&mut self, from: Place, to: Place, at: Micros) -> Micros {
        let last = &mut self.last[direction(from, to)];
        *last = at.max(*last);
        *last
    }
}

/// Mostly short, sometimes up to `max`: small and large delays are equally likely on a logarithmic scale.
pub(crate) fn heavy_tailed(rng: &mut Rng, max: Micros) -> Micros {
    let exponent = rng.f64() * (max.max(2) as f64).ln();
    exponent.exp() as Micros
}
