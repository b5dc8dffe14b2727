//! Requests that wait in a copy, in order, counted in bytes: each copy's own, and those of all copies of the server.
//!
//! Together they have a limit, so that large values cannot fill the memory; below its share of the limit a copy is never
//! held up by what waits in others.

use std::collections::VecDeque;

use super::limits::WAITING_SHARES;

/// What the copies of a server hold together, and what they may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    bytes: usize,
    bytes_max: usize,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max }
    }

    /// Bytes of all copies.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Waiting<T> {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }

    /// Whether one more has to wait elsewhere, or be refused.
    pub(crate) fn is_full(&self, held: Held, len_max: usize) -> bool {
        let within_share = self.bytes < held.bytes_max / WAITING_SHARES;
        self.items.len() >= len_max || (held.bytes >= held.bytes_max && !within_share)
    }

    pub(crate) fn push(&mut self, held: &mut Held, item: T, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        held.bytes += bytes;
    }

    pub(crate) fn pop(&mut self, held: &mut Held) -> Option<T> {
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        held.bytes -= bytes;
        Some(item)
    }

    /// All of them, in order; nothing waits any more.
    pub(crate) fn take(&mut self, held: &mut Held) -> impl Iterator<Item = T> + use<T> {
        held.bytes -= std::mem::take(&mut self.bytes);
        std::mem::take(&mut self.items).into_iter().map(|(item, _)| item)
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.items.front().map(|(item, _)| item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of this copy.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = WAITING_SHARES * 10;

    #[test]
    fn bytes_are_bounded_over_all_copies_but_for_their_shares() {
        let mut held = Held::new(BYTES_MAX);
        let (mut greedy, mut modest) = (Waiting::new(), Waiting::new());
        while !greedy.is_full(held, usize::MAX) {
            greedy.push(&mut held, (), 100);
        }
        assert!((BYTES_MAX..BYTES_MAX + 100).contains(&held.bytes()));
        assert!(!modest.is_full(held, usize::MAX), "its share is its own");
        modest.push(&mut held, 'a', 10);
        assert!(modest.is_full(held, usize::MAX));
        let all = held.bytes();
        assert_eq!(greedy.pop(&mut held), Some(()));
        assert_eq!(held.bytes(), all - 100);
        assert!(!modest.is_full(held, usize::MAX) && modest.is_full(held, 1));
        assert_eq!(modest.take(&mut held).collect::<Vec<char>>(), ['a']);
        assert_eq!(greedy.take(&mut held).count(), BYTES_MAX.div_ceil(100) - 1);
        assert_eq!((held.bytes(), modest.bytes(), greedy.bytes()), (0, 0, 0));
        assert_eq!(modest.pop(&mut held), None);
    }
}
