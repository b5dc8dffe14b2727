//! A replica of a partition, in sync or joining: stores what the coordinator sends, acknowledges what is on disk,
//! applies what is committed, and answers reads at a commit that the coordinator named (6.1).
//!
//! States: *not in step* (it says what its log has, and the first append of the epoch may cut it), *receiving* a
//! copy of the state, *following* (its log is a prefix of the coordinator's), and *in step* (it has the no-op of the
//! epoch). On its own it cuts nothing, ever.

pub(crate) mod append;
mod following;
pub(crate) mod index;
mod local_reads;
mod pending_keys;
mod snapshots;
pub(crate) mod state;
