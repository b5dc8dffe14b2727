//! The program `kvclient`: arguments, the shell and what it prints.

mod admin;
mod args;
mod big;
mod cluster;
mod command;
mod completion;
mod differences;
mod editor;
mod failure;
mod grammar;
mod help;
mod interactive;
mod keys;
mod latency;
mod load;
mod logging;
mod output;
mod pages;
mod piped;
mod repeat;
mod session;
mod show;
mod status;
mod style;
mod table;
mod verify;
mod watching;
mod words;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use common::clock;
use tokio::runtime::{Builder, Runtime};

use crate::{bench, transfer};
use args::{Args, Program};
use command::Command;
use session::Session;
use style::{Ink, Paint};
use words::Line;

pub(crate) use failure::{Exit, Failure};
pub(crate) use show::{bytes_shown, elapsed_shown};

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

/// Says what failed, and ends with its code.
fn report(failure: &Failure) -> ExitCode {
    eprint!("{}", complaint(b"", failure, Paint::for_errors()));
    failure.exit.into()
}

/// Says what is wrong with a line; what is left is the code.
fn told(line: &[u8], failure: &Failure) -> Failure {
    eprint!("{}", complaint(line, failure, Paint::for_errors()));
    Failure::new(failure.exit, "")
}

/// What failed, and under it the word of the line that is meant. Nothing if there is nobody to tell.
fn complaint(line: &[u8], failure: &Failure, paint: Paint) -> String {
    if failure.message.is_empty() {
        return String::new();
    }
    let shown = match &failure.at {
        Some(at) if !line.is_empty() => style::underlined(line, at, paint),
        _ => String::new(),
    };
    format!("{} {failure}\n{shown}", paint.ink(Ink::Bad, "kvclient:"))
}

fn one_shot(session: &mut Session, program: Program) -> Result<(), Failure> {
    let runtime = runtime(false)?;
    let mut out = io::stdout().lock();
    let result = runtime.block_on(run_program(session, program, &mut out));
    // A thread may still wait for standard input; the end of the process does not wait for it.
    runtime.shutdown_background();
    result.and_then(|()| out.flush().map_err(Failure::output))
}

/// Runs one of the commands that a process or a shell line may name.
async fn run_program(session: &mut Session, program: Program, out: &mut dyn Write) -> Result<(), Failure> {
    match program {
        Program::Import(args) => transfer::import(session.client().await?, &args).await,
        Program::Export(args) => transfer::export(session.client().await?, &args, out).await,
        Program::Verify(mut args) => {
            args.json |= session.wants_json();
            verify::run(session.client().await?, &args, out).await
        }
        Program::Admin(mut args) => {
            args.json |= session.wants_json();
            Box::pin(admin::run(session, &args, out)).await
        }
        Program::Completions(args) => pages::completions(&args, out),
        Program::Man(args) => pages::man(&args, out),
        Program::Bench(mut args) => {
            args.json |= session.wants_json();
            bench::run(session.servers(), session.options(), &args, out).await
        }
        Program::Data(words) => {
            let line = Line::from_args(&words);
            let command = Command::parse(&line).map_err(|failure| told(&line.text, &failure))?;
            Box::pin(run_command(session, command, out)).await
        }
    }
}

/// Runs a command of the shell, and tells how long it took if that is wanted.
async fn run_command(session: &mut Session, command: Command, out: &mut dyn Write) -> Result<(), Failure> {
    let started = clock::time();
    let done = match command {
        Command::Program(words) => run_words(session, words, out).await,
        Command::As(format, command) => {
            let usual = std::mem::replace(&mut session.format, format);
            let done = session.run(*command, out).await;
            session.format = usual;
            done
        }
        Command::Repeat { every, line } => return Box::pin(repeat::run(session, every, line, out)).await,
        command => session.run(command, out).await,
    };
    if session.timing {
        out.flush().map_err(Failure::output)?;
        eprintln!("({})", elapsed_shown(clock::time().since(started)));
    }
    done
}

/// Runs one of the commands that take arguments like a process.
async fn run_words(session: &mut Session, words: Vec<OsString>, out: &mut dyn Write) -> Result<(), Failure> {
    let words = std::iter::once(OsString::from("kvclient")).chain(words);
    match Args::try_parse_from(words) {
        Ok(Args { program: Some(Program::Import(args)), .. }) if args.reads_stdin() => {
            Err(Failure::usage("standard input holds the commands; name a file"))
        }
        Ok(Args { program: Some(program), .. }) => Box::pin(run_program(session, program, out)).await,
        Ok(_) => Ok(()),
        Err(error) if error.use_stderr() => Err(Failure::usage(error.to_string())),
        Err(error) => write!(out, "{error}").map_err(Failure::output),
    }
}

/// Everything runs on one thread, beside the servers that may share the machine. `background`: on a thread of
/// its own, so that connections live on while the shell waits for a line.
fn runtime(background: bool) -> Result<Runtime, Failure> {
    let mut builder = if background { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start: {error}")))
}

#[cfg(test)]
mod tests;
