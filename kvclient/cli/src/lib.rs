//! The program `kvclient`: arguments, the shell and what it prints.
//!
//! Each of these imports only what stands above it:
//!
//! - `frame`: the session, how a command fails, how answers look
//! - `parse`: what a line means, and the table of the commands
//! - `commands`: what each command does; `bench` and the transfers are folders of their own
//! - `args`: the arguments of the process
//! - `run`: which command is run, and `:watch`, which runs one again and again
//! - `piped` and `terminal`: where lines come from

mod args;
mod commands;
mod frame;
mod limits;
mod parse;
mod piped;
mod run;
mod terminal;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Program};
use frame::failure::{Exit, Failure, complaint};
use frame::logging;
use frame::output::stdout;
use frame::session::Session;
use frame::style::Paint;
use run::{run_program, runtime};
use terminal::interactive;

pub use commands::bench;

/// The program's options and those commands that take arguments like a process; the shell's are not among them.
#[must_use]
pub fn command() -> clap::Command {
    args::programs()
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs the program with the given arguments, its name first, on the calling thread until it ends.
#[must_use]
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args::family_spelling(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let log = match logging::start(args.log_file.as_deref(), args.log_level) {
        Ok(log) => log,
        Err(failure) => return report(&failure),
    };
    let mut session = Session::new(args.servers.clone(), args.options(), log);
    session.format = args.output;
    session.trace = args.trace;
    #[cfg(feature = "otel")]
    if let Err(failure) = session.send_spans(args.otlp_endpoint.as_deref()) {
        return report(&failure);
    }
    if io::stdout().is_terminal() {
        session.for_terminal(Paint::for_output());
    }
    let result = match args.program {
        Some(program) => one_shot(&mut session, program),
        None if io::stdin().is_terminal() => interactive::run(&mut session),
        None => runtime(false).and_then(|runtime| piped::run(&runtime, &mut session, io::stdin().lock())),
    };
    #[cfg(feature = "otel")]
    session.end();
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => report(&failure),
    }
}

/// Prints the failure, and returns its exit code.
fn report(failure: &Failure) -> ExitCode {
    eprint!("{}", complaint(b"", failure, Paint::for_errors()));
    failure.exit.into()
}

fn one_shot(session: &mut Session, program: Program) -> Result<(), Failure> {
    let runtime = runtime(false)?;
    let mut out = stdout();
    let result = runtime.block_on(run_program(session, program, &mut out));
    // A thread may still wait for standard input; the end of the process does not wait for it.
    runtime.shutdown_background();
    // A command that failed may have printed something, too.
    let flushed = out.flush().map_err(Failure::output);
    result.and(flushed)
}

#[cfg(test)]
mod tests;
