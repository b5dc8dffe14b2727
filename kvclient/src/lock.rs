//! Locks: a key that one client holds for a lease, which it renews as long as it lives.
//!
//! The value of the key is a token that no other client knows, and its time to live is the lease. A lock is *held* from
//! the put of the token on; a task renews the lease whenever a third of it has passed. It is *lost* when a renewal
//! finds another token or none, or when none was answered for the whole lease. It is *released* by a delete of the
//! token. A client that dies leaves a key that expires.
//!
//! What no such lock can do: a holder that was stopped for longer than its lease (a suspended machine, a long pause)
//! does not know yet that another one holds the lock. So what the lock protects should compare versions:
//! [`Lock::fencing`] grows from holder to holder, and a resource that has seen a larger one refuses a smaller one
//! (Kleppmann, "How to do distributed locking").

use std::time::Duration;

use bytes::Bytes;
use common::clock;
use common::ids::ClientId;
use common::messages::Change;
use common::operation::{Condition, Expiry, ExpiryCondition, Operation, Outcome, Version};
use common::time::Time;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::change::millis;
use crate::client::{Client, unexpected};
use crate::error::Error;
use crate::limits::{LOCK_LEASE_LEAST, LOCK_LOOKS_EVERY};
use crate::request_loop::wait;

/// A lock that is held; see [`Client::lock`]. Dropped without [`release`](Self::release), it is free when its lease is
/// over.
#[derive(Debug)]
#[must_use = "a lock that is dropped is renewed no more"]
pub struct Lock {
    client: Client,
    key: Bytes,
    token: Bytes,
    fencing: Version,
    /// Until when it is held for certain. The sender is gone when it is lost.
    until: watch::Receiver<Time>,
    renewal: JoinHandle<()>,
}

impl Lock {
    /// The key that is locked.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The version of the write that took the lock: larger than that of each holder before. Give it to what the lock
    /// protects, and let that refuse what comes with a smaller one.
    #[must_use]
    pub fn fencing(&self) -> Version {
        self.fencing
    }

