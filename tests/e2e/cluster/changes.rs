//! Servers that join, leave and restart, under load.

use crate::support::{Cluster, Load, Stopwatch, db};

/// Writers of the load: with the servers they share two cores in the gate.
const WRITERS: usize = 4;

/// Requests before, between and after changes.
const SOME_REQUESTS: u64 = 200;

#[test]
fn servers_join_under_load() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let before = db::pairs("before/", 3000);
    db.put_many(&before);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    load.wait_for_more(SOME_REQUESTS);
    for _ in 0..2 {
        let watch = Stopwatch::start();
        cluster.add_server();
        let status = cluster.wait_settled();
        println!("{} servers after {:?}", status.servers.len(), watch.elapsed());
        load.wait_for_more(SOME_REQUESTS);
    }
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    // Asked through one of the new servers.
    let db = db::Db::connect(&[cluster.address(4).to_string()]);
    recording.verify(&db);
    assert_eq!(db.scan("before/"), before);
    let status = cluster.wait_settled();
    let (coordinators, replicas) = status
        .servers
        .iter()
        .fold((0, 0), |sum, server| (sum.0 + server.coordinator, sum.1 + server.replica));
    assert_eq!((coordinators, replicas), (status.partitions, 2 * status.partitions));
}

#[test]
fn servers_join_an_empty_cluster_at_the_same_time() {
    let mut cluster = Cluster::start(1);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    (0..3).for_each(|_| _ = cluster.add_server());
    cluster.wait_settled();
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}

#[test]
fn a_server_leaves_under_load() {
    let mut cluster = Cluster::start(4);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    load.wait_for_more(SOME_REQUESTS);
    let watch = Stopwatch::start();
    let status = cluster.terminate_server(1);
    println!("left after {:?}", watch.elapsed());
    assert!(status.success(), "{status}");
    assert_eq!(cluster.wait_settled().servers.len(), 3);
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}

#[test]
fn all_but_one_server_leave_and_come_back() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let all = db::pairs("key/", 500);
    db.put_many(&all);
    for server in [0, 1] {
        let status = cluster.terminate_server(server);
        assert!(status.success(), "{status}");
    }
    assert_eq!(cluster.wait_settled().servers.len(), 1);
    assert_eq!(cluster.client().scan("key/"), all);
    [0, 1].into_iter().for_each(|server| cluster.start_server(server));
    assert_eq!(cluster.wait_settled().servers.len(), 3);
    // The one that stayed all the time is the only one that goes.
    assert!(cluster.terminate_server(2).success());
    assert_eq!(cluster.client().scan("key/"), all);
    // The last ones stop together: there is no server to hand anything to.
    cluster.server(0).signal(rustix::process::Signal::TERM);
    assert!(cluster.terminate_server(1).success());
    assert!(cluster.terminate_server(0).success());
}

#[test]
fn a_server_restarts_under_load() {
    let mut cluster = Cluster::start(3);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    load.wait_for_more(SOME_REQUESTS);
    for server in 0..3 {
        cluster.kill_server(server);
        cluster.start_server(server);
        let watch = Stopwatch::start();
        load.wait_for_more(SOME_REQUESTS);
        println!("server {server} restarted, {SOME_REQUESTS} requests {:?} later", watch.elapsed());
        cluster.wait_settled();
    }
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}
