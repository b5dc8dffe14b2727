//! What clients ask of the data: operations on keys and their outcomes.
//!
//! An operation is a value; what it does to a partition's data is decided where it is applied, in log order,
//! the same at every copy (`state` of `kvserver_core`).

mod command;
mod condition;
mod definition;
mod expiry;
mod outcome;
mod size;
mod validity;
mod value;

pub use command::{Command, Origin};
pub use condition::Condition;
pub use definition::{Check, Operation, Part};
pub use expiry::{Expiry, ExpiryCondition};
pub use outcome::{Outcome, PartOutcome};
pub use validity::{BATCH_BYTES_MAX, BATCH_PARTS_MAX, InvalidOperation, check_key};
pub use value::{Found, Pair, Version};
