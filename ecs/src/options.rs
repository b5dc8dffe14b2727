//! The options of the program, each also in the environment.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use common::address::HostNames;
use common::duration;
use common::ids::ClusterId;
use common::limits::{COPIES, Timers};
use common::logging::{Level, with_family_flags};
use common::ring::{PARTITIONS_DEFAULT, Partitions};

use crate::limits::COPIES_MAX;
use ecs_core::Config;

/// Which set of timers a cluster runs with. Its servers must be started with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum Profile {
    /// As `fast` where nothing stalls; waits longer, up to 5 s, for servers whose heartbeats come late.
    #[default]
    Adaptive,
    /// A fail-over takes about one second.
    Fast,
    /// For loaded or distant machines: about 3.3 seconds.
    Steady,
}

/// How long the ECS waits for a server after a restart; `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartWait(pub Option<Duration>);

/// Copies that a write needs: a number, or `None`, which is `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinCopies(pub Option<usize>);

/// Trefoil's external configuration service: it knows the servers and makes the views.
#[derive(Clone, Debug, Parser)]
#[command(name = "ecs", version, max_term_width = 100)]
pub struct Options {
    /// Port for servers, clients and browsers; 0 takes any free one
    #[arg(short, long, env = "TREFOIL_ECS_PORT", default_value_t = 3000)]
    pub port: u16,

    /// Address to listen on; 0.0.0.0 for all
    #[arg(short, long, env = "TREFOIL_ECS_ADDRESS", default_value = "127.0.0.1")]
    pub address: IpAddr,

    /// Host names, separated by commas, under which browsers and programs may use this ECS over HTTP, beside IP
    /// addresses, `localhost` and the machine's own name: a request for another name is refused
    #[arg(long, env = "TREFOIL_ECS_HOST_NAMES", value_name = "NAMES")]
    pub host_names: Option<HostNames>,

    /// Directory for the state, created if it is missing
    #[arg(short, long, env = "TREFOIL_ECS_DIR", default_value = "trefoil-ecs")]
    pub dir: PathBuf,

    /// Partitions of a new cluster, a power of two from 1 to 16384 [default: 256]
    #[arg(long, env = "TREFOIL_ECS_PARTITIONS", value_name = "N", value_parser = parse_partitions)]
    pub partitions: Option<Partitions>,

    /// The disk of this cluster's ECS is lost: rebuild its state, in an empty directory, from the servers' reports
    #[arg(long, value_name = "CLUSTER", value_parser = parse_cluster, conflicts_with = "partitions")]
    pub rebuild: Option<ClusterId>,

    /// Copies of each partition, the coordinator's included
    #[arg(long, env = "TREFOIL_ECS_COPIES", value_name = "N", default_value_t = COPIES, value_parser = parse_copies)]
    pub copies: usize,

    /// Copies that a write needs on disk to be acknowledged: where fewer are in sync, writes wait and reads go on.
    /// `auto` is 2 from the third server on, and 1 before. Stored with the cluster; a value given at a later start
    /// replaces it [default: auto]
    #[arg(long, env = "TREFOIL_ECS_MIN_COPIES", value_name = "N", value_parser = parse_min_copies)]
    pub min_copies: Option<MinCopies>,

    /// After a restart, how long to wait for a server that may have the only whole copies, or a newer view: 30s, 5m,
    /// 0 (not at all) or never (wait for ever)
    #[arg(
        long,
        env = "TREFOIL_ECS_RESTART_WAIT",
        value_name = "TIME",
        default_value = "30s",
        value_parser = parse_wait
    )]
    pub restart_wait: RestartWait,

    /// New servers stand by and get no partitions until an operator adds them (`kvclient admin plan add`). Stored with
    /// the cluster; a value given at a later start replaces it [default: false]
    #[arg(
        long,
        env = "TREFOIL_ECS_STAND_BY",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true
    )]
    pub stand_by: Option<bool>,

    /// How long a server may be silent before it is removed; must be the same as the servers' `--timers`
    #[arg(long, env = "TREFOIL_TIMERS", value_name = "PROFILE", value_enum, default_value_t)]
    pub timers: Profile,

    /// File to log to, instead of standard error
    #[arg(short, long, env = "TREFOIL_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Format of the log's lines: text, or json for programs
    #[arg(long, env = "TREFOIL_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: common::logging::Format,

    /// How much is logged: off, error, warn, info, debug or trace (-ll and ALL, SEVERE, FATAL work too)
    #[arg(long, env = "TREFOIL_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
}

