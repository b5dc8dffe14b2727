//! The log: to standard error or a file.

use std::fmt;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;

use crate::error::Error;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(LevelFilter);

impl FromStr for Level {
    type Err = String;

    /// Reads our names and those of the family, in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let level = match text.to_ascii_lowercase().as_str() {
            "off" => LevelFilter::OFF,
            "error" | "fatal" | "severe" => LevelFilter::ERROR,
            "warn" | "warning" => LevelFilter::WARN,
            "info" | "config" => LevelFilter::INFO,
            "debug" | "fine" => LevelFilter::DEBUG,
            "trace" | "all" | "finer" | "finest" => LevelFilter::TRACE,
            _ => return Err(format!("`{text}` is no log level: off, error, warn, info, debug or trace")),
        };
        Ok(Self(level))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Begins to log, for the whole process.
pub(crate) fn start(file: Option<&Path>, level: Level) -> Result<(), Error> {
    let log = tracing_subscriber::fmt().with_max_level(level.0).with_target(false);
    // Fails only where a log was begun before: then that one stays.
    let _ = match file {
        None => {
            let colours = std::io::stderr().is_terminal();
            log.with_writer(std::io::stderr).with_ansi(colours).try_init()
        }
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|source| Error::LogFile { path: path.to_owned(), source })?;
            log.with_writer(Arc::new(file)).with_ansi(false).try_init()
        }
    };
    Ok(())
}
