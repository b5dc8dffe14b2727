//! The log: to standard error or a file, at a level that the shell can change.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

use common::logging::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt as output, reload};

use super::failure::Failure;

/// Changes the level.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Option<reload::Handle<LevelFilter, Registry>>);

impl Log {
    pub(super) fn set(&self, level: Level) -> Result<(), Failure> {
        let Some(handle) = &self.0 else { return Ok(()) };
        handle
            .reload(level.0)
            .map_err(|error| Failure::usage(format!("cannot change the log level: {error}")))
    }
}

/// Begins to log.
pub(super) fn start(file: Option<&Path>, level: Level) -> Result<Log, Failure> {
    let (filter, handle) = reload::Layer::new(level.0);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match file {
        None => registry.with(output::layer().with_writer(std::io::stderr).with_target(false)).try_init(),
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|error| {
                Failure::usage(format!("cannot open the log file {}: {error}", path.display()))
            })?;
            registry.with(output::layer().with_writer(Arc::new(file)).with_ansi(false)).try_init()
        }
    };
    // In a cluster in a box the log is the cluster's, and its level stays.
    Ok(Log(started.is_ok().then_some(handle)))
}
