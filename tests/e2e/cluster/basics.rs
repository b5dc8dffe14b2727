//! Three servers in peace: every operation, at every server, on every disk.

use std::time::Duration;

use bytes::Bytes;
use common::clock;
use common::operation::Outcome;
use common::time::WallTime;

use crate::support::wait::SOON;
use crate::support::{Cluster, Stopwatch, TextClient, db, wait_for, wait_until};

/// Values live this long in the tests of expiry.
const TTL: Duration = Duration::from_millis(300);

/// How long the reader that looks for values that go back reads.
const READ_FOR: Duration = Duration::from_secs(3);

#[test]
fn every_operation_of_the_library() {
    let cluster = Cluster::start(3);
    let clients: Vec<_> =
        (0..3).map(|server| db::Db::connect(&[cluster.address(server).to_string()])).collect();
    for (index, db) in clients.iter().enumerate() {
        let other = &clients[(index + 1) % 3];
        let key = |name: &str| format!("{name} of {index}");

        let version = db.put(key("a"), "one");
        assert_eq!(other.found(key("a")).map(|found| found.version), Some(version));
        assert!(other.put(key("a"), "two") > version);
        assert_eq!(db.get(key("a")).as_deref(), Some("two"));

        let stale = db.block(other.client.put(key("a"), "three").if_version(version)).unwrap();
        assert!(matches!(stale, Outcome::ConditionFailed { current: Some(_) }), "{stale:?}");
        let newer = db.found(key("a")).unwrap().version;
        let set = db.block(other.client.put(key("a"), "three").if_version(newer)).unwrap();
        assert!(matches!(set, Outcome::Written { replaced: true, .. }), "{set:?}");
        let set = db.block(db.client.put(key("a"), "four").if_value("three")).unwrap();
        assert!(matches!(set, Outcome::Written { .. }), "{set:?}");
        let absent = db.block(db.client.put(key("a"), "five").if_absent()).unwrap();
        assert!(matches!(absent, Outcome::ConditionFailed { .. }), "{absent:?}");

        assert_eq!(db.block(db.client.append(key("log"), "abc")).unwrap().offset, 0);
        assert_eq!(db.block(other.client.append(key("log"), "defg")).unwrap().offset, 3);
        assert_eq!(db.get(key("log")).as_deref(), Some("abcdefg"));

        let binary = Bytes::from((0..=u8::MAX).collect::<Vec<_>>());
        db.put(binary.clone(), binary.clone());
        assert_eq!(other.found(binary.clone()).unwrap().value, binary);

        assert!(db.block(db.client.delete(key("a"))).unwrap().is_some());
        assert_eq!(other.get(key("a")), None);
        assert_eq!(db.block(db.client.delete(key("a"))), Ok(None));
    }
    let all = db::pairs("scan/", 500);
    clients[0].put_many(&all);
    clients.iter().for_each(|db| assert_eq!(db.scan("scan/"), all));
    assert_eq!(clients[0].scan("scan/49").len(), 11);
}

#[test]
fn values_expire_at_every_server() {
    let cluster = Cluster::start(3);
    let db = cluster.client();
    let soon = WallTime(clock::wall().0 + TTL.as_millis() as u64);
    db.block(db.client.put("short", "lived").expires_at(soon)).unwrap();
    db.put("long", "lived");
    assert!(db.block(db.client.expire_at("long", soon)).unwrap().is_some());
    db.put("kept", "for ever");
    for address in cluster.addresses() {
        let mut text = TextClient::connect(address);
        for key in ["short", "long"] {
            let gone = format!("get_error {key} key not found");
            wait_until("the value expires", SOON, || text.ask(&format!("get {key}")) == gone);
        }
        assert_eq!(text.ask("get kept"), "get_success kept for ever");
    }
    assert_eq!((db.get("short"), db.get("long")), (None, None));
}

