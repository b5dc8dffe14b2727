//! `kvserver inspect`: lists the content of a storage directory, without a running cluster.

use std::path::Path;

use common::status::Role;
use common::view::View;
use serde::Serialize;

use crate::error::Error;
use crate::store::identity;
use crate::store::log_ids::from_log_id;
use kvserver_core::DurableState;

/// A storage directory's content.
#[derive(Debug, Serialize)]
struct Listing {
    server: String,
    store: String,
    /// The number of the newest view that was kept.
    view: String,
    partitions: Vec<Line>,
}

/// The listing of one partition.
#[derive(Debug, Serialize)]
struct Line {
    partition: u16,
    /// The server's role in the newest view that was kept.
    role: Role,
    /// Keys on disk in the tree; entries that are in the log alone are not counted.
    keys: u64,
    bytes: u64,
    log_first: u64,
    log_last: u64,
    applied: String,
    synced: String,
}

/// Prints the listing.
///
/// # Errors
/// When the directory is no storage directory, in use, or damaged.
pub(crate) fn run(dir: &Path, json: bool) -> Result<(), Error> {
    let Some((server, store)) = identity::peek(dir)? else {
        let detail = "there is no identity in it: no server has used this directory".to_owned();
        return Err(Error::Foreign { file: dir.to_owned(), detail });
    };
    let view = identity::read_view(dir)?;
    let inspection = storage::inspect(dir).map_err(Error::storage(dir))?;
    let partitions = inspection.partitions.into_iter().map(|found| {
        let durable_state = DurableState::decode(found.durable_state).unwrap_or_default();
        Line {
            partition: found.partition,
            role: role(view.as_deref(), server, found.partition),
            keys: found.keys,
            bytes: found.bytes,
            log_first: found.log_first,
            log_last: found.log_last,
            applied: from_log_id(found.applied).to_string(),
            synced: durable_state.synced.to_string(),
        }
    });
    let listing = Listing {
        server: server.to_string(),
        store: store.to_string(),
        view: view.as_ref().map_or_else(|| "none".to_owned(), |view| view.number.to_string()),
        partitions: partitions.collect(),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&listing).expect("a listing is JSON"));
    } else {
        print(&listing);
    }
    Ok(())
}

fn role(view: Option<&View>, server: common::ids::ServerId, partition: u16) -> Role {
    let assignment = view.and_then(|view| view.assignment(common::ids::PartitionId(partition)));
    match assignment {
        Some(assignment) if assignment.coordinator == server => Role::Coordinator,
        Some(assignment) if assignment.in_sync_member(server).is_some() => Role::Replica,
        Some(assignment) if assignment.joining_member(server).is_some() => Role::Joining,
        _ => Role::None,
    }
}

fn print(listing: &Listing) {
    println!("server {}  store {}  view {}", listing.server, listing.store, listing.view);
    println!(
        "{:>9}  {:<11}  {:>10}  {:>12}  {:>10}  {:>10}  {:>14}  {:>8}",
        "partition", "role", "keys", "bytes", "log first", "log last", "applied", "in step"
    );
    for line in &listing.partitions {
        let role = match line.role {
            Role::Coordinator => "coordinator",
            Role::Replica => "replica",
            Role::Joining => "joining",
            Role::None => "none",
        };
        println!(
            "{:>9}  {role:<11}  {:>10}  {:>12}  {:>10}  {:>10}  {:>14}  {:>8}",
            line.partition, line.keys, line.bytes, line.log_first, line.log_last, line.applied, line.synced
        );
    }
}
