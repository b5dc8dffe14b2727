//! Real processes over real sockets with real disks: `ecs`, `kvserver`, `kvclient` and `trefoil` as users run them.
//!
//! Each module is one subject; `cargo test --test e2e cluster::` runs the tests of one. [`support`] is the harness.

mod support;

mod bad_input;
mod cluster;
mod crash;
mod dashboard;
mod failover;
mod faults;
mod metrics;
mod options;
mod redis;
mod rust_client;
mod terminal;
mod text_clients;
