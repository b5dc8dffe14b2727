//! What an operation must be to be ordered.

use bytes::Bytes;

use super::definition::{Check, Operation, Part};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Checks and parts of one batch at most: they are applied in one go.
pub const BATCH_PARTS_MAX: usize = 4096;

/// Bytes of the keys and values of one batch at most: it is one log entry. The values that its outcome returns have the
/// same limit: it is one message.
pub const BATCH_BYTES_MAX: usize = VALUE_BYTES_MAX + (1 << 20);

/// Why an operation is refused before it is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperation {
    /// A key of no bytes.
    #[error("the key is empty; a key has 1 to {KEY_BYTES_MAX} bytes")]
    KeyEmpty,
    /// A key over its limit.
    #[error("the key has {0} bytes; the limit is {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
    /// A value over its limit.
    #[error("the value has {bytes} bytes; the limit is {limit} (see --max-value)")]
    ValueTooLarge {
        /// Bytes of the value.
        bytes: usize,
        /// The limit in effect at this server, in bytes.
        limit: usize,
    },
    /// A batch over its limits.
    #[error("a transaction has at most {BATCH_PARTS_MAX} operations and {BATCH_BYTES_MAX} bytes")]
    BatchTooLarge,
    /// A batch that changes keys of several partitions, or none.
    #[error("the keys of a transaction must be of one partition")]
    BatchScattered,
}

/// Checks a key's length.
///
/// # Errors
/// When the key is empty or too long.
pub fn check_key(key: &[u8]) -> Result<(), InvalidOperation> {
    match key.len() {
        0 => Err(InvalidOperation::KeyEmpty),
        1..=KEY_BYTES_MAX => Ok(()),
        len => Err(InvalidOperation::KeyTooLong(len)),
    }
}

impl Operation {
    /// Checks keys and values against their limits; `value_bytes_max` is at most [`VALUE_BYTES_MAX`].
    ///
    /// # Errors
    /// When a key, a value or a batch is out of its limits.
    pub fn check(&self, value_bytes_max: usize) -> Result<(), InvalidOperation> {
        if let Self::Batch { checks, parts } = self {
            return check_batch(checks, parts, value_bytes_max);
        }
        if let Some(key) = self.key() {
            check_key(key)?;
        }
        let (stored, compared) = self.value_bytes();
        let limit = value_bytes_max.min(VALUE_BYTES_MAX);
        let bytes = compared.max(stored);
        if bytes > limit { Err(InvalidOperation::ValueTooLarge { bytes, limit }) } else { Ok(()) }
    }
}

/// Checks a batch against its limits.
fn check_batch(checks: &[Check], parts: &[Part], value_bytes_max: usize) -> Result<(), InvalidOperation> {
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
    fn a_batch_in_a_batch_is_refused() {
        let inner = Operation::Batch { checks: Vec::new(), parts: Vec::new() };
        let outer = Operation::Batch { checks: Vec::new(), parts: vec![Part(inner)] };
        assert!(outer.check(VALUE_BYTES_MAX).is_err());
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
