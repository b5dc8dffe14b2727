//! Where a request belongs: its partition and coordinator in a view, and its form in messages.

use std::time::Duration;

use common::ids::{PartitionId, ServerId};
use common::limits::KEY_BYTES_MAX;
use common::messages::{Request, Selection};
use common::operation::{InvalidOperation, Operation};
use common::view::View;

use super::ask::{Ask, Query, WatchAsk};
use super::keys::is_gathered;

/// The partition of a request; `None` before the first view.
pub(crate) fn partition_of(view: &View, ask: &Ask) -> Option<PartitionId> {
    if view.assignments.is_empty() {
        return None;
    }
    match ask {
        Ask::Write { operation: Operation::Compare { partition }, .. } => Some(*partition),
        Ask::Write { operation, .. } => operation.key().map(|key| view.partitions.of_key(key)),
        Ask::Read(Query::Get { key, .. }) => Some(view.partitions.of_key(key)),
        Ask::Read(
            Query::Scan { partition, .. } | Query::Keys { partition, .. } | Query::Count { partition },
        ) => Some(*partition),
        Ask::Watch(asked) => Some(asked.partition),
        Ask::Read(Query::Nothing) => None,
    }
}

/// The coordinator of a request's partition; `None` before the first view, or for a request without a partition.
pub fn coordinator_of(view: &View, ask: &Ask) -> Option<ServerId> {
    partition_of(view, ask).and_then(|partition| view.assignment(partition)).map(|found| found.coordinator)
}

/// Checks that a request is within the limits, before anything else.
pub(crate) fn check(ask: &Ask, value_bytes_max: usize, view: &View) -> Result<(), String> {
    match ask {
        Ask::Write { operation: Operation::Compare { partition }, .. }
        | Ask::Read(
            Query::Scan { partition, .. } | Query::Keys { partition, .. } | Query::Count { partition },
        )
        | Ask::Watch(WatchAsk { partition, .. })
            if !view.assignments.is_empty() && usize::from(partition.0) >= view.partitions.count() =>
        {
            Err(format!("partition {partition} does not exist; there are {}", view.partitions.count()))
        }
        Ask::Write { operation: Operation::Compare { .. }, .. } => Ok(()),
        Ask::Write { operation, .. } if operation.key().is_none() => {
            Err("this is no operation on a key".to_owned())
        }
        Ask::Write { operation, .. } => {
            operation.check(value_bytes_max).map_err(|error| error.to_string())?;
            let gathered = view.assignments.is_empty() || is_gathered(view, operation);
            if gathered { Ok(()) } else { Err(InvalidOperation::BatchScattered.to_string()) }
        }
        Ask::Read(Query::Get { key, .. }) => {
            common::operation::check_key(key).map_err(|error| error.to_string())
        }
        Ask::Watch(WatchAsk { selection: Selection::Key { key }, .. }) => {
            common::operation::check_key(key).map_err(|error| error.to_string())
        }
        Ask::Watch(WatchAsk { selection: Selection::Prefix { prefix }, .. })
            if prefix.len() > KEY_BYTES_MAX =>
        {
            Err(format!("the prefix has {} bytes; a key has {KEY_BYTES_MAX} at most", prefix.len()))
        }
        Ask::Read(_) | Ask::Watch(_) => Ok(()),
    }
}

/// The core's form of a client's request; `None` for requests about the server.
#[must_use]
pub fn ask_of(request: Request) -> Option<Ask> {
    Some(match request {
        Request::Write { origin, age_ms, operation } => {
            Ask::Write { origin: Some(origin), age_ms, operation }
        }
        Request::Get { key } => Ask::Read(Query::get(key)),
        Request::GetUpTo { key, bytes_max } => Ask::Read(Query::Get { key, bytes_max }),
        Request::Scan { partition, after, prefix, limit } => {
            Ask::Read(Query::Scan { partition, after, prefix, limit })
        }
        Request::Keys { partition, after, limit } => Ask::Read(Query::Keys { partition, after, limit }),
        Request::Count { partition } => Ask::Read(Query::Count { partition }),
        Request::Watch { partition, after, selection, bytes_max, hold_ms } => {
            let (bytes_max, hold) = (bytes_max as usize, Duration::from_millis(hold_ms.into()));
            Ask::Watch(WatchAsk { partition, after, selection, bytes_max, hold })
        }
        Request::View {} | Request::Status {} | Request::Digest { .. } | Request::Trace { .. } => {
            return None;
        }
    })
}

/// The message form of a request, to pass it on.
pub(crate) fn request_of(ask: &Ask, elapsed_ms: u64) -> Option<Request> {
    Some(match ask.clone() {
        Ask::Write { origin, age_ms, operation } => {
            Request::Write { origin: origin?, age_ms: age_ms.saturating_add(elapsed_ms), operation }
        }
        Ask::Read(Query::Get { key, bytes_max }) => Request::GetUpTo { key, bytes_max },
        Ask::Read(Query::Scan { partition, after, prefix, limit }) => {
            Request::Scan { partition, after, prefix, limit }
        }
        Ask::Read(Query::Keys { partition, after, limit }) => Request::Keys { partition, after, limit },
        Ask::Read(Query::Count { partition }) => Request::Count { partition },
        // Such a question is not passed on.
        Ask::Read(Query::Nothing) | Ask::Watch(_) => return None,
    })
}
