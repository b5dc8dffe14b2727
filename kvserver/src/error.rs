//! What stops a server, named by what the operator should do.

use std::io;
use std::path::PathBuf;

/// See the module's text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Choose another port or address, or stop who has it.
    #[error("cannot listen on {address}: {source}; choose another port with -p, or stop what uses this one")]
    Listen {
        /// As asked for.
        address: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// Stop the other process, or choose another directory.
    #[error(
        "storage directory {} is in use by another process; stop that one, or choose another directory with -d",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// Choose another directory, or make room for this one.
    #[error("cannot use the storage directory {}: {source}; choose another with -d", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// Choose another log file.
    #[error("cannot open the log file {}: {source}; choose another with -l", file.display())]
    LogFile {
        /// The file.
        file: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// Look at the storage directory.
    #[error("storage directory {dir}: {source}")]
    Storage {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        source: Box<storage::Error>,
    },
    /// Something else is in the storage directory.
    #[error(
        "{file} is not what this program wrote: {detail}; choose another directory with -d, or restore it"
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The store stopped acknowledging after a failure; it must not count as in sync again.
    #[error(
        "the store in {dir} failed ({reason}) and must not be used as it is: what it acknowledged is at its \
         replicas. Move the directory aside and start again; the server is filled anew under a new store id"
    )]
    Failed {
        /// The directory.
        dir: PathBuf,
        /// What failed.
        reason: String,
    },
    /// Going on would have broken a promise: look at the log.
    #[error("stopped: {reason}")]
    Stopped {
        /// What happened.
        reason: String,
    },
    /// Make room and start again.
    #[error(
        "stopped, the disk is full: {reason}. Nothing that was acknowledged is lost. Make room and start again; the other \
         servers go on meanwhile"
    )]
    NoRoom {
        /// What did not fit.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The operating system's word.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn storage(dir: impl Into<PathBuf>) -> impl FnOnce(storage::Error) -> Self {
        let dir = dir.into();
        move |source| match source {
            storage::Error::InUse { dir } => Self::InUse { dir },
            source => Self::Storage { dir, source: Box::new(source) },
        }
    }
}

/// Why the core's thread or the log's cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something did not fit on the disk. The store is as it was before, so it may be used again.
    DiskFull(String),
    /// What is on disk is not known any more, or going on would break a promise.
    Broken(String),
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::DiskFull { .. } => Self::DiskFull(error.to_string()),
            error => Self::Broken(error.to_string()),
        }
    }
}
