//! Errors of people, programs and machines, and the answers to them. Whatever comes in, the process goes on and
//! serves others; whatever cannot go on says why and what to do.

mod connections;
mod disks;
mod exit_codes;
mod flags;
mod forged;
mod gray;
mod junk;
mod memory;
mod overload;
mod peers;
mod places;
mod unfinished;
mod versions;
