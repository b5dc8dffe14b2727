//! The external configuration service (ECS) of Trefoil.
//!
//! It knows the servers, hears their heartbeats, decides who coordinates which partition and who keeps copies,
//! and tells them by numbered views. It takes no part in reads and writes: while it is away they go on, and only
//! changes of the view wait.
//!
//! - [`core`] decides and touches nothing outside: it is given the time and an input and returns effects.
//! - [`journal`] keeps its state on disk.
//! - [`shell`] is around it: sockets, the clock, the loop that owns the core. [`run`] is all of it.
//! - [`cli`] is the program.

pub mod cli;
pub mod core;
pub mod error;
pub mod journal;
pub mod limits;
pub mod options;
pub mod shell;

pub use error::Error;
pub use options::Options;
pub use shell::{Opened, run};
