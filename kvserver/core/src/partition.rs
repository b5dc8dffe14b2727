//! One partition at this server: what it has of it (`state`), and the role that the view gives. Roles own their
//! handlers: this is the place that asks for the role.
//!
//! Inputs change the state (`inputs`), and [`Partition::settle`] does once for a batch what they made possible. It
//! looks at the state alone and not at what happened, so a lost or late message delays a step and never skips it.

pub(crate) mod durable_state;
pub(crate) mod given;
mod inputs;
pub(crate) mod recovered;
pub(crate) mod removal;
mod role;
pub(crate) mod state;
pub(crate) mod waiting;

pub(crate) use role::Partition;
