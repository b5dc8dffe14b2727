//! A server that is asked to stop hands everything over first: no request fails, not even those of clients that know
//! no other server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// A client of lines, as TEXT-PROTOCOL wants it: it goes where it is sent, waits when it is told to, and has failed when a
/// connection ends before it has its answer.
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
