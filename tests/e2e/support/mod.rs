//! The harness of the end-to-end tests: real processes, real sockets, real disks.
//!
//! A [`Cluster`] is one ECS and some servers, each a process of its own with a directory and a log file below one
//! temporary directory. They stop and their files go when it is dropped; the ends of their logs are printed when the
//! test has failed. Ports are free ones. Tests wait for conditions, with a limit, never for a time.
//!
//! - [`process`] starts one program and stops it in every way there is; [`cluster`] keeps a cluster of them.
//! - [`db`] is the client library for tests, which are not async; [`load`] uses it in a thread and keeps record.
//! - [`browser`] opens pages in a real browser, and keeps what they ask for and what their console says.
//! - [`net`] gives each process a network namespace of its own, and cuts links between them.
//! - [`memory`] reads what a process has in memory.
//! - [`text`] speaks lines on a plain socket, [`resp`] the Redis protocol, [`http`] asks the ECS.

pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod db;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod resp;
pub(crate) mod text;
pub(crate) mod wait;

pub(crate) use cluster::{Cluster, Settings};
pub(crate) use load::Load;
pub(crate) use net::Host;
pub(crate) use process::Program;
pub(crate) use text::TextClient;
pub(crate) use wait::{Stopwatch, wait_for, wait_until};
