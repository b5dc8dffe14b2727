//! Servers that are killed in the middle of a change: while they receive copies, give them, or wait for the ECS.

use rustix::process::Signal;

use crate::faults::stage::{Stage, all_wanted, settings_of_ecs_restarts};

fn stage(ecs_restarts: bool) -> Stage {
    let stage = Stage::start(settings_of_ecs_restarts(), 4);
    if ecs_restarts { stage.with_ecs_restarts() } else { stage }
}

#[test]
fn a_joining_server_is_killed_in_the_middle_of_its_transfer() {
    joining_killed(stage(false));
}

#[test]
fn a_joining_server_is_killed_and_the_ecs_restarts() {
    if all_wanted() {
        joining_killed(stage(true));
    }
}

fn joining_killed(mut stage: Stage) {
    let joining = stage.cluster.add_server();
    let transfer = stage.wait_transfer_to(|server| server == joining);
    stage.kill(&[transfer.joining]);
    stage.wait_writable();
    stage.go_on();
    stage.cluster.start_server(joining);
    stage.finish();
}

#[test]
fn the_source_of_a_transfer_is_killed() {
    source_killed(stage(true));
}

#[test]
fn the_source_of_a_transfer_is_killed_and_stays_away() {
    if !all_wanted() {
        return;
    }
    let mut stage = stage(false);
    let joining = stage.cluster.add_server();
    let transfer = stage.wait_transfer_to(|server| server == joining);
    stage.kill(&[transfer.source]);
    stage.wait_writable();
    stage.finish();
}

fn source_killed(mut stage: Stage) {
    let joining = stage.cluster.add_server();
    let transfer = stage.wait_transfer_to(|server| server == joining);
    stage.kill(&[transfer.source]);
    stage.wait_writable();
    stage.go_on();
    stage.cluster.start_server(transfer.source);
    stage.finish();
}

/// The ECS hears proposals and does not answer, as it is stopped; then the coordinator that proposes is killed.
#[test]
fn a_coordinator_is_killed_between_its_proposal_and_the_answer() {
    let mut stage = stage(false);
    let joining = stage.cluster.add_server();
    let transfer = stage.wait_transfer_to(|server| server == joining);
    stage.cluster.ecs().signal(Signal::STOP);
    // Copies are caught up meanwhile and wait to be counted; writes wait for them already.
    stage.go_on();
    stage.cluster.kill_server(transfer.source);
    stage.cluster.ecs().signal(Signal::CONT);
    stage.wait_writable();
    stage.go_on();
    stage.cluster.start_server(transfer.source);
    stage.finish();
}

/// A coordinator and the ECS that heard its proposals are killed: only the coordinator's own disk knows of them.
#[test]
fn a_coordinator_and_the_ecs_are_killed_between_proposal_and_answer() {
    if !all_wanted() {
        return;
    }
    let mut stage = stage(false);
    let joining = stage.cluster.add_server();
    let transfer = stage.wait_transfer_to(|server| server == joining);
    stage.cluster.ecs().signal(Signal::STOP);
    stage.go_on();
    stage.cluster.kill_server(transfer.source);
    stage.cluster.kill_ecs();
    stage.cluster.start_ecs();
    stage.wait_writable();
    stage.cluster.start_server(transfer.source);
    stage.finish();
}
