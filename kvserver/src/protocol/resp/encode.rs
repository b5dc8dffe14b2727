//! Replies as bytes, in both versions.

use bytes::Bytes;
use common::codec::Sink;

/// Bytes of an error line, at most: it may repeat a client's words.
const ERROR_BYTES_MAX: usize = 1024;

/// The version of the protocol that a connection has agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RESP2, with which every connection begins.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

/// Appends replies to bytes.
pub struct Writer<'a> {
    out: &'a mut dyn Sink,
    version: Version,
}

/// Appends an error: one line, whatever the text contains.
pub fn error_line(out: &mut dyn Sink, text: &str) {
    let bytes = text.bytes().take(ERROR_BYTES_MAX);
    let bytes = bytes.map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
    let line: Vec<u8> = std::iter::once(b'-').chain(bytes).chain(*b"\r\n").collect();
    out.put(&line);
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut dyn Sink, version: Version) -> Self {
        Self { out, version }
    }

    /// The version that it writes.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    fn resp3(&self) -> bool {
        self.version == Version::Resp3
    }

    fn header(&mut self, kind: u8, number: u64) {
        let mut line = [0; 23];
        let mut at = line.len() - 2;
        line[at..].copy_from_slice(b"\r\n");
        let mut rest = number;
        loop {
            at -= 1;
            line[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        line[at - 1] = kind;
        self.out.put(&line[at - 1..]);
    }

    /// The simple string `OK`, the reply to commands that return nothing else.
    pub fn ok(&mut self) {
        self.out.put(b"+OK\r\n");
    }

    /// A short text of our own.
    pub fn simple(&mut self, text: &str) {
        self.out.put(b"+");
        self.out.put(text.as_bytes());
        self.out.put(b"\r\n");
    }

    /// An error line: `CODE what is wrong`.
    pub fn error(&mut self, text: &str) {
        error_line(self.out, text);
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        if value < 0 {
            self.out.put(format!(":{value}\r\n").as_bytes());
        } else {
            self.header(b':', value.unsigned_abs());
        }
    }

    /// Appends a count as an integer.
    pub fn count(&mut self, count: usize) {
        self.header(b':', count as u64);
    }

    /// Bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len() as u64);
        self.out.put(bytes);
        self.out.put(b"\r\n");
    }

    /// A value, which may be large.
    pub fn value(&mut self, value: &Bytes) {
        self.header(b'$', value.len() as u64);
        self.out.share(value);
        self.out.put(b"\r\n");
    }

    /// A value or nothing.
    pub fn value_or_null(&mut self, value: Option<&Bytes>) {
        match value {
            Some(value) => self.value(value),
            None => self.null(),
        }
    }

    /// Bytes or nothing.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.out.put(if self.resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No array.
    pub fn null_array(&mut self) {
        self.out.put(if self.resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array; its elements follow.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as u64);
    }

    /// The head of a set, an array in the second version.
    pub fn set(&mut self, len: usize) {
        self.header(if self.resp3() { b'~' } else { b'*' }, len as u64);
    }

    /// The head of a map; `len` keys and values follow in turn. A flat array in the second version.
    pub fn map(&mut self, len: usize) {
        if self.resp3() {
            self.header(b'%', len as u64);
        } else {
            self.header(b'*', 2 * len as u64);
        }
    }

    /// Text for people to read.
    pub fn verbatim(&mut self, text: &str) {
        if self.resp3() {
            self.header(b'=', text.len() as u64 + 4);
            self.out.put(b"txt:");
            self.out.put(text.as_bytes());
            self.out.put(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version, write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, version));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn versions_differ_in_nulls_maps_and_texts() {
        let write = |writer: &mut Writer<'_>| {
            writer.null();
            writer.map(1);
            writer.bulk(b"k");
            writer.int(-7);
            writer.verbatim("t");
            writer.null_array();
            writer.set(0);
        };
        assert_eq!(written(Version::Resp2, write), "$-1\r\n*2\r\n$1\r\nk\r\n:-7\r\n$1\r\nt\r\n*-1\r\n*0\r\n");
        assert_eq!(written(Version::Resp3, write), "_\r\n%1\r\n$1\r\nk\r\n:-7\r\n=5\r\ntxt:t\r\n_\r\n~0\r\n");
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(written(Version::Resp2, |writer| writer.error("ERR a\r\n+OK\r\n")), "-ERR a  +OK  \r\n");
        assert!(written(Version::Resp2, |writer| writer.error(&"x".repeat(9999))).len() < 2000);
    }

    #[test]
    fn numbers_are_printed() {
        for number in [0, 9, 10, 1_234_567_890, i64::MAX, i64::MIN] {
            assert_eq!(written(Version::Resp2, |writer| writer.int(number)), format!(":{number}\r\n"));
        }
    }
}
