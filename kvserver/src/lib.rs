//! Trefoil's server: coordinates its share of the ring and keeps replicas of others' shares.
//!
//! [`kvserver_core`] decides; everything else acts. `driver` is the loop that owns the core. `store` has what is on
//! disk, and the log thread; `workers` the threads that copy partitions, scrub them, make digests of them, and scan
//! all their keys; `net` the links that go out, `inbound` those that come in, [`protocol`] the bytes that clients
//! speak. `server` starts and stops all of it; `metrics` counts, and `http` is the port that shows it; `agreed` is the
//! clock by which values expire.
//!
//! # Threads, and what each of them owns
//!
//! - The *core* thread owns the core, the trees' memory tables and all sockets. A task for each connection reads and
//!   decodes, and the driver's task takes all gathered events as one batch. Replies are written to the sockets at
//!   once, as far as the sockets accept them (`net/send_buffer.rs`); the connection's task sends the rest. So no other
//!   thread is woken between a socket and the core. This thread should block only on its sockets and on the small
//!   writes described below; it also still blocks on reads that miss the cache. It removes expired records too, for a
//!   millisecond in each tick.
//! - The *log* thread appends and syncs; while it does, the next batch gathers. When there is little to write, nothing
//!   waits for the log thread and the disk is fast, the core's thread writes by itself (`store/log_writer.rs`), after
//!   all messages and replies have been sent.
//! - The *bulk* thread serves one of the three links in each direction between two servers, at both ends: the link for
//!   copies and large values, which it encodes, reads and checks. The other two links are for pings, acknowledgements
//!   and other small messages, and for log entries. So large messages never delay those that keep servers alive.
//! - Copies of partitions are read by one thread and built by another (`workers/transfer.rs`). Other threads scrub
//!   (`scrub.rs`), compute digests of copies (`digest.rs`), and scan all keys of a partition (`key_scan.rs`).
//!   `storage` flushes, compacts and trims on two threads of its own. Copies, scrub, digests and compaction run in the
//!   background (`storage::work_in_background`, a higher nice value).
//!
//! Requests of clients, and those that other servers pass on, take turns by connection (`driver/turns.rs`), and so few
//! are under way at a time that later ones wait only briefly (`driver/request_queue.rs`). Counters (`metrics.rs`) are
//! plain integers of the core's thread, copied out once a second for the HTTP port and the ECS. There are limits, in
//! number and in bytes, on the open requests of each connection (`inbound/window.rs`) and of all connections, on
//! unacknowledged entries of each peer in a partition, and on requests that wait in all partitions together
//! (`kvserver/core/src/bounded_queue.rs`): see `docs/limits.md`.

mod agreed;
pub mod cli;
mod driver;
mod error;
mod http;
mod inbound;
#[cfg(test)]
mod instructions;
mod limits;
mod metrics;
mod net;
mod options;
pub mod protocol;
mod server;
mod store;
mod workers;

pub use error::Error;
pub use options::{Options, Profile};
pub use server::{Stop, bind, run};
