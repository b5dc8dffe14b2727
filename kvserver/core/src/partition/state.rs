//! What this server has of one partition in any role: its log, how far it is committed and applied, what of it is on
//! disk, and the requests that wait for it.
//!
//! `applied <= min(commit, durable)`: only what every in-sync copy has, and what is on this disk, reaches the records.
//! So cutting a log never undoes anything applied; where it would, the process stops. The fields are of this module
//! alone, and each method that changes them asserts what must be true: roles decide, and none of them can break this.

mod applying;
mod partition_state;
mod parts;

pub(crate) use partition_state::PartitionState;
pub(crate) use parts::Busy;
