//! The decisions of the ECS, as values: no clock, no socket, no disk, no randomness.
//!
//! - [`planner`] says where the copies should be, given the servers and where the copies are.
//! - [`plan`] is what operators may order, and what that would move.
//! - [`machine`] is the state machine: reports and ticks go in, views to persist and to publish come out.
//! - `next` makes the next view of the last one and what became known since.
//! - [`rules`] are the rules between two consecutive views (V2 to V4 of the protocol), checked on each of them.
//! - `peers` holds what is known of the servers' processes and forgotten at a restart: who was heard when.
//! - `settling` holds the partitions whose new coordinators are to become active before anything else happens to them.
//! - [`state`] is all that must survive a restart.
//! - [`rebuild`] makes the state of an ECS that lost its disk from what the servers report.
//! - [`mutation`] names bugs that tests plant.
//! - [`cause`] says for people why a view was made.

pub mod cause;
pub mod machine;
pub mod mutation;
mod next;
mod peers;
pub mod plan;
pub mod planner;
pub mod rebuild;
pub mod rules;
mod settling;
pub mod state;
mod summary;

pub use cause::{Cause, Change, Event};
pub use machine::{Config, Ecs, Effect, Input, Refusal};
pub use mutation::Mutation;
pub use plan::{Order, Part, Plan, Unfit};
pub use state::{Registered, Settings, State};
