//! Servers that are alive, and whose disks are slow or have no room: others take over what they did.

use common::status::{DiskState, MemberStatus};
use skipped::{Missing, skip};

use super::disks::{SmallDisk, shim};
use crate::support::wait::SOON;
use crate::support::{Cluster, Load, Settings, wait_for};

/// Milliseconds that a sync takes more: far above what one takes on a busy machine.
const DELAY_MS: &str = "600";

/// Bytes of a foreign file on the small disk, so that less than the reserve is free.
const FOREIGN_BYTES: u64 = 80 << 20;

/// Two copies of everything, and three servers that are well: more than copies.
fn start() -> Cluster {
    let mut cluster = Settings::default().ecs_args(&["--copies", "2"]).start_ecs();
    (0..3).for_each(|_| _ = cluster.add_server());
    cluster
}

fn member(cluster: &Cluster, server: usize) -> Result<MemberStatus, String> {
    let address = cluster.address(server).to_string();
    let found = cluster.status()?.servers.into_iter().find(|one| one.address == address);
    found.ok_or_else(|| format!("{address} is no member"))
}

/// Others do all that it did, and the status names it.
fn wait_until_replaced(cluster: &Cluster, server: usize, state: DiskState) {
    wait_for("it coordinates nothing", SOON, || match member(cluster, server)? {
        one if one.disk == state && one.coordinator == 0 => Ok(()),
        one => Err(format!("{one:?}")),
    });
    wait_for("others hold its copies", 2 * SOON, || match member(cluster, server)? {
        one if one.gave_up && one.replica + one.joining == 0 => Ok(()),
        one => Err(format!("{one:?}")),
    });
}

fn wait_until_well(cluster: &Cluster, server: usize) {
    wait_for("its disk is well", 2 * SOON, || match member(cluster, server)? {
        one if one.disk == DiskState::Well && !one.gave_up => Ok(()),
        one => Err(format!("{one:?}")),
    });
    let status = cluster.wait_settled();
    let address = cluster.address(server).to_string();
    let one = status.servers.iter().find(|one| one.address == address).expect("a member");
    assert!(one.coordinator > 0 && one.replica > 0, "{one:?}");
}

#[test]
fn a_server_with_a_slow_disk_is_relieved_and_gets_its_share_back() {
    let mut cluster = start();
    let library = match shim(cluster.path()) {
        Ok(library) => library.to_str().unwrap().to_owned(),
        Err(reason) => {
            skip!(Missing::CCompiler, "{reason}");
            return;
        }
    };
    let delay = cluster.path().join("delay");
    let file = delay.to_str().unwrap().to_owned();
    let slow = cluster.add_server_with(None, &[], &[("LD_PRELOAD", &library), ("FSYNC_DELAY", &file)]);
    cluster.wait_settled();
    let load = Load::start("load", &cluster.seeds(), 4);
    load.wait_for_more(100);
    std::fs::write(&delay, DELAY_MS).unwrap();
    wait_until_replaced(&cluster, slow, DiskState::Slow);
    let one = member(&cluster, slow).unwrap();
    assert!(one.sync_median_us.is_some_and(|time| time > 500_000), "{one:?}");
    let log = cluster.ecs().log();
    assert!(log.contains("has a slow disk") && log.contains("is to give its copies to others"), "{log}");
    load.wait_for_more(100);
    // Nothing is written there any more, and it is found out all the same that the disk is well.
    std::fs::remove_file(&delay).unwrap();
    wait_until_well(&cluster, slow);
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}

#[test]
fn a_server_below_its_reserve_is_relieved_and_gets_its_share_back() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut cluster = start();
    let full = cluster.add_server_with(Some(disk.dir()), &["--reserve-mb", "30", "--log-mb", "64"], &[]);
    cluster.wait_settled();
    let db = cluster.client();
    let foreign = disk.dir().parent().unwrap().join("foreign");
    std::fs::write(&foreign, vec![1; usize::try_from(FOREIGN_BYTES).unwrap()]).unwrap();
    wait_until_replaced(&cluster, full, DiskState::Full);
    // Its fourth of all keys is written as before.
    (0..200).for_each(|number| _ = db.put(format!("key-{number}"), "value"));
    std::fs::remove_file(&foreign).unwrap();
    wait_until_well(&cluster, full);
    assert_eq!(db.scan("key-").len(), 200);
}
