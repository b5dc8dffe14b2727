//! Whole clusters from one seed: the cores of the ECS and the servers, with a network, disks, clocks and clients that
//! are made of events. docs/testing.md tells what is simulated and what is checked.
//!
//! `SEEDS=n` raises the number of seeds; `SEED=n SCENARIO=name cargo test --test simulation replay -- --nocapture`
//! prints all that happens in one of them.

mod simulation {
    mod client;
    mod disk;
    mod ecs_host;
    mod faults;
    mod history;
    mod model;
    mod net;
    pub(crate) mod runner;
    pub(crate) mod scenario;
    mod search;
    mod server;
    mod timeline;
    mod tree;
    mod truth;
    pub(crate) mod world;
}

use simulation::runner::{all_pass, number};
use simulation::scenario::Scenario;
use simulation::world;

/// Seeds of each scenario, unless `SEEDS` says otherwise.
const SEEDS: u64 = 60;

fn check(scenario: Scenario) {
    all_pass(0..number("SEEDS", SEEDS), |_| scenario.clone());
}

#[test]
fn servers_come_and_go_as_planned() {
    check(Scenario::CALM);
}

#[test]
fn late() {
    check(Scenario::LATE);
}

#[test]
fn ecs_away() {
    check(Scenario::ECS_AWAY);
}

#[test]
fn ecs_cut() {
    check(Scenario::ECS_CUT);
}

#[test]
fn joins() {
    check(Scenario::JOINS);
}

#[test]
fn servers_crash() {
    check(Scenario::CRASHES);
}

#[test]
fn the_network_fails() {
    check(Scenario::NETWORK);
}

#[test]
fn everything_fails() {
    check(Scenario::EVERYTHING);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for scenario in Scenario::ALL {
        assert_eq!(world::run(scenario.clone(), 7, false), world::run(scenario, 7, false));
    }
}

/// Prints the run of one seed: `SEED=n SCENARIO=name`.
#[test]
fn replay() {
    let Ok(name) = std::env::var("SCENARIO") else { return };
    let scenario =
        Scenario::ALL.into_iter().find(|scenario| scenario.name == name).expect("a known scenario");
    let mutation = std::env::var("MUTATION").ok().and_then(|name| ALLM.into_iter().find(|m| format!("{m:?}") == name));
    println!("{:?}", world::run(Scenario { mutation, ..scenario }, number("SEED", 0), true));
}

#[test]
fn explore() {
    use kvserver::core::Mutation::*;
    let Ok(which) = std::env::var("EXPLORE") else { return };
    let _all = [
        AckBeforeFsync, OwnCopyBeforeFsync, AckWithoutOneReplica, ReadWithoutLease, LeaseFromReceipt, LeaseNotRechecked,
        OldEpochAccepted, PromiseToOldView, PromiseNotAwaited, RestartForgetsPromises, ServesBeforeSync,
        NewCoordinatorCutsToCommit, MemberCutsToCommit, LateAppendCuts, RestartResumesRole, ProposedBeforeCaughtUp,
        JoinerNotAwaited, ProposalDropped, ResultsMissingFromSnapshot, SyncMarkNotDurable,
    ];
    for mutation in ALLM {
        for scenario in Scenario::ALL {
            if which != "all" && !which.contains(scenario.name) { continue; }
            let scenario = Scenario { mutation: Some(mutation), ..scenario };
            let (_, failure) = simulation::runner::search(0..number("SEEDS", 300), |_| scenario.clone());
            match failure {
                Some(f) => println!("found: {mutation:?} {} seed {}: {}", scenario.name, f.seed, f.what.chars().take(110).collect::<String>()),
                None => println!("found: {mutation:?} {} NOT", scenario.name),
            }
        }
    }
}

use kvserver::core::Mutation::*;
const ALLM: [kvserver::core::Mutation; 20] = [
        AckBeforeFsync, OwnCopyBeforeFsync, AckWithoutOneReplica, ReadWithoutLease, LeaseFromReceipt, LeaseNotRechecked,
        OldEpochAccepted, PromiseToOldView, PromiseNotAwaited, RestartForgetsPromises, ServesBeforeSync,
        NewCoordinatorCutsToCommit, MemberCutsToCommit, LateAppendCuts, RestartResumesRole, ProposedBeforeCaughtUp,
        JoinerNotAwaited, ProposalDropped, ResultsMissingFromSnapshot, SyncMarkNotDurable,
    ];
