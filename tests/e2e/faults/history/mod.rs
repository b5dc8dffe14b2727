//! What clients requested of a real cluster and observed, and whether some sequential order explains it.
//!
//! Every value that is ever written is a row of *tokens*, each written once, so a value shows which writes made it.
//! [`order`] uses the versions in the replies: linear in time, all keys of a partition together. [`search`] knows
//! nothing but requests and answers and looks for an order key by key. [`recorder`] runs the clients.

pub(crate) mod order;
pub(crate) mod recorder;
pub(crate) mod search;

use std::collections::BTreeMap;

use common::operation::{Outcome, Version};
use common::ring::Partitions;

/// Microseconds of this machine's clock.
pub(crate) type Micros = u64;

/// What a client requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// The value.
    Get,
    /// To set it.
    Put { token: String },
    /// To set it if it has this version, which a read has returned.
    PutIf { version: Version, token: String },
    /// To add to it.
    Append { token: String },
    /// To remove it.
    Delete,
}

impl Invocation {
    pub(crate) fn token(&self) -> Option<&str> {
        match self {
            Self::Put { token } | Self::PutIf { token, .. } | Self::Append { token } => Some(token),
            Self::Get | Self::Delete => None,
        }
    }
}

/// What the client observed as the outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// No answer, or an unknown outcome: it may have happened, or may yet, at any time after it was invoked.
    Unknown,
    /// That it did not and will not happen.
    NotDone,
    /// A value; a line of text has no version.
    Value { value: Option<String>, version: Option<Version> },
    /// What a write did.
    Outcome(Outcome),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operated {
    pub(crate) key: String,
    pub(crate) invocation: Invocation,
    pub(crate) invoked: Micros,
    /// When the answer was there; it means nothing without one.
    pub(crate) returned: Micros,
    pub(crate) observed: Observed,
}

/// Closes each token.
pub(crate) const TOKEN_END: char = ';';

/// The write that a value ends with.
pub(crate) fn last_token(value: &str) -> &str {
    let inner = value.strip_suffix(TOKEN_END).unwrap_or(value);
    let begin = inner.rfind(TOKEN_END).map_or(0, |end| end + 1);
    &value[begin..]
}

/// Checks everything that clients saw.
///
/// # Panics
/// When no sequential order explains it.
#[track_caller]
pub(crate) fn check(operations: &[Operated], partitions: Partitions) -> Summary {
    let mut by_partition: BTreeMap<u16, Vec<&Operated>> = BTreeMap::new();
    let mut by_key: BTreeMap<&str, Vec<&Operated>> = BTreeMap::new();
    for operated in operations {
        by_partition.entry(partitions.of_key(operated.key.as_bytes()).0).or_default().push(operated);
        by_key.entry(&operated.key).or_default().push(operated);
    }
    let mut summary = Summary { operations: operations.len(), keys: by_key.len(), ..Summary::default() };
    summary.unknown = operations.iter().filter(|operated| operated.observed == Observed::Unknown).count();
    for (partition, operations) in &by_partition {
        if let Err(what) = order::check(operations) {
            panic!("not linearizable: partition {partition}: {what}");
        }
    }
    for (key, operations) in &by_key {
        match search::check(operations) {
            search::Verdict::Linearizable => summary.searched += 1,
            search::Verdict::Impossible => {
                panic!("not linearizable: no order explains what was observed of {key}")
            }
            search::Verdict::TooLarge => {}
        }
    }
    assert!(2 * summary.searched >= summary.keys, "too few keys were searched to the end: {summary:?}");
    summary
}

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) operations: usize,
    /// Of them, without an outcome.
    pub(crate) unknown: usize,
    pub(crate) keys: usize,
    /// Keys for which the search found an order; all others are checked by version alone.
    pub(crate) searched: usize,
}
