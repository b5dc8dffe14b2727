//! What the store costs: `cargo run --release -p trefoil-storage --example measure [directory]`.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use bytes::Bytes;
use std::{path::PathBuf, time::Instant};
use storage::{Change, LogId, Options, Record, Store, Tag};

const RECORDS: u64 = 400_000;
const BATCHES_A_SYNC: u64 = 64;
const KEYS: u64 = 1 << 20;

fn main() -> Result<(), storage::Error> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent).expect("a directory for the measurement");
    log(&dir.path().join("log"))?;
    for partitions in [1, 256] {
        trees(&dir.path().join(format!("trees{partitions}")), partitions)?;
    }
    Ok(())
}

/// User and system time of this process, in seconds.
fn processor() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn id(seq: u64) -> LogId {
    LogId { tag: Tag { generation: 1, version: 1 }, seq }
}

fn log(dir: &std::path::Path) -> Result<(), storage::Error> {
    std::fs::create_dir_all(dir).expect("a directory for the log");
    let mut store = Store::open(dir, &Options { background: false, ..Options::default() })?;
    let body = Bytes::from(vec![7; 136]);
    let (start, cpu) = (Instant::now(), processor());
    for seq in 1..=RECORDS {
        let partition = ((seq - 1) % 256) as u16;
        let id = id(1 + (seq - 1) / 256);
        store.log.append(&[Record::Entry { partition, id, body: body.clone() }])?;
        if seq % BATCHES_A_SYNC == 0 {
            store.log.sync()?;
        }
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), processor() - cpu);
    println!(
        "log: {RECORDS} records of 136 bytes, one batch each, a sync each {BATCHES_A_SYNC}: {:.0}/s, {:.2} us of \
         processor time each",
        RECORDS as f64 / wall,
        cpu / RECORDS as f64 * 1e6
    );
    drop(store);
    let start = Instant::now();
    let store = Store::open(dir, &Options::default())?;
    println!("log: opened with {} MiB in {:.2?}", store.reader.live_bytes() >> 20, start.elapsed());
    let start = Instant::now();
    let mut read = 0;
    while let storage::Read::Entries(entries) = store.reader.read(5, read + 1, 1 << 20)? {
        if entries.is_empty() {
            break;
        }
        read += entries.len() as u64;
    }
    println!("log: {read} entries of one partition of 256 read in {:.2?}", start.elapsed());
    Ok(())
}

fn trees(dir: &std::path::Path, partitions: u64) -> Result<(), storage::Error> {
    std::fs::create_dir_all(dir).expect("a directory for the trees");
    let mut store = Store::open(dir, &Options::default())?;
    let start = Instant::now();
    for partition in 0..partitions {
        store.trees.pre_create(partition as u16);
    }
    println!("{partitions} trees: asked for in {:.2?}, to be made beside all else", start.elapsed());
    let (start, cpu) = (Instant::now(), processor());
    let (mut worst, mut batch) = (0.0f64, Vec::new());
    let value = Bytes::from(vec![5; 100]);
    for n in 0..2 * KEYS {
        let (partition, seq) = ((n % partitions) as u16, 1 + n / partitions);
        let key = Bytes::from(format!("key{:012}", (n * 2_654_435_761) % KEYS));
        batch.push(Record::Entry { partition, id: id(seq), body: Bytes::from(vec![1; 136]) });
        let before = Instant::now();
        store.trees.apply(partition, &[Change::Put { key, value: value.clone() }], id(seq))?;
        worst = worst.max(before.elapsed().as_secs_f64());
        if batch.len() == BATCHES_A_SYNC as usize {
            store.log.append(&batch)?;
            store.log.sync()?;
            batch.clear();
            for partition in store.trees.due() {
                store.trees.seal(partition, b"state")?;
            }
        }
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), processor() - cpu);
    println!(
        "{partitions} trees: {} writes logged, synced and applied: {:.0}/s, {:.2} us of processor time each, slowest \
         apply {:.1} ms, log {} MiB",
        2 * KEYS,
        2.0 * KEYS as f64 / wall,
        cpu / (2.0 * KEYS as f64) * 1e6,
        worst * 1e3,
        store.reader.live_bytes() >> 20,
    );
    let start = Instant::now();
    let mut found = 0;
    for n in 0..200_000 {
        let at = (n * 7_919) % KEYS;
        let key = format!("key{:012}", (at * 2_654_435_761) % KEYS);
        found += u64::from(store.trees.get((at % partitions) as u16, key.as_bytes())?.is_some());
    }
    println!(
        "{partitions} trees: {found} of 200000 found, {:.2} us a read",
        start.elapsed().as_secs_f64() * 5.0
    );
    if let Some(failure) = store.trees.failure() {
        println!("{partitions} trees: {failure}");
    }
    store.log.close()?;
    drop((store.trees, store.reader));
    let start = Instant::now();
    let store = Store::open(dir, &Options::default())?;
    println!("{partitions} trees: opened in {:.2?}", start.elapsed());
    drop(store);
    Ok(())
}
