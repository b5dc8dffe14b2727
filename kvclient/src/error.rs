//! Why a request failed, by what the caller can do about it.

use common::operation::InvalidOperation;

/// A request that was not answered as hoped. What a write did or did not find (no value, a condition that does
/// not hold) is no error but an [`Outcome`](common::operation::Outcome).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Change the request: a key or a value is out of its limits. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] InvalidOperation),
    /// Read the reason: nothing was done, and the same request would be refused again.
    #[error("refused: {reason}")]
    Refused {
        /// What is wrong and what to do.
        reason: String,
    },
    /// Try again later: nothing was done.
    #[error("no server could do it: {reason} ({})", tried_list(tried))]
    Unavailable {
        /// Addresses that were tried.
        tried: Vec<String>,
        /// What the last of them said, or why it could not be asked.
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
        /// Its address.
        server: String,
        /// What it said.
        what: String,
    },
}

fn tried_list(tried: &[String]) -> String {
    if tried.is_empty() { "no server was reached".to_owned() } else { format!("tried {}", tried.join(", ")) }
}
