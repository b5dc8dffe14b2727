//! From answers to lines.

use std::net::SocketAddr;

use bytes::Bytes;

use super::scan::find_end;
use super::types::{Dialect, TextCommand, TextRequest};

/// The end of every reply; some clients hang on a lone LF.
pub const LINE_END: &[u8] = b"\r\n";

/// Bytes of a value or list from which on [`encode_parts`] hands it over instead of copying it: a write of
/// its own costs less than the copy then.
pub const SHARED_BYTES_MIN: usize = 16 << 10;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextAnswer {
    /// To a put: the value is set, on disk at every in-sync copy.
    Written {
        /// There was a value before.
        replaced: bool,
    },
    /// To a delete: the value is removed.
    Deleted,
    /// To a get.
    Found(Bytes),
    /// To a get or a delete: there is no such key.
    NotFound,
    /// To `keyrange` and `keyrange_read`: a list as [`range_list`](super::range_list) makes it.
    Ranges(Bytes),
    /// The server is in no view yet, or has been drained. Clients wait and retry.
    Stopped,
    /// Another server is to be asked. Clients fetch the ranges and go there.
    NotResponsible,
    /// The key's range is being handed over, and the request could not be parked.
    WriteLock,
    /// Nothing was done.
    Failed {
        /// What happened, why, and what to do next.
        reason: String,
    },
    /// A write that may or may not happen. Never written as `put_error`, which clients take for "not written".
    Unknown {
        /// Why it is not known, and what to do next.
        reason: String,
    },
    /// To a ping.
    Pong,
    /// To `QUIT`; the connection is closed after it.
    Bye,
}

/// Appends the line of an answer, with its end.
///
/// # Panics
/// When the answer is to another request, as a value to a put: a mistake of the caller.
pub fn encode(command: &TextCommand, answer: &TextAnswer, out: &mut Vec<u8>) {
    if let Some(tail) = encode_parts(command, answer, out) {
        out.extend_from_slice(&tail);
        out.extend_from_slice(LINE_END);
    }
}

/// Like [`encode`], but a value or list of [`SHARED_BYTES_MIN`] and more is returned instead of copied: what
/// is to be sent is then `out`, the returned bytes, and [`LINE_END`].
///
/// # Panics
/// When the answer is to another request.
#[must_use]
pub fn encode_parts(command: &TextCommand, answer: &TextAnswer, out: &mut Vec<u8>) -> Option<Bytes> {
    let mut line = Line { dialect: command.dialect, out };
    let tail = line.begin(&command.request, answer);
    match tail {
        Some(tail) if tail.len() >= SHARED_BYTES_MIN => return Some(tail.clone()),
        Some(tail) => out.extend_from_slice(tail),
        None => {}
    }
    out.extend_from_slice(LINE_END);
    None
}

/// Appends the line that a greeting listener sends first on each connection.
pub fn greeting(local: SocketAddr, out: &mut Vec<u8>) {
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    out.extend_from_slice(format!("Connection to Trefoil server established: /{local}").as_bytes());
    out.extend_from_slice(LINE_END);
}

