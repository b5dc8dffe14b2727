//! Stores that are damaged in some way and taken back: each opens again, and has a beginning of what was written that
//! reaches as far as what was read.

mod support;

use bytes::Bytes;
use std::{
    fs,
    path::{Path, PathBuf},
};
use storage::{Change, LogId, Options, Read, Record, Reinstated, Store, Tag, reinstate};

const ENTRIES: u64 = 120;
const BODY_BYTES: usize = 400;

fn options() -> Options {
    Options { segment_bytes: 16 << 10, log_bytes: 1 << 20, background: false, ..Options::default() }
}

fn id(seq: u64) -> LogId {
    LogId { tag: Tag { generation: 0, version: 1 + seq / 50 }, seq }
}

fn body(seq: u64) -> Bytes {
    Bytes::from(vec![seq as u8; BODY_BYTES])
}

fn key(seq: u64) -> Bytes {
    Bytes::from(format!("key{seq:04}"))
}

/// A store of one partition over several segments, the tree of which has what is up to `applied`.
fn store(dir: &Path, applied: u64) {
    let mut store = Store::open(dir, &options()).unwrap();
    for seq in 1..=ENTRIES {
        store.log.append(&[Record::Entry { partition: 3, id: id(seq), body: body(seq) }]).unwrap();
        store.log.sync().unwrap();
        if seq <= applied {
            let change = Change::Put { key: key(seq), value: body(seq) };
            store.trees.apply(3, &[change], id(seq)).unwrap();
        }
    }
    // Keeps the log from being trimmed: all of its segments are there.
    store.reader.pin(3, 1);
    if applied > 0 {
        store.trees.seal(3, b"state").unwrap();
        store.trees.maintain();
    }
    store.log.close().unwrap();
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with("free")).collect();
    found.sort();
    found
}

/// The last entry, after everything up to it was read from the tree or the log.
fn last(dir: &Path, what: &str) -> u64 {
    let store = Store::open(dir, &options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let Some(found) = store.recovered.get(&3) else { return 0 };
    for seq in 1..=found.applied.seq {
        assert_eq!(store.trees.get(3, &key(seq)).unwrap(), Some(body(seq)), "{what}: entry {seq}");
    }
    assert!(found.base.seq <= found.applied.seq, "{what}: {found:?}");
    let mut next = found.base.seq + 1;
    while let Read::Entries(entries) = store.reader.read(3, next, 1 << 20).unwrap()
        && !entries.is_empty()
    {
        for (read, bytes) in entries {
            assert_eq!((read, bytes), (id(next), body(next)), "{what}");
            next += 1;
        }
    }
    assert_eq!(next, found.last + 1, "{what}");
    found.last
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 8;
    fs::write(path, bytes).unwrap();
}

fn taken_back(applied: u64, damage: impl Fn(&Path, &[PathBuf])) -> (Reinstated, u64) {
    let dir = support::directory();
    store(dir.path(), applied);
    let segments = segments(dir.path());
    assert!(segments.len() >= 4, "{}", segments.len());
    damage(dir.path(), &segments);
    let found = reinstate(dir.path(), &options()).unwrap();
    let last = last(dir.path(), "after it was taken back");
    assert_eq!(found.partitions.get(&3).map_or(0, |id| id.seq), last);
    (found, last)
}

#[test]
fn a_whole_store_stays_whole() {
    let (found, last) = taken_back(40, |_, _| {});
    assert_eq!((last, found.damage, found.cut), (ENTRIES, None, None));
}

#[test]
fn damage_behind_what_the_tree_has_ends_the_log() {
    let (found, last) = taken_back(10, |_, segments| flip(&segments[1], 5_000));
    assert!((36..80).contains(&last), "{last}");
    assert!(found.damage.unwrap().contains(".log is damaged at byte"));
    let kept = fs::read_dir(found.cut.unwrap().parent().unwrap());
    assert!(kept.is_err(), "the directory is gone with the test, the folder was in it");
}

#[test]
fn damage_to_what_the_tree_has_costs_nothing() {
    let (found, last) = taken_back(100, |_, segments| flip(&segments[1], 5_000));
    assert_eq!((last, found.shortened.len()), (ENTRIES, 0));
    let (_, last) = taken_back(100, |_, segments| fs::remove_file(&segments[0]).unwrap());
    assert_eq!(last, ENTRIES);
    let (_, last) = taken_back(100, |_, segments| fs::write(&segments[1], b"short").unwrap());
    assert_eq!(last, ENTRIES);
}

#[test]
fn a_tree_ahead_of_what_is_left_of_the_log_counts_as_it_is() {
    let (_, last) = taken_back(ENTRIES, |_, segments| {
        for path in &segments[1..] {
            flip(path, 600);
        }
    });
    assert_eq!(last, ENTRIES);
}

#[test]
fn what_lies_behind_a_gap_is_not_taken() {
    let (found, last) = taken_back(5, |_, segments| fs::remove_file(&segments[0]).unwrap());
    assert_eq!((last, found.shortened.len()), (5, 1));
}

#[test]
fn a_tree_that_cannot_be_opened_is_refused_and_nothing_is_changed() {
    let dir = support::directory();
    store(dir.path(), 40);
    let tree = dir.path().join("trees/3-0");
    for entry in fs::read_dir(&tree).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::write(path, b"not a tree").unwrap();
        }
    }
    let before: Vec<Vec<u8>> = segments(dir.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let error = reinstate(dir.path(), &options()).unwrap_err();
    assert!(error.to_string().contains("partition 3"), "{error}");
    let after: Vec<Vec<u8>> = segments(dir.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn whatever_is_wrong_with_the_log_the_store_opens_with_what_reads() {
    let dir = support::directory();
    for seed in support::seeds(40) {
        let mut random = fastrand::Rng::with_seed(seed);
        let applied = random.u64(0..=ENTRIES);
        let inner = dir.path().join(seed.to_string());
        fs::create_dir(&inner).unwrap();
        store(&inner, applied);
        let segments = segments(&inner);
        for _ in 0..random.usize(1..4) {
            let path = &segments[random.usize(..segments.len())];
            let Ok(mut bytes) = fs::read(path) else { continue };
            match random.u8(..4) {
                0 => fs::remove_file(path).unwrap(),
                1 => {
                    bytes.truncate(random.usize(..=bytes.len()));
                    fs::write(path, bytes).unwrap();
                }
                _ => {
                    let at = random.usize(..bytes.len().max(1));
                    let end = (at + random.usize(1..600)).min(bytes.len());
                    random.fill(&mut bytes[at.min(end)..end]);
                    fs::write(path, bytes).unwrap();
                }
            }
        }
        let what = format!("SEED={seed}");
        match reinstate(&inner, &options()) {
            Ok(_) => assert!(last(&inner, &what) >= applied.min(ENTRIES), "{what}: applied {applied}"),
            Err(error) => assert!(error.to_string().contains("no segment"), "{what}: {error}"),
        }
    }
}
