//! The arguments of `import` and `export`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::format::Format;

/// `kvclient import`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; `-` is standard input
    pub(super) file: PathBuf,
    /// By default taken from the file's name: tsv for .tsv, ndjson for all others
    #[arg(long)]
    pub(super) format: Option<Format>,
    /// Requests in flight at a time; writes to one key stay in order
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(super) jobs: u16,
    /// Go on where an import of this file was stopped
    #[arg(long)]
    pub(super) resume: bool,
    /// Skip malformed lines instead of stopping; they are reported and counted
    #[arg(long)]
    pub(super) skip_bad: bool,
}

impl ImportArgs {
    /// Whether it reads standard input.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.file == Path::new("-")
    }
}

/// `kvclient export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file; `-` is standard output
    #[arg(default_value = "-")]
    pub(super) file: PathBuf,
    /// By default taken from the file's name: tsv for .tsv, ndjson for all others
    #[arg(long)]
    pub(super) format: Option<Format>,
    /// Only keys with this prefix
    #[arg(long, default_value = "")]
    pub(super) prefix: String,
    /// Sort by the keys' bytes (in memory), so that exports can be compared byte for byte
    #[arg(long)]
    pub(super) sort: bool,
}
