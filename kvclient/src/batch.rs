//! Batches: several operations on keys of one partition that are done at one position of its log, or not at all.

use std::pin::Pin;

use bytes::Bytes;
use common::operation::{Check, Condition, Operation, Outcome, Part, PartOutcome};

use crate::client::{Client, unexpected};
use crate::error::Error;

/// A batch; see [`Client::batch`]. Awaited, it is a [`BatchOutcome`].
#[derive(Clone, Debug)]
#[must_use = "a batch is sent when it is awaited"]
pub struct Batch<'a> {
    client: &'a Client,
    checks: Vec<Check>,
    parts: Vec<Part>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a condition may not have held"]
#[non_exhaustive]
pub enum BatchOutcome {
    /// It was done.
    Done {
        /// What each operation did, in their order.
        outcomes: Vec<Outcome>,
    },
    /// A condition did not hold; nothing was changed.
    ConditionFailed,
    /// It was done by an earlier try of the same batch, whose outcomes were too long to be remembered.
    DoneBefore,
}

impl Batch<'_> {
    /// Adds a condition on a key: if one does not hold, nothing of the batch is done.
    pub fn require(mut self, key: impl Into<Bytes>, condition: Condition) -> Self {
        self.checks.push(Check { key: key.into(), condition });
        self
    }

    /// Sets a value.
    pub fn put(self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.operation(Operation::put(key, value))
    }

    /// Removes a value.
    pub fn delete(self, key: impl Into<Bytes>) -> Self {
        self.operation(Operation::Delete { key: key.into(), condition: Condition::Always {} })
    }

    /// Adds bytes at the end of a value.
    pub fn append(self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.operation(Operation::Append { key: key.into(), value: value.into() })
    }

    /// Adds to a value that is a whole number in decimal digits.
    pub fn add(self, key: impl Into<Bytes>, by: i64) -> Self {
        self.operation(Operation::Add { key: key.into(), by })
    }

    /// Reads a value as the operations before leave it; its outcome is `Fetched`.
    pub fn get(self, key: impl Into<Bytes>) -> Self {
        self.operation(Operation::Fetch { key: key.into() })
    }

    /// Any operation but a batch. One whose own condition does not hold does nothing, and the others are done.
    pub fn operation(mut self, operation: Operation) -> Self {
        self.parts.push(Part(operation));
        self
    }
}

impl<'a> IntoFuture for Batch<'a> {
    type Output = Result<BatchOutcome, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, checks, parts } = self;
        Box::pin(async move {
            match client.write(Operation::Batch { checks, parts }).await? {
                Outcome::All { results } => {
                    let outcomes = results.into_iter().map(|PartOutcome(outcome)| outcome).collect();
                    Ok(BatchOutcome::Done { outcomes })
                }
                Outcome::Aborted {} => Ok(BatchOutcome::ConditionFailed),
                Outcome::Forgotten {} => Ok(BatchOutcome::DoneBefore),
                other => Err(unexpected(&other)),
            }
        })
    }
}

impl Client {
    /// Several operations that are done together, or not at all: nothing comes between them, and no client sees a part.
    /// All keys must be of one partition, which is where `view().partitions.of_key(key)` places them; a batch of others
    /// is refused.
    pub fn batch(&self) -> Batch<'_> {
        Batch { client: self, checks: Vec::new(), parts: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Action, Fake, Store};
    use common::messages::Reply;

    #[tokio::test]
    async fn a_batch_is_done_whole_or_not_at_all() {
        let mut store = Store::default();
        let fake = Fake::alone(move |request| store.handle(request)).await;
        let client = fake.client(10_000).await;
        let batch = client.batch().require("k", Condition::Absent {}).put("k", "1").add("k", 2).get("k");
        let Ok(BatchOutcome::Done { outcomes }) = batch.await else { panic!("there is no value") };
        assert_eq!(outcomes.len(), 3);
        let Outcome::Fetched { found: Some(found) } = &outcomes[2] else { panic!("{outcomes:?}") };
        assert_eq!(found.value, "3");
        let batch = client.batch().require("k", Condition::Absent {}).append("k", "4").delete("k");
        assert_eq!(batch.await, Ok(BatchOutcome::ConditionFailed));
        assert_eq!(client.get("k").await.unwrap().unwrap().value, "3");
    }

    #[tokio::test]
    async fn a_batch_without_a_key_is_not_sent() {
        let forgotten = Reply::Outcome { outcome: Outcome::Forgotten {} };
        let fake = Fake::alone(move |_| Action::Reply(forgotten.clone())).await;
        let client = fake.client(10_000).await;
        assert!(matches!(client.batch().await, Err(Error::Refused { .. })));
        assert!(fake.requests().is_empty());
        assert_eq!(client.batch().delete("k").await, Ok(BatchOutcome::DoneBefore));
    }
}
