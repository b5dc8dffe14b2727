//! The bytes that a connection may have open: its requests that are not answered, and the replies that they may bring.
//! No more of its requests are taken when it is beyond its limit, or when it has its share and all connections together
//! are beyond theirs.
//!
//! The size of a value is known only when it is read. So a get is asked with a bound that follows the values that the
//! connection has got of late, and counts with that bound. Of a larger value only the size comes back; the get is asked
//! again when there is room for that many bytes. So no number of gets brings more than the limit, and one value. A
//! value that is larger than the share of a connection is got though all are at their limit, but not beyond
//! [`CLIENTS_BEYOND_BYTES_MAX`].

use std::time::Duration;

use crate::limits::{
    CLIENT_OPEN_BYTES_MAX, CLIENT_SHARE_BYTES, CLIENTS_BEYOND_BYTES_MAX, CLIENTS_OPEN_BYTES_MAX,
    GET_BYTES_FIRST, PAGE_BYTES_MAX, REQUEST_BYTES, ROOM_LOOK,
};
use crate::net::byte_counter::ByteCounter;
use crate::net::send_buffer::SendBuffer;
use common::limits::{VALUE_BYTES_MAX, WATCH_ANSWER_BYTES_MAX};
use kvserver_core::{Ask, Query};
use tokio::time::timeout;

/// A bound that is larger than needed halves in about so many replies (exponential decay).
const FORGETTING: u32 = 64;

/// The bytes that one connection has open, and the bound of its next get.
#[derive(Debug)]
pub(super) struct Window {
    /// Bytes that all connections have open.
    all: ByteCounter,
    open: usize,
    /// The bound of the next get, in bytes.
    expected: u32,
}

impl Window {
    /// The window of a new connection.
    pub(super) fn new(all: ByteCounter) -> Self {
        Self { all, open: 0, expected: GET_BYTES_FIRST }
    }

    /// Whether a further request may be taken. `waiting`: bytes of replies that the socket has not taken, which are
    /// counted in `all` as well.
    pub(super) fn has_room(&self, waiting: usize) -> bool {
        let own = self.open + waiting;
        own < CLIENT_SHARE_BYTES || (own < CLIENT_OPEN_BYTES_MAX && self.all.bytes() < CLIENTS_OPEN_BYTES_MAX)
    }

    /// Whether a value may be asked for though there is no room for it: the connection waits for nothing else, its
    /// socket has taken all, and all connections together are below [`CLIENTS_BEYOND_BYTES_MAX`].
    pub(super) fn goes_beyond(&self, waiting: usize) -> bool {
        waiting == 0 && self.all.bytes() < CLIENTS_BEYOND_BYTES_MAX
    }

    /// Bytes that a request and its reply count. A get without a bound is given `bound`.
    pub(super) fn price(ask: &mut Ask, bound: usize) -> usize {
        let reply = match ask {
            Ask::Read(Query::Get { bytes_max, .. }) => {
                if *bytes_max == u32::MAX {
                    *bytes_max = u32::try_from(bound).unwrap_or(u32::MAX - 1);
                }
                *bytes_max as usize
            }
            Ask::Read(Query::Scan { .. }) => PAGE_BYTES_MAX + VALUE_BYTES_MAX,
            Ask::Read(Query::Keys { .. }) => PAGE_BYTES_MAX,
            Ask::Read(Query::Count { .. } | Query::Nothing) => 0,
            Ask::Watch(asked) => asked.bytes_max.min(WATCH_ANSWER_BYTES_MAX),
            Ask::Write { operation, .. } => operation.returned_bytes_max(),
        };
        REQUEST_BYTES + ask.bytes() + reply
    }

    /// Counts bytes as open.
    pub(super) fn open(&mut self, bytes: usize) {
        self.open += bytes;
        self.all.add(bytes);
    }

    /// Counts bytes as open no longer.
    pub(super) fn close(&mut self, bytes: usize) {
        self.open -= bytes;
        self.all.sub(bytes);
    }

