//! Replies that are failures, as error lines.

use common::messages::Reply;
use common::operation::Outcome;

use super::words::too_large;

/// The error line for a reply that is a failure; `None` for other replies.
///
/// The line for a condition that passes begins with `LOADING`, at which clients retry. The line for a write that may
/// have been done does not, as a retry could do it twice.
#[must_use]
pub fn failure(reply: &Reply) -> Option<String> {
    Some(match reply {
        Reply::Busy { reason } => format!("LOADING {reason}"),
        Reply::Moved { .. } => "LOADING the partition is on its way to another server, retry".to_owned(),
        Reply::Unknown { reason } => format!("UNKNOWN the write may have been done or not: {reason}"),
        Reply::Refused { reason } => format!("ERR {reason}"),
        Reply::Outcome { outcome } => match outcome {
            Outcome::NotANumber {} => "ERR value is not an integer or out of range".to_owned(),
            Outcome::OutOfRange {} => "ERR increment or decrement would overflow".to_owned(),
            Outcome::TooLarge { bytes } => too_large(*bytes).into_owned(),
            Outcome::Superseded {} => "UNKNOWN the write was done or given up long ago".to_owned(),
            Outcome::Forgotten {} => {
                "UNKNOWN the write was done, but the value that it returned was too long to be kept for a retry"
                    .to_owned()
            }
            _ => return None,
        },
        Reply::Value { .. } | Reply::TooLarge { .. } | Reply::Page { .. } | Reply::Keys { .. } => {
            return None;
        }
        Reply::View { .. } | Reply::Status { .. } | Reply::Digest { .. } | Reply::Changes { .. } => {
            "ERR unexpected answer; report this".to_owned()
        }
    })
}
