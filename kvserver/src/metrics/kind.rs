//! Kinds of requests and of answers, as metrics name them.

use common::messages::Reply;
use common::operation::Operation;

use kvserver_core::{Ask, Query};

/// The kind of a request, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Put,
    Delete,
    Append,
    Expire,
    Add,
    Overwrite,
    Batch,
    Scan,
    Keys,
    Other,
    Watch,
}

/// All kinds, in their order.
pub(super) const KINDS: [(Kind, &str); 12] = [
    (Kind::Get, "get"),
    (Kind::Put, "put"),
    (Kind::Delete, "delete"),
    (Kind::Append, "append"),
    (Kind::Expire, "expire"),
    (Kind::Add, "add"),
    (Kind::Overwrite, "overwrite"),
    (Kind::Batch, "batch"),
    (Kind::Scan, "scan"),
    (Kind::Keys, "keys"),
    (Kind::Other, "other"),
    (Kind::Watch, "watch"),
];

/// Requests whose times are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Reads of one key.
    Read,
    /// Writes: they are on disk at every in-sync copy before they are answered.
    Write,
    /// Requests that read many keys.
    Scan,
}

impl Kind {
    pub(super) fn of(ask: &Ask) -> Self {
        match ask {
            Ask::Read(Query::Get { .. }) => Self::Get,
            Ask::Read(Query::Scan { .. }) => Self::Scan,
            Ask::Read(Query::Keys { .. } | Query::Count { .. }) => Self::Keys,
            Ask::Read(Query::Nothing) => Self::Other,
            Ask::Watch(_) => Self::Watch,
            Ask::Write { operation, .. } => match operation {
                Operation::Put { .. } | Operation::Set { .. } => Self::Put,
                Operation::Delete { .. } | Operation::Take { .. } => Self::Delete,
                Operation::Append { .. } => Self::Append,
                Operation::Expire { .. } | Operation::Retime { .. } => Self::Expire,
                Operation::Add { .. } | Operation::AddDecimal { .. } => Self::Add,
                Operation::Overwrite { .. } => Self::Overwrite,
                Operation::Batch { .. } => Self::Batch,
                Operation::Fetch { .. }
                | Operation::Tick {}
                | Operation::NoOp {}
                | Operation::Compare { .. } => Self::Other,
            },
        }
    }

    pub(crate) fn name(self) -> &'static str {
        KINDS[self as usize].1
    }

    /// The class of a kind; `None` for a watch, which waits for changes, so that its time says nothing about the
    /// server.
    pub(super) fn class(self) -> Option<Class> {
        match self {
            Self::Get => Some(Class::Read),
            Self::Scan | Self::Keys => Some(Class::Scan),
            Self::Watch => None,
            _ => Some(Class::Write),
        }
    }
}

/// How a request was answered, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done as asked.
    Ok,
    /// There is no such key.
    Absent,
    /// The value is larger than the client has room for; it asks again.
    TooLarge,
    /// Another server coordinates the key, and the client is to ask there.
    Moved,
    /// A condition that passes; the client is to ask again.
    Busy,
    /// The write may or may not happen.
    Unknown,
    /// Nothing was done.
    Refused,
}

impl Outcome {
    pub(super) const COUNT: usize = 7;
    pub(super) const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::Ok, "ok"),
        (Self::Absent, "absent"),
        (Self::TooLarge, "too_large"),
        (Self::Moved, "moved"),
        (Self::Busy, "busy"),
        (Self::Unknown, "unknown"),
        (Self::Refused, "refused"),
    ];
    /// Outcomes that a client may see as a failure.
    pub(super) const FAILED: [Self; 3] = [Self::Busy, Self::Unknown, Self::Refused];

    pub(super) fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Value { found: None } => Self::Absent,
            Reply::Outcome { .. }
            | Reply::Value { .. }
            | Reply::Page { .. }
            | Reply::Keys { .. }
            | Reply::Changes { .. }
            | Reply::View { .. }
            | Reply::Status { .. }
            | Reply::Digest { .. } => Self::Ok,
            Reply::TooLarge { .. } => Self::TooLarge,
            Reply::Moved { .. } => Self::Moved,
            Reply::Busy { .. } => Self::Busy,
            Reply::Unknown { .. } => Self::Unknown,
            Reply::Refused { .. } => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number() {
        assert!(
            KINDS
                .iter()
                .enumerate()
                .all(|(number, (kind, name))| { *kind as usize == number && kind.name() == *name })
        );
        assert!(Outcome::ALL.iter().enumerate().all(|(number, (outcome, _))| *outcome as usize == number));
    }
}
