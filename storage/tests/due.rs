//! Keys that are listed by the moment at which they expire, and trees of which much is purged.

use bytes::Bytes;
use std::path::Path;
use storage::{Change, LogId, Opened, Options, Record, Store, Tag};

const P: u16 = 3;

fn id(seq: u64) -> LogId {
    LogId { tag: Tag { generation: 0, version: 1 }, seq }
}

fn open(dir: &Path) -> Opened {
    let options = Options { background: false, ..Options::default() };
    Store::open(dir, &options).unwrap()
}

/// One entry with these changes, on disk and applied.
fn apply(store: &mut Opened, seq: u64, changes: &[Change]) {
    store.log.append(&[Record::Entry { partition: P, id: id(seq), body: Bytes::new() }]).unwrap();
    store.log.sync().unwrap();
    store.trees.apply(P, changes, id(seq)).unwrap();
}

fn due(at: u64, key: &'static str) -> Change {
    Change::Due { at, key: key.into() }
}

fn listed(store: &mut Opened, until: u64, limit: usize) -> Vec<(u64, String)> {
    let keys = store.trees.due_keys(P, until, limit).unwrap();
    keys.into_iter().map(|(at, key)| (at, String::from_utf8(key.to_vec()).unwrap())).collect()
}

fn take(store: &mut Opened, keys: &[(u64, String)]) {
    for (at, key) in keys {
        store.trees.list_due(P, *at, key.as_bytes(), false).unwrap();
    }
}

#[test]
fn keys_are_found_by_their_moment_and_the_first_one_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!((store.trees.first_due(P).unwrap(), listed(&mut store, u64::MAX, 9)), (None, vec![]));
    apply(&mut store, 1, &[due(300, "c"), due(100, "zz"), due(100, "a"), due(200, "b")]);
    apply(&mut store, 2, &[Change::NotDue { at: 200, key: "b".into() }, due(400, "b")]);
    assert_eq!(store.trees.first_due(P).unwrap(), Some(100));
    assert_eq!(listed(&mut store, 99, 9), []);
    let first = listed(&mut store, 300, 2);
    assert_eq!(first, [(100, "a".to_owned()), (100, "zz".to_owned())]);
    take(&mut store, &first);
    assert_eq!(store.trees.first_due(P).unwrap(), Some(300));
    let next = listed(&mut store, 300, 2);
    assert_eq!(next, [(300, "c".to_owned())]);
    take(&mut store, &next);
    assert_eq!((listed(&mut store, 300, 2), store.trees.first_due(P).unwrap()), (vec![], Some(400)));
    // Earlier than what was looked at already.
    apply(&mut store, 3, &[due(50, "late")]);
    assert_eq!((store.trees.first_due(P).unwrap(), listed(&mut store, 60, 9).len()), (Some(50), 1));
}

#[test]
fn the_list_is_sealed_with_the_records_and_no_caller_sees_it_among_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    apply(&mut store, 1, &[Change::Put { key: "k".into(), value: "v".into() }, due(7, "k"), due(9, "l")]);
    take(&mut store, &[(9, "l".to_owned())]);
    let page = store.trees.scan(P, None, b"", 10, 1000).unwrap();
    assert_eq!((page.pairs.len(), page.more), (1, false));
    assert_eq!(store.trees.snapshot(P).unwrap().chunk(1000).unwrap().pairs.len(), 1);
    store.trees.seal(P, b"state").unwrap();
    store.trees.maintain();
    store.log.close().unwrap();
    drop(store.trees);
    drop(store.reader);
    let mut store = open(dir.path());
    assert_eq!(listed(&mut store, u64::MAX, 9), [(7, "k".to_owned())]);
    let mut staging = store.trees.stage(P);
    staging.put(&[("s".into(), "v".into())]).unwrap();
    staging.put_due(5, b"s").unwrap();
    staging.finish(id(8), b"").unwrap();
    let (generation, base) = (staging.generation(), id(8));
    store.log.append(&[Record::Install { partition: P, generation, base }]).unwrap();
    store.log.sync().unwrap();
    store.trees.install(staging);
    assert_eq!(listed(&mut store, u64::MAX, 9), [(5, "s".to_owned())]);
}

#[test]
fn what_is_forgotten_leaves_the_disk_when_it_is_much_whether_values_are_large_or_small() {
    const RECORDS: u64 = 2_000;
    for bytes in [2_000, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let key = |n: u64| Bytes::from(format!("key{n:06}"));
        for n in 0..RECORDS {
            let mut random = fastrand::Rng::with_seed(n);
            let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
            store.log.append(&[Record::Entry { partition: P, id: id(n + 1), body: Bytes::new() }]).unwrap();
            store.trees.apply(P, &[Change::Put { key: key(n), value: value.into() }], id(n + 1)).unwrap();
        }
        store.log.sync().unwrap();
        store.trees.seal(P, b"state").unwrap();
        store.trees.maintain();
        let before = store.trees.statistics(P).bytes;
        assert!(before > RECORDS * bytes as u64 * 9 / 10, "{before}");
        for n in 0..RECORDS / 10 {
            store.trees.purge(P, &key(n), bytes as u64).unwrap();
        }
        store.trees.maintain();
        assert!(!store.trees.due().contains(&P), "little is purged");
        for n in RECORDS / 10..RECORDS * 9 / 10 {
            store.trees.purge(P, &key(n), bytes as u64).unwrap();
        }
        store.trees.maintain();
        assert_eq!(store.trees.due(), [P]);
        store.trees.seal(P, b"state").unwrap();
        store.trees.maintain();
        store.trees.maintain();
        let after = store.trees.statistics(P).bytes;
        assert!(after < before / 4, "{bytes}: {before} bytes before, {after} after");
        assert!(store.trees.get(P, &key(RECORDS - 1)).unwrap().is_some());
        assert_eq!(store.trees.get(P, &key(7)).unwrap(), None);
        store.trees.maintain();
        assert_eq!(store.trees.due(), [0_u16; 0], "once is enough");
    }
}
