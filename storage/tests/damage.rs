//! Flipped bytes in the trees' files: an error that names the tree, or the right value. Never a
//! wrong value, never a panic that reaches the caller.

mod support;

use bytes::Bytes;
use std::{
    fs,
    path::{Path, PathBuf},
};
use storage::{Change, Error, LogId, Options, Record, Store, Tag};
use xxhash_rust::xxh3::xxh3_128;

const KEYS: u64 = 120;

fn options() -> Options {
    Options { segment_bytes: 64 << 10, log_bytes: 256 << 10, background: false, ..Options::default() }
}

fn value(n: u64) -> Bytes {
    Bytes::from(vec![n as u8; if n.is_multiple_of(10) { 6_000 } else { 40 }])
}

fn files(dir: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A store with one tree that is on disk.
fn filled() -> tempfile::TempDir {
    let dir = support::directory();
    let mut store = Store::open(dir.path(), &options()).unwrap();
    for seq in 1..=KEYS {
        let id = LogId { tag: Tag::default(), seq };
        store.log.append(&[Record::Entry { partition: 1, id, body: Bytes::new() }]).unwrap();
        let change = Change::Put { key: Bytes::from(format!("key{seq:04}")), value: value(seq) };
        store.trees.apply(1, &[change], id).unwrap();
    }
    store.log.sync().unwrap();
    store.trees.seal(1, b"state").unwrap();
    store.trees.maintain();
    store.log.close().unwrap();
    dir
}

#[test]
fn a_flipped_byte_in_a_tree_is_an_error_or_harmless() {
    let dir = filled();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut noticed, mut harmless) = (0, 0);
    for path in files(dir.path().join("trees")) {
        let good = fs::read(&path).unwrap();
        let step = (good.len() / 150).max(1);
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            let damaged = |error: &Error| matches!(error, Error::Damaged { partition: Some(1), .. });
            match Store::open(dir.path(), &options()) {
                Err(error) => {
                    assert!(damaged(&error), "{} at {at}: {error}", path.display());
                    noticed += 1;
                }
                Ok(store) => {
                    let mut errors = 0;
                    for n in 1..=KEYS {
                        match store.trees.get(1, format!("key{n:04}").as_bytes()) {
                            Ok(Some(found)) => assert_eq!(found, value(n), "{} at {at}", path.display()),
                            Ok(None) => panic!("{} at {at}: key {n} is gone", path.display()),
                            Err(error) => {
                                assert!(damaged(&error), "{} at {at}: {error}", path.display());
                                errors += 1;
                            }
                        }
                    }
                    let scanned = store.trees.scan(1, None, b"", 1_000, 1 << 30);
                    match scanned {
                        Ok(page) => assert_eq!(page.pairs.len() as u64, KEYS),
                        Err(error) => assert!(damaged(&error), "{error}"),
                    }
                    if errors > 0 { noticed += 1 } else { harmless += 1 }
                }
            }
            // A tree that opened may have tidied its folder up.
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &good).unwrap();
        }
    }
    drop(std::panic::take_hook());
    assert!(noticed > harmless, "{noticed} noticed, {harmless} harmless");
}

/// The number of the newest version file of the tree, the file, and `current`, which has its checksum.
fn version_file(tree: &Path) -> (PathBuf, PathBuf) {
    let current = tree.join("current");
    let number = u64::from_le_bytes(fs::read(&current).unwrap()[..8].try_into().unwrap());
    (tree.join(format!("v{number}")), current)
}

#[test]
fn a_flipped_byte_in_the_file_that_says_the_format_of_a_tree_is_damage() {
    let dir = filled();
    let (file, _) = version_file(&dir.path().join("trees/1-0"));
    let good = fs::read(&file).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&file, &bad).unwrap();
        let error = Store::open(dir.path(), &options()).err();
        let named = error.as_ref().is_some_and(
            |error| matches!(error, Error::Damaged { file: of, partition: Some(1), .. } if *of == file),
        );
        assert!(named, "at {at}: {error:?}");
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(
        Store::open(dir.path(), &options()).unwrap().trees.get(1, b"key0001").unwrap(),
        Some(value(1))
    );
}

#[test]
fn a_tree_of_another_format_is_of_another_version() {
    let dir = filled();
    let (file, current) = version_file(&dir.path().join("trees/1-0"));
    let (mut content, mut sum) = (fs::read(&file).unwrap(), fs::read(&current).unwrap());
    assert_eq!(content[0], 3, "the format comes first");
    for found in [2, 4] {
        content[0] = found;
        sum[8..24].copy_from_slice(&xxh3_128(&content).to_le_bytes());
        fs::write(&file, &content).unwrap();
        fs::write(&current, &sum).unwrap();
        let error = Store::open(dir.path(), &options()).err();
        let named = match &error {
            Some(Error::OtherVersion { found, own, .. }) => Some((*found, *own)),
            _ => None,
        };
        assert_eq!(named, Some((u32::from(found), 3)), "{found}: {error:?}");
    }
}
