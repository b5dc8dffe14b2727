//! The flags of `kvserver`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use common::limits::{CONNECTIONS_MAX, Timers, VALUE_BYTES_MAX};

use kvserver_core::Reads;

/// Trefoil's server: coordinates its share of the ring and keeps replicas of others' shares.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kvserver",
    version,
    after_help = "Examples:\n  kvserver -p 5001 -b localhost:3000 -d data/1\n  \
    kvserver inspect -d data/1\n  kvserver reinstate -d data/1"
)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Action>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What to do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Action {
    /// List what a storage directory holds, without a running cluster.
    Inspect {
        /// The storage directory.
        #[arg(short, long, env = "TREFOIL_DIR")]
        dir: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a directory the id of a new store, and keep its contents: for an older copy of a directory, or a copy of
    /// one that is in use. The server must be stopped
    #[command(
        after_help = "Examples:\n  kvserver new-store -d data/1\n  kvserver new-store -d copy-of-1 --new-server"
    )]
    NewStore {
        /// The storage directory.
        #[arg(short, long, env = "TREFOIL_DIR")]
        dir: PathBuf,
        /// Its server gets a new id as well: for a copy that is to run beside the original.
        #[arg(long)]
        new_server: bool,
    },
    /// Recover a store that failed, or cannot be read completely, as far as it is readable. Where other servers have
    /// in-sync copies that is not needed. The server must be stopped
    #[command(
        after_help = "Examples:\n  kvserver reinstate -d data/1\n  kvserver reinstate -d data/1 --from damaged-1"
    )]
    Reinstate {
        /// The storage directory.
        #[arg(short, long, env = "TREFOIL_DIR")]
        dir: PathBuf,
        /// A store that was set aside in the directory, instead of the one that is in use: the name of its folder.
        #[arg(long, value_name = "FOLDER")]
        from: Option<String>,
    },
}

/// The timers of leases and heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Those of `fast`; the ECS waits longer, up to 5 s, for servers whose heartbeats come late.
    Adaptive,
    /// A fail-over takes about one second.
    Fast,
    /// For loaded or distant machines: about three seconds.
    Steady,
}

impl Profile {
    /// The profile's times.
    #[must_use]
    pub fn timers(self) -> Timers {
        match self {
            Self::Adaptive => Timers::ADAPTIVE,
            Self::Fast => Timers::FAST,
            Self::Steady => Timers::STEADY,
        }
    }
}

/// How reads are kept linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadMode {
    /// Leases between servers: a read costs no message between servers; clocks must run at nearly the same rate.
    Lease,
    /// A round of messages between servers for all waiting reads; needs no clock.
    Barrier,
}

impl From<ReadMode> for Reads {
    fn from(mode: ReadMode) -> Self {
        match mode {
            ReadMode::Lease => Self::Lease,
            ReadMode::Barrier => Self::Barrier,
        }
    }
}

