//! The coordinator of a partition: becomes active (P1-P4), orders writes and commits them (W1-W3), reads under
//! leases (L1-L3), and takes in joining members (J1-J3).
//!
//! States: *becoming* (the log of the epoch is found, its members are brought in step, promises run out), then
//! *active*; or *stopped*, where the members' logs cannot all be right. Once the epoch has begun, its log is never cut.
//! What it lacks on purpose: it never shrinks the in-sync set by itself, never counts fewer acknowledgements because
//! time has passed, and never answers a write as failed once it is in the log.

// Requests come to `writes` and `reads`, acknowledgements to `members`. What a batch made possible is done by `settle`
// in `writes`: entries leave by `streaming`, and `minimum` says how far they may be committed.
mod becoming;
mod comparing;
mod grants;
mod invariants;
mod joining;
mod members;
mod minimum;
mod progress;
mod reading;
mod reads;
mod reconcile;
mod snapshots;
pub(crate) mod state;
mod streaming;
mod tick;
mod writes;
