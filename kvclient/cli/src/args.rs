//! The arguments of the process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::commands::admin::AdminArgs;
use crate::commands::bench::BenchArgs;
use crate::commands::pages::{CompletionsArgs, ManArgs};
use crate::commands::transfer::{ExportArgs, ImportArgs};
use crate::commands::verify::VerifyArgs;
use crate::frame::output::Format;
use crate::parse::help;
use crate::parse::table::TABLE;
use common::logging::Level;
use kvclient::Options;

/// Trefoil's client: a shell, or one command.
///
/// Without a command it opens a shell; with standard input not a terminal it runs the lines that it reads.
#[derive(Debug, Parser)]
#[command(name = "kvclient", version, disable_help_subcommand = true, after_help = help::for_process())]
pub(crate) struct Args {
    /// Any servers of the cluster, as a list with commas or repeated
    #[arg(
        short = 's',
        long = "server",
        value_name = "HOST:PORT",
        env = "TREFOIL_SERVER",
        value_delimiter = ',',
        default_value = "localhost:5001"
    )]
    pub(crate) servers: Vec<String>,
    /// How long a request is retried, such as 500ms or 10s; at most 60s
    #[arg(
        long,
        value_name = "TIME",
        env = "TREFOIL_TIMEOUT",
        value_parser = common::duration::parse,
        default_value = "60s"
    )]
    pub(crate) timeout: Duration,
    /// Which server answers reads, all of them linearizable: the coordinator of the key, or any in-sync server of it
    #[arg(long, value_name = "WHERE", env = "TREFOIL_READ_FROM", value_enum, default_value_t = ReadFrom::Coordinator)]
    pub(crate) read_from: ReadFrom,
    /// Write the log to this file instead of standard error
    #[arg(short = 'l', long = "log-file", value_name = "FILE", env = "TREFOIL_LOG_FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// How much is logged: off, error, warn, info, debug or trace (-ll and ALL, SEVERE, FATAL work too)
    #[arg(long, value_name = "LEVEL", env = "TREFOIL_LOG_LEVEL", default_value = "warn")]
    pub(crate) log_level: Level,
    /// The form of the answers
    #[arg(short = 'o', long, value_name = "FORMAT", env = "TREFOIL_OUTPUT", value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Follow each request: print its id on standard error; every server logs its steps with this id
    #[arg(long, env = "TREFOIL_TRACE")]
    pub(crate) trace: bool,
    /// Collector that the spans of requests with --trace are sent to, as OTLP in JSON over HTTP: `http://host:port`,
    /// such as http://127.0.0.1:4318
    #[cfg(feature = "otel")]
    #[arg(long, value_name = "URL", env = "TREFOIL_OTLP_ENDPOINT", value_parser = common::spans::endpoint)]
    pub(crate) otlp_endpoint: Option<String>,
    #[command(subcommand)]
    pub(crate) program: Option<Program>,
}

/// Which server answers reads. All answers are linearizable (`docs/reads.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadFrom {
    /// The coordinator of the key: one round trip, and never a message to another server.
    Coordinator,
    /// A random in-sync server of the key: for keys with more reads than one server can answer, and few writes. A
    /// replica asks the coordinator for its commit while a write to the key is on its way.
    InSync,
}

impl From<ReadFrom> for kvclient::ReadFrom {
    fn from(read_from: ReadFrom) -> Self {
        match read_from {
            ReadFrom::Coordinator => Self::Coordinator,
            ReadFrom::InSync => Self::InSync,
        }
    }
}

/// A command that is run instead of the shell.
#[derive(Debug, Subcommand)]
pub(crate) enum Program {
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
    /// Add, drain and replace servers, pause copying, and recover offline partitions
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
    pub(crate) fn options(&self) -> Options {
        let mut options =
            Options { timeout: self.timeout, read_from: self.read_from.into(), ..Options::default() };
        options.connect_timeout = options.connect_timeout.min(self.timeout);
        options
    }
}

/// The commands that take arguments like a process.
pub(crate) fn programs() -> clap::Command {
    Args::command()
}

/// Reads the family's `-ll LEVEL` as `--log-level LEVEL`, before the command.
pub(crate) fn family_spelling(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut in_command = false;
    let spelled = args.enumerate().map(|(index, arg)| {
        let name = |command: &&str| arg.eq_ignore_ascii_case(command);
        let commands = TABLE.iter().flat_map(|entry| entry.names);
        in_command |= index > 0 && commands.into_iter().any(name);
        if !in_command && arg == "-ll" { OsString::from("--log-level") } else { arg }
    });
    spelled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
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
