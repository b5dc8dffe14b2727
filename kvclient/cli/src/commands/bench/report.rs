//! The result, for people and for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::args::BenchArgs;
use super::disk::APPEND_BYTES;
use super::measured::Measured;
use super::workload::{Kind, Workload};

/// Quantiles that are printed, and their names. 1.0 is the largest.
const QUANTILES: [(&str, f64); 8] = [
    ("p50_us", 0.5),
    ("p75_us", 0.75),
    ("p90_us", 0.9),
    ("p95_us", 0.95),
    ("p99_us", 0.99),
    ("p999_us", 0.999),
    ("p9999_us", 0.9999),
    ("max_us", 1.0),
];

/// The result of a run. Times are in microseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    clients: usize,
    pipeline: usize,
    shared: bool,
    /// The rate of an open loop, in requests a second.
    rate: Option<u64>,
    workload: Option<&'static str>,
    /// Requests of each kind in a hundred.
    mix: BTreeMap<&'static str, u8>,
    distribution: &'static str,
    theta: f64,
    value_bytes_min: usize,
    value_bytes_max: usize,
    keys: u64,
    seed: u64,
    seconds: f64,
    ops: u64,
    ops_per_second: f64,
    errors: u64,
    first_error: Option<String>,
    not_begun: u64,
    misses: u64,
    scanned: u64,
    conflicts: u64,
    operations: BTreeMap<&'static str, Latency>,
    fdatasync_us: Option<u64>,
    put_p50_per_fdatasync: Option<f64>,
}

/// How long one kind of request took.
#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    per_second: f64,
    mean_us: f64,
    min_us: u64,
    #[serde(flatten)]
    quantiles: BTreeMap<&'static str, u64>,
    /// All latencies with three digits: each, and how many had it.
    histogram: Vec<(u64, u64)>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>, seconds: f64) -> Self {
        Self {
            count: histogram.len(),
            per_second: histogram.len() as f64 / seconds,
            mean_us: histogram.mean(),
            min_us: histogram.min(),
            quantiles: QUANTILES.map(|(name, quantile)| (name, histogram.value_at_quantile(quantile))).into(),
            histogram: histogram
                .iter_recorded()
                .map(|at| (at.value_iterated_to(), at.count_at_value()))
                .collect(),
        }
    }

    fn line(&self, kind: Kind) -> String {
        let ms = |name| format!("{:.3}", self.quantiles[name] as f64 / 1000.0);
        format!(
            "{}  {:.0}/s  ({} requests)  p50 {} ms  p90 {}  p99 {}  p99.9 {}  max {}",
            kind.name(),
            self.per_second,
            self.count,
            ms("p50_us"),
            ms("p90_us"),
            ms("p99_us"),
            ms("p999_us"),
            ms("max_us")
        )
    }
}

impl Report {
    pub(super) fn new(
        args: &BenchArgs,
        measured: &Measured,
        elapsed: Duration,
        not_begun: u64,
        fdatasync: Option<Duration>,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-6);
        let fdatasync_us = fdatasync.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
        let done = Kind::ALL.into_iter().filter(|kind| !measured.latencies(*kind).is_empty());
        let puts = measured.latencies(Kind::Put);
        let ratio = |us: u64| (!puts.is_empty()).then(|| puts.value_at_quantile(0.5) as f64 / us as f64);
        Self {
            clients: args.clients,
            pipeline: args.pipeline,
            shared: args.shared,
            rate: args.rate,
            workload: args.workload.map(Workload::name),
            mix: args.mix().shares().iter().map(|(kind, share)| (kind.name(), *share)).collect(),
            distribution: args.distribution().name(),
            theta: args.theta,
            value_bytes_min: args.value_bytes.min,
            value_bytes_max: args.value_bytes.max,
            keys: args.keys,
            seed: args.seed,
            seconds,
            ops: measured.ops(),
            ops_per_second: measured.ops() as f64 / seconds,
            errors: measured.errors,
            first_error: measured.first_error.clone(),
            not_begun,
            misses: measured.misses,
            scanned: measured.scanned,
            conflicts: measured.conflicts,
            operations: done
                .map(|kind| (kind.name(), Latency::of(measured.latencies(kind), seconds)))
                .collect(),
            put_p50_per_fdatasync: fdatasync_us.and_then(ratio),
            fdatasync_us,
        }
    }

    /// Requests that were answered.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// The first error, if all requests failed.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.first_error.as_deref().filter(|_| self.ops == 0)
    }

    /// Writes the result, as one line of JSON or as text.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        self.write_head(out)?;
        for kind in Kind::ALL {
            if let Some(latency) = self.operations.get(kind.name()) {
                writeln!(out, "{}", latency.line(kind))?;
            }
        }
        if self.not_begun > 0 {
            writeln!(
                out,
                "{} requests were due and had not begun at the end, as all tasks were busy: the rate may be more \
                 than the servers or this client take, or --clients times --pipeline too few",
                self.not_begun
            )?;
        }
        if self.misses > 0 {
            writeln!(out, "{} gets found nothing", self.misses)?;
        }
        if self.scanned > 0 {
            writeln!(out, "{} keys scanned", self.scanned)?;
        }
        if self.conflicts > 0 {
            writeln!(
                out,
                "{} conflicts: another client wrote in between, and the key was read again",
                self.conflicts
            )?;
        }
        if let Some(error) = &self.first_error {
            writeln!(out, "first error: {error}")?;
        }
        self.write_disk(out)
    }

    fn write_head(&self, out: &mut dyn Write) -> io::Result<()> {
        let shared = if self.shared { " sharing connections" } else { "" };
        let bytes = if self.value_bytes_min == self.value_bytes_max {
            self.value_bytes_max.to_string()
        } else {
            format!("{}-{}", self.value_bytes_min, self.value_bytes_max)
        };
        let rate = self.rate.map_or(String::new(), |rate| format!(", {rate}/s due"));
        writeln!(
            out,
            "{:.0} ops/s  {} requests in {:.2} s, {} errors; {} clients{shared} x {} in flight{rate}, {} keys {}, \
             {bytes} B values",
            self.ops_per_second,
            self.ops,
            self.seconds,
            self.errors,
            self.clients,
            self.pipeline,
            self.keys,
            self.distribution,
        )
    }

    fn write_disk(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(us) = self.fdatasync_us else { return Ok(()) };
        write!(out, "fdatasync of {APPEND_BYTES} B: median {:.3} ms", us as f64 / 1000.0)?;
        if let Some(ratio) = self.put_p50_per_fdatasync {
            write!(out, "; put p50 / fdatasync = {ratio:.2}")?;
        }
        writeln!(out)
    }
}
