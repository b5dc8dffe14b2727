//! A server's core: all its copies, the view it uses, and the requests that it passes on.
//!
//! One batch: any number of [`Node::step`]s, then [`Node::effects`]. A message is first dropped if it is old (each
//! reason is named where it is judged), then handed to its copy.

mod forwards;
mod future_epochs;
mod peer;
mod read_leases;
mod reports;
mod route;
mod state;
mod step;
mod unheard;
mod views;
mod watching;

pub use state::{CopyFacts, Node};
