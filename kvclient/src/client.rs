//! The client: requests as methods.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{ClientId, PartitionId, RequestId};
use common::limits::{CLIENT_RETRY_FOR, VALUE_BYTES_MAX};
use common::messages::{Reply, Request};
use common::operation::{Condition, Found, Operation, Outcome, Version, check_key};
#[cfg(feature = "otel")]
use common::spans::Spans;
use common::time::WallTime;
use common::view::View;

use crate::error::Error;
use crate::limits::REFRESH_ANSWERS_THOROUGH;
use crate::numbers::{Numbers, Ticket};
use crate::options::{Options, ReadFrom};
use crate::retry::Progress;
use crate::router::{Router, Target};
use crate::scan::{Page, Scan};

/// A client of one cluster. Clones share everything, cost nothing and may be used by any number of tasks; one
/// connection to each server carries the requests of all of them.
///
/// Every method retries until it has an answer or [`Options::timeout`] is over. A write is applied once, however
/// often it was retried. Dropping a method's future gives the request up: a write may then happen or not.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// Requests are traced, and their ids told here.
    tracer: Option<Tracer>,
    /// And how long they took, here.
    #[cfg(feature = "otel")]
    spans: Option<Spans>,
}

/// Who is told the ids of traced requests.
#[derive(Clone)]
struct Tracer(Arc<dyn Fn(RequestId) + Send + Sync>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracer")
    }
}

#[derive(Debug)]
struct Shared {
    numbers: Numbers,
    router: Router,
    timeout: Duration,
    read_from: ReadFrom,
}

/// Where appended bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where in the value they begin.
    pub offset: u64,
    /// Of the new value.
    pub version: Version,
}

impl Client {
    /// Connects to the cluster that the servers at `seeds` (`host:port` each) belong to.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none of them tells its view within [`Options::connect_timeout`].
    pub async fn connect(seeds: &[String], options: Options) -> Result<Self, Error> {
        let patience = options.connect_timeout;
        let client = Self::unconnected(seeds, options);
        client.first_view(patience).await?;
        Ok(client)
    }

    /// A client that knows no view yet.
    pub(crate) fn unconnected(seeds: &[String], options: Options) -> Self {
        let numbers = Numbers::new(ClientId::random());
        let timeout = options.timeout.min(CLIENT_RETRY_FOR);
        let (router, read_from) = (Router::new(seeds), options.read_from);
        Self {
            shared: Arc::new(Shared { numbers, router, timeout, read_from }),
            tracer: None,
            #[cfg(feature = "otel")]
            spans: None,
        }
    }

