//! The external configuration service (ECS) of Trefoil.
//!
//! It knows the servers, hears their heartbeats, decides who coordinates which partition and who keeps copies,
//! and tells them by numbered views. It takes no part in reads and writes: while it is away they go on, and only
//! changes of the view wait.
//!
//! [`core`] decides and touches nothing outside: it is given the time and an input and returns effects.

pub mod core;
pub mod limits;