/// How a server runs.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Port for clients and servers, every protocol; 0 takes any free one
    #[arg(short, long, env = "TREFOIL_PORT", default_value_t = 5001)]
    pub port: u16,
    /// Address to listen on
    #[arg(short, long, env = "TREFOIL_ADDRESS", default_value = "127.0.0.1")]
    pub address: String,
    /// `host:port` at which others reach this server, if it differs from address and port
    #[arg(long, env = "TREFOIL_ADVERTISE", value_name = "HOST:PORT", value_parser = host_and_port)]
    pub advertise: Option<String>,
    /// `host:port` for metrics and health over HTTP (/metrics, /healthz, /readyz), such as 127.0.0.1:9001; port 0 takes
    /// any free one. Without it there is no such port. There is no authentication: do not expose it to the public
    #[arg(long, env = "TREFOIL_HTTP", value_name = "HOST:PORT", value_parser = host_and_port)]
    pub http: Option<String>,
    /// The ECS, `host:port`
    #[arg(
        short = 'b',
        long,
        env = "TREFOIL_ECS",
        value_name = "HOST:PORT",
        default_value = "localhost:3000",
        value_parser = host_and_port
    )]
    pub ecs: String,
    /// Storage directory; its server keeps its identity there
    #[arg(short, long, env = "TREFOIL_DIR", default_value = "trefoil-server")]
    pub dir: PathBuf,
    /// Log file; without it the log goes to standard error
    #[arg(short, long, env = "TREFOIL_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Format of the log's lines: text, or json for programs
    #[arg(long, env = "TREFOIL_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: common::logging::Format,
    /// How much is logged: off, error, warn, info, debug or trace (-ll and ALL, SEVERE, FATAL work too)
    #[arg(long, env = "TREFOIL_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: common::logging::Level,
    /// Requests that take this many milliseconds or longer are logged as slow, with their keys; 0: none
    #[arg(long, env = "TREFOIL_SLOW_MS", value_name = "MS", default_value_t = 1000)]
    pub slow_ms: u64,
    /// Collector that spans of traced requests are sent to, as OTLP in JSON over HTTP: `http://host:port`, such as
    /// http://127.0.0.1:4318
    #[cfg(feature = "otel")]
    #[arg(long, env = "TREFOIL_OTLP_ENDPOINT", value_name = "URL", value_parser = common::spans::endpoint)]
    pub otlp_endpoint: Option<String>,
    /// Share of the ring relative to other servers
    #[arg(
        long,
        env = "TREFOIL_WEIGHT",
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub weight: u32,
    /// Largest size of a value, in bytes
    #[arg(
        long,
        env = "TREFOIL_MAX_VALUE",
        value_name = "BYTES",
        default_value_t = VALUE_BYTES_MAX,
        value_parser = value_limit
    )]
    pub max_value: usize,
    /// Largest number of clients' connections
    #[arg(long, env = "TREFOIL_MAX_CONNECTIONS", value_name = "N", default_value_t = CONNECTIONS_MAX)]
    pub max_connections: usize,
    /// Times of leases and heartbeats; must be the same for all servers and the ECS
    #[arg(long, env = "TREFOIL_TIMERS", value_name = "PROFILE", value_enum, default_value_t = Profile::Adaptive)]
    pub timers: Profile,
    /// How reads are kept linearizable; must be the same for all servers. `barrier` is for hosts whose clocks may stop
    /// without notice (a virtual machine that is frozen without seeing it): all in-sync replicas are asked first
    #[arg(long, env = "TREFOIL_READS", value_name = "MODE", value_enum, default_value_t = ReadMode::Lease)]
    pub reads: ReadMode,
    /// Milliseconds that a request may wait for a temporary obstacle (a hand-over) to pass before it is refused
    #[arg(long, env = "TREFOIL_PARK_MS", value_name = "MS", default_value_t = 1000)]
    pub park_ms: u64,
    /// Milliseconds that a stop (SIGTERM, Ctrl-C) may take to hand everything over to other servers; 0: none
    #[arg(long, env = "TREFOIL_DRAIN_MS", value_name = "MS", default_value_t = 30_000)]
    pub drain_ms: u64,
    /// A second port, for text only
    #[arg(long, env = "TREFOIL_TEXT_PORT", value_name = "PORT")]
    pub text_port: Option<u16>,
    /// On the text port, send one line first, as some clients expect
    #[arg(long, env = "TREFOIL_GREETING", requires = "text_port")]
    pub greeting: bool,
    /// Memory for recently read and written data, in MiB: one half for values, one for blocks of the trees' files
    #[arg(long, env = "TREFOIL_CACHE_MB", value_name = "MIB", default_value_t = 64, value_parser = mebibytes(1))]
    pub cache_mb: u64,
    /// Commit log that is kept before the trees are flushed to free it, in MiB
    #[arg(
        long,
        env = "TREFOIL_LOG_MB",
        value_name = "MIB",
        default_value_t = 256,
        value_parser = mebibytes(LOG_MB_MIN)
    )]
    pub log_mb: u64,
    /// Space to keep free on the disk, in MiB: below it writes are refused, reads go on
    #[arg(long, env = "TREFOIL_RESERVE_MB", value_name = "MIB", default_value_t = 512, value_parser = mebibytes(0))]
    pub reserve_mb: u64,
    /// Rate of sending copies of partitions to other servers, all together, in bytes a second; 0: unlimited
    #[arg(long, env = "TREFOIL_TRANSFER_RATE", value_name = "BYTES_PER_SECOND", default_value_t = TRANSFER_RATE)]
    pub transfer_rate: u64,
    /// Seconds between two scrubs, which verify everything stored against its checksums; 0: never
    #[arg(long, env = "TREFOIL_SCRUB_INTERVAL", value_name = "SECONDS", default_value_t = SCRUB_SECONDS)]
    pub scrub_interval: u64,
    /// Rate of a scrub, in bytes a second; 0: unlimited
    #[arg(long, env = "TREFOIL_SCRUB_RATE", value_name = "BYTES_PER_SECOND", default_value_t = SCRUB_RATE)]
    pub scrub_rate: u64,
    /// Taken for compatibility: a cache size in keys. The cache is measured in bytes, see --cache-mb
    #[arg(short = 'c', long, hide = true)]
    pub cache_size: Option<u64>,
    /// Taken for compatibility: a cache strategy (FIFO, LRU, LFU). The block cache has one of its own
    #[arg(short = 's', long, hide = true, value_parser = ["FIFO", "LRU", "LFU", "fifo", "lru", "lfu"])]
    pub strategy: Option<String>,
}

impl Options {
    /// Time between two scrubs; zero for none.
    pub(crate) fn scrub(&self) -> Duration {
        Duration::from_secs(self.scrub_interval)
    }

    /// How long a request may wait for a temporary obstacle to pass.
    pub(crate) fn park(&self) -> Duration {
        Duration::from_millis(self.park_ms)
    }
}

/// Half of what a link of a gigabit a second takes, so that clients keep the other: 10 GiB take less than three
/// minutes.
const TRANSFER_RATE: u64 = 64 << 20;

/// A day: sectors go bad in months, and what has expired takes room no longer than that.
const SCRUB_SECONDS: u64 = 24 * 3600;

/// A small part of what a disk reads: 100 GiB take three and a half hours.
const SCRUB_RATE: u64 = 8 << 20;

/// Two segments: the store needs them to free one.
const LOG_MB_MIN: u64 = 64;

/// An exbibyte, so that bytes are counted in 64 bits.
const MB_MAX: u64 = 1 << 40;

fn mebibytes(least: u64) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(least..=MB_MAX)
}

fn host_and_port(text: &str) -> Result<String, String> {
    common::address::split(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn value_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 1..=VALUE_BYTES_MAX) => Ok(bytes),
        _ => Err(format!("a number of bytes from 1 to {VALUE_BYTES_MAX} is needed")),
    }
}
