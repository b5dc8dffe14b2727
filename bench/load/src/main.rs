//! The load of `kvclient bench` on Trefoil, Redis and etcd: the same program, the same clients, the same keys.
//!
//! Trefoil is loaded by its own library, or, like Redis, by a client of the Redis protocol; etcd by a client of its
//! gRPC interface. `bench/compare` starts the servers and runs this; `load table` makes its table.

mod disk;
mod etcd;
mod failover;
mod processor;
mod resp;
mod settled;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::bench::{BenchArgs, Report, Target, measure, preload};
use kvclient::{Client, Options};
use serde_json::{Value, json};

use etcd::Etcd;
use resp::Resp;

#[derive(Parser)]
#[command(about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loads a system, and prints a line of JSON
    Run(Box<RunArgs>),
    /// Kills a server, and prints how long clients waited as a line of JSON
    Failover {
        /// Which service says where writes go
        #[arg(long, value_enum)]
        kind: failover::Kind,
        /// Servers, with commas between them
        #[arg(short, long, value_delimiter = ',', required = true)]
        servers: Vec<String>,
        /// The process that is killed with -9
        #[arg(long)]
        kill: u32,
        /// Goes into the result
        #[arg(long)]
        system: String,
    },
    /// Which of these members of etcd leads: its place in the list, from 0 on
    Leader {
        /// Members, with commas between them
        #[arg(short, long, value_delimiter = ',', required = true)]
        servers: Vec<String>,
    },
    /// The bytes that a cluster of Trefoil, or one server of it, holds, once all copies are there and evenly spread;
    /// fails before
    Settled {
        /// Servers, with commas between them
        #[arg(short, long, value_delimiter = ',', required = true)]
        servers: Vec<String>,
        /// So many have to be up
        #[arg(long)]
        count: usize,
        /// The server that is asked about
        #[arg(long)]
        address: Option<String>,
    },
    /// What the disk takes in writes of 1 MiB that are each synced, as a line of JSON
    Disk {
        /// A folder on it
        folder: PathBuf,
    },
    /// Medians, ratios and aims from lines of JSON
    Table {
        /// The lines
        file: PathBuf,
    },
}

#[derive(Args)]
struct RunArgs {
    /// What is spoken
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Servers, with commas between them; clients are spread over them
    #[arg(short, long, value_delimiter = ',', required = true)]
    servers: Vec<String>,
    /// For the Redis protocol: puts wait for so many replicas, with one WAIT for all that leave together
    #[arg(long)]
    wait: Option<u32>,
    /// Processes whose processor time is counted, with commas between them
    #[arg(long, value_delimiter = ',')]
    processes: Vec<u32>,
    /// Goes into the result: what is loaded
    #[arg(long, default_value = "")]
    system: String,
    /// Goes into the result: which row of the table this is
    #[arg(long, default_value = "")]
    row: String,
    /// Goes into the result: which round this is
    #[arg(long, default_value_t = 0)]
    round: u32,
    #[command(flatten)]
    bench: BenchArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// Trefoil's own, with its library, which finds the coordinator of each key
    Trefoil,
    /// That of Redis
    Resp,
    /// That of etcd
    Etcd,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| runtime.block_on(run(Arguments::parse().command)));
    match result {
        Ok(text) => {
            let written = io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<String, String> {
    match command {
        Command::Run(args) => load(&args).await,
        Command::Failover { kind, servers, kill, system } => {
            let waited = failover::run(kind, &servers, kill).await?;
            Ok(line(&json!({ "row": "failover", "system": system, "ms": waited.as_secs_f64() * 1000.0 })))
        }
        Command::Leader { servers } => {
            for (place, server) in servers.iter().enumerate() {
                // A member that does not answer does not lead.
                if let Ok(etcd) = Etcd::connect(server).await
                    && etcd.leads().await.unwrap_or(false)
                {
                    return Ok(format!("{place}\n"));
                }
            }
            Err("no member leads yet; ask again".to_owned())
        }
        Command::Settled { servers, count, address } => {
            settled::bytes(&servers, count, address.as_deref()).await.map(|bytes| format!("{bytes}\n"))
        }
        Command::Disk { folder } => {
            let bytes_per_second =
                disk::synced_writes(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            Ok(line(&json!({ "row": "disk", "bytes_per_second": bytes_per_second })))
        }
        Command::Table { file } => {
            let lines =
                std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            table::of(&lines)
        }
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

async fn load(args: &RunArgs) -> Result<String, String> {
    match args.protocol {
        Protocol::Trefoil => {
            let connect = |_| Client::connect(&args.servers, Options::default());
            load_target(args, connect).await
        }
        Protocol::Resp => load_target(args, |server| Resp::connect(server, args.wait)).await,
        Protocol::Etcd => load_target(args, Etcd::connect).await,
    }
}

/// Loads what `connect` leads to; it is given a server for each connection, in turn.
async fn load_target<'a, T: Target>(
    args: &'a RunArgs,
    connect: impl AsyncFn(&'a str) -> Result<T, T::Error>,
) -> Result<String, String> {
    args.bench.check(T::KINDS)?;
    let mut targets = Vec::new();
    for index in 0..args.bench.connections() {
        let server = &args.servers[index % args.servers.len()];
        targets.push(connect(server).await.map_err(|error| error.to_string())?);
    }
    if args.bench.preloads() {
        preload(&targets, &args.bench).await.map_err(|error| error.to_string())?;
    }
    if args.bench.only_preloads() {
        return Ok(String::new());
    }
    let before = processor::used(&args.processes)?;
    let own_before = processor::used(&[std::process::id()])?;
    let report = measure(&targets, &args.bench).await?;
    let own = processor::used(&[std::process::id()])? - own_before;
    let servers = processor::used(&args.processes)? - before;
    if let Some(error) = report.failed() {
        return Err(format!("no request succeeded: {error}"));
    }
    Ok(line(&result(args, &report, servers.as_secs_f64(), own.as_secs_f64())))
}

fn result(args: &RunArgs, report: &Report, servers: f64, own: f64) -> Value {
    let mut value = serde_json::to_value(report).expect("a report is plain JSON");
    let per_op = |seconds: f64| seconds * 1e6 / report.ops().max(1) as f64;
    value["row"] = json!(args.row);
    value["system"] = json!(args.system);
    value["round"] = json!(args.round);
    value["servers_processor_us_per_op"] = json!(per_op(servers));
    value["client_processor_us_per_op"] = json!(per_op(own));
    value
}
