//! Logging as all programs set it up, and the level names that they take.

use std::ffi::OsString;
mod fields;
mod file;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use fields::HarmlessFields;
pub use file::reopen;
use file::{LogFile, ToFile};

use crate::shown;

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
            let file = LogFile::open(path)?;
            file.make_current();
            (BoxMakeWriter::new(ToFile(file)), false)
        }
        None => {
            let colours =
                io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            (BoxMakeWriter::new(io::stderr), colours)
        }
    };
    let builder = tracing_subscriber::fmt().with_max_level(level.0).with_target(false).with_ansi(colours);
    let targets = targets(level.0);
    // A second start in one process (a cluster in a box) keeps the first one's log.
    let _second = match format {
        Format::Text => {
            builder.with_writer(writer).fmt_fields(HarmlessFields).finish().with(targets).try_init()
        }
        Format::Json => {
            let writer = Harmless(writer);
            builder.with_writer(writer).json().flatten_event(true).finish().with(targets).try_init()
        }
    };
    Ok(())
}

/// Writes lines of JSON in which no character does anything at a terminal: see [`shown::json`].
struct Harmless(BoxMakeWriter);

/// One line of JSON, which comes at once.
struct HarmlessJson<W>(W);

impl<'a> MakeWriter<'a> for Harmless {
    type Writer = HarmlessJson<<BoxMakeWriter as MakeWriter<'a>>::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        HarmlessJson(self.0.make_writer())
    }
}

impl<W: Write> Write for HarmlessJson<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(shown::json(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The levels by module. The trees log several lines for each partition whenever a server starts; they are only for a
/// search for faults in the trees.
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

    /// Text of strangers as a program logs it, in both formats.
    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn strangers_forge_no_line_and_command_no_terminal() {
        const HOSTILE: &str = "a\n2026-01-01T00:00:00Z ERROR forged \u{1b}[2J\u{9b}31m\u{202e}";
        let log = || {
            let (peer, what) = ("10.0.0.1:1", HOSTILE);
            tracing::warn!(peer, what, shown = %HOSTILE, "it says {HOSTILE}");
            tracing::warn!(n = 7, found = ?Some(1), "two");
        };
        let kept = Kept::default();
        let to = kept.clone();
        let builder = tracing_subscriber::fmt().with_ansi(false).with_target(false).without_time();
        let text = builder.with_writer(move || to.clone()).fmt_fields(HarmlessFields).finish();
        tracing::subscriber::with_default(text, log);
        let lines = String::from_utf8(std::mem::take(&mut *kept.0.lock().unwrap())).unwrap();
        let escaped = r"a\n2026-01-01T00:00:00Z ERROR forged \x1b[2J\u{9b}31m\u{202e}";
        let (first, second) = lines.trim_end().split_once('\n').unwrap();
        assert!(
            first.starts_with(&format!(" WARN it says {escaped} peer=\"10.0.0.1:1\" what=\"a")),
            "{first}"
        );
        assert!(first.ends_with(&format!(" shown={escaped}")), "{first}");
        assert_eq!(second, " WARN two n=7 found=Some(1)");

        let to = kept.clone();
        let writer = Harmless(BoxMakeWriter::new(move || to.clone()));
        let json = tracing_subscriber::fmt().with_writer(writer).json().flatten_event(true).finish();
        tracing::subscriber::with_default(json, log);
        let lines = String::from_utf8(std::mem::take(&mut *kept.0.lock().unwrap())).unwrap();
        assert!(lines.chars().all(|letter| letter == '\n' || shown::is_harmless(letter)), "{lines}");
        assert_eq!(lines.lines().count(), 2, "{lines}");
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first["shown"], HOSTILE);
    }

    #[test]
    fn the_double_l_is_taken() {
        let args = ["kvserver", "-ll", "FINE", "-l", "file"].map(OsString::from);
        assert_eq!(with_family_flags(args)[1], "--log-level");
    }
}
