//! The decisions of the ECS, as values: no clock, no socket, no disk, no randomness.
//!
//! - [`planner`] says where the copies should be, given the servers and where the copies are.
//! - [`plan`] is what operators may order, and what that would move.
//! - [`machine`] is the state machine: reports and ticks go in, views to persist and to publish come out.
//! - `next` makes the next view of the last one and what became known since.
//! - [`rules`] are the rules between two consecutive views (V2 to V5 of the protocol), checked on each of them.
//! - `peers` keeps what is known of the servers' processes and forgotten at a restart, such as when each was heard.
//! - [`reach`] says which server coordinates and which stay in sync where servers do not hear each other.
//! - `silence` says for how long a server may be silent, and `backoff` how pauses grow for those that fail again and
//!   again.
//! - `disks` finds servers whose disk is slow or full.
//! - `left_out` keeps the processes that were refused recently.
//! - `proof` says which copies are known to hold all that they acknowledged (V4a).
//! - `served` says which partitions' coordinators are active.
//! - `settling` lists the partitions whose new coordinators must become active before anything else is changed there.
//! - [`state`] is all that must survive a restart.
//! - [`rebuild`] makes the state of an ECS that lost its disk from what the servers report.
//! - [`limits`] are the numbers that bound it.
//! - [`planted`] names bugs that tests plant.
//! - [`cause`] says for people why a view was made.
//! - `summary` puts the cluster's state in figures, and [`verdict`] says whether it is healthy, and if not, what is
//!   wrong.

mod backoff;
pub mod cause;
mod config;
mod disks;
mod left_out;
pub mod limits;
pub mod machine;
mod next;
mod peers;
pub mod plan;
pub mod planner;
pub mod planted;
mod proof;
pub mod reach;
pub mod rebuild;
mod refusal;
pub mod rules;
mod served;
mod settling;
mod silence;
pub mod state;
mod summary;
pub mod verdict;

pub use cause::{Cause, Change, Event, Severity};
pub use config::Config;
pub use machine::{Ecs, Effect, Input, KeptStore};
pub use peers::{Disagreement, Disagreements};
pub use plan::{Order, Plan, RequestedState, Unfit};
pub use planted::PlantedBug;
pub use refusal::Refusal;
pub use state::{Registered, Settings, State};
