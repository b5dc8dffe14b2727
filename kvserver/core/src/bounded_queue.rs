//! Queues of requests that wait, one for each copy, bounded in bytes: for each copy, and for all copies of the server.
//!
//! Together they have a limit, so that large values cannot fill the memory; a copy below its share of the limit is
//! never delayed by what waits in others.

use std::collections::VecDeque;

use super::limits::WAITING_SHARES;

/// The bytes that wait in all copies of a server, and their limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteBudget {
    bytes: usize,
    bytes_max: usize,
}

impl ByteBudget {
    /// A budget with nothing used.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max }
    }

    /// Bytes that wait in all copies.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct BoundedQueue<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> BoundedQueue<T> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }

    /// Whether a further request has no room here.
    pub(crate) fn is_full(&self, budget: ByteBudget, len_max: usize) -> bool {
        let within_share = self.bytes < budget.bytes_max / WAITING_SHARES;
        self.items.len() >= len_max || (budget.bytes >= budget.bytes_max && !within_share)
    }

    pub(crate) fn push(&mut self, budget: &mut ByteBudget, item: T, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        budget.bytes += bytes;
        assert!(self.bytes <= budget.bytes, "what waits here is counted for all copies");
    }

    pub(crate) fn pop(&mut self, budget: &mut ByteBudget) -> Option<T> {
        let (item, bytes) = self.items.pop_front()?;
        assert!(bytes <= self.bytes && bytes <= budget.bytes, "what is taken out was counted");
        self.bytes -= bytes;
        budget.bytes -= bytes;
        assert!(!self.items.is_empty() || self.bytes == 0, "bytes are counted of requests that have left");
        Some(item)
    }

    /// Takes all requests, in order.
    pub(crate) fn take(&mut self, budget: &mut ByteBudget) -> impl Iterator<Item = T> + use<T> {
        assert!(self.bytes <= budget.bytes, "what is taken out was counted");
        budget.bytes -= std::mem::take(&mut self.bytes);
        std::mem::take(&mut self.items).into_iter().map(|(item, _)| item)
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.items.front().map(|(item, _)| item)
    }

    pub(crate) fn back(&self) -> Option<&T> {
        self.items.back().map(|(item, _)| item)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        let bytes: usize = self.items.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, self.bytes, "the bytes that are counted wait");
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(item, _)| item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that wait in this queue.
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
        let mut budget = ByteBudget::new(BYTES_MAX);
        let (mut greedy, mut modest) = (BoundedQueue::new(), BoundedQueue::new());
        while !greedy.is_full(budget, usize::MAX) {
            greedy.push(&mut budget, (), 100);
        }
        assert!((BYTES_MAX..BYTES_MAX + 100).contains(&budget.bytes()));
        assert!(!modest.is_full(budget, usize::MAX), "its share is its own");
        modest.push(&mut budget, 'a', 10);
        assert!(modest.is_full(budget, usize::MAX));
        let all = budget.bytes();
        assert_eq!(greedy.pop(&mut budget), Some(()));
        assert_eq!(budget.bytes(), all - 100);
        assert!(!modest.is_full(budget, usize::MAX) && modest.is_full(budget, 1));
        assert_eq!(modest.take(&mut budget).collect::<Vec<char>>(), ['a']);
        assert_eq!(greedy.take(&mut budget).count(), BYTES_MAX.div_ceil(100) - 1);
        assert_eq!((budget.bytes(), modest.bytes(), greedy.bytes()), (0, 0, 0));
        assert_eq!(modest.pop(&mut budget), None);
    }
}
