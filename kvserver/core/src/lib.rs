//! The replication protocol, decided here and carried out elsewhere.
//!
//! # What this is
//!
//! Primary-backup replication with a configuration master, as in PacificA and Vertical Paxos II. The ECS makes numbered
//! *views*; in each, a partition has a *coordinator* and an *in-sync set*. The coordinator orders writes into a log,
//! sends them to the others of the set, and acknowledges a write when all of them have it on disk. So any member of the
//! set has every acknowledged write, and any of them can be the next coordinator.
//!
//! # The way of a write
//!
//! [`Input::Client`] → [`Node`] finds the partition → `coordinator`: its place in the log ([`First::Persist`] here and
//! `Append` to the members, side by side) → `replica`: persist, and acknowledge when it is durable → `coordinator`: all
//! that count have it, so it is committed ([`Later::Apply`]) → [`Later::Reply`].
//!
//! # Why a read is never stale
//!
//! A coordinator answers by itself only while every member has promised, for a time that the coordinator counts more
//! strictly than they do, to serve under no other coordinator (`lease`). The clock is looked at after the read. A new
//! coordinator waits until the promises to the former one have run out, or that one has acknowledged the new epoch.
//! Replicas ask the coordinator for its commit and answer when they have applied that far (`replica`), or answer alone
//! under a read lease that the coordinator gave, where no entry that is not applied changes the key
//! (`replica::local_reads`).
//! With [`Reads::Barrier`] no clock matters: all members confirm the coordinator's epoch after the read began.
//!
//! # Why a retry does no harm
//!
//! Results of recent writes are part of the replicated state (`state`): a write that is ordered twice, by whatever
//! fail-over, is applied once and gets its first result both times.
//!
//! # What it lacks on purpose
//!
//! No coordinator shrinks its in-sync set: only the ECS does. No quorum of fewer than all: a dead member stops writes
//! until a newer view. No timer ever makes a write succeed or fail. No clock but `CLOCK_BOOTTIME` matters, and only its
//! rate; values expire by a wall clock that no single server can move (`stamps`). Nothing here is async, opens a file
//! or a socket, reads a clock or draws a random number.

mod answers;
mod ask;
mod bounded_queue;
mod compare;
mod config;
mod context;
mod coordinator;
mod damage;
mod digests;
mod env;
mod failed;
mod io;
mod keys;
mod lease;
mod limits;
mod log;
mod node;
mod out;
mod pace;
mod partition;
mod partition_set;
mod planted;
mod process;
mod promises;
mod replica;
mod requests;
mod routing;
mod scrub;
mod stamps;
mod state;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod trace_step;
mod traces;
mod transfer;
mod validate;
mod watch;

pub use ask::{Answer, Ask, Query, WatchAsk};
pub use config::{Config, Reads};
pub use damage::in_sync_partitions;
pub use io::{Effect, First, Input, Later, LogRecord, ReadId, Reader, Ticket, Token};
pub use keys::{PartitionKeys, key_position};
pub use limits::{COPY_FROM, PARKED_BYTES_MAX, PENDING_BYTES_MAX, TICK};
pub use node::{CopyFacts, Node, StoredPairs};
pub use partition::mark::Mark;
pub use partition::recovered::RecoveredCopy;
pub use planted::PlantedBug;
pub use routing::{ask_of, coordinator_of};
pub use scrub::{Scrub, ScrubStep};
pub use state::{
    ApplyError, LogTime, RECORD_HEADER_BYTES, Records, State, decode_record, digest_record, encode_record,
};
pub use trace_step::{TraceStep, Traced};
pub use validate::{check_message, check_sender};
pub use watch::changes_of;
