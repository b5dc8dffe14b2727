//! From a line to a command.
//!
//! Only the space (0x20) is a blank; every other byte, a tab too, is part of its word. Blanks before the verb
//! and before the key are passed over. One blank ends the key, and the value is everything behind it, but for
//! the blanks at the end of the line.

use bytes::Bytes;
use common::limits::VALUE_BYTES_MAX;
use common::operation::{InvalidOperation, check_key};

use super::super::http_request::is_http_request;
use super::problem::{TextProblem, Wrong};
use super::types::{Dialect, TextCommand, TextRequest};

/// The value that stands for a deletion in the upper dialect.
const NULL: &[u8] = b"null";

/// The first two bytes of a handshake of TLS (RFC 8446, 5.1).
const TLS_HANDSHAKE: &[u8] = b"\x16\x03";

/// Reads a line without its end; `None` when there is nothing but blanks.
pub(super) fn parse(line: &Bytes, value_bytes_max: usize) -> Option<Result<TextCommand, TextProblem>> {
    let text = trim(line);
    if text.is_empty() {
        return None;
    }
    let (verb, rest) = first_word(text);
    let dialect = Dialect::of(verb);
    if is_http_request(text) {
        return Some(Err(TextProblem { dialect, wrong: Wrong::Http }));
    }
    let rest = rest.map(trim_start);
    let request = Parser { line, dialect, verb, value_bytes_max }.request(rest);
    Some(match request {
        Ok(request) => Ok(TextCommand { dialect, request }),
        Err(wrong) => Err(TextProblem { dialect, wrong }),
    })
}

/// The dialect of a line of which only the beginning is there.
pub(super) fn dialect_of_beginning(beginning: &[u8]) -> Dialect {
    Dialect::of(first_word(trim_start(beginning)).0)
}

struct Parser<'a> {
    line: &'a Bytes,
    dialect: Dialect,
    verb: &'a [u8],
    value_bytes_max: usize,
}

impl Parser<'_> {
    fn request(&self, rest: Option<&[u8]>) -> Result<TextRequest, Wrong> {
        let is = |name: &str| self.verb.eq_ignore_ascii_case(name.as_bytes());
        if is("get") {
            let usage = ("send get <key>; a key has no blank", "send GET <key>; a key has no blank");
            Ok(TextRequest::Get { key: self.only_key(rest, usage)? })
        } else if is("put") {
            self.put(rest)
        } else if is("delete") && self.dialect == Dialect::Lower {
            let usage = ("send delete <key>; a key has no blank", "");
            Ok(TextRequest::Delete { key: self.only_key(rest, usage)? })
        } else if is("keyrange") {
            self.alone(rest, TextRequest::Keyrange)
        } else if is("keyrange_read") {
            self.alone(rest, TextRequest::KeyrangeRead)
        } else if is("ping") {
            Ok(TextRequest::Ping { message: rest.map(|message| self.line.slice_ref(message)) })
        } else if is("quit") {
            self.alone(rest, TextRequest::Quit)
        } else if is("post") || is("host:") {
            Err(Wrong::Http)
        } else if self.verb.starts_with(TLS_HANDSHAKE) {
            Err(Wrong::Tls)
        } else {
            let hint = self.dialect.word(
                "send put, get, delete, keyrange or keyrange_read",
                "send PUT, GET, KEYRANGE or KEYRANGE_READ (PUT <key> null deletes)",
            );
            Err(Wrong::UnknownVerb { verb: self.line.slice_ref(self.verb), hint })
        }
    }

    fn put(&self, rest: Option<&[u8]>) -> Result<TextRequest, Wrong> {
        let Some(rest) = rest else {
            return Err(self.usage((
                "a key and a value are missing; send put <key> <value>",
                "a key is missing; send PUT <key> <value>, or PUT <key> null to delete",
            )));
        };
        let (key, value) = first_word(rest);
        let key = self.key(key)?;
        let value = match (self.dialect, value) {
            (Dialect::Upper, None | Some(NULL)) => return Ok(TextRequest::Delete { key }),
            (Dialect::Lower, None) => {
                return Err(Wrong::Usage(
                    "the value is missing; send put <key> <value>, or delete <key> to delete",
                ));
            }
            (_, Some(value)) => value,
        };
        let limit = self.value_bytes_max.min(VALUE_BYTES_MAX);
        if value.len() > limit {
            return Err(Wrong::Invalid(InvalidOperation::ValueTooLarge { bytes: value.len(), limit }));
        }
        Ok(TextRequest::Put { key, value: self.line.slice_ref(value) })
    }

    /// One key and nothing behind it.
    fn only_key(&self, rest: Option<&[u8]>, usage: (&'static str, &'static str)) -> Result<Bytes, Wrong> {
        match rest.map(first_word) {
            Some((key, None)) => self.key(key),
            _ => Err(self.usage(usage)),
        }
    }

    /// Nothing behind the verb.
    fn alone(&self, rest: Option<&[u8]>, request: TextRequest) -> Result<TextRequest, Wrong> {
        match rest {
            None => Ok(request),
            Some(_) => Err(Wrong::Usage("too many words; send this verb alone")),
        }
    }

    fn key(&self, key: &[u8]) -> Result<Bytes, Wrong> {
        check_key(key).map_err(Wrong::Invalid)?;
        Ok(self.line.slice_ref(key))
    }

    fn usage(&self, (lower, upper): (&'static str, &'static str)) -> Wrong {
        Wrong::Usage(self.dialect.word(lower, upper))
    }
}

/// The bytes before the first blank, and those behind it if there is one.
fn first_word(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == b' ') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| byte == b' ').count();
    &text[blanks..]
}

fn trim(text: &[u8]) -> &[u8] {
    let text = trim_start(text);
    let blanks = text.iter().rev().take_while(|&&byte| byte == b' ').count();
    &text[..text.len() - blanks]
}
