//! The replication protocol, decided here and carried out elsewhere.
//!
//! # What this is
//!
//! Primary-backup replication with a configuration master, as in PacificA and Vertical Paxos II. The ECS makes
//! numbered *views*; in each, a partition has a *coordinator* and an *in-sync set*. The coordinator orders writes
//! into a log, sends them to the others of the set, and acknowledges a write when all of them have it on disk. So any
//! member of the set holds every acknowledged write, and any of them can be the next coordinator.
//!
//! # The way of a write
//!
//! [`Input::Client`] → [`Node`] finds the partition → `coordinator`: its place in the log ([`Effect::Persist`] here and
//! `Append` to the members, side by side) → `member`: persist, and acknowledge when it is durable → `coordinator`: all
//! that count have it, so it is committed ([`Effect::Apply`]) → [`Effect::Reply`].
//!
//! # Why a read is never stale
//!
//! A coordinator answers by itself only while every member has promised, for a time that the coordinator counts more
//! strictly than they do, to serve under nobody else (`lease`). The clock is looked at after the read. A new
//! coordinator waits until the promises to the former one have run out, or that one has acknowledged the new epoch.
//! Replicas ask the coordinator for its commit and answer when they have applied that far (`member`), or answer alone
//! under a read lease that the coordinator gave, where no entry that is not applied changes the key (`member::alone`).
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
//! rate. Nothing here is async, opens a file or a socket, reads a clock or draws a random number.

mod ask;
mod compare;
mod coordinator;
mod copy;
mod damage;
mod digests;
mod door;
mod env;
mod failed;
mod io;
mod keys;
mod lease;
mod limits;
mod log;
mod member;
mod mutation;
mod node;
mod partition_set;
mod scrub;
mod state;
mod traces;
mod transfer;
mod waiting;
mod watch;

pub(crate) use damage::sole_copies;

pub use ask::{Answer, Ask, Query, WatchAsk};
pub use copy::{Mark, RecoveredCopy};
pub use door::check_message;
pub use env::{Config, Reads};
pub use io::{Effect, Input, LogRecord, ReadId, Reader, Ticket, Token};
pub use keys::{PartitionKeys, key_position};
pub use limits::{COPY_FROM, PARKED_BYTES_MAX, PENDING_BYTES_MAX, TICK};
pub use mutation::Mutation;
pub use node::{CopyFacts, Node, StoredPairs, ask_of};
pub use scrub::{Scrub, ScrubStep};
pub use state::{
    ApplyError, RECORD_HEADER_BYTES, Records, State, decode_record, digest_record, encode_record,
};
pub use traces::{TraceStep, Traced};
pub use watch::changes_of;
