//! The load itself: slots, each of which has one request on its way at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use common::clock;
use fastrand::Rng;
use tokio::task::JoinSet;

use super::args::BenchArgs;
use super::disk;
use super::keys::Keys;
use super::measured::Measured;
use super::pace::Pace;
use super::progress::Progress;
use super::report::Report;
use super::target::{Request, Target};
use super::workload::{Kind, Mix};
use crate::limits::{BENCH_PRELOAD_IN_FLIGHT, BENCH_SCAN_KEYS_MAX};

/// A value is a window into so many random bytes more than it has itself.
const NOISE_BYTES: usize = 65_536;

/// The choices that requests are made of.
struct Content {
    args: BenchArgs,
    mix: Mix,
    noise: Bytes,
    keys: Mutex<Keys>,
}

impl Content {
    fn new(args: &BenchArgs) -> Self {
        let mut noise = vec![0; args.value_bytes.max + NOISE_BYTES];
        Rng::with_seed(args.seed).fill(&mut noise);
        let keys = Keys::new(args.keys, args.distribution(), args.theta);
        Self { args: args.clone(), mix: args.mix(), noise: noise.into(), keys: Mutex::new(keys) }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, number: u64) -> Bytes {
        format!("{}{number:010}", self.args.prefix).into()
    }

    fn value(&self, rng: &mut Rng) -> Bytes {
        let sizes = self.args.value_bytes;
        let bytes = if sizes.min == sizes.max { sizes.max } else { rng.usize(sizes.min..=sizes.max) };
        let start = rng.usize(..NOISE_BYTES);
        self.noise.slice(start..start + bytes)
    }

    /// The next request, and the number of its key.
    fn draw(&self, rng: &mut Rng) -> (Kind, u64, Request) {
        let kind = self.mix.draw(rng);
        let number = if kind == Kind::Insert { self.keys().insert() } else { self.keys().choose(rng) };
        let key = self.key(number);
        let request = match kind {
            Kind::Get => Request::Get { key },
            Kind::Put | Kind::Insert => Request::Put { key, value: self.value(rng) },
            Kind::Scan => Request::Scan { after: key, limit: rng.u32(1..=BENCH_SCAN_KEYS_MAX) },
            Kind::Update => Request::Update { key, value: self.value(rng) },
        };
        (kind, number, request)
    }
}

/// Puts every key once.
///
/// # Errors
/// The error of the first put that fails.
pub async fn preload<T: Target>(targets: &[T], args: &BenchArgs) -> Result<(), T::Error> {
    let content = Arc::new(Content::new(args));
    let next = Arc::new(AtomicU64::new(0));
    let begun = Arc::clone(&next);
    let progress = Progress::of_keys(args.keys, move || begun.load(Ordering::Relaxed));
    let mut tasks = JoinSet::new();
    for task in 0..BENCH_PRELOAD_IN_FLIGHT {
        let target = targets[task % targets.len()].clone();
        let (content, next) = (Arc::clone(&content), Arc::clone(&next));
        let mut rng = Rng::with_seed(task as u64);
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= content.args.keys {
                    return Ok(());
                }
                let (key, value) = (content.key(number), content.value(&mut rng));
                target.perform(Request::Put { key, value }).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task that puts is never cancelled")?;
    }
    drop(progress);
    Ok(())
}

/// Runs the load to its end, or until Ctrl-C.
///
/// # Errors
/// The disk cannot be measured.
pub async fn measure<T: Target>(targets: &[T], args: &BenchArgs) -> Result<Report, String> {
    let disk = args.probe_disk.as_deref().map(disk::probe).transpose()?;
    let content = Arc::new(Content::new(args));
    let measured = Arc::new(Mutex::new(Measured::new()));
    let started = clock::time();
    let seconds = args.requests.is_none().then_some(args.seconds);
    let pace = Arc::new(Pace::new(started, args.rate, seconds, args.requests));
    let shown = Arc::clone(&measured);
    let progress = Progress::of_requests(seconds, args.requests, move || locked(&shown).ops());
    let mut slots = JoinSet::new();
    for slot in 0..args.clients * args.pipeline {
        let target = targets[slot % targets.len()].clone();
        let rng = Rng::with_seed(args.seed.wrapping_mul(1_000_003).wrapping_add(slot as u64));
        slots.spawn(fill(target, Arc::clone(&content), Arc::clone(&pace), Arc::clone(&measured), rng));
    }
    pace.run();
    tokio::select! {
        () = ended(&mut slots) => {}
        Ok(()) = tokio::signal::ctrl_c() => {
            pace.stop();
            ended(&mut slots).await;
        }
    }
    let elapsed = clock::time().since(started);
    drop(progress);
    Ok(Report::new(args, &locked(&measured), elapsed, pace.not_begun(), disk))
}

async fn ended(slots: &mut JoinSet<()>) {
    while slots.join_next().await.is_some() {}
}

fn locked(measured: &Mutex<Measured>) -> MutexGuard<'_, Measured> {
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one slot.
async fn fill<T: Target>(
    target: T,
    content: Arc<Content>,
    pace: Arc<Pace>,
    measured: Arc<Mutex<Measured>>,
    mut rng: Rng,
) {
    let mut now = clock::time();
    while let Some(due) = pace.next(now).await {
        let (kind, number, request) = content.draw(&mut rng);
        let result = target.perform(request).await;
        now = clock::time();
        if kind == Kind::Insert {
            content.keys().inserted(number);
        }
        match result {
            Ok(answered) => locked(&measured).done(kind, answered, now.since(due)),
            Err(error) => locked(&measured).failed(&error),
        }
    }
}
