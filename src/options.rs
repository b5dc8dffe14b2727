//! The options of the cluster in a box.

use std::path::PathBuf;

use clap::Parser;

/// Start an ECS and a few servers under one directory, and open a shell. Lines that are piped in are run, and the
/// cluster stops after the last one. The next start finds the data again.
#[derive(Debug, Parser)]
#[command(
    name = "trefoil",
    version,
    after_help = "Examples:\n  trefoil\n  printf 'put k v\\nget k\\n' | trefoil"
)]
pub(crate) struct Options {
    /// Directory for all data
    #[arg(short, long, env = "TREFOIL_BOX_DIR", default_value = "trefoil-data")]
    pub(crate) dir: PathBuf,
    /// Number of servers; each value is kept on three of them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) servers: u16,
    /// Port of the ECS; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) ecs_port: u16,
    /// Port of the first server, the others use the next ones; 0 takes any free ones
    #[arg(short, long, value_name = "PORT", default_value_t = 0)]
    pub(crate) port: u16,
    /// Space to keep free on the disk, in MiB: below it writes are refused, reads go on
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub(crate) reserve_mb: u64,
    /// How much is logged, to the file `log` in the directory
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: common::logging::Level,
}
