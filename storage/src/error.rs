//! The crate's operating errors, named by what the caller should do about them.

use std::{io, path::PathBuf};

/// What can go wrong with a store. Bugs of the caller are assertions instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the directory open: stop, or wait for that process to end.
    #[error("storage directory {dir} is in use by another process")]
    InUse {
        /// The storage directory.
        dir: PathBuf,
    },
    /// Bytes on disk are not what was written. Set the store aside and fetch the data from the
    /// other copies; nothing that this store answers can be trusted to be complete.
    #[error("{file} is damaged{}{}: {detail}", at(*.offset), of(*.partition))]
    Damaged {
        /// The file, or the directory of the tree.
        file: PathBuf,
        /// Where in the file, in bytes, when known.
        offset: Option<u64>,
        /// The partition, when it is one partition's data.
        partition: Option<u16>,
        /// What did not check.
        detail: String,
    },
    /// The file's checksum is right, and its format is another one: start the program that wrote it. Nothing was
    /// changed.
    #[error(
        "{file} was written by {} version of this program: its format is {found}, and this one's is {own}",
        newer_or_older(*.found, *.own)
    )]
    OtherVersion {
        /// The file that was opened.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The format that this program reads and writes.
        own: u32,
    },
    /// No room left. Nothing was written: refuse the write, go on with reads, try again later.
    #[error("no room left on the disk of {file}")]
    DiskFull {
        /// The file that could not grow.
        file: PathBuf,
    },
    /// The operating system refused. What was asked may or may not have been done.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// An earlier write or fsync failed, so what is on disk is unknown: stop the process. A restart
    /// recovers from what really reached the disk.
    #[error("the log is closed after a failed write: {reason}")]
    Poisoned {
        /// The failure that closed it.
        reason: String,
    },
    /// Larger than the store takes. Nothing was written: split it or refuse it.
    #[error("{what} of {bytes} bytes is over the limit of {max} bytes")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// The partition has no tree here: create, stage or install it first.
    #[error("partition {partition} is not in this store")]
    Absent {
        /// The one that was asked for.
        partition: u16,
    },
    /// An option cannot be used as given.
    #[error("option {name} cannot be {value}: {reason}")]
    BadOption {
        /// The option's name.
        name: &'static str,
        /// The value given.
        value: u64,
        /// Why not.
        reason: &'static str,
    },
}

fn newer_or_older(found: u32, own: u32) -> &'static str {
    if found > own { "a newer" } else { "an older" }
}

fn at(offset: Option<u64>) -> String {
    offset.map_or_else(String::new, |o| format!(" at byte {o}"))
}

fn of(partition: Option<u16>) -> String {
    partition.map_or_else(String::new, |p| format!(" (partition {p})"))
}

impl Error {
    /// An operating system error on `file`; a full disk becomes [`Error::DiskFull`].
    pub(crate) fn io(action: &'static str, file: impl Into<PathBuf>, source: io::Error) -> Self {
        let file = file.into();
        if is_full(&source) { Self::DiskFull { file } } else { Self::Io { action, file, source } }
    }

    /// Damage in a file at an offset.
    pub(crate) fn damaged(file: impl Into<PathBuf>, offset: u64, detail: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), offset: Some(offset), partition: None, detail: detail.into() }
    }
}

/// Whether the error means that there is no room (disk or quota).
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
