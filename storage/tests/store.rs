//! The store as a server uses it: log, trees, seal, trim, install, drop, reopen.

mod support;

use bytes::Bytes;
use std::path::Path;
use storage::{Change, Error, LogId, Opened, Options, Read, Record, Store, Tag, inspect};

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        log_bytes: 256 << 10,
        memtable_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        background: false,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Opened {
    Store::open(dir, &options()).unwrap()
}

fn id(seq: u64) -> LogId {
    LogId { tag: Tag { generation: 1, version: 1 + seq / 100 }, seq }
}

fn entry(partition: u16, seq: u64, body: &[u8]) -> Record {
    Record::Entry { partition, id: id(seq), body: Bytes::copy_from_slice(body) }
}

fn put(key: &str, value: &[u8]) -> Change {
    Change::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::copy_from_slice(value) }
}

fn folders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("trees")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// One write the way the server does it: log, sync, apply.
fn write(store: &mut Opened, partition: u16, seq: u64, value: &[u8]) {
    store.log.append(&[entry(partition, seq, value)]).unwrap();
    store.log.sync().unwrap();
    store.trees.apply(partition, &[put(&format!("key{seq:06}"), value)], id(seq)).unwrap();
}

#[test]
fn entries_and_values_come_back_after_a_reopen() {
    let dir = support::directory();
    let mut store = open(dir.path());
    let large = vec![9; 9_000];
    for seq in 1..=10 {
        write(&mut store, 3, seq, if seq % 2 == 0 { &large } else { b"small" });
    }
    store
        .log
        .append(&[Record::DurableState { partition: 3, durable_state: Bytes::from_static(b"mark") }])
        .unwrap();
    store.log.sync().unwrap();
    store.trees.seal(3, b"state").unwrap();
    store.trees.maintain();
    write(&mut store, 3, 11, b"after");
    drop(store);

    let store = open(dir.path());
    let found = &store.recovered[&3];
    assert_eq!(
        (found.applied, found.last, &found.state[..], &found.durable_state[..]),
        (id(10), 11, &b"state"[..], &b"mark"[..])
    );
    assert_eq!(found.runs, [(id(1).tag, 1)]);
    assert_eq!(store.trees.get(3, b"key000004").unwrap().unwrap(), large);
    assert_eq!(store.trees.get(3, b"key000005").unwrap().unwrap(), "small");
    assert_eq!(store.trees.get(3, b"key000011").unwrap(), None, "replay is the caller's");
    let Read::Entries(entries) = store.reader.read(3, 11, 1 << 20).unwrap() else { panic!() };
    assert_eq!(entries, [(id(11), Bytes::from_static(b"after"))]);
    assert!(matches!(Store::open(dir.path(), &options()), Err(Error::InUse { .. })));
    assert!(matches!(inspect(dir.path()), Err(Error::InUse { .. })));
    drop(store);
    let inspection = inspect(dir.path()).unwrap();
    let only = &inspection.partitions[0];
    assert_eq!((only.partition, only.keys, only.log_last, only.applied), (3, 10, 11, id(10)));
}

#[test]
fn sealed_partitions_let_the_log_be_trimmed_and_its_files_be_used_again() {
    let dir = support::directory();
    let mut store = open(dir.path());
    for seq in 1..=2_000 {
        write(&mut store, 1, seq, &[1; 1_000]);
        for partition in store.trees.due() {
            store.trees.seal(partition, b"").unwrap();
        }
        if seq % 10 == 0 {
            store.trees.maintain();
        }
    }
    assert!(store.reader.live_bytes() <= 6 * (64 << 10), "{}", store.reader.live_bytes());
    let Read::Trimmed { base } = store.reader.read(1, 1, 1).unwrap() else { panic!() };
    assert!(base.seq > 1_000 && base == id(base.seq), "{base:?}");
    let files = std::fs::read_dir(dir.path().join("log")).unwrap().count();
    assert!(files <= 8, "{files}");
    drop(store);
    let store = open(dir.path());
    let found = &store.recovered[&1];
    assert_eq!(found.last, 2_000);
    assert!(found.base == id(found.base.seq) && found.applied.seq >= found.base.seq);
    assert_eq!(store.trees.get(1, b"key000001").unwrap().unwrap(), [1; 1_000][..]);
}

