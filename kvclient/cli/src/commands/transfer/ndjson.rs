//! Lines of one JSON object each: `{"key": "k", "value": "v"}`.
//!
//! Bytes that are no UTF-8 are in `"key_hex"` or `"value_base64"` instead; `"key_base64"` and `"value_hex"` are read
//! too. `"expires_ms"` is the moment of the expiry in milliseconds since 1970, and is left out when there is none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use common::operation::{Found, check_key};
use common::shown;
use common::time::WallTime;
use serde::{Deserialize, Serialize};

use super::record::{Malformed, Record};

const EXPECTED: &str = r#"{"key": TEXT, "value": TEXT} in one line, or "key_hex", "value_base64" for bytes that are no \
    text, and "expires_ms" if it ends"#;

/// A line as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
}

/// Appends a line.
pub(super) fn write(out: &mut Vec<u8>, record: &Record) {
    let text = serde_json::to_string(&line(record)).expect("text and numbers are JSON");
    out.extend_from_slice(shown::json(&text).as_bytes());
    out.push(b'\n');
}

/// A value as JSON: a line's fields, and its version.
pub(crate) fn found(key: Bytes, found: &Found) -> serde_json::Value {
    let record = Record { key, value: found.value.clone(), expires: found.expires };
    let mut json = serde_json::to_value(line(&record)).expect("text and numbers are JSON");
    json["version"] = found.version.to_string().into();
    json
}

/// A key as JSON: a line's field.
pub(crate) fn key(key: Bytes) -> serde_json::Value {
    let record = Record { key, value: Bytes::new(), expires: None };
    let line = Line { value: None, ..line(&record) };
    serde_json::to_value(line).expect("text is JSON")
}

fn line(record: &Record) -> Line {
    let mut line = Line { expires_ms: record.expires.map(|moment| moment.0), ..Line::default() };
    match std::str::from_utf8(&record.key) {
        Ok(text) => line.key = Some(text.to_owned()),
        Err(_) => line.key_hex = Some(record.key.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
    match std::str::from_utf8(&record.value) {
        Ok(text) => line.value = Some(text.to_owned()),
        Err(_) => line.value_base64 = Some(BASE64.encode(&record.value)),
    }
    line
}

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Result<Record, Malformed> {
    let malformed = |found: String| Malformed { found, expected: EXPECTED };
    let line: Line = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    let key = one_of("key", line.key, line.key_hex, line.key_base64).map_err(malformed)?;
    let value = one_of("value", line.value, line.value_hex, line.value_base64).map_err(malformed)?;
    check_key(&key).map_err(|invalid| malformed(invalid.to_string()))?;
    Ok(Record { key, value, expires: line.expires_ms.map(WallTime) })
}

/// The bytes, from the one of three spellings that is there.
fn one_of(
    what: &str,
    text: Option<String>,
    hex: Option<String>,
    base64: Option<String>,
) -> Result<Bytes, String> {
    match (text, hex, base64) {
        (Some(text), None, None) => Ok(text.into()),
        (None, Some(hex), None) => unhex(&hex).ok_or_else(|| format!("`{what}_hex` is no hex")),
        (None, None, Some(base64)) => {
            BASE64.decode(base64).map(Bytes::from).map_err(|error| format!("`{what}_base64`: {error}"))
        }
        (None, None, None) => Err(format!("there is no `{what}`")),
        _ => Err(format!("there is more than one `{what}`")),
    }
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &'static [u8], value: &'static [u8]) -> Record {
        Record { key: Bytes::from_static(key), value: Bytes::from_static(value), expires: None }
    }

    #[test]
    fn lines_are_as_described() {
        let mut out = Vec::new();
        write(&mut out, &record(b"k", b"v\n"));
        let expiring = Record { expires: Some(WallTime(7)), ..record(b"\xff\x01", b"\xfe") };
        write(&mut out, &expiring);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"key\":\"k\",\"value\":\"v\\n\"}\n{\"key_hex\":\"ff01\",\"value_base64\":\"/g==\",\"expires_ms\":7}\n"
        );
        assert_eq!(read(br#" { "value_hex": "Ff00", "key_base64": "aw==" } "#), Ok(record(b"k", b"\xff\0")));
    }

    #[test]
    fn what_is_wrong_is_reported() {
        for (line, found) in [
            (r#"{"key":"k"}"#, "no `value`"),
            (r#"{"value":"v"}"#, "no `key`"),
            (r#"{"key":"k","key_hex":"6b","value":"v"}"#, "more than one `key`"),
            (r#"{"key_hex":"6","value":"v"}"#, "no hex"),
            (r#"{"key":"k","value_base64":"?"}"#, "value_base64"),
            (r#"{"key":"","value":"v"}"#, "empty"),
            (r#"{"key":"k","value":"v","ttl":1}"#, "unknown field"),
            (r#"["k","v"]"#, "expected"),
            ("k\tv", "expected"),
        ] {
            let malformed = read(line.as_bytes()).unwrap_err().to_string();
            assert!(malformed.contains(found), "{line}: {malformed}");
        }
    }
}
