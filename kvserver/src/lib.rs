//! Trefoil's server: coordinates its share of the ring and keeps replicas of others' shares.
//!
//! [`core`] decides; everything else acts. `driver` is the loop that owns the core, `disk` the log thread, `machine`
//! the state machine on its trees, `copies` the threads that read and build copies of partitions, `scrub` the one that
//! reads all of them through, `digests` the one that makes digests of copies to be compared, `damage` what is done with a
//! store that must not be used again, `metrics` what is counted and `http` the port that shows it, `replies` those of a batch, `peers` and `ecs_link` the links that go out, `clients` those that
//! come in, [`protocol`] the bytes that clients speak.

mod backoff;
pub mod cli;
mod clients;
mod copies;
pub mod core;
mod damage;
mod digests;
mod disk;
mod driver;
mod ecs_link;
mod error;
mod farewell;
mod gauge;
mod http;
mod identity;
mod inspect;
#[cfg(test)]
mod instructions;
mod limits;
mod machine;
mod metrics;
mod options;
mod outlet;
mod peers;
pub mod protocol;
mod pulse;
mod replies;
mod scrub;
mod server;
mod walks;

pub use error::Error;
pub use options::{Options, Profile};
pub use server::{Stop, bind, run};
