//! Requests of one connection that must not pass each other.
//!
//! A client that sends `put k v` and `get k` without waiting for the first answer means them in this order. Writes are
//! ordered as they come, but a read looks at what is applied and would pass a write that is under way, and a read that
//! waits for a lease would be passed by a write. So a read waits for the connection's earlier writes to its key, a
//! write for the earlier reads. Requests for other keys, and of other connections, are not delayed.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The requests that one connection has under way, by key.
#[derive(Debug, Default)]
pub(super) struct KeyOrder {
    open: BTreeMap<Bytes, Open>,
}

#[derive(Debug, Default)]
struct Open {
    reads: usize,
    writes: usize,
}

impl Open {
    fn count(&mut self, write: bool) -> &mut usize {
        if write { &mut self.writes } else { &mut self.reads }
    }
}

impl KeyOrder {
    /// Whether a request may begin while the others are under way.
    pub(super) fn admits(&self, key: &[u8], write: bool) -> bool {
        self.open.get(key).is_none_or(|open| if write { open.reads == 0 } else { open.writes == 0 })
    }

    /// Notes that a request is under way.
    pub(super) fn begin(&mut self, key: &[u8], write: bool) {
        match self.open.get_mut(key) {
            Some(open) => *open.count(write) += 1,
            // A copy: the key is a part of the read buffer, which would stay in memory with it.
            None => *self.open.entry(Bytes::copy_from_slice(key)).or_default().count(write) += 1,
        }
    }

    /// Notes that a request was answered.
    pub(super) fn end(&mut self, key: &[u8], write: bool) {
        let open = self.open.get_mut(key).expect("it was begun");
        *open.count(write) -= 1;
        if open.reads + open.writes == 0 {
            self.open.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_of_one_key_wait_for_each_other() {
        let mut order = KeyOrder::default();
        order.begin(b"k", true);
        order.begin(b"k", true);
        assert!(order.admits(b"k", true) && !order.admits(b"k", false) && order.admits(b"other", false));
        order.end(b"k", true);
        assert!(!order.admits(b"k", false));
        order.end(b"k", true);
        order.begin(b"k", false);
        assert!(order.admits(b"k", false) && !order.admits(b"k", true));
        order.end(b"k", false);
        assert!(order.open.is_empty(), "nothing is kept of what is over");
    }
}
