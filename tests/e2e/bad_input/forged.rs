//! What one frame of a program that is no server can do: numbers that leap, in names that any program can read in a
//! view.
//! Nothing is authenticated, but what cannot be true is refused, and the real ones are not shut out by it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use common::frame::{PREFACE, write_frame};
use common::ids::{Epoch, Incarnation, Nonce, RebuildId, ServerId, StoreId};
use common::messages::{Hello, PeerMessage, ProcessId, Promised, ServerReport};
use common::view::View;

use crate::support::wait::SOON;
use crate::support::{Cluster, db, wait_for};

const LEAP: Epoch = Epoch { generation: 0, version: u64::MAX };

/// A link that says hello and one frame more.
fn link(address: SocketAddr, hello: &Hello, payload: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(SOON)).expect("a time-out");
    let hello = serde_json::to_vec(hello).expect("JSON");
    let mut out = PREFACE.to_vec();
    write_frame(&mut out, |frame| frame.extend_from_slice(&hello));
    write_frame(&mut out, |frame| frame.extend_from_slice(payload));
    // The ECS may have refused the hello and closed the link already.
    let _closed = stream.write_all(&out);
    stream
}

fn is_closed(mut stream: TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0)) || stream.take_error().is_ok_and(|error| error.is_some())
}

fn report(view: Epoch) -> Vec<u8> {
    let address = "127.0.0.1:9".to_owned();
    let hello = ServerReport::Hello { address, weight: 1, view, rebuild: None, tails: Vec::new() };
    serde_json::to_vec(&hello).expect("JSON")
}

/// In each server's name, at each other one and at the ECS: the largest start.
fn leaping_starts(cluster: &Cluster, view: &View) {
    let address = |server: ServerId| view.servers[&server].address.parse().expect("an address");
    for (&from, info) in &view.servers {
        let sender = ProcessId { incarnation: Incarnation(u64::MAX), nonce: Nonce(7), ..info.process(from) };
        for &to in view.servers.keys().filter(|&&to| to != from) {
            let hello = Hello::Peer { cluster: view.cluster, sender, to, port: 0, bulk: false };
            let said = PeerMessage::WantView { have: Epoch::default() };
            assert!(is_closed(link(address(to), &hello, &common::codec::Wire::to_wire(&said))));
        }
        let hello = Hello::Report { cluster: Some(view.cluster), sender };
        drop(link(cluster.ecs_address(), &hello, &report(view.number)));
    }
}

#[test]
fn numbers_that_leap_shut_no_server_out() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    db.put_many(&db::pairs("key/", 50));
    let view = db.client.view();
    leaping_starts(&cluster, &view);
    for (&to, info) in &view.servers {
        let address = info.address.parse().expect("an address");
        // A view and a question of an ECS that never was.
        let mut forged = View::clone(&view);
        forged.number = LEAP;
        drop(link(
            address,
            &Hello::Views { cluster: view.cluster, to },
            &serde_json::to_vec(&forged).expect("JSON"),
        ));
        let promise = Promised { generation: u32::MAX, rebuild: RebuildId(7) };
        drop(link(address, &Hello::Rebuild { cluster: view.cluster, to, promise }, &[]));
        // A server that is in no view.
        let sender = ProcessId {
            server: ServerId(7),
            store: StoreId(7),
            incarnation: Incarnation(1),
            nonce: Nonce(7),
        };
        let hello = Hello::Peer { cluster: view.cluster, sender, to, port: 0, bulk: false };
        assert!(is_closed(link(address, &hello, b"hello")), "a stranger's link is closed");
    }
    for cluster_named in [None, Some(view.cluster)] {
        let sender = ProcessId {
            server: ServerId(8),
            store: StoreId(8),
            incarnation: Incarnation(1),
            nonce: Nonce(8),
        };
        let hello = Hello::Report { cluster: cluster_named, sender };
        let stream = link(cluster.ecs_address(), &hello, &report(Epoch { generation: 9, version: 9 }));
        assert!(cluster_named.is_some() || is_closed(stream));
    }
    wait_for("each of them is reported", SOON, || {
        let log = cluster.ecs().log();
        let messages =
            ["it says that it is start 18446744073709551615", "it has the newer view 9/9, and this ECS"];
        if messages.iter().all(|words| log.contains(words)) { Ok(()) } else { Err(log) }
    });
    // All servers are heard; one that is killed is removed, and comes back.
    db.put_many(&db::pairs("and/", 50));
    let victim = cluster.running().next().expect("one runs");
    cluster.kill_server(victim);
    db.put_many(&db::pairs("without/", 50));
    cluster.start_server(victim);
    cluster.wait_settled();
    for prefix in ["key/", "and/", "without/"] {
        assert_eq!(db.scan(prefix).len(), 50);
    }
}
