//! The program `kvclient`; all of it is in the crate of that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvclient::cli::main()
}
