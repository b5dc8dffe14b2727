//! Comparing the copies of partitions, while writes go on: an entry of the log says where, and each server that has a
//! copy makes a digest of it as it was at that entry.

use std::time::Duration;

use common::clock;
use common::ids::{LogId, PartitionId, ServerId};
use common::messages::{Digest, Reply, Request};
use common::operation::{Operation, Outcome};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::error::Error;
use crate::request_loop::wait;
use crate::router::Target;

/// Partitions that are compared at the same time.
const AT_ONCE: usize = 8;

/// Entries at which a comparison is tried, at most: a copy that came or went meanwhile has no digest.
const TRIES: usize = 3;

/// How long the servers may take for a digest.
const DIGEST_FOR: Duration = Duration::from_secs(20);

/// The pause between two questions whether a digest is made.
const DIGEST_AGAIN: Duration = Duration::from_millis(20);

/// The copies of one partition, at one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The partition whose copies are compared.
    pub partition: PartitionId,
    /// The entry.
    pub at: LogId,
    /// In-sync copies, the coordinator's first. At least one.
    pub copies: Vec<CopyDigest>,
}

/// What one server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyDigest {
    /// The server whose copy it is.
    pub server: ServerId,
    /// The server's address.
    pub address: String,
    /// `None`: the server gave no digest in time.
    pub digest: Option<Digest>,
}

impl Comparison {
    /// Whether two copies have different data.
    #[must_use]
    pub fn differs(&self) -> bool {
        let mut known = self.copies.iter().filter_map(|copy| copy.digest);
        let first = known.next();
        known.any(|digest| Some(digest) != first)
    }

    /// Whether all copies have a digest.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.copies.iter().all(|copy| copy.digest.is_some())
    }
}

impl Client {
    /// Compares the in-sync copies of every partition, by number.
    ///
    /// # Errors
    /// See [`Error`]; a copy without an answer is no error but noted in the comparison.
    pub async fn compare_all(&self) -> Result<Vec<Comparison>, Error> {
        let view = self.refresh_view().await?;
        let mut left = view.partitions.all().take(view.assignments.len());
        let (mut running, mut done) = (JoinSet::new(), Vec::new());
        loop {
            while running.len() < AT_ONCE
                && let Some(partition) = left.next()
            {
                let client = self.clone();
                running.spawn(async move { client.compare(partition).await });
            }
            let Some(finished) = running.join_next().await else { break };
            done.push(finished.expect("a comparison ends")?);
        }
        done.sort_by_key(|comparison: &Comparison| comparison.partition);
        Ok(done)
    }

    /// Compares the in-sync copies of a partition.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn compare(&self, partition: PartitionId) -> Result<Comparison, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let comparison = self.compare_once(partition).await?;
            if comparison.is_complete() || tries == TRIES {
                return Ok(comparison);
            }
        }
    }

    async fn compare_once(&self, partition: PartitionId) -> Result<Comparison, Error> {
        let operation = Operation::Compare { partition };
        let at = match self.ordered(Target::Partition(partition), &operation).await? {
            Outcome::Compared { at } => at,
            other => {
                let what = format!("asked to compare copies, it answered {other:?}");
                return Err(Error::Incompatible { server: "a server".to_owned(), what });
            }
        };
        let view = self.refresh_view().await?;
        let mut copies = Vec::new();
        if let Some(assignment) = view.assignment(partition) {
            let coordinator = assignment.in_sync_member(assignment.coordinator);
            for member in coordinator.into_iter().chain(assignment.replicas()) {
                let Some(info) = view.servers.get(&member.server) else { continue };
                copies.push(CopyDigest {
                    server: member.server,
                    address: info.address.clone(),
                    digest: self.digest(&info.address, partition, at).await,
                });
            }
        }
        Ok(Comparison { partition, at, copies })
    }

    async fn digest(&self, address: &str, partition: PartitionId, at: LogId) -> Option<Digest> {
        let started = clock::time();
        loop {
            if let Ok(Reply::Digest { digest }) =
                self.router().peer(address).ask(Request::Digest { partition, at }).await
            {
                return Some(digest);
            }
            if clock::time().since(started) > DIGEST_FOR {
                return None;
            }
            wait(DIGEST_AGAIN).await;
        }
    }
}
