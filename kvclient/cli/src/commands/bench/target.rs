//! The system under load.

use bytes::Bytes;
use common::operation::{Condition, Outcome};

use super::workload::Kind;
use kvclient::Client;
use kvclient::Error;

/// A request to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The value of a key.
    Get {
        /// A key, which may have no value.
        key: Bytes,
    },
    /// Set a value, whether there was one or not.
    Put {
        /// A key, which may have a value.
        key: Bytes,
        /// What it is set to.
        value: Bytes,
    },
    /// Keys and values that follow a key, in an order of the target's own.
    Scan {
        /// The key before them.
        after: Bytes,
        /// The number of keys, at most.
        limit: u32,
    },
    /// Read a value, and replace it if it is still the same; else again.
    Update {
        /// A key that has a value.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
}

/// The result of a request that was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// A get found nothing.
    pub missed: bool,
    /// Keys that a scan found.
    pub scanned: u64,
    /// How often another client had changed the value between the read and the write of an update.
    pub conflicts: u64,
}

/// A system under load: one client of it, or a handle to one. Any number of requests may be on their way.
pub trait Target: Clone + Send + Sync + 'static {
    /// Why a request failed.
    type Error: std::error::Error + Send + 'static;

    /// The kinds of request that the target knows.
    const KINDS: &'static [Kind];

    /// Does one request to its end.
    fn perform(&self, request: Request) -> impl Future<Output = Result<Answered, Self::Error>> + Send;
}

impl Target for Client {
    type Error = Error;

    const KINDS: &'static [Kind] = &Kind::ALL;

    async fn perform(&self, request: Request) -> Result<Answered, Error> {
        let mut answered = Answered::default();
        match request {
            Request::Get { key } => answered.missed = self.get(key).await?.is_none(),
            Request::Put { key, value } => drop(self.put(key, value).await?),
            Request::Scan { after, limit } => {
                // Keys are in order within a partition, and partitions are in the order of hashes.
                let partition = self.view().partitions.of_key(&after);
                let page = self.scan_partition(partition, Some(after), Bytes::new(), limit).await?;
                answered.scanned = page.pairs.len() as u64;
            }
            Request::Update { key, value } => loop {
                let condition = match self.get(key.clone()).await? {
                    Some(found) => Condition::Version { version: found.version },
                    None => Condition::Absent {},
                };
                match self.put(key.clone(), value.clone()).condition(condition).await? {
                    Outcome::ConditionFailed { .. } => answered.conflicts += 1,
                    _ => break,
                }
            },
        }
        Ok(answered)
    }
}
