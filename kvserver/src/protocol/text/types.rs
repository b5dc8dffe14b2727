//! What a line of the text protocol says.

use bytes::Bytes;

/// The dialect in which a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The TUM dialect: lower-case verbs, and mixed ones.
    Lower,
    /// The ECE419 dialect: verbs in upper case throughout.
    Upper,
}

impl Dialect {
    /// The dialect of a verb, known or not: upper when it has upper-case letters and no lower-case ones.
    #[must_use]
    pub fn of(verb: &[u8]) -> Self {
        let upper = verb.iter().any(u8::is_ascii_uppercase) && !verb.iter().any(u8::is_ascii_lowercase);
        if upper { Self::Upper } else { Self::Lower }
    }

    /// The word of this dialect out of two.
    pub(super) fn word(self, lower: &'static str, upper: &'static str) -> &'static str {
        match self {
            Self::Lower => lower,
            Self::Upper => upper,
        }
    }
}

/// What a line asks for. Keys have 1..=`KEY_BYTES_MAX` bytes without blanks; values have one byte at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextRequest {
    /// `put <key> <value>`: set a value.
    Put {
        /// The first word after `put`.
        key: Bytes,
        /// The rest of the line, with its inner blanks.
        value: Bytes,
    },
    /// `get <key>`: return a value.
    Get {
        /// The first word after `get`.
        key: Bytes,
    },
    /// `delete <key>`, `PUT <key>` or `PUT <key> null`: remove a value.
    Delete {
        /// The only word, or the word before `null`.
        key: Bytes,
    },
    /// `keyrange`: which server coordinates which range.
    Keyrange,
    /// `keyrange_read`: which servers answer gets of which range.
    KeyrangeRead,
    /// `PING`, of Redis' inline commands, for health checks.
    Ping {
        /// The rest of the line, to be sent back instead of `PONG`.
        message: Option<Bytes>,
    },
    /// `QUIT`, of Redis' inline commands: answer and close the connection.
    Quit,
}

impl TextRequest {
    /// The request's key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put { key, .. } | Self::Get { key } | Self::Delete { key } => Some(key),
            Self::Keyrange | Self::KeyrangeRead | Self::Ping { .. } | Self::Quit => None,
        }
    }

    /// Its verb in lower case.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Get { .. } => "get",
            Self::Delete { .. } => "delete",
            Self::Keyrange => "keyrange",
            Self::KeyrangeRead => "keyrange_read",
            Self::Ping { .. } => "ping",
            Self::Quit => "quit",
        }
    }
}

/// A request and the dialect to answer it in. It is kept until then: answers repeat its key, some its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextCommand {
    /// The dialect of the verb.
    pub dialect: Dialect,
    /// What is asked.
    pub request: TextRequest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_upper_is_upper() {
        for verb in ["PUT", "KEYRANGE_READ", "X1", "A\u{fc}"] {
            assert_eq!(Dialect::of(verb.as_bytes()), Dialect::Upper, "{verb}");
        }
        for verb in ["put", "Put", "PUt", "", "123", "_", "\u{fc}"] {
            assert_eq!(Dialect::of(verb.as_bytes()), Dialect::Lower, "{verb}");
        }
    }
}
