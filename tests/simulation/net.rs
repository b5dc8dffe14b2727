//! The network: who reaches whom, and how late, how often and in which order messages arrive.

use std::collections::BTreeMap;

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
    /// Messages of a pair do not overtake each other.
    pub(crate) in_order: bool,
}

impl Weather {
    pub(crate) const CALM: Self =
        Self { loss: 0.0, duplicates: 0.0, late: 0.0, late_max: MS, in_order: true };
    pub(crate) const ROUGH: Self =
        Self { loss: 0.01, duplicates: 0.02, late: 0.02, late_max: 300 * MS, in_order: false };
    pub(crate) const STORM: Self =
        Self { loss: 0.10, duplicates: 0.10, late: 0.15, late_max: 1_500 * MS, in_order: false };
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// By direction: how many cuts lie over it.
    cuts: BTreeMap<(Place, Place), u32>,
    /// By server: how much later everything from other servers arrives.
    slow_to: BTreeMap<Place, Micros>,
    /// By direction: when the last message in order arrives.
    last: BTreeMap<(Place, Place), Micros>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            weather: Weather::CALM,
            cuts: BTreeMap::new(),
            slow_to: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }
}

impl Network {
    pub(crate) fn passes(&self, from: Place, to: Place) -> bool {
        !self.cuts.contains_key(&(from, to))
    }

    pub(crate) fn cut(&mut self, cuts: &[(Place, Place)]) {
        for &cut in cuts {
            *self.cuts.entry(cut).or_default() += 1;
        }
    }

    /// Ends one cut in each of these directions.
    pub(crate) fn mend(&mut self, cuts: &[(Place, Place)]) {
        for cut in cuts {
            if let Some(count) = self.cuts.get_mut(cut) {
                *count -= 1;
                if *count == 0 {
                    self.cuts.remove(cut);
                }
            }
        }
    }

    pub(crate) fn mend_all(&mut self) {
        self.cuts.clear();
        self.slow_to.clear();
    }

    /// Everything that servers send to this one comes so much later, until this is set to 0.
    pub(crate) fn slow_down(&mut self, to: Place, by: Micros) {
        self.slow_to.insert(to, by);
    }

    pub(crate) fn slowness(&self, from: Place, to: Place) -> Micros {
        let between_servers = matches!((from, to), (Place::Server(_), Place::Server(_)));
        self.slow_to.get(&to).copied().filter(|_| between_servers).unwrap_or_default()
    }

    pub(crate) fn delay(&self, rng: &mut Rng) -> Micros {
        let usual = rng.u64(50..=600);
        let is_late = self.weather.late > 0.0 && rng.f64() < self.weather.late;
        if is_late { usual + heavy_tailed(rng, self.weather.late_max) } else { usual }
    }

    /// When a message that would arrive at `at` arrives behind those before it.
    pub(crate) fn in_order(&mut self, from: Place, to: Place, at: Micros) -> Micros {
        let last = self.last.entry((from, to)).or_default();
        *last = at.max(*last);
        *last
    }
}

/// Mostly short, sometimes up to `max`: small and large delays are equally likely on a logarithmic scale.
pub(crate) fn heavy_tailed(rng: &mut Rng, max: Micros) -> Micros {
    let exponent = rng.f64() * (max.max(2) as f64).ln();
    exponent.exp() as Micros
}
