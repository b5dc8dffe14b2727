//! The program: flags, log, signals, exit code.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::CommandFactory;
use common::config::{self, Read, with_file};
use common::service;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;
use crate::options::{Action, Cli, Options};
use crate::server;
use crate::store::{inspect, new_store, reinstate};

/// The program's options and commands, those of [`common::config`] among them.
#[must_use]
pub fn command() -> clap::Command {
    with_file(Cli::command(), "TREFOIL_CONFIG")
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let args = common::logging::with_family_flags(std::env::args_os());
    let cli: Cli = match config::read(&command(), &args) {
        Ok(Read::Run(cli)) => cli,
        Ok(Read::Print(listing)) => {
            print!("{listing}");
            return ExitCode::SUCCESS;
        }
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        Some(Action::Inspect { dir, json }) => inspect::run(&dir, json),
        Some(Action::NewStore { dir, new_server }) => new_store::run(&dir, new_server),
        Some(Action::Reinstate { dir, from }) => reinstate::run(&dir, from.as_deref()),
        None => serve(cli.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvserver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> Result<(), Error> {
    common::files::keep_private();
    common::logging::start(options.log_level, options.log_format, options.log_file.as_deref())
        .map_err(|source| Error::LogFile { file: options.log_file.clone().unwrap_or_default(), source })?;
    if options.cache_size.is_some() || options.strategy.is_some() {
        tracing::info!("-c and -s are taken for compatibility and change nothing; see --cache-mb");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { action: "start the runtime", source })?;
    runtime.block_on(async {
        let failed = |source| Error::Io { action: "listen for signals", source };
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        // Caught, as they would end the process otherwise: they have no meaning here.
        let _first = signal(SignalKind::user_defined1()).map_err(failed)?;
        let _second = signal(SignalKind::user_defined2()).map_err(failed)?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                common::logging::reopen();
            }
        });
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let listener = server::bind(&options.address, options.port).await?;
        let address =
            listener.local_addr().map_err(|source| Error::Io { action: "read the address", source })?;
        let opened = server::open(options.clone(), listener).await?;
        announce(address, opened.http_address());
        service::ready();
        let (asks, asked) = watch::channel(0);
        tokio::spawn(watch_signals(interrupt, terminate, asks));
        let reason = match opened.serve(stop(&asked)).await {
            Err(Error::Damaged { reason }) => reason,
            ended => return ended,
        };
        // Only once: if the disk damages new data too, a person must look at it. The ECS says what becomes of the
        // store.
        tracing::error!("the store is damaged: {reason}. Starting again");
        let listener = server::bind(&options.address, address.port()).await?;
        server::open(options, listener).await?.serve(stop(&asked)).await
    })
}

/// How the server is asked to stop, by the number of signals that have come.
fn stop(asked: &watch::Receiver<u32>) -> server::Stop<impl Future<Output = ()>, impl Future<Output = ()>> {
    let (mut leave, mut now) = (asked.clone(), asked.clone());
    server::Stop {
        leave: async move {
            let _closed = leave.wait_for(|&signals| signals >= 1).await;
        },
        now: async move {
            let _closed = now.wait_for(|&signals| signals >= 2).await;
        },
    }
}

/// The first line on standard output, and a second one with `--http`: what starts the program reads the ports from
/// these lines.
fn announce(address: SocketAddr, http: Option<SocketAddr>) {
    let http = http.map(|http| format!("kvserver http on {http}\n")).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    // Standard output may be closed; that is no reason to stop.
    let _gone = write!(out, "kvserver listening on {address}\n{http}").and_then(|()| out.flush());
}

/// The first signal asks to leave, the second to stop at once.
async fn watch_signals(mut interrupt: Signal, mut terminate: Signal, asks: watch::Sender<u32>) {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        service::stopping();
        asks.send_modify(|signals| *signals += 1);
    }
}
