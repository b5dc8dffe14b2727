//! The throughput of a disk with synced writes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use common::clock;

/// Bytes of each write.
const WRITE_BYTES: usize = 1 << 20;

/// Writes that are measured.
const WRITES: usize = 128;

/// Bytes a second of writes one after the other, each with an fdatasync, in a new file that is removed again.
pub(crate) fn synced_writes(folder: &Path) -> io::Result<f64> {
    let path = folder.join("load-disk");
    let measured = File::create(&path).and_then(write);
    std::fs::remove_file(&path)?;
    measured
}

fn write(mut file: File) -> io::Result<f64> {
    // Not all bytes alike: some disks leave zeros out.
    let block: Vec<u8> = (0..WRITE_BYTES).map(|index| (index * index / 7 % 251) as u8).collect();
    let started = clock::time();
    for _ in 0..WRITES {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    Ok((WRITES * WRITE_BYTES) as f64 / clock::time().since(started).as_secs_f64())
}
