//! Malformed bytes in the files of the commit log: the store opens with what it is sure of, or refuses with an
//! error that names the offset. Nothing panics, and no entry comes back other than it was written.

mod support;

use bytes::Bytes;
use std::{
    fs,
    path::{Path, PathBuf},
};
use storage::{LogId, Options, Read, Record, Store, Tag};

/// Entries of the good log.
const ENTRIES: u64 = 40;

/// Spoilt copies of it.
const SPOILT: u64 = 400;

fn options() -> Options {
    Options { segment_bytes: 16 << 10, background: false, ..Options::default() }
}

fn body(seq: u64) -> Bytes {
    Bytes::from(vec![seq as u8; 50 + seq as usize])
}

/// The numbered segments, the first one first.
fn segments(dir: PathBuf) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with("free")).collect();
    found.sort();
    found
}

/// Checks that the log is refused with the offset of the damage, or has a beginning of what was written. Returns how
/// many entries it has.
fn open_and_check(dir: &Path, what: &str) -> Option<u64> {
    match Store::open(dir, &options()) {
        Err(error) => {
            assert!(error.to_string().contains("log"), "{what}: {error}");
            None
        }
        Ok(store) => {
            let Read::Entries(entries) = store.reader.read(1, 1, 1 << 20).unwrap() else { return Some(0) };
            let mut count = 0;
            for ((id, read), seq) in entries.into_iter().zip(1..) {
                assert_eq!((id.seq, read), (seq, body(seq)), "{what}");
                count = seq;
            }
            Some(count)
        }
    }
}

/// The first segment of a log, in each file of `corpus/log`, and cut off where the file ends: `good` has two entries.
#[test]
fn the_corpus_is_refused_or_read_as_written() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/log");
    let dir = support::directory();
    drop(Store::open(dir.path(), &options()).unwrap());
    let folder = dir.path().join("log");
    let first = segments(folder.clone()).remove(0);
    let mut good = 0;
    for entry in fs::read_dir(corpus).expect("the corpus is there") {
        let path = entry.unwrap().path();
        let what = path.file_name().unwrap().to_string_lossy().into_owned();
        for whole in [true, false] {
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir_all(&folder).unwrap();
            fs::copy(&path, &first).unwrap();
            if whole {
                let file = fs::OpenOptions::new().write(true).open(&first).unwrap();
                file.set_len(options().segment_bytes).unwrap();
            }
            let entries = open_and_check(dir.path(), &what);
            if (what.as_str(), whole) == ("good", true) {
                assert_eq!(entries, Some(2));
                good += 1;
            }
            assert!(entries.is_none_or(|entries| entries <= 2), "{what}: {entries:?}");
        }
    }
    assert_eq!(good, 1, "the log that the others were made of is read");
}

#[test]
fn a_spoilt_log_is_refused_or_read_as_written() {
    let dir = support::directory();
    let mut store = Store::open(dir.path(), &options()).unwrap();
    for seq in 1..=ENTRIES {
        let id = LogId { tag: Tag::default(), seq };
        store.log.append(&[Record::Entry { partition: 1, id, body: body(seq) }]).unwrap();
        store.log.sync().unwrap();
    }
    store.log.close().unwrap();
    drop((store.trees, store.reader));
    let good: Vec<(PathBuf, Vec<u8>)> = segments(dir.path().join("log"))
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();

    let (mut refused, mut opened) = (0, 0);
    for seed in 0..SPOILT {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = dir.path().join("log");
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir_all(&folder).unwrap();
        for (path, bytes) in &good {
            fs::write(path, bytes).unwrap();
        }
        let (path, bytes) = &good[random.usize(..good.len())];
        let mut spoilt = bytes.clone();
        // Where something was written, more often than in the zeros behind it.
        let written = spoilt.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        match seed % 4 {
            0 => spoilt.truncate(random.usize(..spoilt.len())),
            1 => random.fill(&mut spoilt[..written]),
            2 => {
                let at = random.usize(..written);
                let end = (at + 1 + random.usize(..600)).min(written);
                random.fill(&mut spoilt[at..end]);
            }
            _ => spoilt[random.usize(..written)] ^= 1 << random.u8(..8),
        }
        fs::write(path, &spoilt).unwrap();
        match open_and_check(dir.path(), &format!("seed {seed}")) {
            None => refused += 1,
            Some(_) => opened += 1,
        }
    }
    assert!(refused > SPOILT / 2, "{refused} refused, {opened} opened");
}
