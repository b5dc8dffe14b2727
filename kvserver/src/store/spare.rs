//! Room for the small files of a server on a full disk: a file of zeros that is given up when they do not fit.
//!
//! A server whose disk is full refuses writes, goes on answering reads and hands its partitions over. All of that needs
//! new views, and a view is on disk before it is used. Without this file one view more would end the server, and a disk
//! that others fill as well would end all servers at once. Each small file replaces its former version, so one spare
//! lasts for long. It is made anew when there is much room again.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::limits::{SPARE_BYTES, SPARE_SHARE};

/// The file's name in the storage directory.
const NAME: &str = "spare";

/// Makes the file if it is not there and the disk has much more room than that. Without it all else goes on.
pub(super) fn make(dir: &Path) {
    let path = dir.join(NAME);
    if fs::metadata(&path).is_ok_and(|found| found.len() == SPARE_BYTES) || !has_much_room(dir) {
        return;
    }
    if let Err(error) = write(&path) {
        tracing::debug!("no spare file is made: {error}");
        let _not_there = fs::remove_file(&path);
    }
}

/// Gives the file up; whether it was there.
pub(super) fn give_up(dir: &Path) -> bool {
    fs::remove_file(dir.join(NAME)).is_ok()
}

fn has_much_room(dir: &Path) -> bool {
    rustix::fs::statvfs(dir)
        .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) / SPARE_SHARE >= SPARE_BYTES)
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    io::copy(&mut io::repeat(0).take(SPARE_BYTES), &mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_given_up_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!give_up(dir.path()));
        make(dir.path());
        let path = dir.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().len(), SPARE_BYTES);
        // What was cut short is made anew.
        fs::write(&path, [1]).unwrap();
        make(dir.path());
        assert_eq!(fs::read(&path).unwrap(), vec![0; SPARE_BYTES as usize]);
        assert!(give_up(dir.path()) && !path.exists());
    }
}
