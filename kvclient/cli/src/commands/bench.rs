//! The load generator behind `kvclient bench`.
//!
//! `workload` says which kinds of request there are, `keys` which key each takes, `pace` when it is
//! due: at once when the one before is answered (a closed loop), or at fixed times (`--rate`, an open loop). What is
//! loaded is a [`Target`]: Trefoil here; the comparison in `bench/load` brings Redis and etcd, so that all of them
//! get the same load from the same program. Everything runs on the caller's runtime.

mod args;
mod disk;
mod keys;
mod load;
mod measured;
mod pace;
mod progress;
mod report;
mod target;
mod workload;

use std::io::Write;

pub use args::BenchArgs;
pub use load::{measure, preload};
pub use report::Report;
pub use target::{Answered, Request, Target};
pub use workload::Kind;

use crate::frame::failure::{Exit, Failure};
use kvclient::Client;
use kvclient::Options;

/// Measures, and writes the result to `out`.
pub(crate) async fn run(
    servers: &[String],
    options: &Options,
    args: &BenchArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    args.check(Client::KINDS).map_err(Failure::usage)?;
    let mut clients = Vec::new();
    for _ in 0..args.connections() {
        clients.push(Client::connect(servers, options.clone()).await?);
    }
    if args.preloads() {
        preload(&clients, args).await?;
    }
    if args.only_preloads() {
        return Ok(());
    }
    let report = measure(&clients, args).await.map_err(Failure::usage)?;
    report.write(args.json(), out).map_err(Failure::output)?;
    match report.failed() {
        Some(error) => Err(Failure::new(Exit::Unavailable, format!("no request succeeded: {error}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
