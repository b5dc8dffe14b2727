use super::*;
use common::codec::Wire;
use common::ids::{Epoch, LogId};
use common::operation::{Command, Condition, Found, Operation};
use kvserver_core::encode_record;

const P: PartitionId = PartitionId(0);

fn put(key: &'static str, expires: Option<WallTime>) -> Operation {
    Operation::Put { key: key.into(), value: "v".into(), expires, condition: Condition::Always {} }
}

#[test]
fn what_has_expired_in_log_time_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let options = storage::Options { background: false, ..storage::Options::default() };
    let storage::Opened { mut log, reader, trees, recovered, .. } =
        storage::Store::open(dir.path(), &options).unwrap();
    let (mut machine, _) = StateMachine::new(trees, reader, recovered).unwrap();
    let mut seq = 0;
    let mut apply = |machine: &mut StateMachine, stamp, operation| {
        seq += 1;
        let id = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) };
        let body = Command { origin: None, stamp: WallTime(stamp), operation }.to_wire();
        let record = storage::Record::Entry { partition: 0, id: log_id(id), body: body.clone() };
        log.append(&[record]).unwrap();
        log.sync().unwrap();
        machine.apply(P, vec![Entry { id, body }], false).unwrap();
    };
    apply(&mut machine, 1, put("gone", Some(WallTime(100))));
    apply(&mut machine, 1, put("later", Some(WallTime(500))));
    apply(&mut machine, 1, put("stays", None));
    assert!(!machine.remove_expired(P, b"gone").unwrap(), "not by any clock but the log's");
    apply(&mut machine, 100, Operation::Tick {});
    for (key, removed) in [("gone", true), ("gone", false), ("later", false), ("stays", false)] {
        assert_eq!(machine.remove_expired(P, key.as_bytes()).unwrap(), removed, "{key}");
    }
    let Stored { records, log_time, last, .. } = machine.open_for_scrub(P).unwrap();
    assert_eq!((log_time.now(), last), (WallTime(100), 4));
    let mut snapshot = records.unwrap();
    let keys: Vec<Bytes> = snapshot.chunk(1 << 20).unwrap().pairs.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["later", "stays"]);
    let digest = |machine: &StateMachine| {
        let Stored { records, log_time, .. } = machine.open_for_scrub(P).unwrap();
        let mut snapshot = records.unwrap();
        let mut digest = machine.states[&P].digest();
        for (key, record) in snapshot.chunk(1 << 20).unwrap().pairs {
            kvserver_core::digest_record(&mut digest, &log_time, &key, &record).unwrap();
        }
        digest
    };
    let first = digest(&machine);
    assert_eq!((first.records, machine.take_digest_sources().0.len()), (2, 0));
    let expired =
        encode_record(&Found { value: "v".into(), version: LogId::default(), expires: Some(WallTime(9)) });
    let stray = |key: &'static str, value: Bytes| [Change::Put { key: key.into(), value }];
    let at = |seq| log_id(LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) });
    machine.trees.apply(0, &stray("x", expired), at(seq + 1)).unwrap();
    assert_eq!(digest(&machine), first, "what has expired is not looked at");
    let other = encode_record(&Found { value: "w".into(), version: LogId::default(), expires: None });
    machine.trees.apply(0, &stray("stays", other), at(seq + 2)).unwrap();
    assert_ne!(digest(&machine), first, "another value");
    machine.trees.purge(0, b"stays", 0).unwrap();
    assert_ne!(digest(&machine).sum, first.sum, "a missing one");
    let seq = seq + 2;
    for missing in seq - 1..=seq {
        log.append(&[storage::Record::Entry { partition: 0, id: at(missing), body: Bytes::new() }]).unwrap();
    }
    log.sync().unwrap();
    // The removal is on disk with the log time that allowed it.
    machine.trees.seal(0, &machine.states[&P].encode()).unwrap();
    machine.trees.maintain();
    drop((snapshot, machine));
    log.close().unwrap();
    let opened = storage::Store::open(dir.path(), &options).unwrap();
    assert_eq!(opened.recovered[&0].applied.seq, seq);
    assert_eq!(opened.trees.get(0, b"gone").unwrap(), None);
    assert!(opened.trees.get(0, b"later").unwrap().is_some());
}

/// A machine on a store, and entries for it.
struct Rig {
    dir: tempfile::TempDir,
    log: storage::LogWriter,
    machine: StateMachine,
    seq: u64,
}

impl Rig {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), 0)
    }

    fn open(dir: tempfile::TempDir, seq: u64) -> Self {
        let options = storage::Options { background: false, ..storage::Options::default() };
        let opened = storage::Store::open(dir.path(), &options).unwrap();
        let (machine, _) = StateMachine::new(opened.trees, opened.reader, opened.recovered).unwrap();
        Self { dir, log: opened.log, machine, seq }
    }

    fn apply(&mut self, stamp: u64, operation: Operation) {
        self.seq += 1;
        let id = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(self.seq) };
        let body = Command { origin: None, stamp: WallTime(stamp), operation }.to_wire();
        let record = storage::Record::Entry { partition: 0, id: log_id(id), body: body.clone() };
        self.log.append(&[record]).unwrap();
        self.log.sync().unwrap();
        self.machine.apply(P, vec![Entry { id, body }], false).unwrap();
    }

    /// Seals with these bytes, closes and opens again.
    fn restart(mut self, sealed: &Bytes) -> Self {
        self.machine.trees.seal(0, sealed).unwrap();
        self.machine.trees.maintain();
        drop(self.machine);
        self.log.close().unwrap();
        Self::open(self.dir, self.seq)
    }

    fn counts(&self) -> (u64, u64) {
        let sizes = self.machine.sizes();
        (sizes.keys, sizes.expiring)
    }

    fn sweep_all(&mut self) -> u64 {
        std::iter::from_fn(|| self.machine.sweep().unwrap()).sum()
    }

    fn look(&mut self, now: u64) -> Vec<PartitionId> {
        self.machine.look_for_expired(WallTime(now)).unwrap()
    }
}