impl Options {
    /// The options of a line of arguments, the program's name first. The family's `-ll LEVEL` is `--log-level LEVEL`.
    ///
    /// # Errors
    /// When an argument is unknown or wrong, or help is asked for.
    pub fn read(args: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(with_family_flags(args))
    }

    /// The options that the core needs.
    #[must_use]
    pub fn config(&self) -> Config {
        let timers = match self.timers {
            Profile::Adaptive => Timers::ADAPTIVE,
            Profile::Fast => Timers::FAST,
            Profile::Steady => Timers::STEADY,
        };
        Config { timers, copies: self.copies, restart_wait: self.restart_wait.0, ..Config::default() }
    }

    /// The partitions of a cluster that is to be created.
    #[must_use]
    pub fn partitions_of_new(&self) -> Partitions {
        let default = || Partitions::try_from(PARTITIONS_DEFAULT).expect("the default is a power of two");
        self.partitions.unwrap_or_else(default)
    }
}

fn parse_partitions(text: &str) -> Result<Partitions, String> {
    let count: u32 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    Partitions::try_from(count).map_err(|error| error.to_string())
}

fn parse_wait(text: &str) -> Result<RestartWait, String> {
    if text == "never" {
        return Ok(RestartWait(None));
    }
    match duration::parse(text) {
        Ok(time) => Ok(RestartWait(Some(time))),
        Err(error) => Err(format!("{error}, or never")),
    }
}

fn parse_cluster(text: &str) -> Result<ClusterId, String> {
    let wrong =
        |_| format!("`{text}` is no cluster's id: 32 hex digits, as servers and `kvclient status` show it");
    text.parse().map_err(wrong)
}

fn parse_copies(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=COPIES_MAX).contains(count));
    count.ok_or_else(|| format!("`{text}` is no number from 1 to {COPIES_MAX}"))
}

fn parse_min_copies(text: &str) -> Result<MinCopies, String> {
    if text == "auto" {
        return Ok(MinCopies(None));
    }
    let wrong = |_| format!("`{text}` is neither auto nor a number from 1 to {COPIES_MAX}");
    parse_copies(text).map(|number| MinCopies(Some(number))).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(words: &[&str]) -> Result<Options, clap::Error> {
        Options::read(std::iter::once("ecs").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
        assert_eq!(read(&[]).unwrap().port, 3000);
    }

    #[test]
    fn the_family_spells_the_log_level_in_its_own_way() {
        for level in ["ALL", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF", "SEVERE", "trace"] {
            assert!(read(&["-ll", level]).is_ok(), "{level}");
        }
        assert!(read(&["-ll", "LOUD"]).is_err());
    }

    #[test]
    fn the_wait_after_a_restart_is_a_time_or_for_ever() {
        let wait = |words: &[&str]| read(words).unwrap().config().restart_wait;
        assert_eq!(wait(&[]), Some(ecs_core::limits::RESTART_WAIT));
        assert_eq!(wait(&["--restart-wait", "0"]), Some(Duration::ZERO));
        assert_eq!(wait(&["--restart-wait", "5m"]), Some(Duration::from_secs(300)));
        assert_eq!(wait(&["--restart-wait", "never"]), None);
        let error = read(&["--restart-wait", "soon"]).unwrap_err().to_string();
        assert!(error.contains("never"), "{error}");
    }

    #[test]
    fn wrong_numbers_are_refused_with_the_right_ones() {
        let error = read(&["--partitions", "100"]).unwrap_err().to_string();
        assert!(error.contains("power of two"), "{error}");
        assert!(read(&["--copies", "0"]).is_err());
        let error = read(&["--min-copies", "0"]).unwrap_err().to_string();
        assert!(error.contains("auto nor a number from 1"), "{error}");
        assert_eq!(read(&["--min-copies", "auto"]).unwrap().min_copies, Some(MinCopies(None)));
        assert_eq!(read(&["--min-copies", "2"]).unwrap().min_copies, Some(MinCopies(Some(2))));
    }
}
