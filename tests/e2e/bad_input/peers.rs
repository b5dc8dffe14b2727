//! A member that says what no server says: its bytes never reach a log or a store, its link is closed with a line in
//! the log, and everything else goes on.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use common::codec::Wire;
use common::frame::{PREFACE, write_frame};
use common::ids::{Epoch, LogId, Nonce, PartitionId, Seq, ServerId};
use common::messages::{Entry, Hello, ProcessId, Run, ToCoordinator, ToReplica};
use common::operation::{Command, Operation};
use common::view::View;

use crate::support::wait::SOON;
use crate::support::{Cluster, db, wait_for};

fn command(operation: Operation) -> Bytes {
    Command { origin: None, stamp: Default::default(), operation }.to_wire()
}

/// Messages as the coordinator of a partition would send them to a replica, with something wrong in each, and the words
/// of the log about it.
fn nonsense(partition: PartitionId, epoch: Epoch) -> Vec<(Vec<u8>, &'static str)> {
    let last = LogId { tag: epoch, seq: Seq(1 << 40) };
    let append = |body: Bytes| {
        let id = LogId { tag: epoch, seq: last.seq.next() };
        let entries = vec![Entry { id, body }];
        ToReplica::Append { sync: Some(Nonce(1)), prev: last, commit: id.seq, entries }
            .about(partition, epoch)
    };
    let runs = vec![Run { tag: epoch, first: Seq(9) }, Run { tag: epoch, first: Seq(3) }];
    let (base, commit) = (LogId::default(), Seq(0));
    let chunk = |key: Vec<u8>, record: &'static [u8]| {
        ToReplica::SnapshotChunk {
            transfer: 1,
            index: 0,
            state: Bytes::new(),
            pairs: vec![(key.into(), Bytes::from_static(record))],
            done: false,
        }
        .about(partition, epoch)
    };
    let unreadable = [append(command(Operation::Tick {})).to_wire().to_vec(), vec![250; 9]].concat();
    vec![
        (append("garbage".into()).to_wire().to_vec(), "is no command"),
        (append(command(Operation::put(vec![b'k'; 70_000], "v"))).to_wire().to_vec(), "the key has 70000"),
        (
            ToCoordinator::SyncReply { base, last, commit, runs }.about(partition, epoch).to_wire().to_vec(),
            "a log from",
        ),
        (chunk(b"k".to_vec(), b"short").to_wire().to_vec(), "a copy of the state"),
        (chunk(vec![b'k'; 70_000], &[0; 40]).to_wire().to_vec(), "a copy of the state"),
        (unreadable, "unknown variant"),
    ]
}

/// Sends a frame as `from` and waits until the link is closed.
fn say(view: &View, from: ProcessId, to: ServerId, payload: &[u8]) {
    let mut stream = TcpStream::connect(&view.servers[&to].address).expect("it accepts");
    stream.set_read_timeout(Some(SOON)).expect("a time-out");
    let hello = Hello::Peer { cluster: view.cluster, sender: from, to, port: 0, bulk: false };
    let hello = serde_json::to_vec(&hello).expect("JSON");
    let mut out = PREFACE.to_vec();
    write_frame(&mut out, |frame| frame.extend_from_slice(&hello));
    write_frame(&mut out, |frame| frame.extend_from_slice(payload));
    stream.write_all(&out).expect("it reads");
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(ended.is_ok() && answer.is_empty(), "the link is closed without a word: {ended:?} {answer:?}");
}

#[test]
fn what_no_server_says_is_refused_and_reported() {
    let mut cluster = Cluster::start(3);
    let all = db::pairs("key/", 100);
    let db = cluster.client();
    db.put_many(&all);
    let view = db.client.view();
    let (partition, assignment) = view.iter().next().expect("a partition");
    let (from, to) = (assignment.coordinator, assignment.replicas().next().expect("a replica").server);
    let info = &view.servers[&from];
    let sender = info.process(from);
    let address = |index: &usize| cluster.address(*index).to_string() == view.servers[&to].address;
    let at = cluster.running().find(address).expect("it runs");
    for (payload, words) in nonsense(partition, assignment.epoch) {
        say(&view, sender, to, &payload);
        wait_for("it is reported", SOON, || {
            let log = cluster.server(at).log();
            let reported = |line: &str| line.contains(words) && line.contains("its link is closed");
            if log.lines().any(reported) { Ok(()) } else { Err(log) }
        });
    }
    assert!(cluster.server_mut(at).ended().is_none());
    let log = cluster.server(at).log();
    assert!(!log.contains("panicked") && !log.contains("STOP") && log.contains(&from.to_string()), "{log}");
    db.put("and", "it goes on");
    assert_eq!(db.scan("key/"), all);
    // Nothing of it is in its log: it starts again, and its copies are equal to the others.
    cluster.kill_server(at);
    cluster.start_server(at);
    cluster.wait_settled();
    let output = cluster.kvclient(at, &["verify"]);
    assert!(output.status.success(), "{output:?}");
}
