//! The program `kvclient`; all of it is in the crate `cli`.

use std::process::ExitCode;

/// A server allocates for each message; this allocator takes about half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
