//! Trefoil's server: coordinates its share of the ring and keeps replicas of others' shares.

pub mod core;