    /// The id that this client's writes carry.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.shared.numbers.client()
    }

    /// The same client, whose requests from here on are traced: each server that has to do with one logs what it does
    /// with it, and when, under the id that `tell` is called with before the request is sent. A write keeps its id over
    /// all tries. It takes servers of this version; older ones close the connection.
    #[must_use]
    pub fn traced(&self, tell: impl Fn(RequestId) + Send + Sync + 'static) -> Self {
        Self { tracer: Some(Tracer(Arc::new(tell))), ..self.clone() }
    }

    /// The same client: of each request that is traced ([`Client::traced`]), the span of this side, from the first try to
    /// the answer, goes to a collector. It is the root of those that servers send of the request.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn with_spans(&self, spans: Spans) -> Self {
        Self { spans: Some(spans), ..self.clone() }
    }

    /// The newest view that this client knows. It is empty before the cluster's first server has joined.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.router.route().view)
    }

    /// Asks the servers for a newer view, and returns the newest known.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no server tells its view.
    pub async fn refresh_view(&self) -> Result<Arc<View>, Error> {
        let router = &self.shared.router;
        let refreshed = router.refresh(self.view().number, None, REFRESH_ANSWERS_THOROUGH).await;
        refreshed.map_err(|reason| Error::Unavailable { tried: router.addresses(None), reason })?;
        Ok(self.view())
    }

    /// The value of a key, linearizable; `None` when there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Found>, Error> {
        let key = key.into();
        check_key(&key)?;
        let request = |_| Request::Get { key: key.clone() };
        match self.read(Target::Key(&key), request).await? {
            Reply::Value { found } => Ok(found),
            other => Err(strange(&other)),
        }
    }

    /// Sets a value for ever, whether there was one or not.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Outcome, Error> {
        self.write(Operation::put(key, value)).await
    }

    /// Sets a value until `expires`, if `condition` holds.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_with(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        expires: Option<WallTime>,
        condition: Condition,
    ) -> Result<Outcome, Error> {
        self.write(Operation::Put { key: key.into(), value: value.into(), expires, condition }).await
    }

    /// Removes a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Outcome, Error> {
        self.delete_if(key, Condition::Always {}).await
    }

    /// Removes a value if `condition` holds.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_if(&self, key: impl Into<Bytes>, condition: Condition) -> Result<Outcome, Error> {
        self.write(Operation::Delete { key: key.into(), condition }).await
    }

    /// Adds bytes at the end of a value, or makes it of them.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Refused`] when the value would become too large.
    pub async fn append(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Appended, Error> {
        match self.write(Operation::Append { key: key.into(), value: value.into() }).await? {
            Outcome::Appended { version, offset } => Ok(Appended { offset, version }),
            Outcome::TooLarge { bytes } => {
                let reason = format!("the value would have {bytes} bytes, over the limit; begin a new key");
                Err(Error::Refused { reason })
            }
            other => Err(strange(&other)),
        }
    }

    /// Sets a value if the one that is there has this version. [`Outcome::ConditionFailed`] tells another one's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn compare_and_set_version(
        &self,
        key: impl Into<Bytes>,
        version: Version,
        value: impl Into<Bytes>,
    ) -> Result<Outcome, Error> {
        self.put_with(key, value, None, Condition::Version { version }).await
    }

    /// Sets a value if the one that is there is `old`, byte by byte.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn compare_and_set_value(
        &self,
        key: impl Into<Bytes>,
        old: impl Into<Bytes>,
        new: impl Into<Bytes>,
    ) -> Result<Outcome, Error> {
        self.put_with(key, new, None, Condition::Value { value: old.into() }).await
    }

    /// Sets or removes the expiry of a value that is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn expire(&self, key: impl Into<Bytes>, expires: Option<WallTime>) -> Result<Outcome, Error> {
        self.write(Operation::Expire { key: key.into(), expires }).await
    }

    /// Any change to one key. All other writing methods are short for this one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write(&self, operation: Operation) -> Result<Outcome, Error> {
        operation.check(VALUE_BYTES_MAX)?;
        let Some(key) = operation.key() else {
            return Err(Error::Refused { reason: "this operation names no key".to_owned() });
        };
        self.ordered(Target::Key(key), &operation).await
    }

    /// Has an operation ordered by the coordinator of `target`; what it did.
    pub(crate) async fn ordered(&self, target: Target<'_>, operation: &Operation) -> Result<Outcome, Error> {
        // Held to the end: until then no server forgets what the write did.
        let ticket = self.shared.numbers.open();
        let origin = ticket.origin;
        let request = |age_ms| Request::Write { origin, age_ms, operation: operation.clone() };
        let traced = self.trace(&ticket);
        match self.call(target, Progress::write(), traced, request).await? {
            // A number is open until its answer is here, so this is none that a server may give.
            Reply::Outcome { outcome: Outcome::Superseded {} } => {
                Err(Error::OutcomeUnknown { reason: "a server has forgotten what the write did".to_owned() })
            }
            Reply::Outcome { outcome } => Ok(outcome),
            other => Err(Error::OutcomeUnknown { reason: format!("a server answered {other:?}") }),
        }
    }

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
            other => Err(strange(&other)),
        }
    }

    /// All keys that begin with `prefix`, partition by partition in ring order, in key order within each. A scan
    /// is no snapshot: each page is as fresh as a get.
    #[must_use]
    pub fn scan(&self, prefix: impl Into<Bytes>) -> Scan {
        Scan::new(self.clone(), prefix.into())
    }

    async fn read(&self, target: Target<'_>, request: impl Fn(u64) -> Request) -> Result<Reply, Error> {
        // A read has a number only for its name.
        let ticket = self.tracer.as_ref().map(|_| self.shared.numbers.open());
        let traced = ticket.as_ref().and_then(|ticket| self.trace(ticket));
        self.call(target, Progress::read(), traced, request).await
    }

    /// The name of a request, if it is traced.
    fn trace(&self, ticket: &Ticket<'_>) -> Option<RequestId> {
        let Tracer(tell) = self.tracer.as_ref()?;
        tell(ticket.id());
        Some(ticket.id())
    }

    pub(crate) fn router(&self) -> &Router {
        &self.shared.router
    }

    pub(crate) fn read_from(&self) -> ReadFrom {
        self.shared.read_from
    }

    #[cfg(feature = "otel")]
    pub(crate) fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.shared.timeout
    }
}

fn strange(answer: &impl std::fmt::Debug) -> Error {
    Error::Incompatible { server: "a server".to_owned(), what: format!("it answered {answer:?}") }
}

#[cfg(test)]
mod tests;
