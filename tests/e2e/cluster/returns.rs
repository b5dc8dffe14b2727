//! Servers that come back: what their return costs the others.

use common::status::CaughtUp;

use crate::support::cluster::{copy_directory, on_directory};
use crate::support::{Cluster, Settings, db};

/// Writes that a server misses.
const MISSED: usize = 300;

/// Bytes of each value of the load that makes the log be trimmed.
const LARGE_BYTES: usize = 1 << 20;

/// What a server has sent to members that were behind.
fn caught_up(cluster: &Cluster, server: usize) -> CaughtUp {
    let db = cluster.client();
    let address = cluster.address(server).to_string();
    db.block(db.client.server_status(&address)).expect("a server's status").caught_up
}

fn sum(cluster: &Cluster, servers: &[usize]) -> CaughtUp {
    servers.iter().map(|&server| caught_up(cluster, server)).fold(CaughtUp::default(), |all, one| CaughtUp {
        log_entries: all.log_entries + one.log_entries,
        log_bytes: all.log_bytes + one.log_bytes,
        copies: all.copies + one.copies,
        copy_bytes: all.copy_bytes + one.copy_bytes,
    })
}

fn since(now: CaughtUp, before: CaughtUp) -> CaughtUp {
    CaughtUp {
        log_entries: now.log_entries - before.log_entries,
        log_bytes: now.log_bytes - before.log_bytes,
        copies: now.copies - before.copies,
        copy_bytes: now.copy_bytes - before.copy_bytes,
    }
}

#[test]
fn a_server_that_was_away_for_a_moment_gets_what_it_missed_and_no_more() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let all = db::pairs("before/", 4000);
    db.put_many(&all);
    cluster.kill_server(2);
    let missed = db::pairs("missed/", MISSED);
    db.put_many(&missed);
    let before = sum(&cluster, &[0, 1]);
    cluster.start_server(2);
    cluster.wait_settled();
    let sent = since(sum(&cluster, &[0, 1]), before);
    println!("{MISSED} writes missed of {}: sent {sent:?}", all.len() + MISSED);
    assert_eq!(sent.copies, 0, "{sent:?}");
    // Every write that it missed, and those on their way when it was killed.
    assert!((MISSED as u64..2 * MISSED as u64).contains(&sent.log_entries), "{sent:?}");
    cluster.kill_server(0);
    cluster.kill_server(1);
    let alone = cluster.client();
    assert_eq!((alone.scan("before/"), alone.scan("missed/")), (all, missed));
}

#[test]
fn a_server_that_was_away_for_long_is_filled_anew() {
    let mut cluster = Settings::default().server_args(&["--log-mb", "64"]).start(3);
    let db = cluster.client();
    let all = db::pairs("before/", 500);
    db.put_many(&all);
    cluster.kill_server(2);
    // More than the log keeps.
    let value: String = (0..LARGE_BYTES).map(|_| fastrand::alphanumeric()).collect();
    for n in 0..200 {
        db.put(format!("large/{n}"), value.clone());
    }
    let before = sum(&cluster, &[0, 1]);
    cluster.start_server(2);
    cluster.wait_settled();
    let sent = since(sum(&cluster, &[0, 1]), before);
    println!("200 values of {LARGE_BYTES} bytes missed: sent {sent:?}");
    assert!(sent.copies > 0 && sent.copy_bytes > 50 * LARGE_BYTES as u64, "{sent:?}");
    cluster.kill_server(0);
    cluster.kill_server(1);
    let alone = cluster.client();
    assert_eq!(alone.scan("before/"), all);
    assert_eq!(alone.scan("large/").len(), 200);
}

#[test]
fn a_copy_of_a_directory_joins_as_another_server_once_it_has_a_new_name() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let all = db::pairs("before/", 2000);
    db.put_many(&all);
    cluster.kill_server(2);
    let copy = cluster.path().join("copy");
    copy_directory(cluster.server_dir(2), &copy);
    cluster.start_server(2);
    let output = on_directory("new-store", &copy, &["--new-server"]);
    assert!(output.contains("has the id") && output.contains("may run beside the original"), "{output}");
    let added = cluster.add_server_with(Some(copy), &[], &[]);
    cluster.wait_settled();
    assert_eq!(cluster.client().scan("before/"), all);
    // What it was given, it has.
    cluster.kill_server(2);
    cluster.wait_settled();
    let db = db::Db::connect(&[cluster.address(added).to_string()]);
    assert_eq!(db.scan("before/"), all);
}
