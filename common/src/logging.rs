//! Logging as all programs set it up, and the level names that they take.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;

/// Reads a level: ours, or one of the family's (`ALL`, `SEVERE`, `FATAL`, `WARNING`, `OFF`), in any case.
///
/// # Errors
/// A text that says which levels there are.
pub fn parse_level(text: &str) -> Result<LevelFilter, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" | "severe" | "fatal" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "info" | "config" => LevelFilter::INFO,
        "debug" | "fine" => LevelFilter::DEBUG,
        "trace" | "all" | "finer" | "finest" => LevelFilter::TRACE,
        _ => {
            return Err(
                "off, error, warn, info, debug or trace is needed (ALL, SEVERE and FATAL are taken too)"
                    .into(),
            );
        }
    })
}

/// The family's `-ll LEVEL` as `--log-level LEVEL`: clap would read it as `-l l`.
pub fn with_family_flags(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    args.into_iter().map(|arg| if arg == "-ll" { "--log-level".into() } else { arg }).collect()
}

/// Sends the log to a file, or to standard error.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(level: LevelFilter, file: Option<&Path>) -> io::Result<()> {
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    // A second start in one process (a cluster in a box) keeps the first one's log.
    let _second = match file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            builder.with_ansi(false).with_writer(Mutex::new(file)).try_init()
        }
        None => {
            let colours =
                io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colours).with_writer(io::stderr).try_init()
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_both_families_are_read() {
        assert_eq!(parse_level("ALL"), Ok(LevelFilter::TRACE));
        assert_eq!(parse_level("Severe"), Ok(LevelFilter::ERROR));
        assert_eq!(parse_level("info"), Ok(LevelFilter::INFO));
        assert!(parse_level("loud").unwrap_err().contains("off, error"));
    }

    #[test]
    fn the_double_l_is_taken() {
        let args = ["kvserver", "-ll", "FINE", "-l", "file"].map(OsString::from);
        assert_eq!(with_family_flags(args)[1], "--log-level");
    }
}
