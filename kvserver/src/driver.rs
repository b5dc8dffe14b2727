//! The loop that owns the core: takes events in batches, steps the core, and carries out its effects. It is a task
//! on the core's thread, beside those that read the sockets.
//!
//! The loop: wait for an event or the next tick; step the core with all that have come; take its effects; writes and
//! messages leave first, then the state machine applies and reads, and its results go back into the core. The clock is
//! read again after the state machine was read, as the lease rule demands.

mod effects;
mod event;
mod figures;
pub(crate) mod replies;
mod request_queue;
mod requests;
mod run;
mod state;
pub(crate) mod traces;
mod turns;

pub(crate) use self::event::{Event, Events};
pub(crate) use self::state::{Driver, Parts};
