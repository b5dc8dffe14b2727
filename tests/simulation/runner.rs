//! Runs seeds, several at a time, and says how to replay the first that fails.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use kvserver_core::PlantedBug;

use super::scenario::Scenario;
use super::trace::Trace;
use super::world::{self, Summary};

/// Runs of long scenarios are so much rarer.
pub(crate) const LONG_EVERY: u64 = 20;

/// Seeds that run at once: two cores are assumed.
const THREADS: u64 = 2;

/// A seed that failed, and what was found.
#[derive(Debug)]
pub(crate) struct Failure {
    seed: u64,
    scenario: &'static str,
    what: String,
}

/// A number from the environment.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// One seed; a violation is an error.
pub(crate) fn try_seed(scenario: &Scenario, seed: u64) -> Result<Summary, Failure> {
    try_traced(scenario, seed, Trace::Ignored)
}

fn try_traced(scenario: &Scenario, seed: u64, trace: Trace) -> Result<Summary, Failure> {
    let run = AssertUnwindSafe(|| world::run(scenario.clone(), seed, trace));
    catch_unwind(run).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Failure { seed, scenario: scenario.name, what: text.unwrap_or_default() }
    })
}

/// Runs seeds of a scenario until one fails: the smallest of those that failed.
fn search(seeds: std::ops::Range<u64>, scenario: &Scenario) -> (Vec<Summary>, Option<Failure>) {
    quiet();
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let found: Mutex<(Vec<Summary>, Option<Failure>)> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..number("THREADS", THREADS) {
            scope.spawn(|| {
                IS_QUIET.set(true);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = try_seed(scenario, seed);
                    let mut found = found.lock().expect("no thread panics while it holds this");
                    match outcome {
                        Ok(summary) => found.0.push(summary),
                        Err(failure) => {
                            end.fetch_min(seed, Ordering::Relaxed);
                            if found.1.as_ref().is_none_or(|known| known.seed > failure.seed) {
                                found.1 = Some(failure);
                            }
                        }
                    }
                }
            });
        }
    });
    found.into_inner().expect("all threads have ended")
}

/// Digests of the runs of a scenario's seeds: of when everything happened and what was drawn for it, which does not
/// depend on the names of things, and of all lines of the traces.
pub(crate) fn digests(seeds: std::ops::Range<u64>, scenario: &Scenario) -> (md5::Digest, md5::Digest) {
    quiet();
    let next = AtomicU64::new(seeds.start);
    let runs: Mutex<BTreeMap<u64, (String, md5::Digest)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..number("THREADS", THREADS) {
            scope.spawn(|| {
                IS_QUIET.set(true);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let trace = Trace::to_digest();
                    let outcome = format!("{:?}", try_traced(scenario, seed, trace.clone()));
                    let digest = trace.digest().expect("it makes one");
                    runs.lock()
                        .expect("no thread panics while it holds this")
                        .insert(seed, (outcome, digest));
                }
            });
        }
    });
    let (mut outcomes, mut traces) = (md5::Context::new(), md5::Context::new());
    for (outcome, digest) in runs.into_inner().expect("all threads have ended").into_values() {
        outcomes.consume(outcome);
        traces.consume(digest.0);
    }
    (outcomes.finalize(), traces.finalize())
}

/// Says what was found, and how to see it again.
fn fail(Failure { seed, scenario, what }: Failure) -> ! {
    panic!(
        "seed {seed}, scenario {scenario}: {what}\nreplay: SEED={seed} SCENARIO={scenario} cargo test --test \
         simulation replay -- --nocapture"
    );
}

/// Runs seeds of a scenario; panics with the command that replays a failure.
pub(crate) fn all_pass(seeds: std::ops::Range<u64>, scenario: &Scenario) -> Vec<Summary> {
    let (summaries, failure) = search(seeds, scenario);
    if let Some(failure) = failure {
        fail(failure);
    }
    let total = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    println!(
        "{} seeds of {}: {} s, {} events, {} operations, {} entries committed, {} keys too large to search",
        summaries.len(),
        scenario.name,
        total(|summary| summary.ended) / 1_000_000,
        total(|summary| summary.events),
        total(|summary| summary.operations as u64),
        total(|summary| summary.committed as u64),
        total(|summary| summary.unsearched as u64),
    );
    summaries
}

/// Runs seeds of all scenarios, batch by batch, and prints its progress.
#[expect(clippy::disallowed_methods, reason = "it prints its speed")]
pub(crate) fn search_for_long(scenarios: &[Scenario], seeds: std::ops::Range<u64>) {
    /// Seeds of a scenario before the next one's turn comes.
    const BATCH: u64 = 100;
    /// Between two lines of progress.
    const REPORT_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
    let began = std::time::Instant::now();
    let (mut reported, mut count, mut unsearched, mut lost) = (began, 0_u64, 0, 0);
    let report = |count: u64, unsearched: usize, lost: usize| {
        let rate = count as f64 * 60.0 / began.elapsed().as_secs_f64();
        println!(
            "{count} seeds without a finding, {rate:.0} a minute; {unsearched} keys too large to search, {lost} \
             clusters that lost a partition's last disk"
        );
    };
    let mut begin = seeds.start;
    while begin < seeds.end {
        let end = seeds.end.min(begin + BATCH);
        for scenario in scenarios {
            let end = if scenario.is_long { begin + (end - begin).div_ceil(LONG_EVERY) } else { end };
            let (summaries, failure) = search(begin..end, scenario);
            if let Some(failure) = failure {
                report(count, unsearched, lost);
                fail(failure);
            }
            count += summaries.len() as u64;
            unsearched += summaries.iter().map(|summary| summary.unsearched).sum::<usize>();
            lost += summaries.iter().filter(|summary| summary.is_lost).count();
            if reported.elapsed() >= REPORT_EVERY {
                reported = std::time::Instant::now();
                report(count, unsearched, lost);
            }
        }
        begin = end;
    }
    report(count, unsearched, lost);
}

/// A bug that is planted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Planted {
    Server(PlantedBug),
    Ecs(ecs_core::PlantedBug),
}

impl Planted {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Server(bug) => format!("{bug:?}"),
            Self::Ecs(bug) => format!("{bug:?}"),
        }
    }

    /// A scenario with it.
    pub(crate) fn within(self, scenario: &Scenario) -> Scenario {
        match self {
            Self::Server(bug) => Scenario { bug: Some(bug), ..scenario.clone() },
            Self::Ecs(bug) => Scenario { ecs_bug: Some(bug), ..scenario.clone() },
        }
    }
}

/// Searches seeds until a planted bug is found; how many it took.
pub(crate) fn must_find(planted: Planted, scenario: &Scenario, within: u64) -> u64 {
    let bug = planted.name();
    let (_, failure) = search(0..within, &planted.within(scenario));
    let Some(Failure { seed, what, .. }) = failure else {
        panic!("{bug} was not found within {within} seeds");
    };
    println!("{bug}: found by seed {seed}: {what}");
    seed + 1
}

std::thread_local! {
    /// Panics of this thread are expected, and reported by the runner.
    static IS_QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Keeps expected panics from the terminal.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                usual(info);
            }
        }));
    });
}
