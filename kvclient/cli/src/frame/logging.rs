//! The log: to standard error or a file, at a level that the shell can change.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

use common::logging::{HarmlessFields, Level};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt as output, reload};

use crate::frame::failure::Failure;

/// Changes the level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Option<reload::Handle<LevelFilter, Registry>>);

impl Log {
    pub(crate) fn set(&self, level: Level) -> Result<(), Failure> {
        let Some(handle) = &self.0 else { return Ok(()) };
        handle
            .reload(level.0)
            .map_err(|error| Failure::usage(format!("cannot change the log level: {error}")))
    }
}

/// Begins to log.
pub(crate) fn start(file: Option<&Path>, level: Level) -> Result<Log, Failure> {
    let (filter, handle) = reload::Layer::new(level.0);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match file {
        None => {
            let layer = output::layer().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.fmt_fields(HarmlessFields)).try_init()
        }
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|error| {
                Failure::usage(format!("cannot open the log file {}: {error}", path.display()))
            })?;
            let layer = output::layer().with_writer(Arc::new(file)).with_ansi(false);
            registry.with(layer.fmt_fields(HarmlessFields)).try_init()
        }
    };
    // In a cluster in a box the log is the cluster's, and its level stays.
    Ok(Log(started.is_ok().then_some(handle)))
}
