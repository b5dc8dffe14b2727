//! What was measured, for people and for programs.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::args::BenchArgs;
use super::disk::APPEND_BYTES;
use super::load::Measured;

/// The result of a run. Times are in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    clients: usize,
    pipeline: usize,
    shared: bool,
    value_bytes: usize,
    keys: u64,
    reads_percent: u8,
    seed: u64,
    seconds: f64,
    ops: u64,
    ops_per_second: f64,
    errors: u64,
    first_error: Option<String>,
    misses: u64,
    puts: Option<Latency>,
    gets: Option<Latency>,
    fdatasync_us: Option<u64>,
    put_p50_per_fdatasync: Option<f64>,
}

/// How long one kind of request took.
#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    per_second: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

impl Latency {
    /// None when nothing of the kind was done.
    fn of(histogram: &Histogram<u64>, seconds: f64) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Some(Self {
            count: histogram.len(),
            per_second: histogram.len() as f64 / seconds,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max(),
        })
    }

    fn line(&self, what: &str) -> String {
        let ms = |us: u64| format!("{:.3}", us as f64 / 1000.0);
        format!(
            "{what}  {:.0}/s  ({} requests)  p50 {} ms  p90 {}  p99 {}  p99.9 {}  max {}",
            self.per_second,
            self.count,
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )
    }
}

impl Report {
    pub(super) fn new(args: &BenchArgs, measured: &Measured, fdatasync: Option<Duration>) -> Self {
        let seconds = measured.elapsed.as_secs_f64().max(1e-6);
        let puts = Latency::of(&measured.puts, seconds);
        let fdatasync_us = fdatasync.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
        let ratio = |us: u64| Some(puts.as_ref()?.p50_us as f64 / us as f64);
        Self {
            clients: args.clients,
            pipeline: args.pipeline,
            shared: args.shared,
            value_bytes: args.value_bytes,
            keys: args.keys,
            reads_percent: args.reads,
            seed: args.seed,
            seconds,
            ops: measured.ops(),
            ops_per_second: measured.ops() as f64 / seconds,
            errors: measured.errors,
            first_error: measured.first_error.as_ref().map(ToString::to_string),
            misses: measured.misses,
            put_p50_per_fdatasync: fdatasync_us.and_then(ratio),
            puts,
            gets: Latency::of(&measured.gets, seconds),
            fdatasync_us,
        }
    }

    pub(super) fn write(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        let shared = if self.shared { " sharing connections" } else { "" };
        writeln!(
            out,
            "{:.0} ops/s  {} requests in {:.2} s, {} errors; {} clients{shared} x {} in flight, {} keys, {} B values",
            self.ops_per_second,
            self.ops,
            self.seconds,
            self.errors,
            self.clients,
            self.pipeline,
            self.keys,
            self.value_bytes
        )?;
        for (what, latency) in [("put", &self.puts), ("get", &self.gets)] {
            if let Some(latency) = latency {
                writeln!(out, "{}", latency.line(what))?;
            }
        }
        if self.misses > 0 {
            writeln!(out, "{} gets found nothing", self.misses)?;
        }
        if let Some(error) = &self.first_error {
            writeln!(out, "first error: {error}")?;
        }
        if let Some(us) = self.fdatasync_us {
            write!(out, "fdatasync of {APPEND_BYTES} B: median {:.3} ms", us as f64 / 1000.0)?;
            if let Some(ratio) = self.put_p50_per_fdatasync {
                write!(out, "; put p50 / fdatasync = {ratio:.2}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
