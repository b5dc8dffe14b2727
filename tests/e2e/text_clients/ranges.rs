//! Where keys are: what servers say of each other, and what they refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::support::text::{Range, ranges};
use crate::support::wait::SOON;
use crate::support::{Cluster, TextClient, db, wait_until};

/// Keys that are put and read.
const KEYS: usize = 150;

/// The ranges follow each other and close to a circle; each position is in exactly one.
fn assert_covers_once(ranges: &[Range]) {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.first);
    for (range, next) in sorted.iter().zip(sorted.iter().cycle().skip(1)) {
        assert_eq!(range.last.wrapping_add(1), next.first, "a gap or an overlap after {range:?}");
    }
}

struct Asked {
    write: Vec<Range>,
    read: Vec<Range>,
    clients: BTreeMap<SocketAddr, TextClient>,
}

/// Asks every server and makes sure that they agree.
fn ask(cluster: &Cluster) -> Asked {
    let mut clients: BTreeMap<_, _> =
        cluster.addresses().into_iter().map(|address| (address, TextClient::connect(address))).collect();
    let mut lists = BTreeSet::new();
    wait_until("all servers know the newest view", SOON, || {
        lists = clients
            .values_mut()
            .map(|client| (client.ask("keyrange"), client.ask("keyrange_read")))
            .collect();
        lists.len() == 1
    });
    let (write, read) = lists.pop_first().expect("a list");
    let write = ranges(&write, "keyrange_success");
    let read = ranges(&read, "keyrange_read_success");
    let upper = clients.values_mut().next().expect("a server").ask("KEYRANGE");
    assert_eq!(ranges(&upper, "KEYRANGE_SUCCESS"), write);
    Asked { write, read, clients }
}

#[test]
fn each_key_can_be_read_at_each_server_that_is_named() {
    let mut cluster = Cluster::start(4);
    let all = db::pairs("key-", KEYS);
    {
        let Asked { write, mut clients, .. } = ask(&cluster);
        assert_covers_once(&write);
        for (key, value) in &all {
            let coordinator =
                write.iter().find(|range| range.contains(key)).expect("the circle is covered").server;
            for (address, client) in &mut clients {
                let reply = client.ask(&format!("put {key} {value}"));
                let expected = if *address == coordinator { "put_success" } else { "server_not_responsible" };
                assert_eq!(reply.split(' ').next(), Some(expected), "{key} at {address}: {reply}");
            }
            let upper = clients.iter_mut().find(|(address, _)| **address != coordinator).expect("another").1;
            assert_eq!(upper.ask(&format!("PUT {key} {value}")), "SERVER_NOT_RESPONSIBLE");
            assert_eq!(upper.ask(&format!("delete {key}")), "server_not_responsible");
        }
    }
    // The same after a fifth server has joined, and after one has been killed.
    for change in 0..3 {
        if change == 1 {
            cluster.add_server();
        } else if change == 2 {
            cluster.kill_server(0);
        }
        cluster.wait_settled();
        let Asked { write, read, mut clients } = ask(&cluster);
        assert_covers_once(&write);
        for (key, value) in &all {
            let named: Vec<_> =
                read.iter().filter(|range| range.contains(key)).map(|range| range.server).collect();
            let distinct: BTreeSet<_> = named.iter().copied().collect();
            assert_eq!((named.len(), distinct.len()), (3, 3), "{key}: {named:?}");
            let coordinator = write.iter().find(|range| range.contains(key)).expect("covered").server;
            assert_eq!(named[0], coordinator, "the coordinator comes first");
            for (address, client) in &mut clients {
                let expected = format!("get_success {key} {value}");
                if distinct.contains(address) {
                    wait_until("a replica has its lease", SOON, || {
                        let reply = client.ask(&format!("get {key}"));
                        assert!(
                            reply == expected || reply == "server_stopped",
                            "{key} at {address}: {reply}"
                        );
                        reply == expected
                    });
                } else {
                    assert_eq!(
                        client.ask(&format!("get {key}")),
                        "server_not_responsible",
                        "{key} at {address}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_server_has_the_whole_circle() {
    let cluster = Cluster::start(1);
    let mut client = TextClient::connect(cluster.address(0));
    let [zero, last] = ["0".repeat(32), "f".repeat(32)];
    let list = format!("{zero},{last},{};", cluster.address(0));
    assert_eq!(client.ask("keyrange"), format!("keyrange_success {list}"));
    assert_eq!(client.ask("keyrange_read"), format!("keyrange_read_success {list}"));
    assert_eq!(client.ask("KEYRANGE_READ"), format!("KEYRANGE_SUCCESS {list}"));
}
