//! One process at a time: an advisory lock on the file `LOCK`, held while any handle of the store
//! is alive and given up by the operating system when the process ends.

use crate::Error;
use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("LOCK");
        let file = OpenOptions::new()
            .write(true)
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
