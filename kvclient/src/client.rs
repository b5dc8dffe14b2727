//! The client: requests as methods.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{ClientId, RequestId};
use common::limits::CLIENT_RETRY_FOR;
use common::messages::{Reply, Request};
use common::operation::{Found, Operation, Outcome, check_key};
#[cfg(feature = "otel")]
use common::spans::Spans;
use common::view::View;

use crate::error::Error;
use crate::limits::REFRESH_ANSWERS_THOROUGH;
use crate::numbers::{Numbers, Ticket};
use crate::options::{Options, ReadFrom};
use crate::retry::Progress;
use crate::router::{Router, Target};

/// A client of one cluster. Clones share everything, cost nothing and may be used by any number of tasks; one
/// connection to each server carries the requests of all of them.
///
/// Every method retries until it has an answer or [`Options::timeout`] is over. A write is applied once, however
/// often it was retried. Dropping a method's future gives the request up: a write may then happen or not.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// Takes the ids of traced requests; `None`: they are not traced.
    tracer: Option<Tracer>,
    /// Takes their spans.
    #[cfg(feature = "otel")]
    spans: Option<Spans>,
}

/// Takes the ids of traced requests.
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

impl Client {
    /// Connects to the cluster that the servers at `seeds` (`host:port` each) belong to.
    ///
    /// # Errors
    /// [`Error::NoServers`] when there are no seeds, and [`Error::Unavailable`] when none of them answers with its view
    /// within [`Options::connect_timeout`].
    pub async fn connect<S: AsRef<str>>(
        seeds: impl IntoIterator<Item = S>,
        options: Options,
    ) -> Result<Self, Error> {
        let patience = options.connect_timeout;
        let client = Self::connect_lazy(seeds, options)?;
        client.first_view(patience).await?;
        Ok(client)
    }

    /// A client that has asked no server yet and knows no view. The first request, or
    /// [`refresh_view`](Self::refresh_view), asks the servers at `seeds` for it.
    ///
    /// # Errors
    /// [`Error::NoServers`] when there are no seeds.
    pub fn connect_lazy<S: AsRef<str>>(
        seeds: impl IntoIterator<Item = S>,
        options: Options,
    ) -> Result<Self, Error> {
        let seeds: Vec<String> = seeds.into_iter().map(|seed| seed.as_ref().to_owned()).collect();
        if seeds.is_empty() {
            return Err(Error::NoServers);
        }
        let numbers = Numbers::new(ClientId::random());
        let timeout = options.timeout.min(CLIENT_RETRY_FOR);
        let (router, read_from) = (Router::new(seeds), options.read_from);
        Ok(Self {
            shared: Arc::new(Shared { numbers, router, timeout, read_from }),
            tracer: None,
            #[cfg(feature = "otel")]
            spans: None,
        })
    }

    /// The id that this client's writes carry.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.shared.numbers.client()
    }

    /// The same client, whose requests from here on are traced: each server that handles one logs what it does with it,
    /// and when, under the id that `on_request` is called with before the request is sent. A write keeps its id over
    /// all tries. It takes servers of this version; older ones close the connection.
    #[must_use]
    pub fn traced(&self, on_request: impl Fn(RequestId) + Send + Sync + 'static) -> Self {
        Self { tracer: Some(Tracer(Arc::new(on_request))), ..self.clone() }
    }

    /// The same client, which also sends a span of each traced request ([`Client::traced`]) to a collector, from the
    /// first try to the answer. It is the root of the servers' spans of the request.
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
    /// [`Error::Unavailable`] when no server answers with its view.
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
            other => Err(unexpected(&other)),
        }
    }

    /// Has an operation ordered by the coordinator of `target`; what it did.
    pub(crate) async fn ordered(&self, target: Target<'_>, operation: &Operation) -> Result<Outcome, Error> {
        // Kept to the end: until then no server drops the result of the write.
        let ticket = self.shared.numbers.open();
        let origin = ticket.origin;
        let request = |age_ms| Request::Write { origin, age_ms, operation: operation.clone() };
        let traced = self.trace(&ticket);
        match self.call(target, Progress::write(), traced, request).await? {
            // A number is open until its answer is here, so no correct server gives this answer.
            Reply::Outcome { outcome: Outcome::Superseded {} } => {
                Err(Error::OutcomeUnknown { reason: "a server has forgotten what the write did".to_owned() })
            }
            Reply::Outcome { outcome } => Ok(outcome),
            other => Err(Error::OutcomeUnknown { reason: format!("a server answered {other:?}") }),
        }
    }

    pub(crate) async fn read(
        &self,
        target: Target<'_>,
        request: impl Fn(u64) -> Request,
    ) -> Result<Reply, Error> {
        // A read has a number only to name it in traces.
        let ticket = self.tracer.as_ref().map(|_| self.shared.numbers.open());
        let traced = ticket.as_ref().and_then(|ticket| self.trace(ticket));
        self.call(target, Progress::read(), traced, request).await
    }

    /// The id of a request, if it is traced.
    fn trace(&self, ticket: &Ticket<'_>) -> Option<RequestId> {
        let Tracer(on_request) = self.tracer.as_ref()?;
        on_request(ticket.id());
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

pub(crate) fn unexpected(answer: &impl std::fmt::Debug) -> Error {
    Error::Incompatible { server: "a server".to_owned(), what: format!("it answered {answer:?}") }
}

#[cfg(test)]
mod tests;
