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
use common::clock;
use common::messages::Reply;
use tokio::sync::Notify;

use super::super::window::{self, Window};
use crate::core::{Ask, Query};
use crate::driver::{Event, Events};
use crate::limits::{CLIENT_OPEN_BYTES_MAX, PIPELINE_MAX, REPLY_BYTES_MAX, ROOM_LOOK};
use crate::outlet::Outlet;
use crate::protocol::resp::{Form, Part, Version};
use crate::replies::{Deliver, Outbox, Replies};

/// Requests that one connection has under way for keys with one hash.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    reads: usize,
    writes: usize,
}

/// A key by its hash, and whether it is written: what keeps requests of one key in their order. Two keys with one hash
/// wait for each other without need, nothing else.
type Use = (u64, bool);

/// Where the reply to a command will stand.
enum Place {
    Ready(Vec<u8>),
    Call {
        form: Option<Form>,
        version: Version,
        mute: bool,
        uses: Uses,
        replies: Vec<Option<Reply>>,
        missing: usize,
        /// The number of its first part.
        id: u64,
        /// Bytes that it has open.
        price: usize,
        /// The bound of its gets.
        bound: usize,
        /// Bytes of its values, as far as they are known.
        told: usize,
    },
}

impl Place {
    /// Bytes that it has open.
    fn price(&self) -> usize {
        match self {
            Self::Ready(bytes) => bytes.len(),
            Self::Call { price, .. } => *price,
        }
    }
}

/// Most calls use one key.
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
    pub(super) outlet: Outlet,
    pipeline: Mutex<Pipeline>,
    /// The task waits for something to change.
    waiting: AtomicBool,
    changed: Notify,
    /// There are gets to be asked again.
    again: Notify,
}

fn hash_of(key: &[u8]) -> u64 {
    key.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl RespOutbox {
    pub(super) fn new(outlet: Outlet, window: Window) -> Self {
        let (places, lanes, large) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        let pipeline = Mutex::new(Pipeline { places, lanes, next: 0, window, large });
        let waiting = AtomicBool::new(false);
        Self { outlet, pipeline, waiting, changed: Notify::new(), again: Notify::new() }
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reply that is known; it leaves with the next [`Self::flush`], behind those before it.
    pub(super) fn push_ready(&self, bytes: Vec<u8>) {
        let mut pipeline = self.pipeline();
        pipeline.window.open(bytes.len());
        match pipeline.places.back_mut() {
            Some(Place::Ready(before)) => before.extend_from_slice(&bytes),
            _ => pipeline.places.push_back(Place::Ready(bytes)),
        }
    }

    /// Gives a call its place, and its parts numbers from the returned one on; `None` while it must not pass what is
    /// under way. Writes of a key that this server orders keep their order by themselves.
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

    /// The form of the call that was begun last, and what it asks: gets are given a bound.
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

    /// Gets whose values are larger than they were asked for, as far as there is room for them now: to be asked again.
    /// The first of all is asked in any case, or nothing would go on.
    fn ask_again(&self) -> Vec<(u64, Ask)> {
        let mut asks = Vec::new();
        let mut pipeline = self.pipeline();
        let waiting = self.outlet.waiting();
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
            if !window.has_room(waiting) && (at > 0 || waiting >= CLIENT_OPEN_BYTES_MAX) {
                break;
            }
            let Some((_, (key, _))) = large.pop_first() else { break };
            *price += bytes;
            // It is counted when it comes.
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
        window::keep_asking(&self.again, || {
            let asks = self.ask_again();
            if !asks.is_empty() {
                let outbox: Outbox = Arc::clone(self) as Outbox;
                // The core's thread ends only with the server.
                let _gone = events.send(Event::AsksAnywhere(outbox, asks));
            }
            !self.pipeline().large.is_empty()
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
        let _sent = self.outlet.send(usize::MAX, |out| {
            while is_next(pipeline.places.front()) {
                let Some(place) = pipeline.places.pop_front() else { break };
                closed += place.price();
                match place {
                    Place::Ready(bytes) => out.extend_from_slice(&bytes),
                    Place::Call { form: Some(form), version, mute: false, replies, .. } => {
                        let replies: Vec<Reply> = replies.into_iter().flatten().collect();
                        form.answer(&replies, clock::wall(), out, version);
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

    /// There is room for more commands.
    pub(super) fn has_room(&self) -> bool {
        let pipeline = self.pipeline();
        pipeline.places.len() < PIPELINE_MAX && pipeline.window.has_room(self.outlet.waiting())
    }

    /// Until there is room for more commands.
    pub(super) async fn room(&self) {
        loop {
            self.waiting.store(true, Ordering::Release);
            if self.has_room() {
                return;
            }
            self.changed().await;
        }
    }

    /// Until something was answered since the flag was set. A socket that takes nothing is looked at again after a
    /// moment.
    pub(super) async fn changed(&self) {
        let _waited = tokio::time::timeout(ROOM_LOOK, self.changed.notified()).await;
        self.waiting.store(false, Ordering::Release);
    }

    /// Until every command so far has its reply, and all of them were given to the socket.
    pub(super) async fn all_answered(&self) {
        loop {
            self.waiting.store(true, Ordering::Release);
            self.flush();
            if self.pipeline().places.is_empty() {
                return;
            }
            self.changed().await;
        }
    }

    /// Until the socket has taken everything.
    pub(super) async fn all_sent(&self) {
        while self.outlet.waiting() > 0 {
            self.changed().await;
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

/// A command asks for more than one reply holds.
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

/// Replies to requests that somebody waits for, all of them.
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
