//! One process at a time: an advisory lock on the file `LOCK`, held while any handle of the store
//! is alive and given up by the operating system when the process ends.

use crate::{Error, private};
use std::{
    fs::{File, TryLockError},
    path::Path,
};

/// A storage directory that no other process uses, for as long as this lives.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes a directory.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Io`].
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("LOCK");
        let file = private::options()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", path, e)),
        }
    }
}
