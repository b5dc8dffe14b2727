//! Logging as all programs set it up, and the level names that they take.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub LevelFilter);

impl FromStr for Level {
    type Err = String;

    /// Reads a level: ours, or one of the family's (`ALL`, `SEVERE`, `FATAL`, `WARNING`, `OFF`), in any case.
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

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: an object a line, with `timestamp`, `level`, `message` and the fields.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is no format of the log: text or json")),
        }
    }
}

/// The family's `-ll LEVEL` as `--log-level LEVEL`: clap would read it as `-l l`.
pub fn with_family_flags(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    args.into_iter().map(|arg| if arg == "-ll" { "--log-level".into() } else { arg }).collect()
}

/// Sends the log to a file, or to standard error.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(level: Level, format: Format, file: Option<&Path>) -> io::Result<()> {
    let (writer, colours) = match file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
        None => {
            let colours =
                io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            (BoxMakeWriter::new(io::stderr), colours)
        }
    };
    let builder = tracing_subscriber::fmt().with_max_level(level.0).with_target(false).with_ansi(colours);
    let (builder, targets) = (builder.with_writer(writer), targets(level.0));
    // A second start in one process (a cluster in a box) keeps the first one's log.
    let _second = match format {
        Format::Text => builder.finish().with(targets).try_init(),
        Format::Json => builder.json().flatten_event(true).finish().with(targets).try_init(),
    };
    Ok(())
}

/// What is logged of whom. The trees tell several lines for each partition whenever a server starts: for who looks for
/// faults in them.
fn targets(level: LevelFilter) -> Targets {
    let trees = if level >= LevelFilter::DEBUG { level } else { level.min(LevelFilter::WARN) };
    Targets::new().with_default(level).with_target("lsm_tree", trees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_both_families_are_read() {
        assert_eq!("ALL".parse(), Ok(Level(LevelFilter::TRACE)));
        assert_eq!("Severe".parse(), Ok(Level(LevelFilter::ERROR)));
        assert_eq!("info".parse(), Ok(Level(LevelFilter::INFO)));
        assert!("loud".parse::<Level>().unwrap_err().contains("off, error"));
    }

    #[test]
    fn the_double_l_is_taken() {
        let args = ["kvserver", "-ll", "FINE", "-l", "file"].map(OsString::from);
        assert_eq!(with_family_flags(args)[1], "--log-level");
    }
}
