//! Replies of one connection, in the order of its commands.
//!
//! Each command has a place. The core's thread fills places as replies come and writes the first ones that are complete
//! straight into the socket; the connection's task is woken only when it waits for something.
//!
//! What commands and replies take in memory is bounded by the connection's [`Window`].

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use common::messages::Reply;
use tokio::sync::Notify;

use super::super::window::{self, Looks, Window};
use crate::agreed::AgreedClock;
use crate::driver::replies::{Deliver, Outbox, Replies};
use crate::driver::{Event, Events};
use crate::limits::{PIPELINE_MAX, REPLY_BYTES_MAX};
use crate::net::rope::Rope;
use crate::net::send_buffer::SendBuffer;
use crate::protocol::resp::{Form, Part, Version};
use kvserver_core::{Ask, Query};

/// Requests that one connection has under way for keys with one hash.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    reads: usize,
    writes: usize,
}

/// A key by its hash, and whether it is written: requests of one key keep their order by it. Two keys with one hash
/// wait for each other without need, which is harmless.
type Use = (u64, bool);

/// The place of a command's reply among the others.
enum Place {
    Ready(Rope),
    Call {
        form: Option<Form>,
        version: Version,
        mute: bool,
        uses: Uses,
        replies: Vec<Option<Reply>>,
        missing: usize,
        /// The number of the call's first part.
        id: u64,
        /// Bytes that the call has open.
        price: usize,
        /// The bound of the call's gets, in bytes.
        bound: usize,
        /// Bytes of the call's values, as far as they are known.
        told: usize,
    },
}

impl Place {
    /// Bytes that the call has open.
    fn price(&self) -> usize {
        match self {
            Self::Ready(reply) => reply.len(),
            Self::Call { price, .. } => *price,
        }
    }
}

/// The keys that a call uses; most use one.
enum Uses {
    One(Use),
    Many(Vec<Use>),
}