#[test]
fn a_pin_holds_the_log() {
    let dir = support::directory();
    let mut store = open(dir.path());
    write(&mut store, 1, 1, b"one");
    store.reader.pin(1, 1);
    for seq in 2..=500 {
        write(&mut store, 1, seq, &[1; 1_000]);
    }
    store.trees.seal(1, b"").unwrap();
    store.trees.maintain();
    assert!(matches!(store.reader.read(1, 1, 1).unwrap(), Read::Entries(e) if e.len() == 1));
    store.reader.unpin(1);
    store.trees.maintain();
    assert!(matches!(store.reader.read(1, 1, 1).unwrap(), Read::Trimmed { .. }));
}

#[test]
fn a_tree_is_made_ahead_once_whichever_thread_is_faster() {
    let dir = support::directory();
    let mut store = open(dir.path());
    store.trees.pre_create(1);
    store.trees.pre_create(2);
    // The first change of 1 comes before the maintenance, that of 2 after it.
    write(&mut store, 1, 1, b"x");
    store.trees.maintain();
    write(&mut store, 2, 1, b"y");
    store.trees.pre_create(1);
    store.trees.maintain();
    assert_eq!(folders(dir.path()), ["1-0", "2-0"]);
    assert_eq!(store.trees.get(1, b"key000001").unwrap().unwrap(), "x");
    assert_eq!(store.trees.get(2, b"key000001").unwrap().unwrap(), "y");
}

#[test]
fn a_tree_made_ahead_that_nobody_wants_goes() {
    let dir = support::directory();
    let mut store = open(dir.path());
    let drop_partition = |store: &mut Opened, partition| {
        store.log.append(&[Record::Drop { partition }]).unwrap();
        store.log.sync().unwrap();
        store.trees.drop_partition(partition);
    };
    // Given up before it is made, and after.
    store.trees.pre_create(1);
    drop_partition(&mut store, 1);
    store.trees.pre_create(2);
    store.trees.maintain();
    drop_partition(&mut store, 2);
    store.trees.maintain();
    assert_eq!(folders(dir.path()), [""; 0]);
    write(&mut store, 2, 1, b"new");
    store.trees.maintain();
    assert_eq!(folders(dir.path()), ["2-2"]);
}

#[test]
fn trees_are_made_while_changes_come() {
    let dir = support::directory();
    let mut store = Store::open(dir.path(), &Options { background: true, ..options() }).unwrap();
    for partition in 0..40 {
        store.trees.pre_create(partition);
        // Some changes find the tree being made, some made, some neither.
        write(&mut store, partition * 7 % 40, 1, b"value");
    }
    for partition in 0..40 {
        assert_eq!(store.trees.get(partition, b"key000001").unwrap().unwrap(), "value");
    }
    drop(store);
    assert_eq!(open(dir.path()).recovered.len(), 40);
}

#[test]
fn a_tree_that_was_made_ahead_stays() {
    let dir = support::directory();
    let mut store = open(dir.path());
    write(&mut store, 1, 1, b"x");
    store.trees.pre_create(2);
    store.trees.maintain();
    drop(store);
    let inode = |folder: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(dir.path().join("trees").join(folder)).unwrap().ino()
    };
    let made = inode("2-0");
    let mut store = open(dir.path());
    assert_eq!(inode("2-0"), made, "it is not made anew");
    assert!(!store.recovered.contains_key(&2));
    write(&mut store, 2, 1, b"y");
    drop(store);
    assert_eq!(open(dir.path()).recovered[&2].last, 1);
}

#[test]
fn a_staged_tree_replaces_the_old_one_or_not_at_all() {
    for step in 0..4 {
        let dir = support::directory();
        let mut store = open(dir.path());
        write(&mut store, 5, 1, b"old");
        let mut stage = Some(store.trees.stage(5));
        let staging = stage.as_mut().unwrap();
        let generation = staging.generation();
        let pairs: Vec<_> = (0..200)
            .map(|i| (Bytes::from(format!("new{i:03}")), Bytes::from(vec![i as u8; 1_000])))
            .collect();
        staging.put(&pairs[..100]).unwrap();
        staging.put(&pairs[100..]).unwrap();
        if step > 0 {
            staging.finish(id(700), b"new state").unwrap();
        }
        if step > 1 {
            store.log.append(&[Record::Install { partition: 5, generation, base: id(700) }]).unwrap();
            store.log.sync().unwrap();
        }
        if step > 2 {
            store.trees.install(stage.take().unwrap());
            assert_eq!(store.trees.applied(5), id(700));
            write(&mut store, 5, 701, b"next");
            store.trees.maintain();
        }
        drop((stage, store));
        let store = open(dir.path());
        let found = &store.recovered[&5];
        let folders = std::fs::read_dir(dir.path().join("trees")).unwrap().count();
        assert_eq!(folders, 1);
        if step > 1 {
            assert_eq!((found.base, found.applied, &found.state[..]), (id(700), id(700), &b"new state"[..]));
            assert_eq!(found.last, if step > 2 { 701 } else { 700 });
            let page = store.trees.scan(5, None, b"new", 1_000, 1 << 20).unwrap();
            assert_eq!((page.pairs, page.more), (pairs, false));
        } else {
            assert_eq!((found.base, found.last, found.applied), (LogId::default(), 1, LogId::default()));
        }
    }
}

