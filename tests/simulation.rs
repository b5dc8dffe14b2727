//! Whole clusters from one seed: the cores of the ECS and the servers, with a network, disks, clocks and clients that
//! are made of events. docs/testing.md says what is simulated and what is checked.
//!
//! `SEEDS=n` sets the number of seeds of each scenario, `FIRST=n` the first of them;
//! `SEED=n SCENARIO=name cargo test --test simulation replay -- --nocapture` prints all that happens in one of them.

mod simulation {
    mod client;
    mod disk;
    mod ecs_host;
    mod faults;
    mod history;
    mod model;
    mod net;
    mod process;
    pub(crate) mod runner;
    pub(crate) mod scenario;
    mod search;
    mod server;
    mod timeline;
    pub(crate) mod trace;
    pub(crate) mod truth;
    pub(crate) mod world;
}

use ecs_core::PlantedBug as EcsBug;
use kvserver_core::PlantedBug;
use simulation::runner::Planted::{self, Ecs, Server};
use simulation::runner::{LONG_EVERY, all_pass, digests, must_find, number, try_seed};
use simulation::scenario::Scenario;
use simulation::trace::Trace;
use simulation::truth::Counts;
use simulation::world::{self, Summary};

/// Seeds of each scenario, unless `SEEDS` says otherwise; of the long ones fewer. 2,257 in all.
const SEEDS: u64 = 124;

/// Seeds that once failed, with what they found; docs/test-runs.md says more of each.
const REGRESSIONS: [(&str, u64, &str); 21] = [
    (
        "disks",
        9_202_698,
        "the answer to a replica's question was taken for that to a write that was passed on",
    ),
    (
        "long",
        8_000_602,
        "the promise of a server that had lost its disk was taken for that of the member it had been",
    ),
    ("compares", 5_000_174, "a dropped copy took what was written before for its own"),
    ("calm", 5, "a new coordinator read before it had applied what was acknowledged"),
    ("crashes", 0, "the same after a crash"),
    ("calm", 8, "a view was used before it was on disk"),
    ("crashes", 1, "the same"),
    ("network", 3, "a member behind a trimmed log was waited for without end"),
    ("crashes", 209, "an answer to a former process was taken for an answer to this one"),
    ("network", 18, "a member in step and behind a trimmed log refused the copy of the state"),
    ("everything", 15, "the same"),
    ("network", 48, "a coordinator read less than a replica had shown"),
    ("late", 199, "a sync would have cut what was applied since the coordinator asked"),
    ("joins", 4129, "the same"),
    ("joins", 67, "a server that is to leave starts anew"),
    ("barrier", 0, "a replica was sent the commit from before its coordinator was active"),
    ("long", 3, "a joiner was proposed while a promise to the former coordinator bound its proposer"),
    ("ecs_cut", 3_000_042, "the same"),
    ("recovery", 27, "reads that waited for entries of an installed copy waited for the next one"),
    ("compares", 10, "a copy that failed was not looked at when its former coordinator began to rest"),
    ("twins", 88_000_476, "a member that was heard was waited out, and what stayed was an older directory"),
];

fn check(scenario: Scenario) -> Vec<Summary> {
    let (first, mut seeds) = (number("FIRST", 0), number("SEEDS", SEEDS));
    if scenario.is_long {
        seeds = seeds.div_ceil(LONG_EVERY);
    }
    all_pass(first..first + seeds, &scenario)
}

fn scenario_named(name: &str) -> Scenario {
    Scenario::ALL.into_iter().find(|scenario| scenario.name == name).expect("a known scenario")
}