#[test]
fn the_shell_s_commands_at_every_server() {
    let cluster = Cluster::start(3);
    for server in 0..3 {
        let run = |args: &[&str]| {
            let output = cluster.kvclient(server, args);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.code().expect("it exits"), text(&output.stdout), text(&output.stderr))
        };
        let done = |args: &[&str], expected: &str| {
            let (code, out, err) = run(args);
            assert_eq!(code, 0, "{args:?}: {err}");
            assert!(out.starts_with(expected), "{args:?}: {out}, not {expected}");
        };
        // A server that the machine holds up for a moment is missed for another one.
        let healthy = |args: &[&str], expected: &str| {
            wait_for("it says that all is well", SOON, || match run(args) {
                (0, out, _) if out.contains(expected) => Ok(out),
                other => Err(format!("{args:?}: {other:?}")),
            })
        };
        let key = &format!("cli-{server}");
        done(&["put", key, "dark  green"], "OK  version ");
        done(&["get", key], "dark  green\n");
        done(&["append", key, "!"], "OK  offset 11, ");
        done(&["cas", key, "--value", "dark  green!", "blue"], "OK  version ");
        done(&["expire", key, "1h"], "OK  version ");
        done(&["scan", key], &format!("{key}\tblue\n"));
        done(&["keyrange"], "00000000000000000000000000000000,");
        done(&["keyrange_read"], "00000000000000000000000000000000,");
        assert!(healthy(&["status"], ", 3 servers, 64 partitions").starts_with("healthy, epoch "));
        let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&run(args).1).expect("JSON") };
        let status: serde_json::Value =
            serde_json::from_str(&healthy(&["status", "--json"], "\"healthy, epoch ")).expect("JSON");
        assert_eq!(status["servers"].as_array().map(Vec::len), Some(3));
        let holder = json(&["partitions", key, "--json"]);
        assert_eq!(holder["partitions"].as_array().map(Vec::len), Some(1), "{holder}");
        assert_eq!(holder["partitions"][0]["in_sync"].as_array().map(Vec::len), Some(3), "{holder}");
        let joined =
            |event: &serde_json::Value| event["text"].as_str().is_some_and(|text| text.contains("joined"));
        let events = json(&["events", "--limit", "1000", "--json"]);
        assert!(events["events"].as_array().is_some_and(|events| events.iter().any(joined)), "{events}");
        // The writes above are among the hot keys that servers report once a second.
        wait_until("hot keys are reported", SOON, || {
            json(&["hot", "--json"])["hot"].as_array().is_some_and(|hot| !hot.is_empty())
        });
        healthy(&["-o", "raw", "stat", "--count", "1"], "healthy\t");
        done(&["-o", "raw", "latency", "100ms"], "127.0.0.1:");
        done(&["-o", "raw", "big", key, "--limit", "1"], &format!("{key}\t"));
        let verdict = ", 3 servers, 64 partitions, 3 copies, data survives 2 more failures, writes 1\n";
        healthy(&["status"], verdict);
        done(&["delete", key], "OK  deleted");
        let (code, out, err) = run(&["get", key]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
    }
}

#[test]
fn a_write_that_was_acknowledged_is_on_three_disks() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let all = db::pairs("disk/", 2000);
    db.put_many(&all);
    cluster.kill_servers();
    cluster.kill_ecs();

    let wanted = db.keys_by_partition(all.keys());
    for server in 0..3 {
        let listing = cluster.inspect(server);
        let partitions = listing["partitions"].as_array().expect("partitions");
        let last = |partition: u16| {
            let line = partitions.iter().find(|line| line["partition"] == partition);
            line.and_then(|line| line["log_last"].as_u64()).unwrap_or(0)
        };
        for (&partition, &keys) in &wanted {
            assert!(last(partition) >= keys, "server {server} has {} of {keys} entries", last(partition));
        }
    }

    cluster.start_ecs();
    (0..3).for_each(|server| cluster.start_server(server));
    let db = cluster.client();
    assert_eq!(db.scan("disk/"), all);
}

#[test]
fn no_server_answers_with_the_past() {
    let cluster = Cluster::start(3);
    let addresses = cluster.addresses();
    let db = cluster.client();
    db.put("counter", "0");
    std::thread::scope(|scope| {
        let watch = Stopwatch::start();
        let writer = scope.spawn(move || {
            let mut last = 0_u64;
            while watch.elapsed() < READ_FOR {
                last += 1;
                db.put("counter", last.to_string());
            }
            last
        });
        let mut readers: Vec<_> = addresses.iter().map(|&address| TextClient::connect(address)).collect();
        let (mut newest, mut reads) = (0, 0);
        while !writer.is_finished() {
            for reader in &mut readers {
                let reply = reader.ask("get counter");
                if reply == "server_stopped" {
                    // It has no lease at the moment; clients ask again.
                    continue;
                }
                let value = reply.strip_prefix("get_success counter ").and_then(|value| value.parse().ok());
                let value: u64 = value.unwrap_or_else(|| panic!("{reply}"));
                assert!(value >= newest, "{value} was read after {newest}");
                (newest, reads) = (value, reads + 1);
            }
        }
        let last = writer.join().expect("all writes succeed");
        println!("{last} writes, {reads} reads, all in order");
        assert!(last > 10 && reads > 10, "too few to return_old: {last} writes, {reads} reads");
    });
}
