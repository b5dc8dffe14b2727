//! The kinds of request, and their shares.

use clap::ValueEnum;
use fastrand::Rng;

use super::keys::Distribution;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Read a key that is there.
    Get,
    /// Write a key that is there.
    Put,
    /// Write a key that was not there.
    Insert,
    /// Read up to a hundred keys that follow one.
    Scan,
    /// Read a key, and write it if it has not changed meanwhile; else read it again.
    Update,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Get, Self::Put, Self::Insert, Self::Scan, Self::Update];

    /// As results name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::Update => "read_modify_write",
        }
    }
}

/// The core workloads of YCSB (Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC 2010, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// Half gets, half puts
    A,
    /// 95 gets, 5 puts in a hundred
    B,
    /// Gets only
    C,
    /// 95 gets, of the newest keys most, and 5 inserts
    D,
    /// 95 scans of up to 100 keys, and 5 inserts
    E,
    /// Half gets, half read-modify-writes by compare-and-set
    F,
}

impl Workload {
    pub(super) fn mix(self) -> Mix {
        let shares: &[(Kind, u8)] = match self {
            Self::A => &[(Kind::Get, 50), (Kind::Put, 50)],
            Self::B => &[(Kind::Get, 95), (Kind::Put, 5)],
            Self::C => &[(Kind::Get, 100)],
            Self::D => &[(Kind::Get, 95), (Kind::Insert, 5)],
            Self::E => &[(Kind::Scan, 95), (Kind::Insert, 5)],
            Self::F => &[(Kind::Get, 50), (Kind::Update, 50)],
        };
        Mix(shares.to_vec())
    }

    pub(super) fn distribution(self) -> Distribution {
        match self {
            Self::D => Distribution::Latest,
            _ => Distribution::Zipfian,
        }
    }

    pub(super) fn name(self) -> &'static str {
        ["a", "b", "c", "d", "e", "f"][self as usize]
    }
}

/// Shares of kinds, in a hundred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mix(Vec<(Kind, u8)>);

impl Mix {
    /// Gets, and puts for the rest.
    pub(super) fn of_reads(percent: u8) -> Self {
        let shares = [(Kind::Get, percent), (Kind::Put, 100 - percent)];
        Self(shares.into_iter().filter(|(_, share)| *share > 0).collect())
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.0.iter().map(|(kind, _)| *kind)
    }

    pub(super) fn shares(&self) -> &[(Kind, u8)] {
        &self.0
    }

    /// Whether requests read keys that have to be there.
    pub(super) fn reads(&self) -> bool {
        self.kinds().any(|kind| matches!(kind, Kind::Get | Kind::Scan | Kind::Update))
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> Kind {
        let mut place = rng.u8(..100);
        for (kind, share) in &self.0 {
            if place < *share {
                return *kind;
            }
            place -= share;
        }
        unreachable!("the shares of a mix are a hundred")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_drawn_in_their_shares() {
        let mixes = Workload::value_variants().iter().map(|workload| workload.mix());
        for mix in mixes.chain([Mix::of_reads(0), Mix::of_reads(30), Mix::of_reads(100)]) {
            assert_eq!(mix.shares().iter().map(|(_, share)| u32::from(*share)).sum::<u32>(), 100);
            let mut rng = Rng::with_seed(7);
            let drawn: Vec<Kind> = (0..100_000).map(|_| mix.draw(&mut rng)).collect();
            for kind in Kind::ALL {
                let share =
                    mix.shares().iter().find(|(other, _)| *other == kind).map_or(0, |(_, share)| *share);
                let found = drawn.iter().filter(|other| **other == kind).count();
                assert!(found.abs_diff(usize::from(share) * 1000) < 700, "{kind:?} of {mix:?}: {found}");
            }
        }
    }
}
