//! Commands at any of three servers, whoever coordinates the keys.

use std::collections::BTreeSet;

use crate::support::resp::{RespClient, Value};
use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, wait_until};

/// Enough that every server coordinates some.
const KEYS: usize = 40;

#[test]
fn any_server_answers_any_key_at_once() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<RespClient> = (0..3).map(|at| RespClient::connect(cluster.address(at))).collect();
    for key in 0..KEYS {
        // Written at one server, read at the two others: no read goes back in time.
        let [writer, readers @ ..] = &[0, 1, 2].map(|step| (key + step) % 3);
        assert_eq!(clients[*writer].line(&format!("SET key:{key} {key} EX 1000")), "+OK");
        for reader in readers {
            assert_eq!(clients[*reader].line(&format!("GET key:{key}")), format!("\"{key}\""));
        }
        assert_eq!(clients[readers[0]].line(&format!("INCR key:{key}")), (key + 1).to_string());
        assert_eq!(clients[readers[1]].line(&format!("GET key:{key}")), format!("\"{}\"", key + 1));
        let left: i64 = clients[readers[1]].line(&format!("PTTL key:{key}")).parse().expect("a number");
        // The clocks that two servers agree on differ by milliseconds.
        assert!((1..=1_000_100).contains(&left), "{left}");
    }
    let names: Vec<String> = (0..KEYS).map(|key| format!("key:{key}")).collect();
    let all = format!("MGET {}", names.join(" "));
    let values = |client: &mut RespClient| match client.ask(&all.split(' ').collect::<Vec<_>>()) {
        Value::Array(values) => values,
        other => panic!("{other}"),
    };
    let expected: Vec<Value> = (0..KEYS).map(|key| Value::Bulk((key + 1).to_string().into_bytes())).collect();
    for client in &mut clients {
        assert_eq!(values(client), expected);
        assert_eq!(client.line("DBSIZE"), KEYS.to_string());
        assert_eq!(client.line(&format!("EXISTS {} nothing", names.join(" "))), KEYS.to_string());
        let Value::Array(found) = client.ask(&["KEYS", "key:1*"]) else { panic!("keys") };
        assert_eq!(found.len(), 11);
        assert!(client.line("RANDOMKEY").starts_with("\"key:"));
        assert_eq!(client.line("WAIT 2 0"), "2");
    }
    assert_eq!(clients[1].line(&format!("MSET {} last", names.join(" 7 ")).replace("last", "7")), "+OK");
    assert_eq!(clients[2].line("GET key:39"), "\"7\"");
    assert_eq!(clients[0].line(&format!("DEL {} key:0", names.join(" "))), KEYS.to_string());
    assert_eq!(clients[1].line("DBSIZE"), "0");
}

#[test]
fn a_scan_goes_on_at_another_server() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<RespClient> = (0..3).map(|at| RespClient::connect(cluster.address(at))).collect();
    let wanted: BTreeSet<String> = (0..2000).map(|key| format!("scanned:{key}")).collect();
    for chunk in wanted.iter().collect::<Vec<_>>().chunks(500) {
        let pairs: Vec<String> = chunk.iter().map(|key| format!("{key} v")).collect();
        assert_eq!(clients[0].line(&format!("MSET {}", pairs.join(" "))), "+OK");
    }
    let (mut seen, mut cursor, mut turns) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let client = &mut clients[turns % 3];
        let Value::Array(reply) = client.ask(&["SCAN", &cursor, "COUNT", "50", "MATCH", "scanned:*"]) else {
            panic!("a scan")
        };
        let [Value::Bulk(next), Value::Array(keys)] = &reply[..] else { panic!("{reply:?}") };
        for key in keys {
            let Value::Bulk(key) = key else { panic!("{key}") };
            let text = String::from_utf8(key.clone()).expect("a name");
            // What is deleted on the way does not lead the scan astray.
            assert_eq!(client.line(&format!("DEL {text}")), "1");
            assert!(seen.insert(text), "a key is returned twice");
        }
        cursor = String::from_utf8(next.clone()).expect("a number");
        turns += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, wanted);
    assert!(turns > 3, "{turns} pages");
    assert_eq!(clients[0].line("SCAN 99999999999999999999"), "-ERR invalid cursor");
}

#[test]
fn what_expires_is_gone_everywhere() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<RespClient> = (0..3).map(|at| RespClient::connect(cluster.address(at))).collect();
    assert_eq!(clients[0].line("SET short v PX 50"), "+OK");
    wait_until("it expires", SOON, || clients[1].line("GET short") == "(nil)");
    for client in &mut clients {
        assert_eq!(client.line("GET short"), "(nil)");
        assert_eq!(client.line("TTL short"), "-2");
        assert_eq!(client.line("SET short w XX"), "(nil)");
    }
    assert_eq!(clients[2].line("SET short v NX"), "+OK");
    assert_eq!(clients[0].line("EXPIRE short 0"), "1");
    assert_eq!(clients[1].line("EXISTS short"), "0");
}

#[test]
fn transactions_of_one_partition() {
    let cluster = Cluster::start(3);
    let mut client = RespClient::connect(cluster.address(0));
    let mut other = RespClient::connect(cluster.address(1));
    for line in ["MULTI", "SET t 1", "INCR t", "PING", "GET t", "DEL t t"] {
        client.line(line);
    }
    assert_eq!(client.line("EXEC"), "[ +OK 2 +PONG \"2\" 1 ]");
    // Two keys are of different partitions, almost surely; eight of them surely are not all of one.
    client.line("MULTI");
    (0..64).for_each(|key| assert_eq!(client.line(&format!("SET t{key} 1")), "+QUEUED"));
    assert!(client.line("EXEC").starts_with("-EXECABORT"));
    assert_eq!(client.line("DBSIZE"), "0");

    assert_eq!(client.line("WATCH t"), "+OK");
    assert_eq!(other.line("SET t theirs"), "+OK");
    client.line("MULTI");
    client.line("SET t ours");
    assert_eq!(client.line("EXEC"), "(nil)");
    assert_eq!(client.line("GET t"), "\"theirs\"");
    assert_eq!(client.line("WATCH t"), "+OK");
    client.line("MULTI");
    client.line("SET t ours");
    assert_eq!(client.line("EXEC"), "[ +OK ]");
    assert_eq!(client.line("MSETNX t 1"), "0");
    assert_eq!(client.line("MSETNX new 1"), "1");
}

#[test]
fn a_coordinator_dies_and_nothing_is_done_twice() {
    // Longer than a fail-over on a machine with much else to do: a request waits no longer than that.
    let mut cluster = Settings::default().server_args(&["--park-ms", "20000"]).start(3);
    let mut client = RespClient::connect(cluster.address(0));
    (0..KEYS).for_each(|key| assert_eq!(client.line(&format!("SET n{key} 0")), "+OK"));
    // Calls under way when the server dies are passed on to the next coordinator.
    let calls: Vec<u8> =
        (0..KEYS).flat_map(|key| crate::support::resp::command(&["INCR", &format!("n{key}")])).collect();
    client.send(&calls);
    cluster.kill_server(1);
    client.send(&calls);
    for round in 1..=2 {
        (0..KEYS).for_each(|key| assert_eq!(client.reply(), Value::Int(round), "n{key}"));
    }
    (0..KEYS).for_each(|key| assert_eq!(client.line(&format!("GET n{key}")), "\"2\""));
}
