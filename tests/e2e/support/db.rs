//! The client library for tests that are not async.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::operation::{Found, Version};
use common::ring::Partitions;
use kvclient::{Client, Error, Options};
use tokio::runtime::Runtime;

use super::wait::SOON;

/// How long a request of a test is retried: a fail-over on a busy machine is far shorter.
const REQUEST_TIMEOUT: Duration = SOON;

/// The options of tests' clients.
pub(crate) fn options() -> Options {
    Options { timeout: REQUEST_TIMEOUT, connect_timeout: REQUEST_TIMEOUT, ..Options::default() }
}

/// A client and the runtime that it lives in.
pub(crate) struct Db {
    runtime: Runtime,
    pub(crate) client: Client,
}

impl Db {
    #[track_caller]
    pub(crate) fn connect(seeds: &[String]) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(Client::connect(seeds, options()));
        Self {
            client: client.unwrap_or_else(|error| panic!("cannot connect to {seeds:?}: {error}")),
            runtime,
        }
    }

    pub(crate) fn block<T>(&self, future: impl IntoFuture<Output = T>) -> T {
        self.runtime.block_on(future.into_future())
    }

    #[track_caller]
    pub(crate) fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Version {
        expect(self.block(self.client.put(key, value)))
    }

    #[track_caller]
    pub(crate) fn found(&self, key: impl Into<Bytes>) -> Option<Found> {
        expect(self.block(self.client.get(key)))
    }

    /// The value as text.
    #[track_caller]
    pub(crate) fn get(&self, key: impl Into<Bytes>) -> Option<String> {
        self.found(key).map(|found| String::from_utf8_lossy(&found.value).into_owned())
    }

    /// Puts many values at once, `value(i)` to `key(i)`.
    #[track_caller]
    pub(crate) fn put_many(&self, pairs: &BTreeMap<String, String>) {
        let mut requests = tokio::task::JoinSet::new();
        for (key, value) in pairs.clone() {
            let client = self.client.clone();
            requests.spawn_on(async move { client.put(key, value).await }, self.runtime.handle());
        }
        for outcome in self.block(requests.join_all()) {
            expect(outcome);
        }
    }

    /// All keys with a prefix, by a scan.
    #[track_caller]
    pub(crate) fn scan(&self, prefix: &str) -> BTreeMap<String, String> {
        let mut scan = self.client.scan(prefix.to_owned());
        let mut all = BTreeMap::new();
        while let Some(pairs) = expect(self.block(scan.next())) {
            for pair in pairs {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let before = all.insert(text(&pair.key), text(&pair.found.value));
                assert_eq!(before, None, "a scan shows {:?} twice", pair.key);
            }
        }
        all
    }

    /// How many of these keys are in each partition of the cluster.
    pub(crate) fn keys_by_partition<'a>(&self, keys: impl Iterator<Item = &'a String>) -> BTreeMap<u16, u64> {
        let partitions: Partitions = self.client.view().partitions;
        let mut counts = BTreeMap::new();
        for key in keys {
            *counts.entry(partitions.of_key(key.as_bytes()).0).or_insert(0) += 1;
        }
        counts
    }
}

/// A runtime with one worker, beside the servers that share the machine.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[track_caller]
fn expect<T>(answer: Result<T, Error>) -> T {
    answer.unwrap_or_else(|error| panic!("a request failed: {error}"))
}

/// `count` pairs whose values differ in length.
pub(crate) fn pairs(prefix: &str, count: usize) -> BTreeMap<String, String> {
    let pair = |i: usize| (format!("{prefix}{i}"), format!("{i} {}", "v".repeat(1 + i * 37 % 400)));
    (0..count).map(pair).collect()
}
