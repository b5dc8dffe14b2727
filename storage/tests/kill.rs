//! A writing process is killed again and again: every acknowledged write is there at the next start.
//!
//! The test runs itself as the writer. It acknowledges on its standard output, after the sync.

mod support;

use bytes::Bytes;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};
use storage::{Change, LogId, Options, Read, Record, Store, Tag};
use support::seeds;

const DIRECTORY: &str = "TREFOIL_STORAGE_TEST_DIRECTORY";
const PARTITIONS: u64 = 8;

fn options() -> Options {
    Options {
        segment_bytes: 128 << 10,
        log_bytes: 512 << 10,
        memtable_bytes: 32 << 10,
        cache_bytes: 1 << 20,
        ..Options::default()
    }
}

fn key(n: u64) -> Bytes {
    Bytes::from(format!("key{}", n % 500))
}

fn value(n: u64) -> Bytes {
    let length = if n.is_multiple_of(97) { 5_000 } else { 100 + n as usize % 300 };
    let mut value = n.to_le_bytes().to_vec();
    value.resize(length, n as u8);
    value.into()
}

/// Opens the store, checks that write `n` of each partition went in as number `n`, and returns how
/// many each has.
fn open_and_check(dir: &Path) -> (storage::Opened, Vec<u64>) {
    let mut store = Store::open(dir, &options()).unwrap();
    let mut counts = vec![0; PARTITIONS as usize];
    for (partition, found) in std::mem::take(&mut store.recovered) {
        assert_eq!(found.state, found.applied.seq.to_string());
        let mut next = found.applied.seq + 1;
        while let Read::Entries(entries) = store.reader.read(partition, next, 100_000).unwrap() {
            if entries.is_empty() {
                break;
            }
            for (id, body) in entries {
                assert_eq!((id.seq, &body), (next, &value(next)));
                let change = Change::Put { key: key(next), value: body };
                store.trees.apply(partition, &[change], id).unwrap();
                next += 1;
            }
        }
        assert_eq!(next, found.last + 1);
        for n in found.last.saturating_sub(499).max(1)..=found.last {
            assert_eq!(store.trees.get(partition, &key(n)).unwrap().unwrap(), value(n), "{partition}: {n}");
        }
        counts[usize::from(partition)] = found.last;
    }
    (store, counts)
}

#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let (mut store, mut counts) = open_and_check(Path::new(&dir));
    let mut out = std::io::stdout();
    for round in 0u64.. {
        for i in 0..1 + round % 7 {
            let partition = ((round * 3 + i) % PARTITIONS) as u16;
            let count = &mut counts[usize::from(partition)];
            *count += 1;
            let id = LogId { tag: Tag { generation: 1, version: 1 }, seq: *count };
            store.log.append(&[Record::Entry { partition, id, body: value(*count) }]).unwrap();
        }
        store.log.sync().unwrap();
        for (partition, count) in (0..).zip(&counts) {
            for n in store.trees.applied(partition).seq + 1..=*count {
                let id = LogId { tag: Tag { generation: 1, version: 1 }, seq: n };
                let change = Change::Put { key: key(n), value: value(n) };
                store.trees.apply(partition, &[change], id).unwrap();
            }
        }
        let line: Vec<_> = counts.iter().map(u64::to_string).collect();
        // Raw, past the test harness, which would keep it.
        out.write_all(format!("\nack {}\n", line.join(" ")).as_bytes()).unwrap();
        for partition in store.trees.due() {
            let state = store.trees.applied(partition).seq.to_string();
            store.trees.seal(partition, state.as_bytes()).unwrap();
        }
    }
}

#[test]
fn every_acknowledged_write_survives_a_kill() {
    let dir = support::directory();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in seeds(25) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = vec![0; PARTITIONS as usize];
        let mut left = random.usize(1..1_500);
        while let Some(Ok(line)) = lines.next() {
            let Some(counts) = line.strip_prefix("ack ") else { continue };
            let counts: Vec<u64> = counts.split(' ').filter_map(|c| c.parse().ok()).collect();
            if counts.len() == acknowledged.len() {
                acknowledged = counts;
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "the writer stopped by itself");
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(counts) = line.strip_prefix("ack ") {
                let counts: Vec<u64> = counts.split(' ').filter_map(|c| c.parse().ok()).collect();
                // The very last line may be cut in the middle of a number.
                if counts.len() == acknowledged.len() && counts.iter().zip(&acknowledged).all(|(n, o)| n >= o)
                {
                    acknowledged = counts;
                }
            }
        }
        child.wait().unwrap();
        let (store, found) = open_and_check(dir.path());
        assert!(
            found.iter().zip(&acknowledged).all(|(f, a)| f >= a),
            "{found:?}, acknowledged {acknowledged:?}"
        );
        drop(store);
    }
}
