//! The replies of one connection, whatever protocol it speaks.
//!
//! The core's thread, which has the replies, gives them to the protocol ([`Answers`]) and writes those that are next
//! straight into the socket. The connection's task is woken only when it waits for something: for room, for requests
//! of a key, or for the last reply. What requests and replies take in memory is bounded by the connection's window.
//!
//! A value that is larger than the bound of its get is asked for again when there is room ([`ReplyQueue::ask_again`]).

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::messages::Reply;
use kvserver_core::Ask;
use tokio::sync::Notify;

use super::in_flight::{Charge, InFlight};
use super::order::KeyUses;
use super::window::{Looks, Window};
use crate::driver::replies::{Deliver, Replies};
use crate::limits::PIPELINE_MAX;
use crate::net::rope::Rope;
use crate::net::send_buffer::SendBuffer;

/// The order and the encoding of a protocol's replies.
pub(super) trait Answers: Send + 'static {
    /// Requests without a reply, and replies that are not written.
    fn len(&self) -> usize;

    /// Takes the reply to the part with this number. [`InFlight::accept`] says whether it is one.
    fn on_reply(&mut self, number: u64, reply: Reply, in_flight: &mut InFlight);

    /// The charge of the request that has the part with this number, and whether the connection waits for nothing
    /// before it. `large`: requests whose values are to be asked for again.
    fn find(&mut self, number: u64, large: usize) -> Option<(&mut Charge, bool)>;

    /// Whether a reply is to be written next.
    fn has_next(&self) -> bool;

    /// Writes all replies that are next, and ends their requests.
    fn write_next(&mut self, out: &mut Rope, in_flight: &mut InFlight);
}

/// What the task and the core's thread share.
#[derive(Debug)]
pub(super) struct State<A> {
    pub(super) in_flight: InFlight,
    pub(super) answers: A,
}

/// The replies of one connection. Shared by the connection's task and the core's thread.
pub(super) struct ReplyQueue<A> {
    pub(super) send_buffer: SendBuffer,
    state: Mutex<State<A>>,
    /// The connection's task waits for a change.
    waiting: AtomicBool,
    changed: Notify,
    /// Notified when there are gets to be asked again.
    again: Notify,
}

impl<A: Answers> ReplyQueue<A> {
    pub(super) fn new(send_buffer: SendBuffer, window: Window, answers: A) -> Self {
        let state = Mutex::new(State { in_flight: InFlight::new(window), answers });
        let waiting = AtomicBool::new(false);
        Self { send_buffer, state, waiting, changed: Notify::new(), again: Notify::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the replies that are next.
    pub(super) fn flush(&self) {
        self.write_next(&mut self.state());
    }

    fn write_next(&self, state: &mut State<A>) {
        let State { in_flight, answers } = state;
        if !answers.has_next() {
            return;
        }
        let sent = self.send_buffer.send(usize::MAX, |out| answers.write_next(out, in_flight));
        if !sent {
            // A socket that broke has no use for its replies; the task ends.
            answers.write_next(&mut Rope::default(), in_flight);
        }
    }

    /// Whether there is room for more requests.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state();
        state.answers.len() < PIPELINE_MAX && state.in_flight.window.has_room(self.send_buffer.waiting())
    }

    /// Waits until there is room for more requests.
    pub(super) async fn room(&self) {
        let mut looks = Looks::new();
        loop {
            self.waiting.store(true, Ordering::Release);
            if self.has_room() {
                return self.waiting.store(false, Ordering::Release);
            }
            self.changed(&mut looks).await;
        }
    }

    /// Begins a request if it passes none of its keys that is under way. If not, [`Self::changed`] waits.
    pub(super) fn try_begin(&self, uses: &KeyUses, ordered: impl Fn() -> bool) -> bool {
        let mut state = self.state();
        let begun = state.in_flight.order.try_begin(uses, ordered);
        if !begun {
            self.waiting.store(true, Ordering::Release);
        }
        begun
    }

    /// Waits until a request was answered since the flag was set, or until the next look is due.
    pub(super) async fn changed(&self, looks: &mut Looks) {
        tokio::select! {
            () = self.changed.notified() => {}
            () = looks.next(&self.send_buffer) => {}
        }
        self.waiting.store(false, Ordering::Release);
    }

    /// Waits until every request so far has its reply and the socket was given all of them.
    pub(super) async fn all_answered(&self) {
        let mut looks = Looks::new();
        loop {
            self.waiting.store(true, Ordering::Release);
            self.flush();
            if self.state().answers.len() == 0 {
                return self.waiting.store(false, Ordering::Release);
            }
            self.changed(&mut looks).await;
        }
    }

    /// Waits until the socket has taken everything.
    pub(super) async fn all_sent(&self) {
        let mut looks = Looks::new();
        while self.send_buffer.waiting() > 0 {
            looks.next(&self.send_buffer).await;
        }
    }

    /// The gets of large values for which there is room now, to be asked again. If the connection waits for nothing
    /// else, the first one is asked even without room, or nothing would go on.
    fn ask_again(&self) -> (Vec<(u64, Ask)>, usize) {
        let waiting = self.send_buffer.waiting();
        let mut state = self.state();
        let State { in_flight, answers } = &mut *state;
        let next = || in_flight.next_large(waiting, |number, large| answers.find(number, large));
        let asks = std::iter::from_fn(next).collect();
        (asks, in_flight.large())
    }

    /// Asks for large values again when there is room for them, for as long as the connection lasts.
    pub(super) async fn keep_asking(&self, ask: impl Fn(Vec<(u64, Ask)>)) -> Infallible {
        loop {
            self.again.notified().await;
            let mut looks = Looks::new();
            loop {
                let (asks, left) = self.ask_again();
                if !asks.is_empty() {
                    looks = Looks::new();
                    ask(asks);
                }
                if left == 0 {
                    break;
                }
                tokio::select! {
                    () = self.again.notified() => {}
                    () = looks.next(&self.send_buffer) => {}
                }
            }
        }
    }
}

impl<A: Answers> Deliver for ReplyQueue<A> {
    fn deliver(&self, replies: Replies) {
        let mut state = self.state();
        let State { in_flight, answers } = &mut *state;
        for (number, reply) in replies {
            answers.on_reply(number, reply, in_flight);
        }
        self.write_next(&mut state);
        let has_large = state.in_flight.large() > 0;
        drop(state);
        if has_large {
            self.again.notify_one();
        }
        if self.waiting.load(Ordering::Acquire) {
            self.changed.notify_one();
        }
    }
}
