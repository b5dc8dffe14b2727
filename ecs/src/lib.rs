//! The external configuration service (ECS) of Trefoil.
//!
//! It knows the servers, receives their heartbeats, decides which server coordinates each partition and which servers
//! keep copies, and sends them these decisions as numbered views. It takes no part in reads and writes: while it is
//! down they go on, and only changes of the view wait.
//!
//! - [`ecs_core`] decides and touches nothing outside: it is given the time and an input and returns effects.
//! - [`journal`] keeps its state on disk.
//! - [`shell`] is around it: sockets, the clock, the loop that owns the core. [`run`] is all of it.
//! - [`cli`] is the program.

pub mod cli;
pub mod error;
pub mod journal;
pub mod limits;
pub mod options;
pub mod shell;

pub use error::Error;
pub use options::Options;
pub use shell::{Opened, run};