    /// Whether the lock is still held, as far as this client can know.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.until.has_changed().is_ok() && clock::time() < *self.until.borrow()
    }

    /// Waits until the lock is lost: what it protects is to be left alone from then on.
    pub async fn lost(&self) {
        let mut until = self.until.clone();
        while until.changed().await.is_ok() {}
    }

    /// Releases the lock, so that another client can take it at once. `false`: it was lost before.
    ///
    /// # Errors
    /// See [`Error`]. Whatever happened, the lock is free when its lease is over.
    pub async fn release(self) -> Result<bool, Error> {
        self.renewal.abort();
        match self.client.delete(self.key.clone()).if_value(self.token.clone()).await? {
            Outcome::Deleted { .. } => Ok(true),
            Outcome::NotFound {} | Outcome::ConditionFailed { .. } => Ok(false),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// How a try to take a lock ended.
enum Try {
    Taken(Lock),
    /// Another client has it, with this version.
    Held(Version),
}

impl Client {
    /// Takes the lock that is this key, as soon as it is free; a `tokio::time::timeout` around it bounds the wait. The
    /// lease is at least a second: how long the lock stays taken when this client dies.
    ///
    /// # Errors
    /// See [`Error`]; after [`Error::OutcomeUnknown`] it may be that no client can take the lock until a lease is over.
    pub async fn lock(&self, key: impl Into<Bytes>, lease: Duration) -> Result<Lock, Error> {
        let key = key.into();
        loop {
            match self.take(&key, lease).await? {
                Try::Taken(lock) => return Ok(lock),
                Try::Held(version) => self.wait_until_free(&key, version).await?,
            }
        }
    }

    /// Takes the lock if it is free; see [`lock`](Self::lock).
    ///
    /// # Errors
    /// As those of [`lock`](Self::lock).
    pub async fn try_lock(&self, key: impl Into<Bytes>, lease: Duration) -> Result<Option<Lock>, Error> {
        match self.take(&key.into(), lease).await? {
            Try::Taken(lock) => Ok(Some(lock)),
            Try::Held(_) => Ok(None),
        }
    }

    async fn take(&self, key: &Bytes, lease: Duration) -> Result<Try, Error> {
        let lease = lease.max(LOCK_LEASE_LEAST);
        let token = Bytes::from(ClientId::random().to_string());
        // The servers count the lease from a later moment on.
        let started = clock::time();
        match self.put(key.clone(), token.clone()).ttl(lease).if_absent().await? {
            Outcome::Written { version: fencing, .. } => {
                let (held, until) = watch::channel(started + lease);
                let (client, key) = (self.clone(), key.clone());
                let renewal = tokio::spawn(renew(client.clone(), (key.clone(), token.clone()), lease, held));
                Ok(Try::Taken(Lock { client, key, token, fencing, until, renewal }))
            }
            Outcome::ConditionFailed { current: Some(version) } => Ok(Try::Held(version)),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the key that had this version is gone: a watch reports a release, a look now and then finds a lease
    /// that is over.
    async fn wait_until_free(&self, key: &Bytes, version: Version) -> Result<(), Error> {
        let mut watch = self.watch_key_from(key.clone(), version).await?;
        loop {
            match timeout(LOCK_LOOKS_EVERY, watch.next()).await {
                Ok(Ok(Change::Delete { .. })) => return Ok(()),
                Ok(Ok(Change::Put { .. } | Change::Expiry { .. })) => {}
                // The watch goes on when servers answer again.
                Ok(Err(error)) if error.is_retryable() => {}
                Ok(Err(error)) => return Err(error),
                // A lease that is over is no change that a watch reports.
                Ok(Ok(Change::Gap { .. })) | Err(_) if self.get(key.clone()).await?.is_none() => {
                    return Ok(());
                }
                Ok(Ok(Change::Gap { .. })) | Err(_) => {}
            }
        }
    }
}

/// Renews a lease until it is lost.
async fn renew(client: Client, (key, token): (Bytes, Bytes), lease: Duration, held: watch::Sender<Time>) {
    loop {
        wait(lease / 3).await;
        let started = clock::time();
        let left = held.borrow().since(started);
        let operation = Operation::Retime {
            key: key.clone(),
            expiry: Expiry::In { ms: millis(lease) },
            when: ExpiryCondition::Always {},
            condition: Condition::Value { value: token.clone() },
            return_old: false,
        };
        match timeout(left, client.write(operation)).await {
            Ok(Ok(Outcome::Changed { .. })) => {
                held.send_replace(started + lease);
            }
            // The library's patience was shorter than what is left of the lease.
            Ok(Err(Error::Unavailable { .. } | Error::OutcomeUnknown { .. })) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Action, Fake, Store, operation_of};
    use common::messages::Reply;

    const LEASE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_at_a_time_holds_a_lock() {
        let mut store = Store::default();
        let fake = Fake::alone(move |request| store.handle(request)).await;
        let client = fake.client(10_000).await;
        let lock = client.try_lock("k", LEASE).await.unwrap().expect("it is free");
        assert!(lock.is_held() && client.try_lock("k", LEASE).await.unwrap().is_none());
        let first = lock.fencing();
        assert!(lock.release().await.unwrap());
        let lock = client.lock("k", LEASE).await.unwrap();
        assert!(lock.fencing() > first);
        client.put("k", "stolen").await.unwrap();
        assert!(!lock.release().await.unwrap());
        assert_eq!(client.get("k").await.unwrap().unwrap().value, "stolen");
    }

    #[tokio::test]
    async fn a_lock_that_is_not_renewed_is_lost() {
        let mut store = Store::default();
        let fake = Fake::alone(move |request| match operation_of(request) {
            Some(Operation::Retime { .. }) => {
                Action::Reply(Reply::Outcome { outcome: Outcome::Kept { old: None } })
            }
            _ => store.handle(request),
        })
        .await;
        let client = fake.client(10_000).await;
        let lock = client.lock("k", LOCK_LEASE_LEAST).await.unwrap();
        lock.lost().await;
        assert!(!lock.is_held());
    }
}
