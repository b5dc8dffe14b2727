//! Why a request failed, by what the caller can do about it.

use common::operation::InvalidOperation;

/// A request that failed. That a write found no value, or that its condition was not met, is no error but an
/// [`Outcome`](common::operation::Outcome).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Name one or more servers: a client begins with those that are named. Nothing was sent.
    #[error("no server was named; name one or more of the cluster, as HOST:PORT")]
    NoServers,
    /// Change the request: a key or a value is out of its limits. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] InvalidOperation),
    /// Read the reason: nothing was changed, and the same request would be refused again.
    #[error("refused: {reason}")]
    Refused {
        /// What is wrong and what to do.
        reason: String,
    },
    /// Try again later: nothing was changed.
    #[error("no server could answer: {reason} ({})", tried_list(tried))]
    Unavailable {
        /// Addresses that were tried.
        tried: Vec<String>,
        /// What the last server answered, or why it could not be asked.
        reason: String,
    },
    /// Read before you write again: this write may have been carried out, or still be.
    #[error("whether the write was carried out is not known: {reason}")]
    OutcomeUnknown {
        /// Why it is not known.
        reason: String,
    },
    /// Use programs of one version: a server answered what this library does not understand.
    #[error("{server} does not speak this client's protocol: {what}")]
    Incompatible {
        /// The server's address.
        server: String,
        /// What the server answered.
        what: String,
    },
}

impl Error {
    /// Nothing was done, and the same request may succeed later. A client has retried it already, for all of
    /// [`Options::timeout`](crate::Options::timeout). Not so [`OutcomeUnknown`](Self::OutcomeUnknown): the write may
    /// have been done, and only its caller knows whether twice is as good as once.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

fn tried_list(tried: &[String]) -> String {
    if tried.is_empty() { "no server was reached".to_owned() } else { format!("tried {}", tried.join(", ")) }
}
