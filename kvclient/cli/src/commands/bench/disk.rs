//! What a durable write costs on this disk at least: fdatasync of a small append.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use common::clock;

/// Bytes of each append, about a small put in a log.
pub(super) const APPEND_BYTES: usize = 512;

/// Appends that are measured.
const APPENDS: usize = 1000;

/// The median time of an append with its fdatasync, in a file of `folder` that was written before, as a recycled
/// log segment was.
pub(super) fn probe(folder: &Path) -> Result<Duration, String> {
    measure(folder).map_err(|error| format!("cannot measure the disk in {}: {error}", folder.display()))
}

fn measure(folder: &Path) -> io::Result<Duration> {
    let file = tempfile::tempfile_in(folder)?;
    file.write_all_at(&vec![0; APPENDS * APPEND_BYTES], 0)?;
    file.sync_all()?;
    let record = [0x5a; APPEND_BYTES];
    let mut times = Vec::with_capacity(APPENDS);
    for index in 0..APPENDS {
        let started = clock::time();
        file.write_all_at(&record, (index * APPEND_BYTES) as u64)?;
        file.sync_data()?;
        times.push(clock::time().since(started));
    }
    times.sort_unstable();
    Ok(times[APPENDS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(probe(&folder.path().join("missing")).is_err());
    }
}
