//! The ECS goes and comes: servers and clients do without it.

use crate::support::wait::SOON;
use crate::support::{Cluster, Load, db, wait_for};

/// Writers of the load.
const WRITERS: usize = 4;

/// Requests without the ECS: more than the leases between servers would last if it had a part in them.
const SOME_REQUESTS: u64 = 1000;

#[test]
fn without_the_ecs_reads_and_writes_go_on() {
    let mut cluster = Cluster::start(3);
    let before = cluster.wait_settled();
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    cluster.kill_ecs();
    load.wait_for_more(SOME_REQUESTS);
    // A client that comes now finds everything too, and says what is the matter.
    let output = cluster.kvclient(1, &["put", "now", "there"]);
    assert!(output.status.success(), "{output:?}");
    let output = cluster.kvclient(2, &["status"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("ECS DOWN") && shown.contains("reads and writes go on"), "{shown}");

    cluster.start_ecs();
    let after = wait_for("the ECS hears all servers again", SOON, || {
        let status = cluster.status()?;
        let heard = status.servers.iter().filter(|server| server.heartbeat_age_ms.is_some()).count();
        if heard == 3 { Ok(status) } else { Err(format!("{status:?}")) }
    });
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
    assert_eq!(after.cluster, before.cluster);
    assert!(after.view >= before.view, "{} is before {}", after.view, before.view);
    let settled = cluster.wait_settled();
    let shares = |status: &common::status::ClusterStatus| -> Vec<_> {
        status.servers.iter().map(|server| (server.server, server.coordinator, server.replica)).collect()
    };
    assert_eq!(shares(&settled), shares(&before), "nothing needed to move");
}

#[test]
fn an_ecs_stops_in_good_order_and_serves_new_servers_after_its_restart() {
    let mut cluster = Cluster::start(2);
    let db = cluster.client();
    let all = db::pairs("key/", 300);
    db.put_many(&all);
    let before = cluster.status().expect("the ECS answers");
    let mut ecs = cluster.take_ecs();
    assert!(ecs.terminate().success());
    // A server that is in no view says so at once, and what to do.
    let alone = cluster.add_server();
    let output = cluster.kvclient(alone, &["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let wanted = format!("in no view yet, and the ECS at {} does not answer", cluster.ecs_address());
    assert!(said.contains(&wanted) && said.contains("-b HOST:PORT"), "{said}");
    assert_eq!(output.status.code(), Some(4), "{said}");
    cluster.start_ecs();
    let after = cluster.wait_settled();
    assert_eq!((after.cluster, after.servers.len()), (before.cluster, 3));
    assert!(after.view > before.view, "{} is not after {}", after.view, before.view);
    assert_eq!(cluster.client().scan("key/"), all);
}
