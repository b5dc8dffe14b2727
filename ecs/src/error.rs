//! What can go wrong with the program around the core, named by what an operator should do about it.

use std::io;
use std::path::PathBuf;

use common::ids::ClusterId;

/// Why the ECS does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing can listen there.
    #[error("cannot listen on {address}: {source}; {hint}")]
    Listen {
        /// `host:port`.
        address: String,
        /// What the system said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The directory cannot be used.
    #[error("cannot use the directory {}: {source}; choose another with --dir", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another ECS works in the directory.
    #[error(
        "the directory {} is in use by another ecs; stop that one, or choose another directory with --dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory contains files of something else.
    #[error(
        "the directory {} holds `{found}` and no state of an ecs: it was made for something else; choose another \
         with --dir",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first thing in it that is not ours.
        found: String,
    },
    /// The state file's checksum or content is wrong.
    #[error("the state file {} is damaged: {what}; restore it from a backup{}", path.display(), or_previous(previous))]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// The version before it, if it is there.
        previous: Option<PathBuf>,
        /// What is wrong with it.
        what: String,
    },
    /// The state file has the format of another version: that version must be started.
    #[error(
        "the state file {} was written by {} version of ecs: its format is {found}, and this one's is {own}. Nothing \
         was changed: start that version",
        path.display(),
        if found > own { "a newer" } else { "an older" }
    )]
    OtherVersion {
        /// The state file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that this program reads and writes.
        own: u32,
    },
    /// The number of partitions is fixed when a cluster is created.
    #[error(
        "this cluster has {have} partitions and --partitions says {asked}: their number is fixed when the cluster is \
         created; leave the option out, or create another cluster with another --dir"
    )]
    Partitions {
        /// The cluster's number of partitions.
        have: u32,
        /// What `--partitions` says.
        asked: u32,
    },
    /// `--rebuild` was given and the directory has a state: a rebuild is only for an ECS that has none.
    #[error(
        "the directory {} holds the state of cluster {cluster}: --rebuild is only for an ECS that lost its disk; \
         choose an empty directory with --dir, or leave the option out",
        path.display()
    )]
    Rebuild {
        /// The directory.
        path: PathBuf,
        /// Whose state it has.
        cluster: ClusterId,
    },
    /// `--min-copies` is larger than `--copies`.
    #[error("--min-copies {min} is more than the {copies} copies of --copies: writes would wait for ever")]
    MinCopies {
        /// The `min-copies` of the option, or as set before.
        min: usize,
        /// What `--copies` says.
        copies: usize,
    },
    /// The state cannot be written: no view could be kept.
    #[error(
        "cannot write the state file {}: {source}; the ecs stops, since no view may be published that is not on \
         disk. Reads and writes go on meanwhile. Repair the disk and start it again",
        path.display()
    )]
    Persist {
        /// The state file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be written.
    #[error("cannot open the log file {}: {source}; choose another with --log-file", path.display())]
    LogFile {
        /// The log file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something that every program needs, such as a thread.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

fn or_previous(previous: &Option<PathBuf>) -> String {
    let Some(previous) = previous else { return String::new() };
    let previous = previous.display();
    format!(
        ", or copy {previous} over it: that is one view older, and if a server has a newer view the ecs says so and \
         makes none"
    )
}
