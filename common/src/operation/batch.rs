//! Several operations at one position of a partition's log.

use bytes::Bytes;

use super::{Condition, InvalidOperation, Operation, Outcome, check_key};
use crate::codec::{Malformed, Sink, Wire};
use crate::limits::VALUE_BYTES_MAX;
use crate::wire_struct;

/// Checks and parts of one batch at most: they are applied in one go.
pub const BATCH_PARTS_MAX: usize = 4096;

/// Bytes of the keys and values of one batch at most: it is one log entry. The values that its outcome returns have the
/// same limit: it is one message.
pub const BATCH_BYTES_MAX: usize = VALUE_BYTES_MAX + (1 << 20);

/// What must hold of a key for a batch to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A key of the same partition as all others of the batch.
    pub key: Bytes,
    /// What must hold of the key's value.
    pub condition: Condition,
}
wire_struct!(Check { key, condition });

/// An operation of a batch; no batch is a part of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part(pub Operation);

/// What an operation of a batch did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOutcome(pub Outcome);

/// The tag of batches, which must not be nested: decoding would recurse as deep as a message says.
const BATCH_TAG: u8 = 13;
const ALL_TAG: u8 = 16;

fn refuse(input: &Bytes, tag: u8, what: &'static str) -> Result<(), Malformed> {
    if input.first() == Some(&tag) { Err(Malformed::Variant { what, tag }) } else { Ok(()) }
}

impl Wire for Part {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        self.0.write(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        refuse(input, BATCH_TAG, "Part")?;
        Operation::read(input).map(Self)
    }
}

impl Wire for PartOutcome {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        self.0.write(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        refuse(input, ALL_TAG, "PartOutcome")?;
        Outcome::read(input).map(Self)
    }
}

/// Checks a batch against its limits.
pub(super) fn check(
    checks: &[Check],
    parts: &[Part],
    value_bytes_max: usize,
) -> Result<(), InvalidOperation> {
    let mut bytes = 0;
    for check in checks {
        check_key(&check.key)?;
        bytes += check.key.len() + check.condition.bytes();
    }
    for Part(operation) in parts {
        if matches!(operation, Operation::Batch { .. }) {
            return Err(InvalidOperation::BatchTooLarge);
        }
        operation.check(value_bytes_max)?;
        let (stored, compared) = operation.value_bytes();
        bytes += operation.key().map_or(0, Bytes::len) + stored + compared;
    }
    let fits = checks.len() + parts.len() <= BATCH_PARTS_MAX && bytes <= BATCH_BYTES_MAX;
    if fits { Ok(()) } else { Err(InvalidOperation::BatchTooLarge) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_in_a_batch_is_not_read() {
        let inner = Operation::Batch { checks: Vec::new(), parts: Vec::new() };
        let outer = Operation::Batch { checks: Vec::new(), parts: vec![Part(inner)] };
        assert!(outer.check(VALUE_BYTES_MAX).is_err());
        let read = Operation::from_wire(outer.to_wire());
        assert_eq!(read, Err(Malformed::Variant { what: "Part", tag: BATCH_TAG }));
        let inner = Outcome::All { results: Vec::new() };
        let outer = Outcome::All { results: vec![PartOutcome(inner)] };
        let read = Outcome::from_wire(outer.to_wire());
        assert_eq!(read, Err(Malformed::Variant { what: "PartOutcome", tag: ALL_TAG }));
    }

    #[test]
    fn batches_are_read_as_written() {
        let check = Check { key: "k".into(), condition: Condition::NotValue { value: "v".into() } };
        let add = Operation::Add { key: "k".into(), by: -7 };
        let batch = Operation::Batch { checks: vec![check], parts: vec![Part(add)] };
        assert_eq!(Operation::from_wire(batch.to_wire()), Ok(batch));
    }

    #[test]
    fn a_batch_has_limits() {
        let part = || Part(Operation::put("k", vec![0; 1 << 20]));
        let batch =
            |count| Operation::Batch { checks: Vec::new(), parts: (0..count).map(|_| part()).collect() };
        assert_eq!(batch(8).check(VALUE_BYTES_MAX), Ok(()));
        assert_eq!(batch(9).check(VALUE_BYTES_MAX), Err(InvalidOperation::BatchTooLarge));
    }
}
