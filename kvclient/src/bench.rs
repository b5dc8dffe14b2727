//! `kvclient bench`: puts and gets in a closed loop, each sent when the one before is answered.

mod args;
mod disk;
mod load;
mod report;

use std::io::Write;

pub(crate) use args::BenchArgs;

use crate::cli::{Exit, Failure};
use crate::client::Client;
use crate::options::Options;

/// Measures, and writes the result to `out`.
pub(crate) async fn run(
    servers: &[String],
    options: &Options,
    args: &BenchArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let disk = args.probe_disk.as_deref().map(disk::probe).transpose()?;
    let mut clients = Vec::new();
    for _ in 0..if args.shared { 1 } else { args.clients } {
        clients.push(Client::connect(servers, options.clone()).await?);
    }
    if args.reads > 0 {
        load::preload(&clients, args).await?;
    }
    let measured = load::run(&clients, args).await;
    let report = report::Report::new(args, &measured, disk);
    report.write(args.json, out).map_err(Failure::output)?;
    match (measured.ops(), measured.first_error) {
        (0, Some(error)) => Err(Failure::new(Exit::Unavailable, format!("no request succeeded: {error}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
