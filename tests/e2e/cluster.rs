//! Clusters of real processes: what they do for clients, and what clients notice when servers come and go, as planned
//! or not. The one answer to the last is: nothing but a wait.

mod admin;
mod basics;
mod bench;
mod changes;
mod damage;
mod differs;
mod ecs;
mod expiry;
mod failures;
mod leaving;
mod rebuild;
mod returns;
mod status;
mod trace;
mod watch;
