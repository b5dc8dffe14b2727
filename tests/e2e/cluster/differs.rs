//! Copies that differ though all their checksums are right: the coordinators' comparisons find them, and what can be
//! repaired is.

use std::path::Path;

use bytes::Bytes;
use common::ids::{Epoch, LogId, PartitionId, Seq};
use common::operation::Found;
use common::ring::Partitions;
use common::status::{ComparedStatus, Difference};
use kvclient::Comparison;
use kvserver_core::{Records, State, decode_record, encode_record};
use storage::{Change, Opened, Options, Read, Store, Trees};

use crate::support::db::{self, Db};
use crate::support::wait::SOON;
use crate::support::{Cluster, Load, Settings, wait_for, wait_until};

/// Readings, and comparisons of what a server coordinates, follow each other as fast as they can.
const COMPARES: [&str; 4] = ["--scrub-interval", "1", "--scrub-rate", "0"];

/// A server that only answers others' comparisons.
const ANSWERS: [&str; 4] = ["--scrub-interval", "0", "--scrub-rate", "0"];

/// A cluster in which these servers compare.
fn start(servers: usize, compares: impl Fn(usize) -> bool) -> Cluster {
    let mut cluster = Settings { same_ports: true, ..Settings::default() }.start_ecs();
    for index in 0..servers {
        cluster.add_server_with(None, if compares(index) { &COMPARES } else { &ANSWERS }, &[]);
    }
    cluster.wait_settled();
    cluster
}

/// The tree of a partition, and what the next entry changes in it.
struct Tree<'a> {
    trees: &'a Trees,
    partition: u16,
    changes: Vec<Change>,
}

impl Records for Tree<'_> {
    type Error = storage::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, storage::Error> {
        self.trees.get(self.partition, key)
    }

    fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), storage::Error> {
        self.changes.push(Change::Put { key, value });
        Ok(())
    }

    fn remove(&mut self, key: Bytes) -> Result<(), storage::Error> {
        self.changes.push(Change::Remove { key });
        Ok(())
    }
}

/// Changes a value in the store of a server that does not run, with checksums that are right: what is in its log is
/// applied as the server would do at its next start, and then the record is another one.
fn falsify(dir: &Path, partitions: Partitions, key: &str, value: &str) {
    let options = Options { background: false, ..Options::default() };
    let Opened { log, reader, mut trees, recovered, .. } = Store::open(dir, &options).expect("a store");
    let partition = partitions.of_key(key.as_bytes()).0;
    let found = &recovered[&partition];
    let mut state = State::decode(found.state.clone()).expect("a state");
    let mut next = found.applied.seq + 1;
    while next <= found.last {
        let Read::Entries(entries) = reader.read(partition, next, 1 << 20).expect("entries") else {
            panic!("trimmed before it was applied")
        };
        for (id, body) in entries {
            let mut tree = Tree { trees: &trees, partition, changes: Vec::new() };
            let tag = Epoch { generation: id.tag.generation, version: id.tag.version };
            let _ = state.apply(&mut tree, LogId { tag, seq: Seq(id.seq) }, body).expect("an entry");
            let mut changes = tree.changes;
            if id.seq == found.last {
                let record = trees.get(partition, key.as_bytes()).expect("a tree").expect("the key");
                let found = decode_record(record).expect("a record");
                let record = encode_record(&Found { value: value.to_owned().into(), ..found });
                changes.push(Change::Put { key: key.to_owned().into(), value: record });
            }
            trees.apply(partition, &changes, id).expect("a change");
            next = id.seq + 1;
        }
    }
    trees.seal(partition, &state.encode()).expect("a seal");
    trees.maintain();
    log.close().expect("a log");
}

/// What each running server has found by comparing.
fn compared(cluster: &Cluster, db: &Db) -> Vec<ComparedStatus> {
    let status = |address: std::net::SocketAddr| {
        db.block(db.client.server_status(&address.to_string())).map(|status| status.compared)
    };
    cluster.addresses().into_iter().filter_map(|address| status(address).ok()).collect()
}

/// Waits until a difference in a partition is reported.
#[track_caller]
fn wait_difference(cluster: &Cluster, db: &Db, partition: PartitionId) -> Difference {
    wait_for("the difference is found", 2 * SOON, || {
        let all = compared(cluster, db);
        let mut found = all.iter().flat_map(|one| &one.differences);
        found.find(|one| one.partition == partition.0).cloned().ok_or_else(|| format!("{all:?}"))
    })
}

/// Waits until each of so many partitions was compared once more, and its copies know that they are equal. The number
/// of comparisons alone does not say so: some partitions may be compared often before others are.
#[track_caller]
fn wait_compared(cluster: &Cluster, db: &Db, partitions: u64, comparers: &[usize]) {
    let equal = || compared(cluster, db).iter().map(|one| one.equal).sum::<u64>();
    let passes = |server: usize| {
        let status = db.block(db.client.server_status(&cluster.address(server).to_string()));
        status.map_or(0, |status| status.scrub.passes)
    };
    let enough = equal() + 2 * partitions;
    let before: Vec<u64> = comparers.iter().map(|&server| passes(server)).collect();
    // The pass under way may be past some; what the next one compares is known when the one after it is over.
    let read = || comparers.iter().zip(&before).all(|(&server, before)| passes(server) >= before + 3);
    wait_until("the partitions are compared", 2 * SOON, || equal() >= enough && read());
}

