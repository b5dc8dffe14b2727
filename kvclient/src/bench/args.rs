//! The arguments of `bench`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

/// `kvclient bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// Clients, each with connections of its own
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub(super) clients: usize,
    /// All clients share one set of connections
    #[arg(long)]
    pub(super) shared: bool,
    /// Requests in flight for each client
    #[arg(long, value_name = "D", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub(super) pipeline: usize,
    /// How long to measure
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    pub(super) seconds: f64,
    /// Stop after so many requests instead
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub(super) requests: Option<u64>,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(0..=8_388_608))]
    pub(super) value_bytes: usize,
    /// Keys, of which each request takes one at random
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) keys: u64,
    /// Gets in a hundred requests; the others are puts. With gets, all keys are put first
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) reads: u8,
    /// Of the random choices
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Begin the name of every key so
    #[arg(long, default_value = "bench:")]
    pub(super) prefix: String,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Measure fdatasync in this folder first, and compare
    #[arg(long, value_name = "DIR")]
    pub(super) probe_disk: Option<PathBuf>,
}
