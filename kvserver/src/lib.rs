//! Trefoil's server: coordinates its share of the ring and keeps replicas of others' shares.
//!
//! [`kvserver_core`] decides; everything else acts. `driver` is the loop that owns the core. `store` has what is on
//! disk, and the log thread; `workers` the threads that copy partitions, scrub them, make digests of them, and scan
//! all their keys; `net` the links that go out, `inbound` those that come in, [`protocol`] the bytes that
//! clients speak. `server` starts and stops all of it; `metrics` counts, and `http` is the port that shows it; `agreed`
//! is the clock by which values expire.

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
