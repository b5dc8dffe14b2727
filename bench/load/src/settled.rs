//! Whether a cluster of Trefoil has all its copies, evenly spread.

use common::view::ServerState;
use kvclient::{Client, Options};

/// The bytes that the server at `address` holds (all of them if none is named), when `count` servers are up, no copy is
/// missing or on its way, and coordinators and copies are even. An error says what is not so yet.
pub(crate) async fn bytes(servers: &[String], count: usize, address: Option<&str>) -> Result<u64, String> {
    let client = Client::connect(servers, Options::default()).await.map_err(|error| error.to_string())?;
    let status = client.cluster_status().await.map_err(|error| error.to_string())?;
    let up: Vec<_> = status.servers.iter().filter(|server| server.state == ServerState::Up).collect();
    if up.len() != count {
        return Err(format!("{} servers are up", up.len()));
    }
    // With fewer servers than copies some are missing for good.
    let missing = status.under_replicated > 0 && count >= status.copies as usize;
    if missing || status.joining > 0 || status.offline > 0 {
        return Err(format!(
            "{} partitions lack copies, {} are on their way",
            status.under_replicated, status.joining
        ));
    }
    let uneven = |counts: Vec<u32>| counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) > 1;
    if uneven(up.iter().map(|server| server.coordinator).collect())
        || uneven(up.iter().map(|server| server.coordinator + server.replica).collect())
    {
        return Err("copies are not even".to_owned());
    }
    let wanted = up.iter().filter(|server| address.is_none_or(|address| server.address == address));
    Ok(wanted.map(|server| server.bytes).sum())
}
