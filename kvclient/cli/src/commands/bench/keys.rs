//! The choice of keys for requests.

use std::collections::BTreeSet;

use clap::ValueEnum;
use fastrand::Rng;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Distribution {
    /// All alike
    Uniform,
    /// A few most of the time; which they are does not matter, as the ring spreads neighbours
    Zipfian,
    /// The newest most of the time
    Latest,
}

impl Distribution {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipfian => "zipfian",
            Self::Latest => "latest",
        }
    }
}

/// Keys by number, and a choice among those that are there. Keys that are being inserted are not there yet.
#[derive(Debug)]
pub(super) struct Keys {
    distribution: Distribution,
    zipfian: Option<Zipfian>,
    /// Keys `0..there` are there.
    there: u64,
    /// The number of the next insert.
    next: u64,
    /// Inserts from `there` on that have ended, out of their order.
    ended: BTreeSet<u64>,
}

impl Keys {
    /// Begins with `count` keys, at least one.
    pub(super) fn new(count: u64, distribution: Distribution, theta: f64) -> Self {
        let zipfian = (distribution != Distribution::Uniform).then(|| Zipfian::new(count, theta));
        Self { distribution, zipfian, there: count, next: count, ended: BTreeSet::new() }
    }

    /// Chooses a key that is there.
    pub(super) fn choose(&mut self, rng: &mut Rng) -> u64 {
        let Some(zipfian) = &mut self.zipfian else { return rng.u64(..self.there) };
        zipfian.grow(self.there);
        let rank = zipfian.rank(rng.f64());
        if self.distribution == Distribution::Latest { self.there - 1 - rank } else { rank }
    }

    /// The key of an insert that begins.
    pub(super) fn insert(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// An insert has ended. The key is there as soon as all before it have ended too, so that what is there has no gap.
    pub(super) fn inserted(&mut self, key: u64) {
        self.ended.insert(key);
        while self.ended.remove(&self.there) {
            self.there += 1;
        }
    }
}

/// Ranks from 0 on, of which rank `r` comes with a probability near `1 / (r + 1)^theta`, in constant time (Gray et al.,
/// "Quickly generating billion-record synthetic databases", SIGMOD 1994, section 3.2; the generator of YCSB).
#[derive(Debug)]
struct Zipfian {
    items: u64,
    theta: f64,
    /// The sum of `1 / i^theta` for `i` in `1..=items`.
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    fn new(items: u64, theta: f64) -> Self {
        let mut zipfian = Self { items: 0, theta, zeta: 0.0, eta: 0.0 };
        zipfian.grow(items);
        zipfian
    }

    /// Grows to `items` ranks, at least as many as before.
    fn grow(&mut self, items: u64) {
        if items == self.items {
            return;
        }
        self.zeta += (self.items + 1..=items).map(|i| (i as f64).powf(-self.theta)).sum::<f64>();
        self.items = items;
        let zeta_of_two = 1.0 + 0.5_f64.powf(self.theta);
        self.eta = (1.0 - (2.0 / items as f64).powf(1.0 - self.theta)) / (1.0 - zeta_of_two / self.zeta);
    }

    /// The rank for `uniform`, drawn evenly from 0 to 1.
    fn rank(&self, uniform: f64) -> u64 {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.theta) {
            return 1.min(self.items - 1);
        }
        let share = (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - self.theta));
        ((self.items as f64 * share) as u64).min(self.items - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    /// How often each of `keys` keys was drawn.
    fn drawn(keys: u64, distribution: Distribution, theta: f64) -> Vec<u32> {
        let mut rng = Rng::with_seed(11);
        let mut chooser = Keys::new(keys, distribution, theta);
        let mut counts = vec![0; usize::try_from(keys).unwrap()];
        for _ in 0..DRAWS {
            counts[usize::try_from(chooser.choose(&mut rng)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn zipfian_ranks_come_as_often_as_they_should() {
        for (keys, theta) in [(1000, 0.99), (1000, 0.5), (50_000, 0.99)] {
            let counts = drawn(keys, Distribution::Zipfian, theta);
            let weight = |rank: usize| ((rank + 1) as f64).powf(-theta);
            let zeta: f64 = (0..counts.len()).map(weight).sum();
            for first in [1, 2, 10, 100, 500] {
                let expected = (0..first).map(weight).sum::<f64>() / zeta;
                let found = f64::from(counts[..first].iter().sum::<u32>()) / f64::from(DRAWS);
                // The method is exact for the first two ranks and close for the others.
                let off = if first <= 2 { 0.005 } else { 0.03 };
                assert!(
                    (found - expected).abs() < off,
                    "first {first} of {keys}, {theta}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn latest_is_zipfian_from_the_end_and_uniform_is_even() {
        let mut latest = drawn(300, Distribution::Latest, 0.99);
        latest.reverse();
        assert_eq!(latest, drawn(300, Distribution::Zipfian, 0.99));
        let even = drawn(100, Distribution::Uniform, 0.99);
        assert!(even.iter().all(|count| count.abs_diff(DRAWS / 100) < 300), "{even:?}");
    }

    #[test]
    fn one_and_two_keys_are_enough() {
        for distribution in Distribution::value_variants() {
            assert_eq!(drawn(1, *distribution, 0.99), [DRAWS]);
            assert!(drawn(2, *distribution, 0.99).iter().all(|count| *count > DRAWS / 4));
        }
    }

    #[test]
    fn a_generator_that_grew_is_that_of_its_size() {
        let mut grown = Zipfian::new(10, 0.99);
        for items in 11..=500 {
            grown.grow(items);
        }
        let whole = Zipfian::new(500, 0.99);
        assert!((grown.zeta - whole.zeta).abs() < 1e-9 && (grown.eta - whole.eta).abs() < 1e-9);
        assert_eq!(grown.rank(0.999_999_9), 499);
    }

    #[test]
    fn inserted_keys_are_there_without_a_gap() {
        let mut keys = Keys::new(5, Distribution::Latest, 0.99);
        assert_eq!([keys.insert(), keys.insert(), keys.insert()], [5, 6, 7]);
        keys.inserted(6);
        keys.inserted(7);
        assert_eq!(keys.there, 5);
        keys.inserted(5);
        assert_eq!((keys.there, keys.insert(), keys.ended.len()), (8, 8, 0));
        let mut rng = Rng::with_seed(1);
        let newest = (0..1000).filter(|_| keys.choose(&mut rng) == 7).count();
        assert!(newest > 200, "{newest}");
    }
}
