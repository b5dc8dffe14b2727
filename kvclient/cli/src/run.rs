//! Runs commands: those of the process and those of the shell, which may name each other.

use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use common::clock;
use kvclient::{Condition, Operation};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{self, Args, Program};
use crate::commands::{
    admin, bench, cluster, connection, data, largest, latency, load, pages, ranges, status, transfer, verify,
    watch,
};
use crate::frame::failure::{Exit, Failure, complaint};
use crate::frame::output::print;
use crate::frame::session::Session;
use crate::frame::show::elapsed_shown;
use crate::frame::style::{Ink, Paint};
use crate::parse::command::Command;
use crate::parse::help;
use crate::parse::line::Line;

/// Runs one of the commands that a process or a shell line may name.
pub(crate) async fn run_program(
    session: &mut Session,
    program: Program,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match program {
        Program::Import(args) => transfer::import(session.client().await?, &args).await,
        Program::Export(args) => {
            let terminal = session.is_for_terminal();
            transfer::export(session.client().await?, &args, terminal, out).await
        }
        Program::Verify(mut args) => {
            args.json |= session.wants_json();
            verify::run(session.client().await?, &args, out).await
        }
        Program::Admin(mut args) => {
            args.json |= session.wants_json();
            Box::pin(admin::run(session, &args, out)).await
        }
        Program::Completions(args) => pages::completions(&args, args::programs(), out),
        Program::Man(args) => pages::man(&args, args::programs(), out),
        Program::Bench(mut args) => {
            args.json |= session.wants_json();
            bench::run(session.servers(), session.options(), &args, out).await
        }
        Program::Data(words) => {
            let line = Line::from_args(&words);
            let command = Command::parse(&line).map_err(|failure| printed(&line.text, &failure))?;
            Box::pin(run_command(session, command, out)).await
        }
    }
}

/// Runs a command of the shell, and prints how long it took if that is wanted.
pub(crate) async fn run_command(
    session: &mut Session,
    command: Command,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let started = clock::time();
    let done = match command {
        Command::Program(words) => run_words(session, words, out).await,
        Command::As(format, command) => {
            let usual = std::mem::replace(&mut session.format, format);
            let done = dispatch(session, *command, out).await;
            session.format = usual;
            done
        }
        Command::Repeat { every, line } => return Box::pin(repeat(session, every, line, out)).await,
        command => dispatch(session, command, out).await,
    };
    if session.timing {
        out.flush().map_err(Failure::output)?;
        eprintln!("({})", elapsed_shown(clock::time().since(started)));
    }
    done
}

/// Runs a command; its output goes to `out`.
async fn dispatch(session: &mut Session, command: Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        // The callers run these, as they need the session.
        Command::Nothing | Command::Quit | Command::Program(_) | Command::As(..) | Command::Repeat { .. } => {
            Ok(())
        }
        Command::Get { key, version } => data::get(session, key, version, out).await,
        Command::Put { key, value, ttl, condition } => {
            data::put(session, (key, value), ttl, condition, out).await
        }
        Command::Cas { key, expected, value } => {
            let operation = Operation::Put { key, value, expires: None, condition: expected };
            data::write(session, operation, out).await
        }
        Command::Delete { key } => {
            data::write(session, Operation::Delete { key, condition: Condition::Always {} }, out).await
        }
        Command::Append { key, value } => data::write(session, Operation::Append { key, value }, out).await,
        Command::Expire { key, after } => data::expire(session, key, after, out).await,
        Command::Scan { prefix, limit } => data::scan(session, prefix, limit, out).await,
        Command::KeyRange { read } => ranges::key_range(session, read, out).await,
        Command::Status => status::run(session, out).await,
        Command::Events { limit } => cluster::events(session, limit, session.format, out).await,
        Command::Partitions { key } => {
            cluster::partitions(session, key.as_deref(), session.format, out).await
        }
        Command::Hot => load::hot(session, session.format, out).await,
        Command::Stat { every, count } => load::stat(session, every, count, out).await,
        Command::Latency { duration } => latency::run(session, duration, session.format, out).await,
        Command::Largest { prefix, limit } => largest::run(session, prefix, limit, session.format, out).await,
        Command::Watch { keys, from, count } => watch::watch(session, keys, from, count, out).await,
        Command::Unwatch { keys } => watch::unwatch(session, keys.as_ref(), out),
        Command::Timing(timing) => {
            session.timing = timing.unwrap_or(!session.timing);
            print(out, &format!("timing is {}\n", if session.timing { "on" } else { "off" }))
        }
        Command::Trace(trace) => {
            session.trace = trace.unwrap_or(!session.trace);
            print(out, &format!("trace is {}\n", if session.trace { "on" } else { "off" }))
        }
        Command::Output(format) => {
            session.format = format.unwrap_or(session.format);
            let name = session.format.to_possible_value().map(|value| value.get_name().to_owned());
            print(out, &format!("output is {}\n", name.unwrap_or_default()))
        }
        Command::Connect { server } => connection::connect(session, server, out).await,
        Command::Disconnect => {
            session.disconnect();
            print(out, "disconnected\n")
        }
        Command::LogLevel { level } => {
            session.log.set(level)?;
            print(out, &format!("log level {level}\n"))
        }
        Command::Help { command: None } => print(out, &help::overview()),
        Command::Help { command: Some(entry) } => print(out, &help::explain(entry)),
    }
}

