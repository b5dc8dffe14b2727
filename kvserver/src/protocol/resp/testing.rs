//! Commands and their operations, for tests of the parsers.

use bytes::Bytes;
use common::operation::Operation;

use super::answer::{Parsed, Part};

/// The words of a line, parted by single blanks.
pub(super) fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// The operation of a command that changes one key.
pub(super) fn operation(parsed: Parsed) -> Operation {
    match parsed.unwrap().first {
        Part::Change(operation) => operation,
        Part::Read(key) => panic!("a read of {key:?}"),
    }
}
