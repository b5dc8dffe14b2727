//! Redis clients: real ones where they are on this machine, and every byte by a plain socket.

mod compare;
mod crates;
mod everywhere;
mod junk;
mod large;
mod pipelines;
mod programs;