/// Runs one of the commands that take arguments like a process.
async fn run_words(session: &mut Session, words: Vec<OsString>, out: &mut dyn Write) -> Result<(), Failure> {
    let words = std::iter::once(OsString::from("kvclient")).chain(words);
    match Args::try_parse_from(words) {
        Ok(Args { program: Some(Program::Import(args)), .. }) if args.reads_stdin() => {
            Err(Failure::usage("standard input has the commands; name a file"))
        }
        Ok(Args { program: Some(program), .. }) => Box::pin(run_program(session, program, out)).await,
        Ok(_) => Ok(()),
        Err(error) if error.use_stderr() => Err(Failure::usage(error.to_string())),
        Err(error) => write!(out, "{error}").map_err(Failure::output),
    }
}

/// Prints what is wrong with a line, and returns a failure with its code only.
fn printed(line: &[u8], failure: &Failure) -> Failure {
    eprint!("{}", complaint(line, failure, Paint::for_errors()));
    Failure::new(failure.exit, "")
}

/// Runs `line`, or the last one that can be run again, every so often until the shell is interrupted. A cluster that
/// does not answer is asked again; a line that is wrong ends it.
async fn repeat(
    session: &mut Session,
    every: Duration,
    line: Option<Vec<u8>>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(line) = line.or_else(|| session.last()) else {
        return Err(Failure::usage("no command was run before; name one: `:watch 2s status`"));
    };
    let words = Line::split(&line).map_err(|bad| bad.failure())?;
    let command = Command::parse(&words).map_err(|failure| Failure { at: None, ..failure })?;
    if matches!(
        command,
        Command::Repeat { .. }
            | Command::Watch { .. }
            | Command::Unwatch { .. }
            | Command::Quit
            | Command::Nothing
    ) {
        return Err(Failure::usage("this is no command to watch; try `:watch 2s status`"));
    }
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let paint = Paint::for_errors();
        match run_command(session, command.clone(), out).await {
            Err(failure) if failure.exit == Exit::Usage => return Err(failure),
            Err(failure) => eprint!("{}", complaint(b"", &failure, paint)),
            Ok(()) => {}
        }
        out.flush().map_err(Failure::output)?;
        eprintln!("{}", paint.ink(Ink::Faint, format!("-- every {every:?}, Ctrl-C ends it")));
    }
}

/// Everything runs on one thread, beside the servers that may share the machine. `background`: on a thread of
/// its own, so that connections live on while the shell waits for a line.
pub(crate) fn runtime(background: bool) -> Result<Runtime, Failure> {
    let mut builder = if background { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start: {error}")))
}
