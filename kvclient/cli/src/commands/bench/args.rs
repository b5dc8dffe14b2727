//! The arguments of `bench`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use common::limits::VALUE_BYTES_MAX;

use super::keys::Distribution;
use super::workload::{Kind, Mix, Workload};
use crate::limits::{BENCH_IN_FLIGHT_MAX, BENCH_RATE_MAX};

/// `kvclient bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Clients, each with connections of its own
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub(super) clients: usize,
    /// All clients share one set of connections
    #[arg(long)]
    pub(super) shared: bool,
    /// Requests in flight for each client; with --rate, at most
    #[arg(
        long,
        value_name = "D",
        default_value_t = 1,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000)
    )]
    pub(super) pipeline: usize,
    /// Requests a second of all clients together, due at even times whether or not others are answered
    /// (an open loop); latencies count from when a request was due
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=BENCH_RATE_MAX))]
    pub(super) rate: Option<u64>,
    /// How long to measure; Ctrl-C ends it earlier
    #[arg(long, default_value = "10", value_name = "S", value_parser = seconds)]
    pub(super) seconds: Duration,
    /// Stop after so many requests instead
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub(super) requests: Option<u64>,
    /// Bytes of each value, or a range of which each takes one at random: 100, 50-4000
    #[arg(long, value_name = "BYTES", default_value = "100")]
    pub(super) value_bytes: ValueBytes,
    /// Number of keys, of which each request takes one
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX))
    )]
    pub(super) keys: u64,
    /// Gets in a hundred requests; the others are puts
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) reads: u8,
    /// A mix of the Yahoo! Cloud Serving Benchmark instead
    #[arg(long, value_enum, ignore_case = true, conflicts_with = "reads")]
    pub(super) workload: Option<Workload>,
    /// How keys are chosen; the workload's own by default, or uniform
    #[arg(long, value_enum)]
    pub(super) distribution: Option<Distribution>,
    /// How uneven zipfian and latest are, above 0 and below 1
    #[arg(long, value_name = "THETA", default_value_t = 0.99)]
    pub(super) theta: f64,
    /// Whether all keys are put before the measurement
    #[arg(long, value_enum, default_value_t = Preload::Auto)]
    pub(super) preload: Preload,
    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Prefix of the name of every key
    #[arg(long, default_value = "bench:")]
    pub(super) prefix: String,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Measure fdatasync in this folder first, and compare
    #[arg(long, value_name = "DIR")]
    pub(super) probe_disk: Option<PathBuf>,
}

/// When keys are put before the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Preload {
    /// If anything is read
    Auto,
    /// Always
    Yes,
    /// Never: they are there
    No,
    /// Put them, and measure nothing
    Only,
}

/// Sizes of values, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValueBytes {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl FromStr for ValueBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let number = |digits: &str| {
            digits
                .parse()
                .map_err(|_| format!("`{text}` is neither a number of bytes nor a range like 50-4000"))
        };
        let sizes = Self { min: number(min)?, max: number(max)? };
        if sizes.min > sizes.max {
            return Err(format!("the range {text} is empty; write the smaller number first"));
        }
        if sizes.max > VALUE_BYTES_MAX {
            return Err(format!("a value has at most {VALUE_BYTES_MAX} bytes"));
        }
        Ok(sizes)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("`{text}` is no number of seconds"))
}

impl BenchArgs {
    /// Checks that a target with these kinds of request can be loaded in this way.
    ///
    /// # Errors
    /// The sentence for the user.
    pub fn check(&self, kinds: &[Kind]) -> Result<(), String> {
        if let Some(kind) = self.mix().kinds().find(|kind| !kinds.contains(kind)) {
            return Err(format!(
                "this workload needs requests of the kind `{}`, which there is no way to ask here",
                kind.name()
            ));
        }
        if self.clients.saturating_mul(self.pipeline) > BENCH_IN_FLIGHT_MAX {
            return Err(format!("--clients times --pipeline is over {BENCH_IN_FLIGHT_MAX}; take fewer"));
        }
        if !(self.theta > 0.0 && self.theta < 1.0) {
            return Err(format!("--theta {} is not between 0 and 1", self.theta));
        }
        Ok(())
    }

    /// The number of connections (or sets of them) to open.
    #[must_use]
    pub fn connections(&self) -> usize {
        if self.shared { 1 } else { self.clients }
    }

    /// Whether the keys are put first.
    #[must_use]
    pub fn preloads(&self) -> bool {
        match self.preload {
            Preload::Auto => self.mix().reads(),
            Preload::Yes | Preload::Only => true,
            Preload::No => false,
        }
    }

    /// Whether nothing is measured.
    #[must_use]
    pub fn only_preloads(&self) -> bool {
        self.preload == Preload::Only
    }

    /// Whether the result is printed as JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }

    pub(super) fn mix(&self) -> Mix {
        self.workload.map_or_else(|| Mix::of_reads(self.reads), Workload::mix)
    }

    pub(super) fn distribution(&self) -> Distribution {
        self.distribution.or(self.workload.map(Workload::distribution)).unwrap_or(Distribution::Uniform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_or_a_range() {
        assert_eq!("100".parse(), Ok(ValueBytes { min: 100, max: 100 }));
        assert_eq!("0-4000".parse(), Ok(ValueBytes { min: 0, max: 4000 }));
        for (text, said) in [("x", "neither"), ("5-", "neither"), ("9-5", "empty"), ("8388609", "at most")] {
            let error = text.parse::<ValueBytes>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(seconds("-1").is_err() && seconds("NaN").is_err());
    }
}