#[test]
fn records_are_counted_and_what_has_expired_is_found_without_the_rest() {
    let mut rig = Rig::new();
    rig.apply(1, put("a", Some(WallTime(100))));
    rig.apply(1, put("a", Some(WallTime(200))));
    rig.apply(1, put("b", Some(WallTime(100))));
    rig.apply(1, put("b", None));
    rig.apply(1, put("c", None));
    rig.apply(1, Operation::Expire { key: "c".into(), expires: Some(WallTime(150)) });
    rig.apply(1, put("d", Some(WallTime(900))));
    rig.apply(1, Operation::Delete { key: "d".into(), condition: Condition::Always {} });
    rig.apply(1, put("e", Some(WallTime(500))));
    assert_eq!(rig.counts(), (4, 3));
    assert_eq!((rig.look(149), rig.sweep_all()), (vec![], 0));
    assert_eq!((rig.look(150), rig.sweep_all()), (vec![P], 0), "log time is behind");
    rig.apply(150, Operation::Tick {});
    assert_eq!((rig.look(150), rig.sweep_all(), rig.counts()), (vec![], 1, (3, 2)));
    rig.apply(200, put("a", Some(WallTime(300))));
    assert_eq!((rig.look(200), rig.sweep_all(), rig.counts()), (vec![], 0, (3, 2)));
    let digest = rig.machine.states[&P].digest();
    let sealed = sealed::encode(rig.machine.counts[&P], rig.machine.states[&P].encode());
    let mut rig = rig.restart(&sealed);
    assert_eq!((rig.counts(), rig.machine.states[&P].digest()), ((3, 2), digest));
    rig.apply(500, Operation::Tick {});
    assert_eq!((rig.look(500), rig.sweep_all(), rig.counts()), (vec![], 2, (1, 0)));
    assert_eq!((rig.look(9999), rig.sweep_all()), (vec![], 0));
    rig.apply(500, put("b", None));
    rig.apply(500, Operation::Delete { key: "b".into(), condition: Condition::Always {} });
    assert_eq!(rig.counts(), (0, 0));
}

#[test]
fn a_store_of_before_there_were_counts_is_counted_when_it_is_opened() {
    let mut rig = Rig::new();
    rig.apply(1, put("a", Some(WallTime(100))));
    rig.apply(1, put("b", None));
    rig.machine.trees.list_due(0, 100, b"a", false).unwrap();
    let sealed = rig.machine.states[&P].encode();
    let mut rig = rig.restart(&sealed);
    assert_eq!(rig.counts(), (2, 1));
    rig.apply(100, Operation::Tick {});
    assert_eq!((rig.look(100), rig.sweep_all(), rig.counts()), (vec![], 1, (1, 0)));
}

#[test]
fn a_key_of_a_batch_is_counted_once() {
    let mut rig = Rig::new();
    let part = |operation| common::operation::Part(operation);
    let parts =
        vec![part(put("a", Some(WallTime(50)))), part(put("a", None)), part(put("b", Some(WallTime(60))))];
    rig.apply(1, Operation::Batch { checks: Vec::new(), parts });
    assert_eq!(rig.counts(), (2, 1));
    rig.apply(70, Operation::Tick {});
    assert_eq!((rig.look(70), rig.sweep_all(), rig.counts()), (vec![], 1, (1, 0)));
}

#[test]
fn a_digest_source_is_taken_at_each_entry_that_compares_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let options = storage::Options { background: false, ..storage::Options::default() };
    let opened = storage::Store::open(dir.path(), &options).unwrap();
    let (mut machine, _) = StateMachine::new(opened.trees, opened.reader, opened.recovered).unwrap();
    let entry = |seq: u64, origin| {
        let id = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) };
        let operation = Operation::Compare { partition: P };
        Entry { id, body: Command { origin, stamp: WallTime(1), operation }.to_wire() }
    };
    let number = common::ids::RequestNumber(1);
    let client = common::ids::ClientId(1);
    let person = common::operation::Origin { client, number, first_unanswered: number };
    machine.apply(P, vec![entry(1, Some(person)), entry(2, None)], false).unwrap();
    let (digest_sources, left_out) = machine.take_digest_sources();
    let paced: Vec<bool> = digest_sources.iter().map(|source| source.paced).collect();
    assert_eq!(
        (paced, left_out.len()),
        (vec![false, true], 0),
        "a client that waits for it is answered at once"
    );
    let many = DIGESTS_WAITING_MAX as u64 + 2;
    machine.apply(P, (3..3 + many).map(|seq| entry(seq, None)).collect(), false).unwrap();
    let (digest_sources, left_out) = machine.take_digest_sources();
    assert_eq!((digest_sources.len(), left_out.len()), (DIGESTS_WAITING_MAX, 2));
    assert_eq!(left_out.last().unwrap().seq, Seq(2 + many));
}