impl Uses {
    fn each(&self) -> &[Use] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

struct Pipeline {
    places: VecDeque<Place>,
    lanes: BTreeMap<u64, Lane>,
    /// The number of the next part.
    next: u64,
    window: Window,
    /// Gets whose values are larger than they were asked for, by number: key, and bytes of the value. They are asked
    /// again when there is room.
    large: BTreeMap<u64, (Bytes, u64)>,
}

/// See the module's text. Shared by the core's thread and the connection's task.
pub(super) struct RespOutbox {
    pub(super) send_buffer: SendBuffer,
    /// The clock by which values expire.
    agreed: AgreedClock,
    pipeline: Mutex<Pipeline>,
    /// The connection's task waits for a change.
    waiting: AtomicBool,
    changed: Notify,
    /// Notified when there are gets to be asked again.
    again: Notify,
}

fn hash_of(key: &[u8]) -> u64 {
    key.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl RespOutbox {
    pub(super) fn new(send_buffer: SendBuffer, window: Window, agreed: AgreedClock) -> Self {
        let (places, lanes, large) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        let pipeline = Mutex::new(Pipeline { places, lanes, next: 0, window, large });
        let waiting = AtomicBool::new(false);
        Self { send_buffer, agreed, pipeline, waiting, changed: Notify::new(), again: Notify::new() }
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a reply that is known; it leaves with the next [`Self::flush`], after those before it.
    pub(super) fn push_ready(&self, reply: Rope) {
        let mut pipeline = self.pipeline();
        pipeline.window.open(reply.len());
        match pipeline.places.back_mut() {
            Some(Place::Ready(before)) => before.append(reply),
            _ => pipeline.places.push_back(Place::Ready(reply)),
        }
    }

    /// Gives a call its place, and its parts numbers from the returned one on; `None` while it must not pass what is
    /// under way. Writes to a key that this server coordinates keep their order by themselves.
    pub(super) fn try_begin<'a>(
        &self,
        parts: impl Iterator<Item = &'a Part>,
        version: Version,
        mute: bool,
        ordered_here: impl Fn(&[u8]) -> bool,
    ) -> Option<u64> {
        let mut pipeline = self.pipeline();
        let (mut one, mut many, mut admitted, mut count) = (None, Vec::new(), true, 0);
        for part in parts {
            count += 1;
            part.keys(|key, write| {
                let hash = hash_of(key);
                let lane = pipeline.lanes.get(&hash).copied().unwrap_or_default();
                let free = match (write, lane) {
                    (false, Lane { writes: 0, .. }) | (true, Lane { reads: 0, writes: 0 }) => true,
                    (true, Lane { reads: 0, .. }) => ordered_here(key),
                    _ => false,
                };
                admitted &= free;
                if let Some(first) = one.take() {
                    many.push(first);
                }
                if many.is_empty() {
                    one = Some((hash, write));
                } else {
                    many.push((hash, write));
                }
            });
        }
        if !admitted {
            self.waiting.store(true, Ordering::Release);
            return None;
        }
        let uses = match one {
            Some(one) => Uses::One(one),
            None => Uses::Many(many),
        };
        for &(hash, write) in uses.each() {
            let lane = pipeline.lanes.entry(hash).or_default();
            *(if write { &mut lane.writes } else { &mut lane.reads }) += 1;
        }
        let id = pipeline.next;
        pipeline.next += count as u64;
        let replies = (0..count).map(|_| None).collect();
        pipeline.places.push_back(Place::Call {
            form: None,
            version,
            mute,
            uses,
            replies,
            missing: count,
            id,
            price: 0,
            bound: 0,
            told: 0,
        });
        Some(id)
    }

    /// Sets the form of the call that was begun last, and gives its gets a bound.
    pub(super) fn set_form(&self, begun: u64, new: Form, asks: &mut [(u64, Ask)]) {
        let mut pipeline = self.pipeline();
        let Pipeline { places, window, .. } = &mut *pipeline;
        if let Some(Place::Call { form, id, price, bound, .. }) = places.back_mut()
            && *id == begun
        {
            *form = Some(new);
            *bound = window.expected().min(REPLY_BYTES_MAX / asks.len().max(1));
            *price = asks.iter_mut().map(|(_, ask)| Window::price(ask, *bound)).sum();
            window.open(*price);
        }
    }

    /// The gets of large values for which there is room now, to be asked again. The first one is asked even without
    /// room, or nothing would go on.
    fn ask_again(&self) -> Vec<(u64, Ask)> {
        let mut asks = Vec::new();
        let mut pipeline = self.pipeline();
        let waiting = self.send_buffer.waiting();
        let Pipeline { places, window, large, .. } = &mut *pipeline;
        while let Some((&number, &(_, bytes))) = large.first_key_value() {
            let found = find(places, number);
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let Some((at, Place::Call { price, told, .. })) =
                found.and_then(|at| Some((at, places.get_mut(at)?)))
            else {
                large.pop_first();
                continue;
            };
            if !window.has_room(waiting) && (at > 0 || !window.goes_beyond(waiting)) {
                break;
            }
            let Some((_, (key, _))) = large.pop_first() else { break };
            *price += bytes;
            // The value is counted when it comes.
            *told -= bytes;
            window.open(bytes);
            asks.push((
                number,
                Ask::Read(Query::Get { key, bytes_max: u32::try_from(bytes).unwrap_or(u32::MAX) }),
            ));
        }
        asks
    }

    /// Asks gets of large values again when there is room, for as long as the connection lasts.
    pub(super) async fn keep_asking(self: &Arc<Self>, events: &Events) -> Infallible {
        window::keep_asking(&self.again, &self.send_buffer, || {
            let asks = self.ask_again();
            let asked = !asks.is_empty();
            if asked {
                let outbox: Outbox = Arc::clone(self) as Outbox;
                // The core's thread ends only with the server.
                let _gone = events.send(Event::AsksAnywhere(outbox, asks));
            }
            (asked, !self.pipeline().large.is_empty())
        })
        .await
    }

    /// Writes the replies that are next.
    pub(super) fn flush(&self) {
        let mut pipeline = self.pipeline();
        self.write_next(&mut pipeline);
    }

    fn write_next(&self, pipeline: &mut Pipeline) {
        let is_next = |place: Option<&Place>| match place {
            Some(Place::Ready(_)) => true,
            Some(Place::Call { missing, .. }) => *missing == 0,
            None => false,
        };
        if !is_next(pipeline.places.front()) {
            return;
        }
        let mut closed = 0;
        // A socket that broke has no use for its replies; the task ends.
        let _sent = self.send_buffer.send(usize::MAX, |out| {
            while is_next(pipeline.places.front()) {
                let Some(place) = pipeline.places.pop_front() else { break };
                closed += place.price();
                match place {
                    Place::Ready(reply) => out.append(reply),
                    Place::Call { form: Some(form), version, mute: false, replies, .. } => {
                        let replies: Vec<Reply> = replies.into_iter().flatten().collect();
                        form.answer(&replies, self.agreed.now(), out, version);
                    }
                    Place::Call { .. } => {}
                }
            }
        });
        // Without a socket nothing was taken.
        while is_next(pipeline.places.front()) {
            closed += pipeline.places.pop_front().map_or(0, |place| place.price());
        }
        pipeline.window.close(closed);
        if !pipeline.large.is_empty() {
            self.again.notify_one();
        }
    }

    /// Whether there is room for more commands.
    pub(super) fn has_room(&self) -> bool {
        let pipeline = self.pipeline();
        pipeline.places.len() < PIPELINE_MAX && pipeline.window.has_room(self.send_buffer.waiting())
    }

    /// Waits until there is room for more commands.
    pub(super) async fn room(&self) {
        let mut looks = Looks::new();
        loop {
            self.waiting.store(true, Ordering::Release);
            if self.has_room() {
                return;
            }
            self.changed(&mut looks).await;
        }
    }

    /// Waits until a request was answered since the flag was set, or until the next look is due.
    pub(super) async fn changed(&self, looks: &mut Looks) {
        tokio::select! {
            () = self.changed.notified() => {}
            () = looks.next(&self.send_buffer) => {}
        }
        self.waiting.store(false, Ordering::Release);
    }

    /// Waits until every command so far has its reply and the socket was given all of them.
    pub(super) async fn all_answered(&self) {
        let mut looks = Looks::new();
        loop {
            self.waiting.store(true, Ordering::Release);
            self.flush();
            if self.pipeline().places.is_empty() {
                return;
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
}

impl Deliver for RespOutbox {
    fn deliver(&self, replies: Replies) {
        let mut pipeline = self.pipeline();
        for (number, reply) in replies {
            // Places of calls are in the order of their numbers; ready ones between them have none.
            let found = find(&pipeline.places, number);
            let Pipeline { places, window, large, .. } = &mut *pipeline;
            let Some(Place::Call { form, replies, missing, uses, id, price, bound, told, .. }) =
                found.and_then(|at| places.get_mut(at))
            else {
                continue;
            };
            let mut reply = reply;
            match &reply {
                Reply::Value { found } => {
                    let bytes = found.as_ref().map_or(0, |found| found.value.len());
                    window.learn(bytes as u64);
                    *told += bytes;
                    if *told > REPLY_BYTES_MAX {
                        reply = too_much();
                    }
                }
                Reply::TooLarge { key, bytes } if form.as_ref().is_none_or(Form::needs_values) => {
                    window.learn(*bytes);
                    let unused = (*bound).min(*price);
                    *price -= unused;
                    window.close(unused);
                    *told = told.saturating_add(usize::try_from(*bytes).unwrap_or(usize::MAX));
                    if *told <= REPLY_BYTES_MAX {
                        large.insert(number, (key.clone(), *bytes));
                        self.again.notify_one();
                        continue;
                    }
                    reply = too_much();
                }
                _ => {}
            }
            let Some(place) = usize::try_from(number - *id).ok().and_then(|part| replies.get_mut(part))
            else {
                continue;
            };
            if place.replace(reply).is_none() {
                *missing -= 1;
            }
            if *missing > 0 {
                continue;
            }
            let uses = std::mem::replace(uses, Uses::Many(Vec::new()));
            for (hash, write) in uses.each() {
                let Some(lane) = pipeline.lanes.get_mut(hash) else { continue };
                *(if *write { &mut lane.writes } else { &mut lane.reads }) -= 1;
                if lane.reads + lane.writes == 0 {
                    pipeline.lanes.remove(hash);
                }
            }
        }
        self.write_next(&mut pipeline);
        drop(pipeline);
        if self.waiting.load(Ordering::Acquire) {
            self.changed.notify_one();
        }
    }
}

/// The reply to a command that asks for more than one reply may have.
pub(super) fn too_much() -> Reply {
    let reason =
        format!("the reply would have more than {REPLY_BYTES_MAX} bytes; ask for fewer keys at once");
    Reply::Refused { reason }
}

/// The place of the call with a part of this number.
fn find(places: &VecDeque<Place>, number: u64) -> Option<usize> {
    let begins = |at: usize| match &places[at] {
        Place::Call { id, .. } => Some(*id),
        Place::Ready(_) => None,
    };
    let (mut low, mut high) = (0, places.len());
    while low < high {
        let middle = low + (high - low) / 2;
        // Ready places are never two in a row, so one step finds a call.
        let (at, id) = match begins(middle) {
            Some(id) => (middle, id),
            None if middle > low => (middle - 1, begins(middle - 1)?),
            None => {
                low = middle + 1;
                continue;
            }
        };
        match &places[at] {
            Place::Call { replies, .. } if number >= id && number < id + replies.len() as u64 => {
                return Some(at);
            }
            _ if number < id => high = at,
            _ => low = middle + 1,
        }
    }
    None
}

/// Gathers the replies to several requests for a task that waits for all of them.
pub(super) struct Gather {
    replies: Mutex<(Vec<Option<Reply>>, usize)>,
    complete: Notify,
}

impl Gather {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let replies = Mutex::new(((0..count).map(|_| None).collect(), count));
        Arc::new(Self { replies, complete: Notify::new() })
    }

    fn replies(&self) -> MutexGuard<'_, (Vec<Option<Reply>>, usize)> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All replies, in the order of the requests.
    pub(super) async fn all(&self) -> Vec<Reply> {
        while self.replies().1 > 0 {
            self.complete.notified().await;
        }
        std::mem::take(&mut self.replies().0).into_iter().flatten().collect()
    }
}

impl Deliver for Gather {
    fn deliver(&self, some: Replies) {
        let mut replies = self.replies();
        for (number, reply) in some {
            let place = usize::try_from(number).ok().and_then(|at| replies.0.get_mut(at));
            if place.is_some_and(|place| place.replace(reply).is_none()) {
                replies.1 -= 1;
            }
        }
        if replies.1 == 0 {
            self.complete.notify_one();
        }
    }
}
