//! Real clusters under a recorded load, with faults at the moments that matter: see docs/testing.md.
//!
//! A small set of them runs always; `FAULTS=all cargo test --test e2e faults` runs all.

mod clocks;
mod cuts;
mod directories;
mod disk;
mod history;
mod kills;
mod moments;
mod pauses;
mod power;
mod rests;
mod stage;
