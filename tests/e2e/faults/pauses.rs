//! Processes that are stopped for a while and go on with the past in their memory.

use rustix::process::Signal;

use crate::faults::stage::{Asking, Stage, all_wanted, pairs, settings, settings_of_ecs_restarts};

/// A coordinator is paused until others have taken over; then it is sent requests, and continues: its answers are not
/// older than the answers of others meanwhile. The history has its answers.
#[test]
fn a_paused_coordinator_answers_nothing_stale() {
    let stage = Stage::start(settings(), 4);
    paused(stage);
}

#[test]
fn a_paused_coordinator_while_the_ecs_restarts() {
    if all_wanted() {
        paused(Stage::start(settings_of_ecs_restarts(), 4).with_ecs_restarts());
    }
}

fn paused(mut stage: Stage) {
    let keys = stage.recorder.keys();
    let paused = stage.coordinator_of(&keys[0]);
    let address = stage.cluster.address(paused);
    let mut before = Asking::connect(address);
    let mut after = Asking::connect(address);
    stage.cluster.server(paused).signal(Signal::STOP);
    stage.after_fault();
    // These are asked at once: old values are right answers to them.
    before.ask(&keys);
    stage.wait_state(address, false);
    stage.wait_writable();
    stage.go_on();
    // Every key has been written by now, so old values are wrong answers to these.
    for _ in 0..20 {
        after.ask(&keys);
    }
    stage.cluster.server(paused).signal(Signal::CONT);
    let answers = [before.answers(), after.answers()].concat();
    println!("{} answers with values of {} from the server that was paused", answers.len(), 21 * keys.len());
    answers.into_iter().for_each(|answer| stage.recorder.add(answer));
    stage.wait_state(address, true);
    stage.finish();
}

/// Pauses that are too short to be noticed, or just long enough, again and again.
#[test]
fn servers_stutter() {
    if !all_wanted() {
        return;
    }
    let stage = Stage::start(settings(), 4);
    for round in 0..24 {
        let server = stage.cluster.server(round % 4);
        server.signal(Signal::STOP);
        stage.recorder.wait_for_some(fastrand::u64(1..400));
        server.signal(Signal::CONT);
        stage.recorder.wait_for_more(fastrand::u64(1..200));
    }
    stage.finish();
}

/// The ECS is paused for longer than any limit: when it continues, it has heard no server for long, and removes none.
#[test]
fn a_paused_ecs_removes_no_server() {
    let stage = Stage::start(settings(), 3);
    let before = stage.cluster.wait_settled();
    stage.cluster.ecs().signal(Signal::STOP);
    let watch = crate::support::Stopwatch::start();
    while watch.elapsed().as_secs() < 3 {
        stage.go_on();
    }
    stage.db.put_many(&pairs());
    stage.cluster.ecs().signal(Signal::CONT);
    stage.go_on();
    let after = stage.cluster.wait_settled();
    assert_eq!(after.view, before.view, "nothing changed, and there is a newer view");
    stage.finish();
}
