//! Files and messages of a newer version: they are reported as such, and nothing is moved or begun anew.
//!
//! Everything that has a version on the disk or on a link is here: log segments, the state of a tree, tags of
//! operations in the log, the small files and the form of the identity, the beginning of a link and its hello. The
//! ECS's state has a test beside its reader (`ecs/src/journal.rs`), and so has the state of a copy that is received
//! (`core_scripts`).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use common::frame::{PREFACE, write_frame};
use storage::{Change, LogId, Opened, Options, Record, Store};

use crate::support::cluster::copy_directory as copy;
use crate::support::{Cluster, db};

/// Files that each start writes.
const OF_EACH_START: [&str; 2] = ["LOCK", "incarnation"];

/// All files below a directory, with their bytes.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(content(&path));
        } else if !OF_EACH_START.iter().any(|name| path.ends_with(name)) {
            let bytes = fs::read(&path).expect("a file");
            found.insert(path, bytes);
        }
    }
    found
}

/// The CRC-32C of some bytes.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut frame = Vec::new();
    write_frame(&mut frame, |out| out.extend_from_slice(bytes));
    frame[4..8].try_into().expect("four bytes")
}

/// The segment's header says format 02, with the checksum that belongs to it.
fn raise_segment(dir: &Path) {
    let names = fs::read_dir(dir.join("log")).expect("a log").map(|entry| entry.expect("an entry").path());
    let numbered = |path: &PathBuf| !path.file_name().expect("a name").to_string_lossy().starts_with("free-");
    let path = names.filter(numbered).min().expect("a segment");
    let mut bytes = fs::read(&path).expect("a segment");
    assert_eq!(&bytes[..8], b"TRFLOG01");
    bytes[7] = b'2';
    let sum = crc(&bytes[..32]);
    bytes[32..36].copy_from_slice(&sum);
    fs::write(&path, bytes).expect("a segment");
}

/// The container of a small file says format 2.
fn raise_file(dir: &Path, name: &str) {
    let path = dir.join(name);
    let mut bytes = fs::read(&path).expect("a file");
    assert_eq!(&bytes[..8], b"TRFATOM1");
    bytes[7] = b'2';
    fs::write(&path, bytes).expect("a file");
}

fn raise_form(dir: &Path) {
    let bytes = storage::read_atomic(dir, "identity").expect("a file").expect("an identity");
    let mut identity: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    identity["format"] = 2.into();
    storage::write_atomically(dir, "identity", identity.to_string().as_bytes()).expect("it can be written");
}

fn open(dir: &Path) -> (Opened, u16, LogId) {
    let options = Options { background: false, ..Options::default() };
    let store = Store::open(dir, &options).expect("a store");
    let (&partition, found) = store.recovered.iter().find(|(_, found)| found.last > 0).expect("a partition");
    let tag = found.runs.last().expect("entries").0;
    let last = LogId { tag, seq: found.last };
    (store, partition, last)
}

/// The state that is sealed with a tree begins with a tag of its form.
fn raise_state(dir: &Path) {
    let (mut store, partition, last) = open(dir);
    let change = Change::Put { key: "some key".into(), value: "some record".into() };
    store.trees.apply(partition, &[change], last).expect("a tree");
    store.trees.seal(partition, &[200, 0, 0, 0]).expect("a seal");
    store.trees.maintain();
    store.log.close().expect("a log");
}

/// The last entry of a log is an unknown operation: no origin, a time stamp, and its tag.
fn append_operation(dir: &Path) {
    let (mut store, partition, last) = open(dir);
    let id = LogId { seq: last.seq + 1, ..last };
    let body = [&[0][..], &[0; 8], &[200, 1, 2, 3]].concat().into();
    store.log.append(&[Record::Entry { partition, id, body }]).expect("an entry");
    store.log.close().expect("a log");
}

#[test]
fn a_directory_of_a_newer_version_is_left_as_it_is() {
    let mut cluster = Cluster::start(1);
    let all = db::pairs("key/", 200);
    cluster.client().put_many(&all);
    cluster.kill_server(0);
    let (dir, good) = (cluster.server_dir(0).to_owned(), cluster.path().join("good"));
    copy(&dir, &good);
    type Raise<'a> = (&'a str, &'a dyn Fn(&Path));
    let raised: [Raise<'_>; 6] = [
        ("a segment of the log", &raise_segment),
        ("the state of a tree", &raise_state),
        ("the view", &|dir| raise_file(dir, "view")),
        ("the count of starts", &|dir| raise_file(dir, "incarnation")),
        ("the identity", &|dir| raise_file(dir, "identity")),
        ("the identity's form", &raise_form),
    ];
    for (what, raise) in raised {
        fs::remove_dir_all(&dir).expect("it was there");
        copy(&good, &dir);
        raise(&dir);
        let raise_is_in_tree = what == "the state of a tree";
        // The log is opened before the trees: a batch without records says so, and the next segment is made.
        let is_log = |path: &Path| raise_is_in_tree && path.starts_with(dir.join("log"));
        let content = |dir: &Path| {
            let mut found = content(dir);
            found.retain(|path, _| !is_log(path));
            found
        };
        let before = content(&dir);
        let refused = cluster.try_start_server(0).expect_err(what);
        let words = ["version", "Nothing was changed", "start that version"];
        assert!(words.iter().all(|word| refused.log.contains(word)), "{what}: {}", refused.log);
        let after = content(&dir);
        let changed: Vec<&PathBuf> =
            before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "{what}: {changed:?}");
    }

    // An operation in the log is come upon when it is applied.
    fs::remove_dir_all(&dir).expect("it was there");
    copy(&good, &dir);
    append_operation(&dir);
    cluster.start_server(0);
    assert_eq!(cluster.server_mut(0).wait().code(), Some(1));
    let log = cluster.server(0).log();
    assert!(log.contains("another version of kvserver has written them"), "{log}");
    assert!(!dir.join("damaged-1").exists() && !dir.join("failed").exists());
    cluster.forget_process(0);

    // With the count of starts that it had: a directory that knows of fewer than the ECS is refused as an older copy.
    let starts = fs::read(dir.join("incarnation")).expect("a count of starts");
    fs::remove_dir_all(&dir).expect("it was there");
    copy(&good, &dir);
    fs::write(dir.join("incarnation"), starts).expect("a count of starts");
    cluster.start_server(0);
    cluster.wait_settled();
    assert_eq!(cluster.client().scan("key/"), all);
}

/// Whether a link that begins so is closed without a word.
fn is_closed(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(bytes).expect("it takes bytes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).is_ok_and(|_| answer.is_empty())
}

#[test]
fn a_link_of_a_newer_version_is_closed() {
    let cluster = Cluster::start(1);
    let newer = [&PREFACE[..3], b"2", &[0; 8]].concat();
    let mut unknown = PREFACE.to_vec();
    write_frame(&mut unknown, |out| out.extend_from_slice(br#"{"link":"of_tomorrow","cluster":1}"#));
    for address in [cluster.address(0), cluster.ecs_address()] {
        assert!(is_closed(address, &newer), "{address}");
        assert!(is_closed(address, &unknown), "{address}");
    }
    cluster.client().put("and", "it goes on");
}
