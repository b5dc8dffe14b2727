//! Lines of key, tab, value. Bytes stand for themselves but for tab, newline, return and backslash, which are
//! written `\t`, `\n`, `\r` and `\\`. A return before the newline belongs to the line's end.

use bytes::Bytes;
use common::operation::check_key;

use super::record::{Malformed, Record};

const EXPECTED: &str =
    r"KEY, one tab, VALUE, with \t \n \r \\ for tab, newline, return and backslash inside them";

/// Appends a line.
pub(crate) fn write(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    escape(out, key);
    out.push(b'\t');
    escape(out, value);
    out.push(b'\n');
}

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Result<Record, Malformed> {
    let malformed = |found: &str| Malformed { found: found.to_owned(), expected: EXPECTED };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut fields = line.split(|byte| *byte == b'\t');
    let (Some(key), Some(value), None) = (fields.next(), fields.next(), fields.next()) else {
        let tabs = line.iter().filter(|byte| **byte == b'\t').count();
        return Err(malformed(&format!("there are {tabs} tabs")));
    };
    let key = unescape(key).ok_or_else(|| malformed("the key has an unknown escape"))?;
    let value = unescape(value).ok_or_else(|| malformed("the value has an unknown escape"))?;
    check_key(&key).map_err(|invalid| malformed(&invalid.to_string()))?;
    Ok(Record { key, value, expires: None })
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            plain => out.push(*plain),
        }
    }
}

fn unescape(text: &[u8]) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            plain => *plain,
        });
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_described() {
        let mut out = Vec::new();
        write(&mut out, b"a\tb", b"c\r\n\\\xff");
        assert_eq!(out, b"a\\tb\tc\\r\\n\\\\\xff\n");
        let record = read(b"a\\tb\tc\\\\\r").unwrap();
        assert_eq!((&record.key[..], &record.value[..]), (&b"a\tb"[..], &b"c\\"[..]));
        for (line, found) in [
            (&b"no tab"[..], "0 tabs"),
            (b"a\tb\tc", "2 tabs"),
            (b"\tv", "key is empty"),
            (b"k\tv\\", "value has an unknown escape"),
            (b"k\\x\tv", "key has an unknown escape"),
        ] {
            let malformed = read(line).unwrap_err().to_string();
            assert!(malformed.contains(found) && malformed.contains("one tab"), "{malformed}");
        }
    }
}
