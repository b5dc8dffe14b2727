//! The numbers of a client's writes: ascending from 1, and which of them have no answer yet.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use common::ids::{ClientId, RequestId, RequestNumber};
use common::operation::Origin;

/// Hands out origins and remembers which are open.
#[derive(Debug)]
pub(crate) struct Numbers {
    client: ClientId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    open: BTreeSet<u64>,
}

/// An open write. Dropping it closes its number: it was answered, or will not be asked for again.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    numbers: &'a Numbers,
    /// The write's origin, the same for every try.
    pub(crate) origin: Origin,
}

impl Numbers {
    pub(crate) fn new(client: ClientId) -> Self {
        Self { client, state: Mutex::default() }
    }

    pub(crate) fn client(&self) -> ClientId {
        self.client
    }

    /// Opens the next number.
    pub(crate) fn open(&self) -> Ticket<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last += 1;
        let number = state.last;
        state.open.insert(number);
        let first = state.open.first().copied().unwrap_or(number);
        let origin = Origin {
            client: self.client,
            number: RequestNumber(number),
            first_unanswered: RequestNumber(first),
        };
        Ticket { numbers: self, origin }
    }
}

impl Ticket<'_> {
    /// Names the request in the logs of the servers.
    pub(crate) fn id(&self) -> RequestId {
        RequestId { client: self.origin.client, number: self.origin.number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.numbers.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.remove(&self.origin.number.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unanswered_number_follows_the_oldest_open_one() {
        let numbers = Numbers::new(ClientId(7));
        let first = numbers.open();
        let second = numbers.open();
        assert_eq!(
            (first.origin.number, first.origin.first_unanswered),
            (RequestNumber(1), RequestNumber(1))
        );
        assert_eq!(
            (second.origin.number, second.origin.first_unanswered),
            (RequestNumber(2), RequestNumber(1))
        );
        drop(first);
        let third = numbers.open();
        assert_eq!(
            (third.origin.number, third.origin.first_unanswered),
            (RequestNumber(3), RequestNumber(2))
        );
        drop((second, third));
        let fourth = numbers.open();
        assert_eq!(fourth.origin.first_unanswered, fourth.origin.number);
    }
}
