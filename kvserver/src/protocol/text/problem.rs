//! Lines that are no request, and the answers to them.

use bytes::Bytes;
use common::limits::KEY_BYTES_MAX;
use common::operation::InvalidOperation;

use super::encode::LINE_END;
use super::types::Dialect;

/// Bytes of an unknown verb that the answer repeats, at most: enough to recognise it.
const VERB_SHOWN_BYTES_MAX: usize = 32;

/// A line that is no request. Answer it with [`encode`](Self::encode), in its turn among the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextProblem {
    /// The dialect of the answer.
    pub dialect: Dialect,
    /// What is wrong with the line.
    pub wrong: Wrong,
}

/// What is wrong with a line. The text says what to send instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The first word is no verb of the dialect.
    #[error("unknown request \"{}\"; {hint}", shown(verb))]
    UnknownVerb {
        /// The first word.
        verb: Bytes,
        /// The verbs that exist.
        hint: &'static str,
    },
    /// Too few words after the verb, or too many.
    #[error("{0}")]
    Usage(&'static str),
    /// A key or a value is out of its limits.
    #[error("{0}; nothing was changed, send a shorter one")]
    Invalid(InvalidOperation),
    /// The line is longer than any request. It is skipped up to its end.
    #[error(
        "the line has more than {line_bytes_max} bytes and is skipped; a key has up to {KEY_BYTES_MAX} bytes, \
         a value up to {value_bytes_max} (see --max-value)"
    )]
    LineTooLong {
        /// Bytes of a line, at most.
        line_bytes_max: usize,
        /// Bytes of a value, at most.
        value_bytes_max: usize,
    },
    /// The end of a line that is too long did not come. This was answered when the line became too long.
    #[error("the line has no end")]
    Endless,
    /// A web browser's request. Its body could hold lines that look like ours, sent by a page that a user
    /// merely visits, so nothing after it is read.
    #[error("this port speaks no HTTP; the dashboard is at the ECS, and this connection is closed")]
    Http,
    /// A handshake of TLS, which contains names that others have chosen.
    #[error("this port speaks no TLS, and this connection is closed")]
    Tls,
}

impl TextProblem {
    /// Whether nothing more is to be read: send the answer and close the connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self.wrong, Wrong::Endless | Wrong::Http | Wrong::Tls)
    }

    /// Appends the line that answers it, with its end: `error <description>` or `FAILED <description>`.
    /// Nothing for [`Wrong::Endless`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.wrong != Wrong::Endless {
            let word = self.dialect.word("error", "FAILED");
            out.extend_from_slice(format!("{word} {}", self.wrong).as_bytes());
            out.extend_from_slice(LINE_END);
        }
    }
}

fn shown(verb: &Bytes) -> String {
    let cut = verb.len().min(VERB_SHOWN_BYTES_MAX);
    format!("{}{}", verb[..cut].escape_ascii(), if cut < verb.len() { "..." } else { "" })
}
