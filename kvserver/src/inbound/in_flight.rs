//! What one connection has under way: its bytes ([`Window`]), its keys ([`KeyOrder`]), and the gets whose values are so
//! large that they are asked for again when there is room.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::messages::Reply;
use kvserver_core::{Ask, Query};

use super::order::KeyOrder;
use super::window::Window;
use crate::limits::REPLY_BYTES_MAX;

/// The values that a request is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None: of a value that is larger than the bound its size is enough.
    Sizes,
    /// A value of up to so many bytes, and of a larger one its size.
    UpTo(u64),
    /// All, of [`REPLY_BYTES_MAX`] bytes together; a reply with more is refused.
    All,
}

/// The bytes of a request that is under way.
#[derive(Debug)]
pub(super) struct Charge {
    /// Bytes that it has open.
    price: usize,
    /// The bound of its gets, in bytes: what is counted for each value before its size is known.
    bound: usize,
    /// Bytes of its values, as far as they are known.
    values: usize,
    wanted: Wanted,
}

/// The requests of one connection that are under way: bytes, keys, and large values to be asked for again.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) window: Window,
    pub(super) order: KeyOrder,
    /// Gets whose values are larger than they were asked for, by number: key, and bytes of the value.
    large: BTreeMap<u64, (Bytes, u64)>,
}

impl InFlight {
    pub(super) fn new(window: Window) -> Self {
        Self { window, order: KeyOrder::default(), large: BTreeMap::new() }
    }

    /// Begins a request of one part or several, which keeps `kept` bytes besides. Gets without a bound are given one.
    pub(super) fn begin<'a>(
        &mut self,
        asks: impl ExactSizeIterator<Item = &'a mut Ask>,
        kept: usize,
        wanted: Wanted,
    ) -> Charge {
        let bound = match wanted {
            Wanted::UpTo(_) => self.window.expected(),
            Wanted::Sizes | Wanted::All => self.window.expected().min(REPLY_BYTES_MAX / asks.len().max(1)),
        };
        let price = kept + asks.map(|ask| Window::price(ask, bound)).sum::<usize>();
        self.window.open(price);
        Charge { price, bound, values: 0, wanted }
    }

    /// Takes the reply to the part with this number. `None`: its value is to be asked for again.
    pub(super) fn accept(&mut self, number: u64, reply: Reply, charge: &mut Charge) -> Option<Reply> {
        match &reply {
            Reply::Value { found } => {
                let bytes = found.as_ref().map_or(0, |found| found.value.len());
                self.window.learn(bytes as u64);
                charge.values += bytes;
            }
            Reply::TooLarge { key, bytes } if charge.wants(*bytes) => {
                self.window.learn(*bytes);
                // The reply has no value, so its bytes are free again; the next try is counted when it is asked.
                let unused = charge.bound.min(charge.price);
                charge.price -= unused;
                self.window.close(unused);
                let bytes_known = usize::try_from(*bytes).unwrap_or(usize::MAX);
                charge.values = charge.values.saturating_add(bytes_known);
                if !charge.is_too_much() {
                    self.large.insert(number, (key.clone(), *bytes));
                    return None;
                }
            }
            _ => return Some(reply),
        }
        Some(if charge.is_too_much() { too_much() } else { reply })
    }

    /// Ends a request whose replies are there.
    pub(super) fn end(&mut self, charge: &Charge) {
        self.window.close(charge.price);
    }

    /// Requests whose values are to be asked for again.
    pub(super) fn large(&self) -> usize {
        self.large.len()
    }

    /// The next get to be asked again, if there is room for its value. `find` returns the charge of its request, and
    /// whether the connection waits for nothing else: then its value may go beyond the room that there is. `waiting`:
    /// bytes that the socket has not taken.
    pub(super) fn next_large<'a>(
        &mut self,
        waiting: usize,
        find: impl FnOnce(u64, usize) -> Option<(&'a mut Charge, bool)>,
    ) -> Option<(u64, Ask)> {
        let large = self.large.len();
        let first = self.large.first_entry()?;
        let (number, bytes) = (*first.key(), first.get().1);
        let Some((charge, alone)) = find(number, large) else {
            // The request is gone, and with it what it asked for.
            first.remove();
            return None;
        };
        if !(self.window.has_room(waiting) || alone && self.window.goes_beyond(waiting)) {
            return None;
        }
        let (key, _) = first.remove();
        let bytes_max = u32::try_from(bytes).unwrap_or(u32::MAX);
        charge.price += bytes_max as usize;
        // The value is counted when it comes.
        charge.values = charge.values.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.window.open(bytes_max as usize);
        Some((number, Ask::Read(Query::Get { key, bytes_max })))
    }
}

