//! The measurements so far.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::target::Answered;
use super::workload::Kind;
use crate::limits::BENCH_LATENCY_MAX;

/// Latencies are in microseconds.
#[derive(Debug)]
pub(super) struct Measured {
    latencies: Vec<Histogram<u64>>,
    /// Gets that found nothing.
    pub(super) misses: u64,
    /// Keys that scans found.
    pub(super) scanned: u64,
    /// Updates that had to read again.
    pub(super) conflicts: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Measured {
    pub(super) fn new() -> Self {
        let longest_us = u64::try_from(BENCH_LATENCY_MAX.as_micros()).expect("it is below an hour");
        let latencies =
            Kind::ALL.map(|_| Histogram::new_with_bounds(1, longest_us, 3).expect("the bounds are fixed"));
        Self {
            latencies: latencies.into(),
            misses: 0,
            scanned: 0,
            conflicts: 0,
            errors: 0,
            first_error: None,
        }
    }

    pub(super) fn latencies(&self, kind: Kind) -> &Histogram<u64> {
        &self.latencies[kind as usize]
    }

    /// Requests that were answered.
    pub(super) fn ops(&self) -> u64 {
        self.latencies.iter().map(Histogram::len).sum()
    }

    pub(super) fn done(&mut self, kind: Kind, answered: Answered, latency: Duration) {
        self.misses += u64::from(answered.missed);
        self.scanned += answered.scanned;
        self.conflicts += answered.conflicts;
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latencies[kind as usize].saturating_record(us);
    }

    pub(super) fn failed(&mut self, error: &impl ToString) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}