#[test]
fn servers_come_and_go_as_planned() {
    check(Scenario::CALM);
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
fn everything_fails_for_long() {
    check(Scenario::LONG);
}

#[test]
fn messages_come_late_and_twice() {
    check(Scenario::LATE);
}

#[test]
fn the_ecs_is_away_when_coordinators_die() {
    check(Scenario::ECS_AWAY);
}

#[test]
fn coordinators_are_cut_off_from_the_ecs() {
    check(Scenario::ECS_CUT);
}

#[test]
fn acknowledgements_come_late() {
    check(Scenario::LATE_ACKS);
}

#[test]
fn disks_fail() {
    check(Scenario::DISKS);
}

#[test]
fn copies_that_seem_to_differ_are_made_anew() {
    let summaries = check(Scenario::COMPARES);
    let failed: u64 = summaries.iter().map(|summary| summary.copies_failed).sum();
    assert!(failed > 0 || summaries.len() < 20, "no copy was ever given up");
}

#[test]
fn servers_fail_while_copies_are_made() {
    check(Scenario::RECOVERY);
}

#[test]
fn the_ecs_is_paused() {
    check(Scenario::ECS_PAUSED);
}

#[test]
fn writes_wait_for_two_copies() {
    check(Scenario::TWO_AT_LEAST);
}

#[test]
fn links_between_servers_are_cut() {
    check(Scenario::CUT_LINKS);
    let summaries = check(Scenario::FLAPS);
    let most = summaries.iter().map(|summary| summary.counts.views).max();
    println!("views in {} s: at most {most:?}", Scenario::FLAPS.heal_at / 1_000_000);
}

/// The sums of what struck; in a run of a few seeds some of it may not.
fn strikes(summaries: &[Summary], what: &str, count: fn(&Counts) -> u64) {
    let all: u64 = summaries.iter().map(|summary| count(&summary.counts)).sum();
    println!("{what}: {all}");
    assert!(all > 0 || summaries.len() < 20, "{what}: never");
}

#[test]
fn disks_go_back() {
    check(Scenario::GOES_BACK);
    check(Scenario::GOES_BACK_FAR);
    check(Scenario::TWINS);
}

#[test]
fn logs_lose_their_last_batches() {
    let summaries = check(Scenario::LAST_BATCH);
    strikes(&summaries, "logs that lost batches", |counts| counts.batches_lost);
    strikes(&summaries, "stores that were set aside", |counts| counts.set_aside);
    strikes(&summaries, "stores that were taken back", |counts| counts.reinstated);
}

#[test]
fn all_disks_fail_at_once() {
    let summaries = check(Scenario::ALL_DISKS);
    strikes(&summaries, "syncs that failed", |counts| counts.syncs_failed);
    strikes(&summaries, "stores that were to be kept", |counts| counts.kept);
    strikes(&summaries, "stores that were set aside", |counts| counts.set_aside);
    strikes(&summaries, "stores that were taken back", |counts| counts.reinstated);
}

#[test]
fn the_directory_of_the_ecs_goes_back() {
    let summaries = check(Scenario::ECS_GOES_BACK);
    strikes(&summaries, "directories that went back", |counts| counts.ecs_went_back);
}

#[test]
fn operators_order_and_take_it_back() {
    check(Scenario::ORDERS);
}

#[test]
fn servers_join_while_disks_are_slow() {
    check(Scenario::JOINS);
}

#[test]
fn replicas_answer_reads_alone() {
    check(Scenario::READERS);
}

#[test]
fn reads_need_no_clock() {
    check(Scenario::BARRIER);
    check(Scenario::BARRIER_CUT);
}

#[test]
fn wall_clocks_jump() {
    check(Scenario::CLOCKS);
}

#[test]
fn values_are_large() {
    check(Scenario::LARGE);
}

#[test]
fn servers_are_slow_and_not_dead() {
    check(Scenario::GRAY);
}

#[test]
fn copies_that_no_view_lists_are_dropped() {
    check(Scenario::DROPS);
}

#[test]
fn seeds_that_failed_once_pass() {
    for (name, seed, what) in REGRESSIONS {
        if let Err(failure) = try_seed(&scenario_named(name), seed) {
            panic!("{what}: {failure:?}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for scenario in Scenario::ALL {
        assert_eq!(world::run(scenario.clone(), 7, Trace::Ignored), world::run(scenario, 7, Trace::Ignored));
    }
}

/// Runs for long: all scenarios in turn, or one (`SCENARIO=name`), `SEEDS=n` of each, from `FIRST=n` on, with
/// `THREADS=n`; prints its progress each minute.
#[test]
#[ignore = "runs for as long as `SEEDS` says"]
fn search_for_long() {
    let scenarios = match std::env::var("SCENARIO") {
        Ok(name) => vec![scenario_named(&name)],
        Err(_) => Scenario::ALL.to_vec(),
    };
    let first = number("FIRST", 0);
    simulation::runner::search_for_long(&scenarios, first..first + number("SEEDS", SEEDS));
}

/// Prints two digests for each scenario (or for `SCENARIO=name`): of the runs, and of all lines of their traces. A
/// change that only moves code leaves both as they are; one that renames or reshapes printed lines leaves the first.
#[test]
#[ignore = "for comparing two versions"]
fn digests_of_traces() {
    let only = std::env::var("SCENARIO").ok();
    let (first, seeds) = (number("FIRST", 0), number("SEEDS", SEEDS));
    for scenario in
        Scenario::ALL.into_iter().filter(|scenario| only.as_ref().is_none_or(|only| only == scenario.name))
    {
        let seeds = if scenario.is_long { seeds.div_ceil(LONG_EVERY) } else { seeds };
        let (runs, traces) = digests(first..first + seeds, &scenario);
        println!("{}: {runs:x} {traces:x}", scenario.name);
    }
}

/// Prints the run of one seed: `SEED=n SCENARIO=name`, and `BUG=name` for one with a planted bug.
#[test]
fn replay() {
    let Ok(name) = std::env::var("SCENARIO") else { return };
    let scenario = scenario_named(&name);
    let scenario = match std::env::var("BUG") {
        Ok(name) => {
            let known = PLANTED.iter().map(|(planted, _, _)| *planted);
            known.into_iter().find(|planted| planted.name() == name).expect("a known bug").within(&scenario)
        }
        Err(_) => scenario,
    };
    println!("{:?}", world::run(scenario, number("SEED", 0), Trace::Printed));
}

/// Planted bugs, the scenario that shows each, and the seeds within which it must be found (some times more than it
/// took).
///
/// Not here: `LeaseNotRechecked`. Before a read, too, the leases are looked at, by a clock that was read after the
/// request had come; so at that moment the answer was right, and the moment lies within the read. The second look is
/// needed only by a shell that reads the clock before it takes its inputs, which this one must not do for pings either.
///
/// Nor `SyncMarkNotDurable`: an append that may shorten a log names the process that it is for, so a restarted one,
/// which has forgotten that it was in step, is asked anew and not cut by what was sent to the one before.
///
/// Nor `ProposedWhileBound`: a joiner that becomes coordinator hears of the promise from the members that gave it (P3).
///
/// Nor `OldAckCounted`: the log of an epoch is the longest of all members' (P1) and ends with a no-op of its own, so an
/// acknowledgement of an older epoch reaches no entry that is not on the disk that it speaks of.
///
/// Nor bugs of becoming coordinator and of processes that need two losses of disks in one run, or that another rule
/// makes up for: `ActsBeforeHello`, `RoleByTable`, `OnlyOwnPromises`, `LargestBySeqAlone`, `StaleSyncCounted`,
/// `FetchedNotDurable` and `ReadLeaseToShorter`. The scripts in `kvserver/core/tests/planted` show what each does.
///
/// Nor the ECS's `SuspicionBelieved`, `NumberGivenAgain` and `HeardMemberWaitedOut`, which take thousands of seeds of
/// `all_disks`, `ecs_goes_back` and `twins`: see `ecs/core/tests/planted`.
static PLANTED: [(Planted, Scenario, u64); 59] = [
    (Server(PlantedBug::AckBeforeFsync), Scenario::CRASHES, 20),
    (Server(PlantedBug::OwnCopyBeforeFsync), Scenario::CRASHES, 20),
    (Server(PlantedBug::AckWithoutOneReplica), Scenario::CRASHES, 20),
    (Server(PlantedBug::ReadWithoutLease), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::LeaseFromReceipt), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::OldEpochAccepted), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::PromiseToOldView), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::PromiseNotAwaited), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::RestartForgetsPromises), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::ServesBeforeSync), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::NewCoordinatorCutsToCommit), Scenario::CRASHES, 2_000),
    (Server(PlantedBug::MemberCutsToCommit), Scenario::CRASHES, 2_000),
    (Server(PlantedBug::LateAppendCuts), Scenario::LATE, 2_000),
    (Server(PlantedBug::RestartResumesRole), Scenario::ECS_AWAY, 1_500),
    (Server(PlantedBug::ProposedBeforeCaughtUp), Scenario::JOINS, 2_000),
    (Server(PlantedBug::JoinerNotAwaited), Scenario::JOINS, 2_000),
    (Server(PlantedBug::ProposalDropped), Scenario::JOINS, 2_000),
    (Server(PlantedBug::ResultsMissingFromSnapshot), Scenario::JOINS, 2_000),
    (Server(PlantedBug::ViewUsedBeforeFsync), Scenario::CRASHES, 2_000),
    (Server(PlantedBug::LeaseOfMajority), Scenario::ECS_CUT, 2_000),
    (Server(PlantedBug::LeaseIgnoresJoiner), Scenario::RECOVERY, 2_000),
    (Server(PlantedBug::LogNotCut), Scenario::CRASHES, 6_000),
    (Server(PlantedBug::PromiseRenewed), Scenario::RECOVERY, 2_000),
    (Server(PlantedBug::IndeterminateRefused), Scenario::NETWORK, 2_000),
    (Server(PlantedBug::PinNotReleased), Scenario::JOINS, 2_000),
    (Server(PlantedBug::MovedInCircles), Scenario::CRASHES, 2_000),
    (Server(PlantedBug::RetryAppliedAgain), Scenario::CRASHES, 2_000),
    (Server(PlantedBug::WipedKeepsIdentity), Scenario::DISKS, 2_000),
    (Server(PlantedBug::FailedDroppedEarly), Scenario::COMPARES, 2_000),
    (Server(PlantedBug::ReadLeaseUnbounded), Scenario::READERS, 2_000),
    (Server(PlantedBug::ReadLeaseToJoiner), Scenario::READERS, 2_000),
    (Server(PlantedBug::ReadGrantIgnored), Scenario::READERS, 2_000),
    (Server(PlantedBug::CleanDespiteReadGrants), Scenario::READERS, 1_500),
    (Server(PlantedBug::PendingKeyRead), Scenario::READERS, 2_000),
    (Server(PlantedBug::RestartForgetsPending), Scenario::READERS, 6_000),
    (Server(PlantedBug::IndexWithoutLease), Scenario::READERS, 2_000),
    (Server(PlantedBug::IndexWhileInactive), Scenario::READERS, 2_000),
    (Server(PlantedBug::BarrierNotAwaited), Scenario::BARRIER_CUT, 2_000),
    (Server(PlantedBug::StampsFromWallClock), Scenario::CLOCKS, 2_000),
    (Server(PlantedBug::OwnLogAuthoritative), Scenario::GOES_BACK, 2_000),
    (Server(PlantedBug::SyncOfMajority), Scenario::GOES_BACK, 2_000),
    (Server(PlantedBug::LearnerAnswersSync), Scenario::GOES_BACK, 6_000),
    (Server(PlantedBug::NoOpLeftOut), Scenario::GOES_BACK, 6_000),
    (Server(PlantedBug::RestartEndsReadLease), Scenario::TWINS, 4_000),
    (Server(PlantedBug::OwnLogAuthoritative), Scenario::LAST_BATCH, 2_000),
    (Server(PlantedBug::CoordinatorLeftOut), Scenario::LAST_BATCH, 2_000),
    (Ecs(EcsBug::SetAsideAtOnce), Scenario::ALL_DISKS, 2_000),
    (Ecs(EcsBug::SetAsideUnserved), Scenario::ALL_DISKS, 2_000),
    (Ecs(EcsBug::ActsBeforeCompared), Scenario::ECS_GOES_BACK, 2_000),
    (Ecs(EcsBug::FlapsForgotten), Scenario::FLAPS, 2_000),
    (Ecs(EcsBug::NoProvedRule), Scenario::GOES_BACK, 2_000),
    (Ecs(EcsBug::OldProposalTaken), Scenario::LATE, 2_000),
    (Ecs(EcsBug::JoinerPromoted), Scenario::RECOVERY, 2_000),
    (Ecs(EcsBug::PublishedBeforeFsync), Scenario::CRASHES, 2_000),
    (Ecs(EcsBug::OwnPauseIgnored), Scenario::ECS_PAUSED, 2_000),
    (Ecs(EcsBug::RestartKeepsEpoch), Scenario::CRASHES, 2_000),
    (Ecs(EcsBug::ForgottenWithoutEpoch), Scenario::RECOVERY, 2_000),
    (Ecs(EcsBug::LastMemberRemoved), Scenario::CRASHES, 2_000),
    (Server(PlantedBug::MinimumIgnored), Scenario::TWO_AT_LEAST, 200),
];

#[test]
fn planted_bugs_are_found() {
    let only = std::env::var("BUG").ok();
    for (bug, scenario, within) in PLANTED.iter().cloned() {
        if only.as_ref().is_some_and(|only| *only != bug.name()) {
            continue;
        }
        let scenario = std::env::var("SCENARIO").map_or(scenario, |name| scenario_named(&name));
        let took = must_find(bug, &scenario, number("SEEDS", within));
        println!("{}: {took} seeds of scenario {}", bug.name(), scenario.name);
    }
}
