//! A cluster in a box: one ECS and three servers in one process, and a shell. For trying Trefoil and for developing
//! against it; the same parts run as programs of their own (`ecs`, `kvserver`, `kvclient`) where machines may fail.

mod boxed;
mod options;

use std::io::IsTerminal;
use std::process::ExitCode;

/// A server allocates for each message; this allocator takes about half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use boxed::Box;
use options::Options;

fn main() -> ExitCode {
    let options = Options::parse_from(common::logging::with_family_flags(std::env::args_os()));
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trefoil: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
            // A closed terminal ends the shell, which ends the rest in order.
            let mut hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
            let _first = signal(SignalKind::user_defined1()).map_err(|error| error.to_string())?;
            let _second = signal(SignalKind::user_defined2()).map_err(|error| error.to_string())?;
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    common::logging::reopen();
                }
            });
            let mut started = Box::start(options).await?;
            tokio::select! {
                ready = started.wait_until_ready() => ready?,
                _ = terminate.recv() => return Ok(started.stop().await),
                _ = interrupt.recv() => return Ok(started.stop().await),
            }
            eprintln!("{}", started.welcome());
            let ended = shell(started.addresses());
            // On a terminal Ctrl-C belongs to the shell: it ends the command that runs, or the shell.
            let on_terminal = std::io::stdin().is_terminal();
            let code = tokio::select! {
                code = ended => code.unwrap_or(ExitCode::FAILURE),
                _ = terminate.recv() => ExitCode::SUCCESS,
                _ = interrupt.recv(), if !on_terminal => ExitCode::SUCCESS,
                error = started.failed() => {
                    eprintln!("trefoil: {error}");
                    ExitCode::FAILURE
                }
            };
            let stopped = started.stop().await;
            Ok(if code == ExitCode::SUCCESS { stopped } else { code })
        })
        .inspect(|code| {
            // The shell's thread may still wait for a line that is not needed any more.
            runtime.shutdown_background();
            let _ = code;
        })
}

/// Runs the shell on a thread of its own, as it would run as a program.
fn shell(servers: &[String]) -> oneshot::Receiver<ExitCode> {
    let args = ["kvclient".to_owned(), "--server".to_owned(), servers.join(",")];
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let code = cli::run(args.into_iter().map(Into::into));
        let _gone = end.send(code);
    });
    ended
}
