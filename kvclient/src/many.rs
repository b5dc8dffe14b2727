//! Many keys at once: as many requests, a window of them on their way at a time.

use bytes::Bytes;
use common::operation::{Found, Version};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::error::Error;
use crate::limits::MANY_IN_FLIGHT;

impl Client {
    /// The values of many keys, in the order of the keys. Each is as fresh as a get by itself; together they are no
    /// snapshot.
    ///
    /// # Errors
    /// The error of the first key that could not be read. See [`Error`].
    pub async fn get_many<K: Into<Bytes>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Found>>, Error> {
        let gets = keys.into_iter().map(|key| {
            let (client, key) = (self.clone(), key.into());
            async move { client.get(key).await }
        });
        in_order(gets).await.into_iter().collect()
    }

    /// Sets many values, in no order, and says of each what became of it, in the order of the pairs. Those of one
    /// partition that must be set together are a [`batch`](Self::batch).
    #[must_use = "each put may have failed"]
    pub async fn put_many<K: Into<Bytes>, V: Into<Bytes>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<Result<Version, Error>> {
        let puts = pairs.into_iter().map(|(key, value)| {
            let (client, key, value) = (self.clone(), key.into(), value.into());
            async move { client.put(key, value).await }
        });
        in_order(puts).await
    }
}

/// What the requests are answered, in their order. Dropping it gives those up that are on their way.
async fn in_order<T: Send + 'static>(
    mut requests: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut answers: Vec<Option<T>> = Vec::new();
    let mut running = JoinSet::new();
    loop {
        while running.len() < MANY_IN_FLIGHT
            && let Some(request) = requests.next()
        {
            let at = answers.len();
            answers.push(None);
            running.spawn(async move { (at, request.await) });
        }
        let Some(done) = running.join_next().await else { break };
        let (at, answer) = done.expect("a request ends");
        answers[at] = Some(answer);
    }
    answers.into_iter().map(|answer| answer.expect("each request was awaited")).collect()
}
