//! Disks that stand still for a while, and take what was written then.

use std::time::Duration;

use crate::faults::disk::Disk;
use crate::faults::stage::{Stage, settings};
use crate::support::http;
use crate::support::wait::SOON;
use crate::support::{Settings, Stopwatch, wait_until};

/// Longer than the silence after which a server is taken for dead, and shorter than a disk may rest.
const SHORT: Duration = Duration::from_millis(1_500);

/// The disk of the ECS and all servers takes no writes for a moment, like one that other programs keep busy. All
/// wait, and no server is taken for dead: its copies would have to be made again, on the same disk.
#[test]
fn a_short_rest_of_the_disk_removes_no_server() {
    let Some(disk) = Disk::wanted() else { return };
    let stage = Stage::start(Settings { base: Some(disk.at()), ..settings() }, 3);
    stage.go_on();
    for _ in 0..3 {
        let watch = Stopwatch::start();
        let frozen = disk.freeze();
        wait_until("the time is over", SOON, || watch.elapsed() >= SHORT);
        drop(frozen);
        stage.go_on();
    }
    let (_, events) = http::get(stage.cluster.ecs_address(), "/api/v1/events").expect("the ECS answers");
    assert!(!events.contains("is down"), "a server was taken for dead: {events}");
    stage.finish();
    drop(disk);
}

/// The disk of one server takes no writes any more, and says nothing: others take over. When it takes writes again, the
/// server comes back.
#[test]
fn a_server_whose_disk_has_gone_to_rest_is_replaced() {
    let Some(disk) = Disk::wanted() else { return };
    let mut stage = Stage::start(settings(), 3);
    let resting = stage.cluster.add_server_with(Some(disk.at().join("server")), &[], &[]);
    stage.cluster.wait_settled();
    stage.go_on();
    let address = stage.cluster.address(resting);
    let frozen = disk.freeze();
    stage.wait_state(address, false);
    stage.wait_writable();
    stage.go_on();
    drop(frozen);
    stage.wait_state(address, true);
    stage.finish();
    drop(disk);
}
