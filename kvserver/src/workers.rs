//! Threads for work that would keep the core's thread from its answers. Each takes jobs in order, and reports what is
//! done as events.

pub(crate) mod digest;
pub(crate) mod key_scan;
pub(crate) mod pieces;
pub(crate) mod scrub;
pub(crate) mod transfer;
