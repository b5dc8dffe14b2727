//! Keys of partitions: in the order of their positions on the ring, for scans, and whether all keys of an operation are
//! of one partition.
//!
//! A cursor must be valid wherever the scan goes on, also at a server that never saw it, and while keys come and go. A
//! position depends on the key alone, so "all behind this position" means the same everywhere and at any time.

use bytes::Bytes;
use common::operation::Operation;
use common::ring::Position;
use common::time::WallTime;
use common::view::View;

use super::ask::Answer;

/// Bits of a position within its partition: the lowest ones of the key's position on the ring.
const POSITION_BITS: u32 = 48;

/// A page has at least one in so many of the keys after its beginning, so that a scan looks at each key a bounded
/// number of times.
const PAGE_PART: usize = 8;

/// Keys that a page has at least, if there are so many: looking at the partition costs more than returning them.
const PAGE_KEYS_MIN: usize = 512;

/// Bytes of the keys of a page at most: it is one message.
const PAGE_KEY_BYTES_MAX: usize = 4 << 20;

/// The position of a key among those of its partition, from 1.
#[must_use]
pub fn key_position(key: &[u8]) -> u64 {
    let low = Position::of_key(key).0 & ((1 << POSITION_BITS) - 1);
    u64::try_from(low).expect("48 bits").max(1)
}

/// Collects the keys of a partition, in any order, for an answer to `Query::Keys` or `Query::Count`.
#[derive(Debug)]
pub struct PartitionKeys {
    after: u64,
    limit: Option<usize>,
    keys: Vec<(u64, Bytes)>,
    count: u64,
    expires: Option<WallTime>,
}

impl PartitionKeys {
    /// Collects the keys behind a position; without a limit only their number.
    #[must_use]
    pub fn new(after: u64, limit: Option<u32>) -> Self {
        let limit = limit.map(|limit| limit as usize);
        Self { after, limit, keys: Vec::new(), count: 0, expires: None }
    }

    /// Adds a key that is there, and when it expires.
    pub fn push(&mut self, key: Bytes, expires: Option<WallTime>) {
        if let Some(at) = expires {
            self.expires = Some(self.expires.map_or(at, |known| known.min(at)));
        }
        self.count += 1;
        if self.limit.is_some() {
            let position = key_position(&key);
            if position > self.after {
                self.keys.push((position, key));
            }
        }
    }

    /// The answer from all keys that were pushed.
    #[must_use]
    pub fn answer(mut self) -> Answer {
        let expires = self.expires;
        let Some(limit) = self.limit else {
            return Answer::Keys { keys: Vec::new(), count: self.count, next: 0, expires };
        };
        self.keys.sort_unstable();
        let wanted = limit.max(PAGE_KEYS_MIN).max(self.keys.len() / PAGE_PART);
        let mut bytes = 0;
        let fitting = self.keys.iter().take_while(|(_, key)| {
            bytes += key.len();
            bytes <= PAGE_KEY_BYTES_MAX
        });
        let wanted = wanted.min(fitting.count());
        // Other keys with the position of the last one must be in the same page.
        let last = self.keys.get(wanted.saturating_sub(1)).map(|(position, _)| *position);
        let end =
            last.map_or(self.keys.len(), |last| self.keys.partition_point(|(position, _)| *position <= last));
        let next = if end < self.keys.len() { last.unwrap_or(0) } else { 0 };
        assert!(next == 0 || next > self.after, "a scan goes on behind where it was");
        self.keys.truncate(end);
        let keys: Vec<Bytes> = self.keys.into_iter().map(|(_, key)| key).collect();
        Answer::Keys { count: keys.len() as u64, keys, next, expires }
    }
}

/// Whether all keys of an operation are of one partition.
pub(crate) fn is_gathered(view: &View, operation: &Operation) -> bool {
    let Operation::Batch { checks, parts } = operation else { return true };
    let checked = checks.iter().map(|check| Some(&check.key));
    let mut keys = checked.chain(parts.iter().map(|part| part.0.key()));
    let first = keys.next().flatten().map(|key| view.partitions.of_key(key));
    first.is_some() && keys.all(|key| key.map(|key| view.partitions.of_key(key)) == first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn page(keys: &[String], after: u64, limit: u32) -> (Vec<Bytes>, u64) {
        let mut found = PartitionKeys::new(after, Some(limit));
        keys.iter().for_each(|key| found.push(key.clone().into(), None));
        match found.answer() {
            Answer::Keys { keys, next, .. } => (keys, next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_hold_every_key_once_while_others_come_and_go() {
        let mut keys: Vec<String> = (0..3000).map(|i| format!("key:{i}")).collect();
        let (mut seen, mut after, mut pages) = (Vec::new(), 0, 0);
        loop {
            let (page, next) = page(&keys, after, 10);
            seen.extend(page);
            pages += 1;
            // Keys that were returned are deleted, and others are added: a key that stays is not missed.
            keys.retain(|key| !key.ends_with('7'));
            keys.push(format!("new:{pages}"));
            if next == 0 {
                break;
            }
            assert!(next > after);
            after = next;
        }
        assert!(pages > 2, "{pages} pages");
        let unique: BTreeSet<&Bytes> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len(), "no key twice");
        let stayed = (0..3000).map(|i| format!("key:{i}")).filter(|key| !key.ends_with('7'));
        assert!(stayed.map(Bytes::from).all(|key| unique.contains(&key)));
    }

    #[test]
    fn a_count_tells_the_first_expiry() {
        let mut found = PartitionKeys::new(0, None);
        for (key, expires) in [("a", None), ("b", Some(9)), ("c", Some(5))] {
            found.push(key.into(), expires.map(WallTime));
        }
        let expected = Answer::Keys { keys: Vec::new(), count: 3, next: 0, expires: Some(WallTime(5)) };
        assert_eq!(found.answer(), expected);
    }
}
