//! A server that is asked to stop hands everything over first: no request fails, not even those of clients that know
//! no other server.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::resp::{RespClient, Value, command};
use crate::support::text::ranges;
use crate::support::wait::SOON;
use crate::support::{Cluster, Load, TextClient, wait_until};

/// Requests before and after a server leaves.
const SOME_REQUESTS: u64 = 200;

/// Keys of a text client: some of them are coordinated by each server.
const KEYS: usize = 40;

#[test]
fn a_client_of_the_library_that_was_given_only_this_server() {
    let mut cluster = Cluster::start(4);
    let load = Load::start("load", &[cluster.address(1).to_string()], 4);
    load.wait_for_more(SOME_REQUESTS);
    assert!(cluster.terminate_server(1).success());
    load.wait_for_more(SOME_REQUESTS);
    cluster.wait_settled();
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}

#[test]
fn servers_leave_and_come_at_nearly_the_same_time() {
    let mut cluster = Cluster::start(5);
    let load = Load::start("load", &cluster.seeds(), 4);
    load.wait_for_more(SOME_REQUESTS);
    for leaving in [0, 3] {
        cluster.server(leaving).signal(rustix::process::Signal::TERM);
    }
    let new = cluster.add_server();
    for leaving in [0, 3] {
        assert!(cluster.server_mut(leaving).wait().success());
        cluster.forget_process(leaving);
    }
    cluster.start_server(0);
    assert!(cluster.terminate_server(new).success());
    assert_eq!(cluster.wait_settled().servers.len(), 4);
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}

/// A client of the text protocol, as docs/text-protocol.md describes it: it follows redirects, waits when a reply says
/// so, and has failed when a connection ends before it has its answer.
struct Follower {
    lines: TextClient,
    known: Vec<SocketAddr>,
}

impl Follower {
    fn request(&mut self, line: &str, key: &str) -> String {
        let mut answer = String::new();
        wait_until(&format!("`{line}` is answered"), SOON, || {
            answer =
                self.lines.try_ask(line).unwrap_or_else(|error| panic!("`{line}` got no answer: {error}"));
            match answer.as_str() {
                "server_not_responsible" => self.go_to_coordinator(key),
                "server_stopped" => self.go_elsewhere(),
                "server_write_lock" => {}
                _ => return true,
            }
            false
        });
        answer
    }

    fn go_to_coordinator(&mut self, key: &str) {
        let ranges = ranges(&self.lines.ask("keyrange"), "keyrange_success");
        self.known = ranges.iter().map(|range| range.server).collect();
        let range = ranges.iter().find(|range| range.contains(key)).expect("a range for each key");
        self.lines = TextClient::connect(range.server);
    }

    /// To any other server of the last list that listens.
    fn go_elsewhere(&mut self) {
        let others = fastrand::choose_multiple(self.known.iter().copied(), self.known.len());
        if let Some(lines) = others.into_iter().find_map(|server| TextClient::try_connect(server).ok()) {
            self.lines = lines;
        }
    }
}

