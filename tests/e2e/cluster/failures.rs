//! Servers that are killed, one, two of three, all.

use crate::support::resp::RespClient;
use crate::support::wait::SOON;
use crate::support::{Cluster, Load, Settings, Stopwatch, db, wait_until};

/// Writers of the load.
const WRITERS: usize = 4;

/// Requests before and after failures.
const SOME_REQUESTS: u64 = 200;

/// Every key can be read, and written again.
fn read_and_write_all(db: &db::Db, all: &std::collections::BTreeMap<String, String>, prefix: &str) {
    assert_eq!(db.scan(prefix), *all);
    db.put_many(all);
}

#[test]
fn one_server_of_three_is_killed_under_load() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let all = db::pairs("key/", 1000);
    db.put_many(&all);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    load.wait_for_more(SOME_REQUESTS);
    let watch = Stopwatch::start();
    cluster.kill_server(1);
    read_and_write_all(&db, &all, "key/");
    println!("all keys read and written {:?} after the kill", watch.elapsed());
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
    assert_eq!(db.scan("key/"), all);
}

#[test]
fn two_servers_of_three_are_killed_at_once() {
    // One copy is enough for a write there, so that all goes on.
    let mut cluster = Settings::default().ecs_args(&["--min-copies", "1"]).start(3);
    let db = cluster.client();
    let all = db::pairs("key/", 1000);
    db.put_many(&all);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    load.wait_for_more(SOME_REQUESTS);
    let watch = Stopwatch::start();
    cluster.server(0).signal(rustix::process::Signal::KILL);
    cluster.kill_server(2);
    cluster.kill_server(0);
    read_and_write_all(&db, &all, "key/");
    println!("all keys read and written {:?} after the kills", watch.elapsed());
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&cluster.client());
    // They come back, and the one that was alone may go.
    cluster.start_server(0);
    cluster.start_server(2);
    cluster.wait_settled();
    cluster.kill_server(1);
    let db = cluster.client();
    recording.verify(&db);
    assert_eq!(db.scan("key/"), all);
}

/// From three servers on no write rests on one disk: with one copy left reads go on and writes wait, and are refused as
/// not done, until another copy is there.
#[test]
fn with_one_copy_left_reads_go_on_and_writes_wait() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let all = db::pairs("key/", 100);
    db.put_many(&all);
    cluster.kill_server(2);
    db.put_many(&all);
    cluster.kill_server(0);
    let mut alone = RespClient::connect(cluster.address(1));
    for (key, value) in &all {
        wait_until("the last copy is read", SOON, || {
            alone.line(&format!("GET {key}")) == format!("{value:?}")
        });
    }
    let keys: Vec<&String> = all.keys().take(10).collect();
    for key in &keys {
        let reply = alone.line(&format!("SET {key} alone"));
        assert!(reply.starts_with("-LOADING") && reply.contains("fewer than 2 copies in sync"), "{reply}");
    }
    assert_eq!(cluster.status().expect("the ECS runs").min_copies, 2);
    // As soon as there is a second copy writes are done, and those that were refused were not.
    cluster.start_server(2);
    for key in &keys {
        wait_until("a second copy is there", SOON, || {
            let value = alone.line(&format!("GET {key}"));
            assert_eq!(value, format!("{:?}", all[*key]), "a write that was refused was done");
            alone.ask(&["SET", key, &all[*key]]).to_string() == "+OK"
        });
    }
    cluster.start_server(0);
    cluster.wait_settled();
    cluster.kill_server(1);
    assert_eq!(cluster.client().scan("key/"), all);
}

#[test]
fn all_servers_are_killed_at_once() {
    let mut cluster = Cluster::start(3);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    load.wait_for_more(5 * SOME_REQUESTS);
    cluster.kill_servers();
    let recording = load.abort();
    (0..3).for_each(|server| cluster.start_server(server));
    let watch = Stopwatch::start();
    let db = cluster.client();
    recording.verify(&db);
    println!("{} writes were all there {:?} after the restart", recording.acked(), watch.elapsed());
    db.put("again", "writable");
    cluster.wait_settled();
}

#[test]
fn all_processes_are_killed_at_once_with_slow_timers() {
    let settings = Settings { timers: "steady", ..Settings::default() };
    let mut cluster = settings.start(3);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    load.wait_for_more(5 * SOME_REQUESTS);
    cluster.kill_ecs();
    cluster.kill_servers();
    let recording = load.abort();
    cluster.start_ecs();
    (0..3).for_each(|server| cluster.start_server(server));
    let db = cluster.client();
    recording.verify(&db);
    db.put("again", "writable");
    cluster.wait_settled();
}
