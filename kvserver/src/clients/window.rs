//! What a connection may have open, in bytes: its requests that are not answered, and the replies that they may bring.
//! Beyond its limit, or when all connections together are beyond theirs and it has its share, no more of its requests
//! are taken.
//!
//! Nobody knows how large a value is before it is read. So a get is asked with a bound that follows what the connection
//! has got of late, and counts with it. Of a larger value only the size comes back; the get is asked again when there is
//! room for that many bytes. So no number of gets brings more than the limit, and one value.

use std::convert::Infallible;

use crate::core::{Ask, Query};
use crate::gauge::Gauge;
use crate::limits::{
    CLIENT_OPEN_BYTES_MAX, CLIENT_SHARE_BYTES, CLIENTS_OPEN_BYTES_MAX, GET_BYTES_FIRST, PAGE_BYTES_MAX,
    REQUEST_BYTES, ROOM_LOOK,
};
use common::limits::{VALUE_BYTES_MAX, WATCH_ANSWER_BYTES_MAX};
use tokio::sync::Notify;

/// Of so many replies a larger bound than they need is lowered by half, about.
const FORGETTING: u32 = 64;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Window {
    /// Of all connections.
    all: Gauge,
    open: usize,
    /// The bound of the next get.
    expected: u32,
}

impl Window {
    /// A new connection's.
    pub(super) fn new(all: Gauge) -> Self {
        Self { all, open: 0, expected: GET_BYTES_FIRST }
    }

    /// Whether a further request may be taken. `waiting`: bytes of replies that the socket has not taken, which are
    /// counted in the gauge as well.
    pub(super) fn has_room(&self, waiting: usize) -> bool {
        let own = self.open + waiting;
        own < CLIENT_SHARE_BYTES || (own < CLIENT_OPEN_BYTES_MAX && self.all.bytes() < CLIENTS_OPEN_BYTES_MAX)
    }

    /// What a request and its reply count. A get without a bound is given this one.
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
            Ask::Write { operation, .. } => operation.told_bytes_max(),
        };
        REQUEST_BYTES + ask.bytes() + reply
    }

    /// So many bytes are open from now on.
    pub(super) fn open(&mut self, bytes: usize) {
        self.open += bytes;
        self.all.add(bytes);
    }

    /// So many bytes are open no longer.
    pub(super) fn close(&mut self, bytes: usize) {
        self.open -= bytes;
        self.all.sub(bytes);
    }

    /// A value of so many bytes was got, or is there to be got.
    pub(super) fn learn(&mut self, bytes: u64) {
        // No value has more than fits.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX - 1);
        self.expected = if bytes >= self.expected {
            bytes
        } else {
            (self.expected - self.expected / FORGETTING).max(bytes).max(GET_BYTES_FIRST)
        };
    }

    /// The bound of the next get.
    pub(super) fn expected(&self) -> usize {
        self.expected as usize
    }
}

/// Asks for large values when there is room for them, whenever some have come to wait. `ask` asks for those that there
/// is room for, and tells whether others wait.
pub(super) async fn keep_asking(some: &Notify, mut ask: impl FnMut() -> bool) -> Infallible {
    loop {
        some.notified().await;
        while ask() {
            // A socket that takes nothing is looked at again after a moment.
            let _waited = tokio::time::timeout(ROOM_LOOK, some.notified()).await;
        }
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
        let mut window = Window::new(Gauge::default());
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
    fn a_connection_has_its_share_whatever_others_have() {
        let all = Gauge::default();
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