#[test]
fn a_client_of_lines_that_knows_only_this_server() {
    let mut cluster = Cluster::start(4);
    let leaving = cluster.address(1);
    let (answered, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (answered, stop) = (&answered, &stop);
                scope.spawn(move || {
                    let mut written = vec![None; KEYS];
                    while !stop.load(Ordering::Relaxed) {
                        let index = fastrand::usize(..KEYS);
                        // It begins at the one server that it was given as long as that listens.
                        let Ok(lines) = TextClient::try_connect(leaving) else { break };
                        let mut follower = Follower { lines, known: Vec::new() };
                        // The system goes on connecting clients to a port until the moment that it is closed.
                        let Ok(list) = follower.lines.try_ask("keyrange") else { break };
                        let list = ranges(&list, "keyrange_success");
                        follower.known = list.iter().map(|range| range.server).collect();
                        for _ in 0..10 {
                            let key = format!("lines/{client}/{index}");
                            let value = answered.fetch_add(1, Ordering::Relaxed).to_string();
                            let put = follower.request(&format!("put {key} {value}"), &key);
                            assert!(put.starts_with("put_success") || put.starts_with("put_update"), "{put}");
                            assert_eq!(
                                follower.request(&format!("get {key}"), &key),
                                format!("get_success {key} {value}")
                            );
                            written[index] = Some(value);
                        }
                    }
                    written
                })
            })
            .collect();
        wait_until("some requests", SOON, || answered.load(Ordering::Relaxed) > 100);
        assert!(cluster.terminate_server(1).success());
        stop.store(true, Ordering::Relaxed);
        let db = cluster.client();
        for (client, written) in clients.into_iter().enumerate() {
            let written = written.join().expect("no request has failed");
            for (index, value) in written.into_iter().enumerate().filter(|(_, value)| value.is_some()) {
                assert_eq!(db.get(format!("lines/{client}/{index}")), value);
            }
        }
        println!("{} requests answered", 2 * answered.load(Ordering::Relaxed));
    });
}

/// Sends the same number of `INCR`s at once, again and again, until its connection ends; returns the last
/// number that it received.
fn count_until_closed(server: SocketAddr, key: &str, at_once: usize) -> i64 {
    let mut client = RespClient::connect(server);
    let batch = command(&["INCR", key]).repeat(at_once);
    let mut last = 0;
    loop {
        // Part of a batch may be answered when the rest of it finds the connection closed.
        let sent = client.stream.write_all(&batch);
        for _ in 0..at_once {
            match client.try_reply() {
                Ok(Some(Value::Int(number))) => {
                    assert_eq!(number, last + 1, "{key}");
                    last = number;
                }
                Ok(Some(other)) => panic!("{key}: {other}"),
                Ok(None) | Err(_) => return last,
            }
        }
        assert!(sent.is_ok(), "{key}: answered and not sent");
    }
}

/// Puts numbers in the text protocol until its connection ends; returns the last one that was acknowledged.
fn put_until_closed(server: SocketAddr, key: &str) -> u64 {
    let mut lines = TextClient::connect(server);
    let (mut number, mut stored) = (0, 0);
    loop {
        number += 1;
        match lines.try_ask(&format!("put {key} {number}")) {
            Ok(answer) if answer.starts_with("put_") && !answer.starts_with("put_error") => stored = number,
            Ok(_) => {}
            Err(_) => return stored,
        }
    }
}

/// Clients that know no other server, do not go when it leaves, and go on asking to the end: each connection is closed
/// between two commands. What was carried out was answered.
#[test]
fn clients_that_stay_are_answered_to_the_end() {
    let mut cluster = Cluster::start(3);
    let leaving = cluster.address(1);
    let at_once = [1, 1, 20, 300];
    std::thread::scope(|scope| {
        let counting: Vec<_> = at_once
            .into_iter()
            .enumerate()
            .map(|(client, at_once)| {
                let key = format!("count/{client}");
                let counts = key.clone();
                (key, scope.spawn(move || count_until_closed(leaving, &counts, at_once)))
            })
            .collect();
        let lines: Vec<_> = (0..6)
            .map(|client| {
                let key = format!("line/{client}");
                let puts = key.clone();
                (key, scope.spawn(move || put_until_closed(leaving, &puts)))
            })
            .collect();
        let db = cluster.client();
        wait_until("they count", SOON, || db.get("count/3").is_some() && db.get("count/0").is_some());
        assert!(cluster.terminate_server(1).success());
        for (key, counted) in counting {
            let counted = counted.join().expect("it counts");
            assert_eq!(
                db.get(key.clone()),
                Some(counted.to_string()),
                "{key}: the last answer, and what is stored"
            );
        }
        for (key, stored) in lines {
            let stored = stored.join().expect("it puts");
            assert_eq!(db.get(key.clone()), (stored > 0).then(|| stored.to_string()), "{key}");
        }
    });
}
