//! Many keys at once: files in, files out.

mod args;
mod checkpoint;
mod export;
mod format;
mod import;
pub(crate) mod ndjson;
mod progress;
mod reader;
mod record;
pub(crate) mod tsv;
mod window;

pub(crate) use args::{ExportArgs, ImportArgs};
pub(crate) use export::export;
pub(crate) use import::import;

#[cfg(test)]
mod tests;
