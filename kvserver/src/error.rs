//! What stops a server, named by what the operator should do.

use std::io;
use std::path::PathBuf;

/// Why a server does not start, or has stopped. Each variant is named by what the operator should do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Choose another port or address, or stop the program that has it.
    #[error("cannot listen on {address}: {source}; choose another port with -p, or stop what uses this one")]
    Listen {
        /// The address that was asked for.
        address: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// Choose another port or address for `--http`.
    #[error(
        "cannot listen on {address} for HTTP: {source}; choose another address with --http, or leave it out"
    )]
    Http {
        /// The address that was asked for.
        address: String,
        /// The operating system's error.
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
        /// The operating system's error.
        source: io::Error,
    },
    /// Choose another log file.
    #[error("cannot open the log file {}: {source}; choose another with -l", file.display())]
    LogFile {
        /// The path given with `-l`.
        file: PathBuf,
        /// The operating system's error.
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
        "{file} is not what this version of the program writes: {detail}; nothing was changed. Start the version that \
         has written it, or choose another directory with -d"
    )]
    Foreign {
        /// The file that was not expected, in the storage directory.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The store failed: at the next start the ECS is asked what becomes of it.
    #[error(
        "stopped, the store failed: {reason}. It is not written to any more. The next start keeps it as it is and asks \
         the ECS: where other in-sync copies of all of it are served, the files are kept in a folder damaged-<n> of \
         the storage directory and the server is filled anew; if not, the server waits, and `kvserver reinstate` takes \
         the store back"
    )]
    Condemned {
        /// What failed.
        reason: String,
    },
    /// Start the version that wrote it.
    #[error("{what}. Nothing was changed: start that version of kvserver")]
    OtherVersion {
        /// What is of another version, and which.
        what: String,
    },
    /// The store cannot be taken back.
    #[error("the store in {} cannot be taken back: {reason}", dir.display())]
    NotReinstated {
        /// The directory.
        dir: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// Bytes of the store are not what was written: the ECS is asked what becomes of it.
    #[error(
        "the store is damaged: {reason}. It is kept as it is, and the ECS is asked: where other in-sync copies of all \
         of it are served, the files are kept in a folder damaged-<n> of the storage directory and the server is \
         filled anew; if not, the server waits, and `kvserver reinstate` takes the store back"
    )]
    Damaged {
        /// What does not check.
        reason: String,
    },
    /// Look at the log; the store is as after a kill.
    #[error("stopped: {reason}")]
    Stopped {
        /// What happened.
        reason: String,
    },
    /// Make room and start again.
    #[error(
        "stopped, the disk is full: {reason}. Nothing that was acknowledged is lost. Make room and start again; the \
         other servers go on meanwhile"
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
        /// The operating system's error.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn storage(dir: impl Into<PathBuf>) -> impl FnOnce(storage::Error) -> Self {
        let dir = dir.into();
        move |source| match source {
            storage::Error::InUse { dir } => Self::InUse { dir },
            error @ storage::Error::OtherVersion { .. } => Self::OtherVersion { what: error.to_string() },
            source => Self::Storage { dir, source: Box::new(source) },
        }
    }
}

/// Why one of the server's threads cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something did not fit on the disk. The store is as it was before, so it may be used again.
    DiskFull(String),
    /// Bytes are not what was written: the store must not count as in sync again (R3). The disk itself may be well.
    Damaged(String),
    /// What is on disk is not known, or not a prefix of other copies: the store must not count as in sync again (R3).
    Store(String),
    /// An error that says nothing about the store: it may be opened again as after a kill.
    Stopped(String),
}

/// `EMFILE` and `ENFILE`, which have no `ErrorKind`: they say nothing about the store.
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// The error text for bytes whose checksum is right and whose version this program does not know.
pub(crate) fn of_another_version(what: impl std::fmt::Display) -> String {
    format!(
        "{what}: the bytes are as they were written, so another version of kvserver has written them, as a rule a \
         newer one"
    )
}

/// Whether the store must not be used again after this error.
pub(crate) fn condemns(error: &storage::Error) -> bool {
    match error {
        storage::Error::Damaged { .. } | storage::Error::Poisoned { .. } => true,
        storage::Error::Io { source, .. } => {
            let harmless = [io::ErrorKind::OutOfMemory, io::ErrorKind::PermissionDenied];
            let too_many = source.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code));
            !harmless.contains(&source.kind()) && !too_many
        }
        storage::Error::InUse { .. }
        | storage::Error::OtherVersion { .. }
        | storage::Error::DiskFull { .. }
        | storage::Error::TooLarge { .. }
        | storage::Error::Absent { .. }
        | storage::Error::BadOption { .. } => false,
    }
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::DiskFull { .. } => Self::DiskFull(error.to_string()),
            storage::Error::Damaged { .. } => Self::Damaged(error.to_string()),
            error if condemns(&error) => Self::Store(error.to_string()),
            error => Self::Stopped(error.to_string()),
        }
    }
}
