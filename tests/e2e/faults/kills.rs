//! Servers that are killed: two at once, a third meanwhile, all.

use crate::faults::stage::{Stage, all_wanted, settings, settings_of_ecs_restarts};
use crate::support::Settings;

#[test]
fn two_servers_at_once_then_a_third_while_copies_are_made_again() {
    two_then_a_third(Stage::start(settings(), 6));
}

#[test]
fn the_same_while_the_ecs_restarts() {
    if all_wanted() {
        two_then_a_third(Stage::start(settings_of_ecs_restarts(), 6).with_ecs_restarts());
    }
}

/// Two at once leave each partition one copy at least. The third is killed while the lost copies are made again, so
/// its partitions may have had no other copy yet: they wait until it is back, and nothing is lost.
fn two_then_a_third(mut stage: Stage) {
    stage.kill(&[0, 1]);
    let transfer = stage.wait_transfer();
    let third = if transfer.source == 5 { 4 } else { 5 };
    stage.kill(&[third]);
    stage.cluster.start_server(third);
    stage.wait_writable();
    stage.go_on();
    // The first two come back to a cluster that has done without them.
    stage.cluster.start_server(0);
    stage.cluster.start_server(1);
    stage.finish();
}

#[test]
fn one_then_another_while_its_copies_are_made_again() {
    if !all_wanted() {
        return;
    }
    for ecs_restarts in [false, true] {
        let mut stage = Stage::start(settings_of_ecs_restarts(), 5);
        if ecs_restarts {
            stage = stage.with_ecs_restarts();
        }
        stage.kill(&[0]);
        let Transfer { source, .. } = stage.wait_transfer();
        stage.kill(&[source]);
        // No third copy of anything is gone: all keys take writes without those two.
        stage.wait_writable();
        stage.go_on();
        // Three servers are left, so all copies can be made again without them.
        stage.finish();
    }
}

use crate::faults::stage::Transfer;

#[test]
fn all_at_once_with_the_ecs() {
    let mut stage = Stage::start(settings(), 3);
    stage.cluster.kill_ecs();
    stage.cluster.kill_servers();
    stage.cluster.start_ecs();
    (0..3).for_each(|server| stage.cluster.start_server(server));
    stage.finish();
}

#[test]
fn all_at_once_with_steady_timers() {
    if !all_wanted() {
        return;
    }
    let mut stage = Stage::start(Settings { timers: "steady", ..settings() }, 4);
    stage.cluster.kill_ecs();
    stage.cluster.kill_servers();
    // They come back one after the other, and the ECS last.
    (0..4).for_each(|server| stage.cluster.start_server(server));
    stage.cluster.start_ecs();
    stage.finish();
}
