//! How large operations and their outcomes are.

use bytes::Bytes;

use super::definition::Operation;
use super::validity::BATCH_BYTES_MAX;
use crate::limits::VALUE_BYTES_MAX;

impl Operation {
    /// Bytes of the keys and values that it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Batch { checks, parts } => {
                let checks = checks.iter().map(|check| check.key.len() + check.condition.bytes());
                checks.sum::<usize>() + parts.iter().map(|part| part.0.bytes()).sum::<usize>()
            }
            Self::Overwrite { key, value, .. } => key.len() + value.len(),
            single => {
                let (stored, compared) = single.value_bytes();
                single.key().map_or(0, Bytes::len) + stored + compared
            }
        }
    }

    /// Bytes of the values that its outcome returns, at most.
    #[must_use]
    pub fn returned_bytes_max(&self) -> usize {
        match self {
            Self::Set { return_old: true, .. }
            | Self::Retime { return_old: true, .. }
            | Self::Take { .. }
            | Self::Fetch { .. } => VALUE_BYTES_MAX,
            Self::Batch { parts, .. } => {
                let returned = parts.iter().map(|part| part.0.returned_bytes_max());
                returned.fold(0, usize::saturating_add).min(BATCH_BYTES_MAX)
            }
            _ => 0,
        }
    }

    /// Bytes that the operation would store, and bytes that it compares with.
    pub(super) fn value_bytes(&self) -> (usize, usize) {
        match self {
            Self::Put { value, condition, .. } | Self::Set { value, condition, .. } => {
                (value.len(), condition.bytes())
            }
            Self::Delete { condition, .. } | Self::Retime { condition, .. } => (0, condition.bytes()),
            Self::Append { value, .. } => (value.len(), 0),
            Self::AddDecimal { by, .. } => (by.len(), 0),
            Self::Overwrite { offset, value, .. } if !value.is_empty() => {
                let end = usize::try_from(*offset).unwrap_or(usize::MAX).saturating_add(value.len());
                (end, 0)
            }
            _ => (0, 0),
        }
    }
}
