//! The state machine of the ECS.
//!
//! What it hears becomes facts; whenever no view is on its way to the disk, and there is reason to, the next view is
//! made of the last one and the facts (`next`), given out to be persisted, and published when it is
//! durable (V1). So one persist is under way at a time, and what becomes known meanwhile goes into the next view.
//!
//! States: *quiet* after its own start, after a pause of its own, and when the first server of a cluster that was
//! wholly down comes back: no server is removed for silence. *Behind* when a server has a newer view than the ECS: its
//! disk is an old one, and making views would use numbers twice; it makes none. *Comparing* after its own start, for
//! the same reason, until it has heard which views the servers have (`restart`).
//!
//! Invariants: the published view is durable; consecutive views keep the [rules](crate::rules).

mod asking;
mod comparing;
mod ecs;
mod invariants;
mod io;
mod newcomers;
mod orders;
mod persists;
mod queries;
mod rebuild;
mod reports;
mod restart;
mod step;
mod stores;
mod suspects;
mod timing;
mod twins;
mod views;

pub use ecs::Ecs;
pub use io::{Effect, Input};
pub use stores::KeptStore;
