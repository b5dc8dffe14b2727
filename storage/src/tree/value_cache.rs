//! The values that were read or written last, in memory: a change looks at the value before it, and the same keys are
//! read again. A look here costs a tenth of one into a tree's memory table, which has every version since its flush.
//!
//! Everything here is also in the tree: nothing is lost with this cache, and a value that it lacks is read from the
//! tree.

use std::{
    cell::RefCell,
    hash::{Hash, Hasher},
};

use lsm_tree::Slice;
use quick_cache::{Equivalent, Weighter, unsync::Cache};

/// Larger values are left to the trees: they cost more to move than to find.
const VALUE_BYTES_MAX: usize = 4_096;

/// What a value takes besides its bytes and its key's, roughly.
const EXTRA_BYTES: usize = 96;

/// Bytes that a value takes on average, for the size of the table at first.
const USUAL_BYTES: usize = 256;

/// A key in a tree. A tree that replaces another has another generation, so values of the former one are not
/// found any more, and are evicted like others.
struct Known {
    partition: u16,
    generation: u32,
    key: Box<[u8]>,
}

/// A [`Known`] key, borrowed.
#[derive(Clone, Copy)]
pub(super) struct CacheKey<'a> {
    pub(super) partition: u16,
    pub(super) generation: u32,
    /// As it is in the tree.
    pub(super) key: &'a [u8],
}

impl Known {
    fn borrowed(&self) -> CacheKey<'_> {
        CacheKey { partition: self.partition, generation: self.generation, key: &self.key }
    }
}

impl Hash for CacheKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (u64::from(self.generation) << 16 | u64::from(self.partition)).hash(state);
        self.key.hash(state);
    }
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<Known> for CacheKey<'_> {
    fn equivalent(&self, known: &Known) -> bool {
        (self.partition, self.generation, self.key) == (known.partition, known.generation, &known.key)
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed().equivalent(other)
    }
}

impl Eq for Known {}

#[derive(Clone)]
struct Bytes;

impl Weighter<Known, Slice> for Bytes {
    fn weight(&self, known: &Known, value: &Slice) -> u64 {
        (known.key.len() + value.len() + EXTRA_BYTES) as u64
    }
}

/// Values that were read or written last, as they are stored. Used by one thread.
pub(super) struct ValueCache(RefCell<Cache<Known, Slice, Bytes>>);

impl ValueCache {
    /// A cache of about `bytes` at most.
    pub(super) fn new(bytes: u64) -> Self {
        let usual = usize::try_from(bytes).unwrap_or(usize::MAX) / USUAL_BYTES;
        Self(RefCell::new(Cache::with_weighter(usual, bytes, Bytes)))
    }

    /// A value as it is stored.
    pub(super) fn get(&self, cache_key: CacheKey<'_>) -> Option<Slice> {
        self.0.borrow().get(&cache_key).cloned()
    }

    /// A value was read or written.
    pub(super) fn put(&self, cache_key: CacheKey<'_>, value: Slice) {
        let mut cache = self.0.borrow_mut();
        if value.len() > VALUE_BYTES_MAX {
            cache.remove(&cache_key);
            return;
        }
        if let Some(mut known) = cache.get_mut(&cache_key) {
            *known = value;
            return;
        }
        let CacheKey { partition, generation, key } = cache_key;
        cache.insert(Known { partition, generation, key: key.into() }, value);
    }

    /// A value was removed.
    pub(super) fn remove(&self, cache_key: CacheKey<'_>) {
        self.0.borrow_mut().remove(&cache_key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_key(generation: u32, key: &[u8]) -> CacheKey<'_> {
        CacheKey { partition: 3, generation, key }
    }

    fn value(bytes: &[u8]) -> Slice {
        Slice::from(bytes)
    }

    #[test]
    fn it_has_what_was_put_last_and_nothing_of_another_tree() {
        let cache = ValueCache::new(1 << 20);
        cache.put(cache_key(0, b"k"), value(b"one"));
        cache.put(cache_key(0, b"k"), value(b"two"));
        assert_eq!(cache.get(cache_key(0, b"k")), Some(value(b"two")));
        assert_eq!(cache.get(cache_key(1, b"k")), None);
        assert_eq!(cache.get(CacheKey { partition: 4, ..cache_key(0, b"k") }), None);
        cache.remove(cache_key(0, b"k"));
        assert_eq!(cache.get(cache_key(0, b"k")), None);
    }

    #[test]
    fn a_value_that_has_become_large_is_not_returned_as_it_was() {
        let cache = ValueCache::new(1 << 20);
        cache.put(cache_key(0, b"k"), value(b"small"));
        cache.put(cache_key(0, b"k"), value(&[7; VALUE_BYTES_MAX + 1]));
        assert_eq!(cache.get(cache_key(0, b"k")), None);
    }

    #[test]
    fn it_keeps_to_its_bytes() {
        let cache = ValueCache::new(64 * 1024);
        for number in 0..10_000_u32 {
            cache.put(cache_key(0, &number.to_le_bytes()), value(&[1; 100]));
        }
        let (count, weight) = (cache.0.borrow().len(), cache.0.borrow().weight());
        assert!(weight <= 64 * 1024 && count > 100, "{count} values, {weight} bytes");
    }
}
