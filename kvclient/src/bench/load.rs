//! The load itself: tasks that send one request after the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::clock;
use common::time::Time;
use fastrand::Rng;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::args::BenchArgs;
use crate::cli::Failure;
use crate::client::Client;
use crate::error::Error;

/// The longest time that is told apart, in microseconds: over the library's patience.
const LATENCY_US_MAX: u64 = 120_000_000;

/// Puts in flight while the keys are put first.
const PRELOAD_IN_FLIGHT: usize = 256;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) puts: Histogram<u64>,
    pub(super) gets: Histogram<u64>,
    /// Gets that found nothing.
    pub(super) misses: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<Error>,
    pub(super) elapsed: Duration,
}

impl Measured {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are fixed");
        Self {
            puts: histogram(),
            gets: histogram(),
            misses: 0,
            errors: 0,
            first_error: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Requests that were answered.
    pub(super) fn ops(&self) -> u64 {
        self.puts.len() + self.gets.len()
    }
}

/// What all tasks share.
struct Plan {
    args: BenchArgs,
    /// Random bytes; a value is a window into them.
    noise: Bytes,
    ends: Option<Time>,
    /// Requests that may still be begun.
    left: AtomicU64,
    measured: Mutex<Measured>,
}

impl Plan {
    fn new(args: &BenchArgs) -> Self {
        let mut noise = vec![0; args.value_bytes + 65_536];
        Rng::with_seed(args.seed).fill(&mut noise);
        Self {
            args: args.clone(),
            noise: noise.into(),
            ends: args
                .requests
                .is_none()
                .then(|| clock::time() + Duration::from_secs_f64(args.seconds.max(0.0))),
            left: AtomicU64::new(args.requests.unwrap_or(u64::MAX)),
            measured: Mutex::new(Measured::new()),
        }
    }

    fn key(&self, index: u64) -> Bytes {
        format!("{}{index:010}", self.args.prefix).into()
    }

    fn value(&self, rng: &mut Rng) -> Bytes {
        let start = rng.usize(..65_536);
        self.noise.slice(start..start + self.args.value_bytes)
    }

    /// Whether one more request may be begun.
    fn next(&self, now: Time) -> bool {
        if self.ends.is_some_and(|ends| now >= ends) {
            return false;
        }
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Runs the load to its end.
pub(super) async fn run(clients: &[Client], args: &BenchArgs) -> Measured {
    let plan = Arc::new(Plan::new(args));
    let started = clock::time();
    let mut tasks = JoinSet::new();
    for task in 0..args.clients * args.pipeline {
        let client = clients[task % clients.len()].clone();
        let rng = Rng::with_seed(args.seed.wrapping_mul(1_000_003).wrapping_add(task as u64));
        tasks.spawn(closed_loop(client, Arc::clone(&plan), rng));
    }
    while tasks.join_next().await.is_some() {}
    let plan = Arc::into_inner(plan).expect("all tasks have ended");
    let mut measured = plan.measured.into_inner().unwrap_or_else(PoisonError::into_inner);
    measured.elapsed = clock::time().since(started);
    measured
}

async fn closed_loop(client: Client, plan: Arc<Plan>, mut rng: Rng) {
    let mut now = clock::time();
    while plan.next(now) {
        let key = plan.key(rng.u64(..plan.args.keys));
        let get = rng.u8(..100) < plan.args.reads;
        let started = now;
        let result = if get {
            client.get(key).await.map(|found| found.is_none())
        } else {
            client.put(key, plan.value(&mut rng)).await.map(|_| false)
        };
        now = clock::time();
        let us = u64::try_from(now.since(started).as_micros()).unwrap_or(u64::MAX).max(1);
        let mut measured = plan.measured.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(missed) => {
                measured.misses += u64::from(missed);
                let histogram = if get { &mut measured.gets } else { &mut measured.puts };
                histogram.saturating_record(us);
            }
            Err(error) => {
                measured.errors += 1;
                measured.first_error.get_or_insert(error);
            }
        }
    }
}

/// Puts every key once.
pub(super) async fn preload(clients: &[Client], args: &BenchArgs) -> Result<(), Failure> {
    let plan = Arc::new(Plan::new(args));
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..PRELOAD_IN_FLIGHT {
        let client = clients[task % clients.len()].clone();
        let (plan, next) = (Arc::clone(&plan), Arc::clone(&next));
        let mut rng = Rng::with_seed(task as u64);
        tasks.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= plan.args.keys {
                    return Ok(());
                }
                client.put(plan.key(index), plan.value(&mut rng)).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended
            .map_err(|error| Failure::usage(error.to_string()))?
            .map_err(|error: Error| Failure::from(error))?;
    }
    Ok(())
}
