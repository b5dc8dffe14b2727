//! Reads from any thread.

use super::{partition::PartitionTree, value_codec};
use crate::{Error, KEY_BYTES_MAX};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

/// One answer of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys with their values, ascending.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Whether there are more behind the last of them.
    pub more: bool,
}

/// Reads trees from any thread. Cheap to clone. What has been applied is seen at once.
#[derive(Clone, Default)]
pub struct TreeReader {
    trees: Arc<RwLock<BTreeMap<u16, Arc<PartitionTree>>>>,
}

impl TreeReader {
    pub(super) fn set(&self, partition: u16, tree: Option<Arc<PartitionTree>>) {
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        match tree {
            Some(tree) => trees.insert(partition, tree),
            None => trees.remove(&partition),
        };
    }

    fn tree(&self, partition: u16) -> Option<Arc<PartitionTree>> {
        self.trees.read().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    /// The value of a key; its checksum is verified.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the tree's folder, the partition and the key.
    pub fn get(&self, partition: u16, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.tree(partition) {
            Some(tree) => tree.get(&value_codec::user_key(key)),
            None => Ok(None),
        }
    }

    /// Pairs whose keys begin with `prefix` and come after `after`, in key order, until one of the
    /// limits is reached; at least one pair if there is one and `limit_keys` is not 0.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn scan(
        &self,
        partition: u16,
        after: Option<&[u8]>,
        prefix: &[u8],
        limit_keys: usize,
        limit_bytes: usize,
    ) -> Result<Page, Error> {
        match self.tree(partition) {
            Some(tree) => scan(&tree, after, prefix, limit_keys, limit_bytes),
            None => Ok(Page::default()),
        }
    }
}

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
