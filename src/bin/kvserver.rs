//! The program `kvserver`; all of it is in the crate of that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvserver::cli::main()
}
