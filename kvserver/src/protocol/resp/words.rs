//! The words of a command: integers, keys, and the errors that Redis has for them.

use std::borrow::Cow;

use bytes::Bytes;
use common::limits::VALUE_BYTES_MAX;
use common::operation::{InvalidOperation, check_key};

/// An error line.
pub(super) type Refusal = Cow<'static, str>;

pub(super) const SYNTAX: &str = "ERR syntax error";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// A decimal integer of 64 bits without blanks, leading zeros or a plus.
pub(super) fn integer(word: &[u8]) -> Result<i64, Refusal> {
    let text = std::str::from_utf8(word).map_err(|_| NOT_AN_INTEGER)?;
    let plain = !text.starts_with('+') && (text == "0" || !text.trim_start_matches('-').starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(NOT_AN_INTEGER.into())
}

pub(super) fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

pub(super) fn upper(word: &[u8]) -> String {
    text(word).to_ascii_uppercase()
}

/// A key within its limits.
pub(super) fn key(word: &Bytes) -> Result<Bytes, Refusal> {
    check_key(word).map_err(|error| Cow::Owned(format!("ERR {error}")))?;
    Ok(word.clone())
}

/// Checks keys against their limits.
pub(super) fn check_keys(words: &[Bytes]) -> Result<(), Refusal> {
    words.iter().try_for_each(|word| key(word).map(drop))
}

pub(super) fn name_of(words: &[Bytes]) -> String {
    String::from_utf8_lossy(&words[0]).to_ascii_lowercase()
}

pub(super) fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// The error for a value over its limit.
pub(super) fn too_large(bytes: u64) -> Refusal {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let error = InvalidOperation::ValueTooLarge { bytes, limit: VALUE_BYTES_MAX };
    format!("ERR string exceeds maximum allowed size: {error}").into()
}

/// The error for an unknown subcommand.
pub(super) fn unknown_subcommand(word: &[u8], command: &str) -> Refusal {
    let word: String = String::from_utf8_lossy(word).chars().take(128).collect();
    format!("ERR unknown subcommand '{word}'. Try {command} HELP.").into()
}

/// The error for a subcommand with too few or too many words.
pub(super) fn wrong_subcommand(command: &str, word: &[u8]) -> Refusal {
    let word = String::from_utf8_lossy(word).to_ascii_lowercase();
    format!("ERR wrong number of arguments for '{command}|{word}' command").into()
}

/// The error for a command with too few or too many words.
pub(super) fn wrong_number(name: &str) -> Refusal {
    format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_strict() {
        for word in ["1", "0", "-5", "9223372036854775807"] {
            assert!(integer(word.as_bytes()).is_ok(), "{word}");
        }
        for word in ["", "+1", "01", "-0", " 1", "1.0", "9223372036854775808", "x", "--1"] {
            assert!(integer(word.as_bytes()).is_err(), "{word}");
        }
    }
}
