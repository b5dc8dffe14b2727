//! Requests of one connection that must not pass each other.
//!
//! A client that sends `put k v` and `get k` without waiting for the first answer means them in this order. Writes are
//! ordered as they come at the server that coordinates their key, but a read looks at what is applied and would pass a
//! write that is under way, and a read that waits for a lease would be passed by a write. So a read waits for the
//! connection's earlier writes to its key, a write for the earlier reads, and for earlier writes too if another server
//! orders them. Requests for other keys, and of other connections, are not delayed.
//!
//! A key is known by its hash: two keys with one hash wait for each other without need, which is harmless.

use std::collections::BTreeMap;

/// The requests that one connection has under way, by key.
#[derive(Debug, Default)]
pub(super) struct KeyOrder {
    open: BTreeMap<u64, Open>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    reads: usize,
    writes: usize,
}

impl Open {
    fn count(&mut self, write: bool) -> &mut usize {
        if write { &mut self.writes } else { &mut self.reads }
    }
}

/// A key by its hash, and whether it is written.
type Use = (u64, bool);

/// The keys that a request uses; most use one.
#[derive(Debug)]
pub(super) enum KeyUses {
    One(Use),
    Many(Vec<Use>),
}

impl Default for KeyUses {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl KeyUses {
    /// A request that uses one key.
    pub(super) fn one(key: &[u8], write: bool) -> Self {
        Self::One((hash_of(key), write))
    }

    /// Adds a key.
    pub(super) fn add(&mut self, key: &[u8], write: bool) {
        match self {
            Self::Many(many) if many.is_empty() => *self = Self::one(key, write),
            Self::Many(many) => many.push((hash_of(key), write)),
            Self::One(first) => *self = Self::Many(vec![*first, (hash_of(key), write)]),
        }
    }

    fn each(&self) -> &[Use] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

fn hash_of(key: &[u8]) -> u64 {
    key.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl KeyOrder {
    /// Begins a request if it passes none that is under way; returns whether it did. `ordered`: whether writes to its
    /// keys keep their order by themselves.
    pub(super) fn try_begin(&mut self, uses: &KeyUses, ordered: impl Fn() -> bool) -> bool {
        let free = |&(key, write): &Use| match (write, self.open.get(&key).copied().unwrap_or_default()) {
            (false, Open { writes: 0, .. }) | (true, Open { reads: 0, writes: 0 }) => true,
            (true, Open { reads: 0, .. }) => ordered(),
            _ => false,
        };
        let admitted = uses.each().iter().all(free);
        if admitted {
            for (key, write) in uses.each() {
                *self.open.entry(*key).or_default().count(*write) += 1;
            }
        }
        admitted
    }

    /// Notes that a request was answered.
    pub(super) fn end(&mut self, uses: &KeyUses) {
        for (key, write) in uses.each() {
            let open = self.open.get_mut(key).expect("it was begun");
            *open.count(*write) -= 1;
            if open.reads + open.writes == 0 {
                self.open.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_of_one_key_wait_for_each_other() {
        let mut order = KeyOrder::default();
        let (read, write) = (KeyUses::one(b"k", false), KeyUses::one(b"k", true));
        let ordered = || true;
        assert!(order.try_begin(&write, ordered) && order.try_begin(&write, ordered));
        assert!(!order.try_begin(&write, || false), "another server orders them");
        assert!(!order.try_begin(&read, ordered) && order.try_begin(&KeyUses::one(b"other", false), ordered));
        order.end(&write);
        assert!(!order.try_begin(&read, ordered));
        order.end(&write);
        assert!(order.try_begin(&read, ordered) && order.try_begin(&read, ordered));
        assert!(!order.try_begin(&write, ordered));
        order.end(&read);
        order.end(&read);
        order.end(&KeyUses::one(b"other", false));
        assert!(order.open.is_empty(), "nothing is kept of what is over");
    }

    #[test]
    fn a_request_for_many_keys_waits_for_each() {
        let mut order = KeyOrder::default();
        let mut uses = KeyUses::default();
        for key in [b"a", b"b", b"a"] {
            uses.add(key, true);
        }
        assert!(order.try_begin(&uses, || false), "it does not wait for itself");
        assert!(!order.try_begin(&KeyUses::one(b"b", false), || true));
        order.end(&uses);
        assert!(order.open.is_empty());
    }
}