impl Charge {
    /// Whether a value of so many bytes is asked for again.
    fn wants(&self, bytes: u64) -> bool {
        match self.wanted {
            Wanted::Sizes => false,
            Wanted::UpTo(bytes_max) => bytes <= bytes_max,
            Wanted::All => true,
        }
    }

    fn is_too_much(&self) -> bool {
        !matches!(self.wanted, Wanted::UpTo(_)) && self.values > REPLY_BYTES_MAX
    }
}

/// The reply to a request that asks for more than one reply may have.
pub(super) fn too_much() -> Reply {
    let reason =
        format!("the reply would have more than {REPLY_BYTES_MAX} bytes; ask for fewer keys at once");
    Reply::Refused { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CLIENT_OPEN_BYTES_MAX, CLIENTS_BEYOND_BYTES_MAX};
    use crate::net::byte_counter::ByteCounter;

    fn get() -> Ask {
        Ask::Read(Query::get(Bytes::from_static(b"key")))
    }

    fn too_large(bytes: usize) -> Reply {
        Reply::TooLarge { key: Bytes::from_static(b"key"), bytes: bytes as u64 }
    }

    #[test]
    fn a_large_value_is_asked_again_when_there_is_room() {
        let all = ByteCounter::default();
        let mut in_flight = InFlight::new(Window::new(all.clone()));
        let mut charge = in_flight.begin(std::iter::once(&mut get()), 0, Wanted::UpTo(u64::MAX));
        let bytes = 1 << 20;
        assert!(in_flight.accept(7, too_large(bytes), &mut charge).is_none());
        assert!(all.bytes() < bytes && in_flight.large() == 1, "its bytes are free until it is asked again");
        in_flight.window.open(CLIENT_OPEN_BYTES_MAX);
        assert!(in_flight.next_large(0, |_, _| Some((&mut charge, false))).is_none(), "others are before it");
        let (number, ask) = in_flight.next_large(0, |_, _| Some((&mut charge, true))).unwrap();
        let Ask::Read(Query::Get { bytes_max, .. }) = ask else { panic!("a get") };
        assert_eq!((number, bytes_max as usize, in_flight.large()), (7, bytes, 0));
        in_flight.window.close(CLIENT_OPEN_BYTES_MAX);
        assert!(all.bytes() > bytes);
        in_flight.end(&charge);
        assert_eq!(all.bytes(), 0);
    }

    #[test]
    fn a_value_beyond_all_limits_waits_even_alone() {
        let all = ByteCounter::default();
        let mut in_flight = InFlight::new(Window::new(all.clone()));
        let mut charge = in_flight.begin(std::iter::once(&mut get()), 0, Wanted::UpTo(u64::MAX));
        assert!(in_flight.accept(1, too_large(1 << 20), &mut charge).is_none());
        in_flight.window.open(CLIENT_OPEN_BYTES_MAX);
        all.add(CLIENTS_BEYOND_BYTES_MAX);
        assert!(in_flight.next_large(0, |_, _| Some((&mut charge, true))).is_none());
        assert!(in_flight.next_large(0, |_, _| None).is_none() && in_flight.large() == 0, "it is gone");
    }

    #[test]
    fn sizes_are_replies_where_no_value_is_wanted_and_a_reply_has_a_limit() {
        let mut in_flight = InFlight::new(Window::new(ByteCounter::default()));
        for wanted in [Wanted::Sizes, Wanted::UpTo(5)] {
            let mut charge = in_flight.begin(std::iter::once(&mut get()), 0, wanted);
            assert!(matches!(in_flight.accept(1, too_large(10), &mut charge), Some(Reply::TooLarge { .. })));
        }
        let mut charge = in_flight.begin([get(), get()].iter_mut(), 0, Wanted::All);
        assert!(in_flight.accept(1, too_large(REPLY_BYTES_MAX), &mut charge).is_none());
        assert!(matches!(in_flight.accept(2, too_large(1), &mut charge), Some(Reply::Refused { .. })));
    }
}
