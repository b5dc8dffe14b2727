//! Reading keys and values of a tree in key order.

use super::{partition::PartitionTree, value_codec};
use crate::{Error, KEY_BYTES_MAX};
use bytes::Bytes;
use std::ops::Bound;

/// One answer of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys with their values, ascending.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Whether there are more behind the last of them.
    pub more: bool,
}

/// Pairs whose keys begin with `prefix` and come after `after`, in key order, until one of the limits is reached; at
/// least one pair if there is one and `limit_keys` is not 0.
pub(super) fn scan(
    tree: &PartitionTree,
    after: Option<&[u8]>,
    prefix: &[u8],
    limit_keys: usize,
    limit_bytes: usize,
) -> Result<Page, Error> {
    let mut page = Page::default();
    // A caller may ask for a prefix that no key can have; `lsm-tree` does not take such bounds.
    if prefix.len() > KEY_BYTES_MAX {
        return Ok(page);
    }
    let after = after.map(|after| &after[..after.len().min(KEY_BYTES_MAX)]);
    let prefix = value_codec::user_key(prefix);
    let bounds = match after.map(value_codec::user_key) {
        Some(after) if after >= prefix => (Bound::Excluded(after), end_of(&prefix)),
        _ => (Bound::Included(prefix.clone()), end_of(&prefix)),
    };
    if let (Bound::Excluded(start), Bound::Excluded(end)) = &bounds
        && start >= end
    {
        return Ok(page);
    }
    let mut iterator = tree.range(bounds)?;
    let mut bytes = 0;
    while let Some((key, value)) = tree.next(&mut iterator)? {
        bytes += key.len() + value.len();
        if page.pairs.len() >= limit_keys || (bytes > limit_bytes && !page.pairs.is_empty()) {
            page.more = true;
            break;
        }
        page.pairs.push((key, value));
    }
    Ok(page)
}

/// Behind the last key with this prefix.
pub(super) fn end_of(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}