/// A reply's line as it is written.
struct Line<'a> {
    dialect: Dialect,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    /// Writes all but the end of the line, or all but the returned rest.
    fn begin<'b>(&mut self, request: &'b TextRequest, answer: &'b TextAnswer) -> Option<&'b Bytes> {
        use TextAnswer as A;
        use TextRequest as R;
        match (request, answer) {
            (R::Put { key, value }, A::Written { replaced: false }) => {
                return self.put("put_success", "PUT_SUCCESS", key, value);
            }
            (R::Put { key, value }, A::Written { replaced: true }) => {
                return self.put("put_update", "PUT_UPDATE", key, value);
            }
            (R::Put { key, value }, A::Failed { .. }) => {
                self.keyed("put_error", "PUT_ERROR", key);
                return self.tail(value);
            }
            (R::Get { key }, A::Found(value)) if find_end(value).is_none() => {
                self.keyed("get_success", "GET_SUCCESS", key);
                return self.tail(value);
            }
            // Sent as it is, its second line would be taken for the next reply.
            (R::Get { .. }, A::Found(_)) => {
                self.error(
                    "the value has line ends, which this protocol cannot carry; get it with a Redis client",
                );
            }
            (R::Get { key }, A::NotFound) => {
                self.keyed("get_error", "GET_ERROR", key);
                self.word(" key not found", "");
            }
            (R::Delete { key }, A::Deleted) => self.keyed("delete_success", "DELETE_SUCCESS", key),
            (R::Delete { key }, A::NotFound) => self.keyed("delete_error", "DELETE_ERROR", key),
            (R::Keyrange, A::Ranges(list)) => {
                self.word("keyrange_success", "KEYRANGE_SUCCESS");
                return self.tail(list);
            }
            (R::KeyrangeRead, A::Ranges(list)) => {
                self.word("keyrange_read_success", "KEYRANGE_SUCCESS");
                return self.tail(list);
            }
            (_, A::Stopped) => self.word("server_stopped", "SERVER_STOPPED"),
            (_, A::NotResponsible) => self.word("server_not_responsible", "SERVER_NOT_RESPONSIBLE"),
            (_, A::WriteLock) => self.word("server_write_lock", "SERVER_WRITE_LOCK"),
            (_, A::Failed { reason } | A::Unknown { reason }) => self.error(reason),
            (R::Ping { message: None }, A::Pong) => self.out.extend_from_slice(b"+PONG"),
            (R::Ping { message: Some(message) }, A::Pong) => {
                self.out.extend_from_slice(format!("${}\r\n", message.len()).as_bytes());
                return Some(message);
            }
            (R::Quit, A::Bye) => self.out.extend_from_slice(b"+OK"),
            (request, answer) => panic!("{} was answered {}", request.name(), answer.name()),
        }
        None
    }

    fn word(&mut self, lower: &'static str, upper: &'static str) {
        self.out.extend_from_slice(self.dialect.word(lower, upper).as_bytes());
    }

    fn keyed(&mut self, lower: &'static str, upper: &'static str, key: &[u8]) {
        self.word(lower, upper);
        self.out.push(b' ');
        self.out.extend_from_slice(key);
    }

    fn tail<'b>(&mut self, tail: &'b Bytes) -> Option<&'b Bytes> {
        self.out.push(b' ');
        Some(tail)
    }

    /// The lower dialect repeats the key of a put, the upper one the value as well.
    fn put<'b>(
        &mut self,
        lower: &'static str,
        upper: &'static str,
        key: &[u8],
        value: &'b Bytes,
    ) -> Option<&'b Bytes> {
        self.keyed(lower, upper, key);
        match self.dialect {
            Dialect::Lower => None,
            Dialect::Upper => self.tail(value),
        }
    }

    fn error(&mut self, description: &str) {
        self.word("error ", "FAILED ");
        // A description is one line, whatever it was made of.
        self.out.extend(description.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    }
}

impl TextAnswer {
    /// What kind of answer it is, without the bytes in it.
    fn name(&self) -> &'static str {
        match self {
            Self::Written { .. } => "written",
            Self::Deleted => "deleted",
            Self::Found(_) => "found",
            Self::NotFound => "not found",
            Self::Ranges(_) => "ranges",
            Self::Stopped => "stopped",
            Self::NotResponsible => "not responsible",
            Self::WriteLock => "write lock",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
            Self::Pong => "pong",
            Self::Bye => "bye",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(dialect: Dialect, value: Bytes) -> TextCommand {
        TextCommand { dialect, request: TextRequest::Put { key: Bytes::from_static(b"k"), value } }
    }

    #[test]
    fn large_values_are_shared_not_copied() {
        let value = Bytes::from(vec![b'v'; SHARED_BYTES_MIN]);
        let (command, answer) =
            (command(Dialect::Upper, value.clone()), TextAnswer::Written { replaced: true });
        let (mut parts, mut whole) = (Vec::new(), Vec::new());
        let tail = encode_parts(&command, &answer, &mut parts).expect("it is large");
        assert_eq!(tail.as_ptr(), value.as_ptr());
        assert_eq!(parts, b"PUT_UPDATE k ");
        encode(&command, &answer, &mut whole);
        assert_eq!(whole, [&parts[..], &value, LINE_END].concat());
    }

    #[test]
    #[should_panic(expected = "put was answered found")]
    fn an_answer_to_another_request_is_a_bug() {
        let command = command(Dialect::Lower, Bytes::from_static(b"v"));
        encode(&command, &TextAnswer::Found(Bytes::new()), &mut Vec::new());
    }

    #[test]
    fn the_greeting_names_the_address_as_clients_know_it() {
        for (local, shown) in [
            ("127.0.0.1:5001", "/127.0.0.1:5001\r\n"),
            ("[::ffff:127.0.0.1]:5001", "/127.0.0.1:5001\r\n"),
            ("[::1]:5001", "/[::1]:5001\r\n"),
        ] {
            let mut out = Vec::new();
            greeting(local.parse().unwrap(), &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, format!("Connection to Trefoil server established: {shown}"));
        }
    }
}