#[test]
fn a_dropped_partition_begins_anew() {
    let dir = support::directory();
    let mut store = open(dir.path());
    write(&mut store, 7, 1, b"one");
    store.trees.seal(7, b"state").unwrap();
    store.trees.maintain();
    store.log.append(&[Record::Drop { partition: 7 }]).unwrap();
    store.log.sync().unwrap();
    store.trees.drop_partition(7);
    assert_eq!(store.trees.get(7, b"key000001").unwrap(), None);
    store.trees.maintain();
    assert_eq!(std::fs::read_dir(dir.path().join("trees")).unwrap().count(), 0);
    write(&mut store, 7, 1, b"again");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.recovered[&7].last, 1);
    assert_eq!(store.recovered[&7].applied, LogId::default());
    let Read::Entries(entries) = store.reader.read(7, 1, 10).unwrap() else { panic!() };
    assert_eq!(entries[0].1, "again");
}

#[test]
fn a_snapshot_stays_while_writes_flushes_and_compactions_go_on() {
    let dir = support::directory();
    let mut store = open(dir.path());
    for seq in 1..=100 {
        write(&mut store, 1, seq, b"before");
    }
    let mut snapshot = store.trees.snapshot(1).unwrap();
    assert_eq!(snapshot.id(), id(100));
    for seq in 101..=1_000 {
        let key = format!("key{:06}", seq % 200);
        store.log.append(&[entry(1, seq, b"")]).unwrap();
        store.trees.apply(1, &[put(&key, &[2; 5_000])], id(seq)).unwrap();
        if seq % 50 == 0 {
            store.log.sync().unwrap();
            store.trees.seal(1, b"").unwrap();
            store.trees.maintain();
        }
    }
    store.trees.drop_partition(1);
    store.trees.maintain();
    let mut pairs = Vec::new();
    loop {
        let chunk = snapshot.chunk(100).unwrap();
        pairs.extend(chunk.pairs);
        if chunk.done {
            break;
        }
    }
    assert_eq!(pairs.len(), 100);
    assert!(pairs.iter().all(|(_, value)| value == "before"));
    drop(snapshot);
    store.trees.maintain();
    assert_eq!(std::fs::read_dir(dir.path().join("trees")).unwrap().count(), 0);
}

#[test]
fn what_no_key_can_be_is_not_there() {
    let dir = support::directory();
    let mut store = open(dir.path());
    let longest = "k".repeat(storage::KEY_BYTES_MAX);
    store.log.append(&[entry(1, 1, b"")]).unwrap();
    store.trees.apply(1, &[put("a", b"1"), put(&longest, b"2"), put("z", b"3")], id(1)).unwrap();
    for bytes in [storage::KEY_BYTES_MAX + 1, 65_535, 70_000, 1 << 20] {
        let long = "k".repeat(bytes);
        assert_eq!(store.trees.get(1, long.as_bytes()).unwrap(), None, "{bytes}");
        assert!(store.trees.scan(1, None, long.as_bytes(), 10, 100).unwrap().pairs.is_empty(), "{bytes}");
        let behind = store.trees.scan(1, Some(long.as_bytes()), b"", 10, 100).unwrap().pairs;
        assert_eq!(behind.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), [b"z"], "{bytes}");
        assert_eq!(store.trees.scan(1, Some(b"a"), b"k", 10, 100).unwrap().pairs.len(), 1);
    }
    assert_eq!(store.trees.get(1, longest.as_bytes()).unwrap().unwrap(), "2");
}
