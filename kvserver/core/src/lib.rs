//! The replication protocol of a server: values come in, effects go out, and nothing else happens here.
//!
//! Primary-backup replication with a configuration master, as in PacificA (Lin et al. 2008) and Vertical Paxos II
//! (Lamport, Malkhi, Zhou 2009). The ECS makes numbered *views*; in each, a partition has a *coordinator* and an
//! *in-sync set*. The coordinator orders writes into a log, sends them to the others of the set, and acknowledges a
//! write when all of them have it on disk. So any member of the set has every acknowledged write, and any of them can
//! be the next coordinator. `docs/protocol.md` has the rules; their marks (P1, L2, ...) stand at the code that keeps
//! them.
//!
//! # The rhythm
//!
//! 1. **Step**. [`Node::step`] takes one [`Input`]: a message, a request, the end of a write, a tick of time. It drops
//!    what is old, naming the reason, and hands the rest to its partition (`partition::inputs`), which hands it to its
//!    role. A handler changes the state, and sends at once only what answers that very input.
//! 2. **Settle**. When the inputs of a batch are taken, [`Node::effects`] settles each partition that was touched:
//!    `Partition::settle` looks at the state, and not at what happened, and does what is possible now: become active,
//!    send entries, commit, acknowledge, apply, answer. So it costs the same for one input and for a thousand, and an
//!    input that is lost or late delays a step and skips none.
//! 3. **Effects**. What [`Node::effects`] returns is a list for the shell, which is the driver of the server
//!    (`kvserver/src/driver`) or a simulation. [`First`]: writes to disk and messages, so
//!    that the disk works while the rest is carried out; [`Later`]: everything else, in order.
//! 4. **Tickets**. A write to disk has a [`Ticket`]. What must follow it (`out::After`) is kept until
//!    [`Input::Durable`] names that ticket, and is then a step like any other. No handler can promise too early: what
//!    it would promise is not in the state yet.
//!
//! A tick ([`TICK`]) is an input as well. It sends again what was not answered, and gives up reads that waited too
//! long. It never makes a write succeed or fail.
//!
//! # The path of a put
//!
//! [`Input::Client`] → `node::route` finds the partition → `coordinator` gives the write its position `(epoch, seq)`
//! → [`First::Persist`] here and `Append` to the members, side by side → `replica::append` takes the entries, and
//! `replica` acknowledges when they are durable → `coordinator` commits what all that count have → [`Later::Apply`] →
//! [`Input::Applied`] with the outcome → [`Later::Reply`].
//!
//! # States of a partition
//!
//! ```text
//!                        ┌──────────────► Resting ◄── the view names another process of this server (S3)
//!                        │
//!  Unlisted ─────────► Coordinator:  find the log (P1) ─► begin: the no-op ─► active ─► stopped, if no log
//!     ▲ │                ▲   │                                                             can be right (P2)
//!     │ │                │   │  a newer epoch gives each role anew
//!     │ └──────────► Replica:  not in step ─► following ─► in step (the no-op and its mark on disk)
//!     │                  │          └──► receiving a copy of the state ──┘
//!     └── not listed ────┘
//! ```
//!
//! A role begins with each epoch, knowing nothing of the one before but copies that are under way. What outlives roles
//! is in `partition::state`: log, commit, what is applied, what is on disk, and the promises and read leases that this
//! server gave. Its fields are private, and its methods assert what no role may break: applied entries are never cut,
//! nothing is committed that the log lacks, one of drop and install is under way at a time.
//!
//! # What is durable when
//!
//! - A view, before anything is done by it (S1).
//! - Entries, before they are acknowledged or count as this server's own copy (W1).
//! - The no-op of the epoch with the mark of the sync, in one batch, before the no-op is acknowledged (P4).
//! - The note of a proposed member, before the ECS is asked to take it in (J2).
//! - The note that a copy has failed, before that is reported (`failed`).
//! - A copy of the state as a whole, before one record puts it in the place of log and records (J1).
//! - Results of recent writes and log time, with the records that they belong to (`state`).
//!
//! Not durable: commit, leases, promises, pending requests. A process that starts knows no commit beyond its records,
//! and waits for the time for which its former process may have promised something (`promises`).
//!
//! # Why a read is never stale
//!
//! A coordinator answers by itself only while every member has promised, for a time that the coordinator counts more
//! strictly than they do, to serve under no other coordinator (`lease`; Gray and Cheriton 1989). The clock is looked at
//! after the read. A new coordinator waits until the promises to the former one have run out, or that one has
//! acknowledged the new epoch (P3). Replicas ask the coordinator for its commit and answer when they have applied that
//! far (`replica::index`, the read index of the Raft thesis), or answer alone under a read lease that the coordinator
//! gave, where no entry that is not applied changes the key (`replica::local_reads`, as in CRAQ). With
//! [`Reads::Barrier`] no clock matters: all members confirm the coordinator's epoch after the read began.
//!
//! # Why a retry does no harm
//!
//! Results of recent writes are part of the replicated state (`state`): a write that is ordered twice, by whatever
//! fail-over, is applied once and gets its first result both times.
//!
//! # Who owns what
//!
//! The core runs on one thread of the shell, with the sockets and the trees' memory tables. It is not async, opens no
//! file and no socket, reads no clock, draws no random number and iterates over nothing unordered: the same inputs give
//! the same effects, which is what golden scripts and the simulation rest on. The log thread of the shell owns the
//! commit log and reports with [`Input::Durable`]; other threads read and build copies of partitions, and report with
//! [`Input::SnapshotRead`] and [`Input::Staged`]. None of them decides anything.
//!
//! In here, [`Node`] owns the partitions and what is of the whole server. `env` is what all partitions share while they
//! decide: the view and the time (`context`), the effects so far (`out`), open reads and requests (`requests`), leases
//! (`promises`). It is handed down, so a handler names what it may change: itself, its partition's state, and `env`.
//!
//! # What it lacks on purpose
//!
//! No coordinator shrinks its in-sync set: only the ECS does. No quorum of fewer than all: a dead member stops writes
//! until a newer view. No clock but `CLOCK_BOOTTIME` matters, and only its rate; values expire by a wall clock that no
//! single server can move (`stamps`). No message is trusted to arrive, and none to be new.

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
mod tracing;
mod transfer;
mod validate;
mod watch;

pub use ask::{Answer, Ask, Query, WatchAsk};
pub use config::{Config, Reads};
pub use damage::in_sync_partitions;
pub use io::{Effect, First, Input, Later, LogRecord, ReadId, Reader, StoredPairs, Ticket, Token};
pub use keys::{PartitionKeys, key_position};
pub use limits::{COPY_FROM, PARKED_BYTES_MAX, PENDING_BYTES_MAX, TICK};
pub use node::{CopyFacts, Node};
pub use partition::durable_state::DurableState;
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
