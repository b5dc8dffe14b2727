//! The arguments of the process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use super::admin::AdminArgs;
use super::help;
use super::output::Format;
use super::pages::{CompletionsArgs, ManArgs};
use super::table::TABLE;
use super::verify::VerifyArgs;
use crate::bench::BenchArgs;
use crate::options::{Options, ReadFrom};
use crate::transfer::{ExportArgs, ImportArgs};
use common::logging::Level;

/// Trefoil's client: a shell, or one command.
///
/// Without a command it opens a shell; with standard input not a terminal it runs the lines that it reads.
#[derive(Debug, Parser)]
#[command(name = "kvclient", version, disable_help_subcommand = true, after_help = help::for_process())]
pub(super) struct Args {
    /// Any servers of the cluster, as a list with commas or repeated
    #[arg(
        short = 's',
        long = "server",
        value_name = "HOST:PORT",
        env = "TREFOIL_SERVER",
        value_delimiter = ',',
        default_value = "localhost:5001"
    )]
    pub(super) servers: Vec<String>,
    /// How long a request is retried, such as 500ms or 10s; at most 60s
    #[arg(long, value_name = "TIME", env = "TREFOIL_TIMEOUT", value_parser = parse_duration, default_value = "60s")]
    pub(super) timeout: Duration,
    /// Who answers reads, all of them linearizable: the coordinator of the key, or any in-sync server of it
    #[arg(long, value_name = "WHERE", env = "TREFOIL_READ_FROM", value_enum, default_value_t = ReadFrom::Coordinator)]
    pub(super) read_from: ReadFrom,
    /// Write the log to this file instead of standard error
    #[arg(short = 'l', long = "log-file", value_name = "FILE", env = "TREFOIL_LOG_FILE")]
    pub(super) log_file: Option<PathBuf>,
    /// How much is logged: off, error, warn, info, debug or trace (-ll and ALL, SEVERE, FATAL are taken too)
    #[arg(long, value_name = "LEVEL", env = "TREFOIL_LOG_LEVEL", default_value = "warn")]
    pub(super) log_level: Level,
    /// The form of the answers
    #[arg(short = 'o', long, value_name = "FORMAT", env = "TREFOIL_OUTPUT", value_enum, default_value_t)]
    pub(super) output: Format,
    /// Follow each request: print its id on standard error; every server logs what it does with it under this id
    #[arg(long, env = "TREFOIL_TRACE")]
    pub(super) trace: bool,
    /// Collector that the spans of requests with --trace are sent to, as OTLP in JSON over HTTP: `http://host:port`, such
    /// as http://127.0.0.1:4318
    #[cfg(feature = "otel")]
    #[arg(long, value_name = "URL", env = "TREFOIL_OTLP_ENDPOINT", value_parser = common::spans::endpoint)]
    pub(super) otlp_endpoint: Option<String>,
    #[command(subcommand)]
    pub(super) program: Option<Program>,
}

/// What is run instead of the shell.
#[derive(Debug, Subcommand)]
pub(super) enum Program {
    /// Write the keys and values of a file
    #[command(after_help = help::for_program("import"))]
    Import(ImportArgs),
    /// Write all keys and values, or those with a prefix, to a file
    #[command(after_help = help::for_program("export"))]
    Export(ExportArgs),
    /// Measure puts, gets and mixes of them, in a closed or an open loop
    #[command(after_help = help::for_program("bench"))]
    Bench(BenchArgs),
    /// Compare all copies of all partitions
    #[command(after_help = help::for_program("verify"))]
    Verify(VerifyArgs),
    /// Add, drain and replace servers, hold copies, and let partitions go on that are offline
    #[command(after_help = help::for_program("admin"))]
    Admin(AdminArgs),
    /// Print a script that lets a shell complete this program
    #[command(after_help = help::for_program("completions"))]
    Completions(CompletionsArgs),
    /// Print the manual page, or write a page for each command
    #[command(after_help = help::for_program("man"))]
    Man(ManArgs),
    /// A command of the shell
    #[command(external_subcommand)]
    Data(Vec<OsString>),
}

impl Args {
    /// The library's options.
    pub(super) fn options(&self) -> Options {
        let mut options = Options { timeout: self.timeout, read_from: self.read_from, ..Options::default() };
        options.connect_timeout = options.connect_timeout.min(self.timeout);
        options
    }
}

/// The commands that take arguments like a process.
pub(super) fn programs() -> clap::Command {
    Args::command()
}

/// Takes the family's `-ll LEVEL` for `--log-level LEVEL`, before the command.
pub(super) fn family_spelling(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut in_command = false;
    let spelled = args.enumerate().map(|(index, arg)| {
        let name = |command: &&str| arg.eq_ignore_ascii_case(command);
        let commands = TABLE.iter().flat_map(|entry| entry.names);
        in_command |= index > 0 && commands.into_iter().any(name);
        if !in_command && arg == "-ll" { OsString::from("--log-level") } else { arg }
    });
    spelled.collect()
}

/// Reads `500ms`, `10s`, `5m`, `2h`, `1d`; a number alone is seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let expected = || format!("`{text}` is no time; write it as 500ms, 10s, 5m, 2h or 1d");
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "s", "1x", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn servers_come_as_a_list_or_repeated() {
        let args = Args::try_parse_from(["kvclient", "-s", "a:1,b:2", "--server", "c:3"]).unwrap();
        assert_eq!(args.servers, ["a:1", "b:2", "c:3"]);
    }

    #[test]
    fn the_family_spells_the_log_level_in_its_own_way() {
        let words = ["kvclient", "-ll", "ALL", "put", "k", "-ll"].map(OsString::from);
        let spelled = family_spelling(words.into_iter());
        assert_eq!(spelled, ["kvclient", "--log-level", "ALL", "put", "k", "-ll"].map(OsString::from));
    }

    #[test]
    fn everything_after_a_command_of_the_shell_is_its_own() {
        let args = Args::try_parse_from(["kvclient", "put", "k", "-5", "--if-absent"]).unwrap();
        let Some(Program::Data(words)) = args.program else { panic!("put is a command of the shell") };
        assert_eq!(words, ["put", "k", "-5", "--if-absent"].map(OsString::from));
    }
}
