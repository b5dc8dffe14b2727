//! Runs seeds, several at a time, and says how to replay the first that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use kvserver::core::Mutation;

use super::scenario::Scenario;
use super::world::{self, Summary};

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
    let run = AssertUnwindSafe(|| world::run(scenario.clone(), seed, false));
    catch_unwind(run).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Failure { seed, scenario: scenario.name, what: text.unwrap_or_default() }
    })
}

/// Runs seeds of a scenario until one fails: the smallest of those that failed.
fn search(seeds: std::ops::Range<u64>, scenario: &Scenario) -> (Vec<Summary>, Option<Failure>) {
    /// Two cores are what everybody has.
    const THREADS: usize = 2;
    quiet();
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let found: Mutex<(Vec<Summary>, Option<Failure>)> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
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

/// Runs seeds of a scenario; panics with the command that replays a failure.
pub(crate) fn all_pass(seeds: std::ops::Range<u64>, scenario: &Scenario) {
    let (summaries, failure) = search(seeds, scenario);
    if let Some(Failure { seed, scenario, what }) = failure {
        panic!(
            "seed {seed}, scenario {scenario}: {what}\nreplay: SEED={seed} SCENARIO={scenario} cargo test --test \
             simulation replay -- --nocapture"
        );
    }
    let total = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    println!(
        "{} seeds: {} events, {} operations, {} entries committed, {} keys too large to search",
        summaries.len(),
        total(|summary| summary.events),
        total(|summary| summary.operations as u64),
        total(|summary| summary.committed as u64),
        total(|summary| summary.unsearched as u64),
    );
}

/// Searches seeds until a planted bug is found; how many it took.
pub(crate) fn must_find(mutation: Mutation, scenario: &Scenario, within: u64) -> u64 {
    let scenario = Scenario { mutation: Some(mutation), ..scenario.clone() };
    let (_, failure) = search(0..within, &scenario);
    let Some(Failure { seed, what, .. }) = failure else {
        panic!("{mutation:?} was not found within {within} seeds");
    };
    println!("{mutation:?}: found by seed {seed}: {what}");
    seed + 1
}

std::thread_local! {
    /// Panics of this thread are expected and told by the runner.
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
