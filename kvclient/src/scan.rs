//! Reading many keys: pages in partition order, the next partitions fetched ahead.

use std::collections::VecDeque;

use bytes::Bytes;
use common::ids::PartitionId;
use common::messages::{Reply, Request};
use common::operation::Pair;
use tokio::task::JoinHandle;

use crate::client::{Client, unexpected};
use crate::error::Error;
use crate::limits::{SCAN_PAGE_PAIRS, SCAN_PARTITIONS_AHEAD};
use crate::router::Target;

/// Pairs of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In key order.
    pub pairs: Vec<Pair>,
    /// There are more after the last pair (or, if there are no pairs, ask again).
    pub more: bool,
}

/// A scan over all partitions; see [`Client::scan`].
#[derive(Debug)]
pub struct Scan {
    client: Client,
    prefix: Bytes,
    page_pairs: u32,
    /// The first partition that is not being fetched yet.
    next: usize,
    fetches: VecDeque<Fetch>,
}

/// A page on its way. Dropping it stops asking for it.
#[derive(Debug)]
struct Fetch {
    partition: PartitionId,
    after: Option<Bytes>,
    page: JoinHandle<Result<Page, Error>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.page.abort();
    }
}

impl Scan {
    fn new(client: Client, prefix: Bytes) -> Self {
        Self { client, prefix, page_pairs: SCAN_PAGE_PAIRS, next: 0, fetches: VecDeque::new() }
    }

    /// Asks for `pairs` at a time, at least 1.
    #[must_use]
    pub fn page_pairs(mut self, pairs: u32) -> Self {
        self.page_pairs = pairs.max(1);
        self
    }

    /// The next pairs, at least one; `None` at the end.
    ///
    /// # Errors
    /// See [`Error`]. The same page may be asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<Pair>>, Error> {
        loop {
            self.fetch_ahead().await?;
            let Some(fetch) = self.fetches.front_mut() else { return Ok(None) };
            let (partition, after) = (fetch.partition, fetch.after.clone());
            let fetched = (&mut fetch.page).await;
            self.fetches.pop_front();
            let page = match fetched.unwrap_or_else(|error| Err(Error::Refused { reason: error.to_string() }))
            {
                Ok(page) => page,
                Err(error) => {
                    self.fetches.push_front(self.fetch(partition, after));
                    return Err(error);
                }
            };
            if page.more {
                let after = page.pairs.last().map(|pair| pair.key.clone()).or(after);
                self.fetches.push_front(self.fetch(partition, after));
            }
            if !page.pairs.is_empty() {
                return Ok(Some(page.pairs));
            }
        }
    }

    async fn fetch_ahead(&mut self) -> Result<(), Error> {
        let mut view = self.client.view();
        if view.assignments.is_empty() {
            view = self.client.refresh_view().await?;
        }
        if view.assignments.is_empty() {
            let reason = "the cluster has no servers yet".to_owned();
            return Err(Error::Unavailable { tried: Vec::new(), reason });
        }
        while self.next < view.partitions.count() && self.fetches.len() < SCAN_PARTITIONS_AHEAD {
            let partition =
                PartitionId(u16::try_from(self.next).expect("partitions are numbered with 16 bits"));
            self.fetches.push_back(self.fetch(partition, None));
            self.next += 1;
        }
        Ok(())
    }

    fn fetch(&self, partition: PartitionId, after: Option<Bytes>) -> Fetch {
        let (client, prefix, limit) = (self.client.clone(), self.prefix.clone(), self.page_pairs);
        let from = after.clone();
        let page = tokio::spawn(async move { client.scan_partition(partition, from, prefix, limit).await });
        Fetch { partition, after, page }
    }
}

impl Client {
    /// Keys of one partition that begin with `prefix`, in key order, after `after`: one page of up to `limit`
    /// pairs, the servers may give fewer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn scan_partition(
        &self,
        partition: PartitionId,
        after: Option<Bytes>,
        prefix: Bytes,
        limit: u32,
    ) -> Result<Page, Error> {
        let request = |_| Request::Scan { partition, after: after.clone(), prefix: prefix.clone(), limit };
        match self.read(Target::Partition(partition), request).await? {
            Reply::Page { pairs, more } => Ok(Page { pairs, more }),
            other => Err(unexpected(&other)),
        }
    }

    /// All keys that begin with `prefix`, partition by partition in ring order, in key order within each. A scan
    /// is no snapshot: each page is as fresh as a get.
    #[must_use]
    pub fn scan(&self, prefix: impl Into<Bytes>) -> Scan {
        Scan::new(self.clone(), prefix.into())
    }
}
