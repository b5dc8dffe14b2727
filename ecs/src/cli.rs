//! The program `ecs`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use common::config::{self, Read, with_file};
use common::logging::with_family_flags;
use common::service;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;
use crate::options::Options;
use crate::shell::Opened;

/// The exit code for wrong arguments.
const EXIT_USAGE: u8 = 2;

/// Runs the program with the arguments of the process, until SIGTERM or Ctrl-C. SIGHUP opens the log file anew.
#[must_use]
pub fn main() -> ExitCode {
    let options = match read() {
        Ok(Read::Run(options)) => options,
        Ok(Read::Print(listing)) => {
            print!("{listing}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ecs: {error}");
            // Errors that another option would avoid are wrong usage.
            if matches!(error, Error::Partitions { .. } | Error::MinCopies { .. } | Error::Rebuild { .. }) {
                EXIT_USAGE.into()
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The program's options, those of [`common::config`] among them.
#[must_use]
pub fn command() -> clap::Command {
    with_file(Options::command(), "TREFOIL_ECS_CONFIG")
}

/// Flags, environment and file.
fn read() -> Result<Read<Options>, clap::Error> {
    config::read(&command(), &with_family_flags(std::env::args_os()))
}

fn start(options: &Options) -> Result<(), Error> {
    common::files::keep_private();
    let log_file = options.log_file.as_deref();
    common::logging::start(options.log_level, options.log_format, log_file)
        .map_err(|source| Error::LogFile { path: log_file.unwrap_or(Path::new("")).to_owned(), source })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup())?;
        // Caught and ignored, so that they do not end the process.
        let (_first, _second) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                common::logging::reopen();
            }
        });
        let opened = Opened::open(options)?;
        let listener = listen(options).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        announce(&listener)?;
        service::ready();
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            service::stopping();
        };
        opened.serve(listener, shutdown).await
    })
}

async fn listen(options: &Options) -> Result<TcpListener, Error> {
    let Options { address, port, .. } = options;
    TcpListener::bind((*address, *port)).await.map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there: stop it, or choose another port with --port (0 for any free one)"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need rights: choose another with --port",
            _ => "choose another address with --address",
        };
        let address = std::net::SocketAddr::new(*address, *port).to_string();
        Error::Listen { address, source, hint }
    })
}

/// The one line on standard output: what starts the program reads the port from it.
fn announce(listener: &TcpListener) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    // Standard output may be closed; that is no reason to stop.
    let _ = writeln!(out, "ecs listening on {}", listener.local_addr()?);
    let _ = out.flush();
    Ok(())
}
