//! Power that fails under the whole cluster, and wall clocks that jump.

use crate::faults::clocks::{FakeClock, faketime};
use crate::faults::disk::Disk;
use crate::faults::stage::{SOME, Stage, all_wanted, settings};
use crate::support::wait::SOON;
use crate::support::{Settings, Stopwatch, wait_until};

/// The ECS and all servers lose their power at once. Writes that were not synced are gone.
#[test]
fn the_power_fails() {
    let Some(disk) = Disk::wanted() else { return };
    let mut stage = Stage::start(Settings { base: Some(disk.at()), ..settings() }, 3);
    let rounds = if std::env::var("FAULTS").is_ok_and(|faults| faults == "all") { 8 } else { 2 };
    for round in 0..rounds {
        stage.cluster.kill_ecs();
        stage.cluster.kill_servers();
        disk.cut_power();
        stage.cluster.start_ecs();
        (0..3).for_each(|server| stage.cluster.start_server(server));
        stage.wait_writable();
        stage.go_on();
        println!("power cut {round} is survived");
    }
    stage.finish();
    drop(disk);
}

/// One server's wall clock jumps by hours, forth and back. Nothing but expiry looks at it.
#[test]
fn wall_clocks_jump() {
    if !all_wanted() {
        return;
    }
    let Some(library) = faketime() else { return };
    let mut stage = Stage::start(settings(), 2);
    let clock = FakeClock::new(&stage.cluster, library, "+0");
    stage.cluster.add_server_with(None, &[], &clock.env());
    let before = stage.cluster.wait_settled();
    for jump in ["+5h", "-40h", "+400d", "+0"] {
        clock.set(jump);
        stage.go_on();
    }
    assert_eq!(stage.cluster.wait_settled().view, before.view, "a wall clock has moved the cluster");
    let watch = Stopwatch::start();
    wait_until("the load goes on", SOON, || stage.recorder.answered() > SOME);
    println!("{:?}", watch.elapsed());
    stage.finish();
}
