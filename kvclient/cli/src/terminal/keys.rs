//! A few keys with a prefix, for completion: a scan that is bounded in time and number.

use bytes::Bytes;
use common::ids::PartitionId;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits::{COMPLETION_KEYS_MAX, COMPLETION_PARTITIONS_AT_ONCE, COMPLETION_WITHIN};
use kvclient::Client;

/// Up to [`COMPLETION_KEYS_MAX`] keys that begin with `prefix`, in their order: those that were found in time.
pub(crate) async fn some(client: &Client, prefix: Bytes) -> Vec<Bytes> {
    let mut keys = Vec::new();
    // Keys that were found before the time is over are returned.
    let _over = timeout(COMPLETION_WITHIN, find(client, prefix, &mut keys)).await;
    keys.sort_unstable();
    keys.truncate(COMPLETION_KEYS_MAX);
    keys
}

async fn find(client: &Client, prefix: Bytes, keys: &mut Vec<Bytes>) {
    let count = client.view().partitions.count();
    let mut partitions = (0..count).filter_map(|partition| u16::try_from(partition).ok()).map(PartitionId);
    let mut pages = JoinSet::new();
    let limit = u32::try_from(COMPLETION_KEYS_MAX).unwrap_or(u32::MAX);
    loop {
        for partition in partitions.by_ref().take(COMPLETION_PARTITIONS_AT_ONCE - pages.len()) {
            let (client, prefix) = (client.clone(), prefix.clone());
            pages.spawn(async move { client.scan_partition(partition, None, prefix, limit).await });
        }
        let Some(page) = pages.join_next().await else { return };
        // A partition that cannot be read has no keys to offer now.
        if let Ok(Ok(page)) = page {
            keys.extend(page.pairs.into_iter().map(|pair| pair.key));
        }
        if keys.len() >= COMPLETION_KEYS_MAX {
            return;
        }
    }
}