/// The copy of server 1 of three differs: it is found, taken out and filled anew, under load. Only what server
/// `compares` coordinates is compared.
fn differs_and_is_filled_anew(compares: usize) {
    let mut cluster = start(3, |index| index == compares);
    let all = db::pairs("key/", 300);
    let db = cluster.client();
    db.put_many(&all);
    let (view, addresses) = (db.client.view(), cluster.addresses());
    let partitions = view.partitions;
    let coordinated = |partition| {
        let coordinator = view.assignment(partition).expect("it exists").coordinator;
        view.servers[&coordinator].address == addresses[compares].to_string()
    };
    let count = partitions.all().filter(|partition| coordinated(*partition)).count();
    wait_compared(&cluster, &db, count as u64, &[compares]);
    let key = all.keys().find(|key| coordinated(partitions.of_key(key.as_bytes()))).expect("one of many");
    let partition = partitions.of_key(key.as_bytes());
    cluster.kill_server(1);
    falsify(cluster.server_dir(1), partitions, key, "not what was written");
    cluster.start_server(1);
    let load = Load::start("load", &cluster.seeds(), 4);
    let found = wait_difference(&cluster, &db, partition);
    let wrong: Vec<String> =
        found.wrong.iter().map(|server| db.client.view().servers[server].address.clone()).collect();
    assert_eq!(wrong, [addresses[1].to_string()], "{found:?}");
    let differ = format!("partition {partition}: copies differ at entry {}", found.entry);
    assert!(cluster.server(compares).log().contains(&differ), "{}", cluster.server(compares).log());
    wait_until("its copy is given up", SOON, || {
        let log = cluster.server(1).log();
        log.contains(&format!("partition {partition}: the copy here differs from most others"))
    });
    wait_until("all are equal again", 2 * SOON, || {
        let comparison = db.block(db.client.compare(partition)).ok();
        comparison.is_some_and(|one| one.copies.len() == 3 && one.is_complete() && !one.differs())
    });
    load.wait_for_more(100);
    cluster.wait_settled();
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&db);
    assert_eq!(db.scan("key/"), all);
    // The store is the same, and no other copy in it was touched.
    assert!(!cluster.server_dir(1).join("damaged-1").exists());
    let output = cluster.kvclient(0, &["verify"]);
    assert!(output.status.success(), "{output:?}");
    // Asked of it alone.
    cluster.kill_server(0);
    cluster.kill_server(2);
    assert_eq!(cluster.client().scan("key/"), all);
}

#[test]
fn a_replica_that_differs_is_filled_anew() {
    differs_and_is_filled_anew(0);
}

#[test]
fn a_coordinator_that_differs_hands_over_and_is_filled_anew() {
    differs_and_is_filled_anew(1);
}

/// Of two copies that differ it is not known which is right: the difference is reported, with the servers' names, and
/// nothing is done.
#[test]
fn of_two_copies_that_differ_both_stay() {
    let mut cluster = start(2, |_| true);
    let all = db::pairs("key/", 50);
    let db = cluster.client();
    db.put_many(&all);
    let partitions = db.client.view().partitions;
    wait_compared(&cluster, &db, partitions.count() as u64, &[0, 1]);
    let key = all.keys().next().expect("a key");
    let partition = partitions.of_key(key.as_bytes());
    cluster.kill_server(1);
    falsify(cluster.server_dir(1), partitions, key, "not what was written");
    cluster.start_server(1);
    cluster.wait_settled();
    let found = wait_difference(&cluster, &db, partition);
    assert!(found.wrong.is_empty() && found.groups.len() == 2, "{found:?}");
    let logs = cluster.server(0).log() + &cluster.server(1).log();
    let message = format!("partition {partition}: copies differ at entry {}", found.entry);
    assert!(logs.contains(&message) && logs.contains("cannot be told which is right"), "{logs}");
    wait_compared(&cluster, &db, partitions.count() as u64, &[0, 1]);
    let output = cluster.kvclient(0, &["verify"]);
    assert_eq!(output.status.code(), Some(3), "it differs still: {output:?}");
    let output = cluster.kvclient(0, &["status"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(&format!("COPIES DIFFER: partition {partition}, at entry ")), "{shown}");
    let has = |condition: &str| {
        let status = cluster.status();
        status.is_ok_and(|status| status.conditions.iter().any(|one| one.name == condition))
    };
    wait_until("the verdict says it too", SOON, || has("copies_differ"));
    // As the operations guide says: one of them is moved aside, and filled anew from the other.
    cluster.kill_server(1);
    std::fs::rename(cluster.server_dir(1), cluster.path().join("aside")).expect("a folder");
    cluster.start_server(1);
    wait_until("all have two copies, and nothing differs any more", 2 * SOON, || {
        let all = db.block(db.client.compare_all()).unwrap_or_default();
        let whole = |one: &Comparison| one.copies.len() == 2 && one.is_complete() && !one.differs();
        let compared = compared(&cluster, &db);
        !all.is_empty() && all.iter().all(whole) && compared.iter().all(|one| one.differences.is_empty())
    });
    assert_eq!(db.scan("key/"), all);
}