    /// Adapts the bound to a value of so many bytes, which was returned or is there to be asked for.
    pub(super) fn learn(&mut self, bytes: u64) {
        // Values are smaller than that.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX - 1);
        self.expected = if bytes >= self.expected {
            bytes
        } else {
            (self.expected - self.expected / FORGETTING).max(bytes).max(GET_BYTES_FIRST)
        };
    }

    /// The bound of the next get, in bytes.
    pub(super) fn expected(&self) -> usize {
        self.expected as usize
    }
}

/// The times at which to look again whether there is room, with growing pauses.
#[derive(Debug)]
pub(super) struct Looks(Duration);

impl Looks {
    pub(super) fn new() -> Self {
        Self(ROOM_LOOK.0)
    }

    /// Waits until the next look is due, or the socket has taken all that waited.
    pub(super) async fn next(&mut self, send_buffer: &SendBuffer) {
        let wait = self.0;
        self.0 = (2 * self.0).min(ROOM_LOOK.1);
        let _over = timeout(wait, send_buffer.emptied()).await;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.all.sub(self.open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use common::operation::Operation;

    fn get() -> Ask {
        Ask::Read(Query::get(Bytes::from_static(b"key")))
    }

    #[test]
    fn gets_are_bounded_by_what_was_got() {
        let mut window = Window::new(ByteCounter::default());
        let bound = |window: &Window| {
            let mut ask = get();
            let price = Window::price(&mut ask, window.expected());
            let Ask::Read(Query::Get { bytes_max, .. }) = ask else { panic!("a get") };
            assert_eq!(price, REQUEST_BYTES + 3 + bytes_max as usize);
            bytes_max
        };
        assert_eq!(bound(&window), GET_BYTES_FIRST);
        window.learn(1 << 20);
        assert_eq!(bound(&window), 1 << 20);
        window.learn(1 << 19);
        assert!(bound(&window) > 1 << 19, "one smaller value says little");
        (0..1000).for_each(|_| window.learn(10));
        assert_eq!(bound(&window), GET_BYTES_FIRST);
        let mut bounded = Ask::Read(Query::Get { key: Bytes::new(), bytes_max: 5 });
        assert_eq!(Window::price(&mut bounded, 99), REQUEST_BYTES + 5, "a bound that is there stays");
        let mut take = Ask::Write {
            origin: None,
            age_ms: 0,
            operation: Operation::Take { key: Bytes::from_static(b"key") },
        };
        assert_eq!(Window::price(&mut take, 99), REQUEST_BYTES + 3 + VALUE_BYTES_MAX);
    }

    #[test]
    fn one_value_may_go_beyond_the_limit_up_to_another() {
        let all = ByteCounter::default();
        let mut window = Window::new(all.clone());
        window.open(CLIENT_SHARE_BYTES);
        all.add(CLIENTS_OPEN_BYTES_MAX);
        assert!(!window.has_room(0) && window.goes_beyond(0) && !window.goes_beyond(1));
        all.add(CLIENTS_BEYOND_BYTES_MAX - CLIENTS_OPEN_BYTES_MAX);
        assert!(!window.goes_beyond(0));
    }

    #[test]
    fn a_connection_has_its_share_whatever_others_have() {
        let all = ByteCounter::default();
        let mut windows: Vec<Window> = (0..20).map(|_| Window::new(all.clone())).collect();
        for window in &mut windows {
            while window.has_room(0) {
                window.open(CLIENT_SHARE_BYTES / 2);
            }
        }
        assert!(!windows[0].has_room(0), "its own limit");
        assert_eq!(windows[19].open, CLIENT_SHARE_BYTES, "all have theirs: the share is left");
        let mut late = Window::new(all.clone());
        assert!(late.has_room(0) && !late.has_room(CLIENT_SHARE_BYTES));
        late.open(CLIENT_SHARE_BYTES);
        assert!(!late.has_room(0));
        late.close(CLIENT_SHARE_BYTES);
        drop((windows, late));
        assert_eq!(all.bytes(), 0);
    }
}
