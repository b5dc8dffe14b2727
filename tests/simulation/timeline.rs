//! Virtual time: the queue of events, the random numbers of the seed, the network's weather, and the trace.
//!
//! Everything that happens is an event at a microsecond; events of the same moment happen in the order in which they
//! were made. So a seed names one run for ever.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use common::messages::{PeerMessage, ProcessId, Refusal, Reply, ServerReport, StoreVerdict};
use common::view::View;
use fastrand::Rng;
use kvserver_core::Ask;

use super::net::{Network, Place};
use super::trace::Trace;

/// Microseconds of virtual time.
pub(crate) type Micros = u64;

/// A millisecond.
pub(crate) const MS: Micros = 1_000;

/// A second.
pub(crate) const SECOND: Micros = 1_000_000;

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A message reaches a server.
    Peer { to: usize, from: ProcessId, message: PeerMessage },
    /// A server's link to another one is new.
    Linked { to: usize, other: usize },
    /// A view reaches a server.
    View { to: usize, view: Arc<View> },
    /// The ECS says to a process of a server what becomes of the store with which it waits.
    Verdict { to: usize, process: ProcessId, verdict: StoreVerdict },
    /// The ECS says to a process of a server that it is not taken.
    Refused { to: usize, process: ProcessId, refusal: Refusal },
    /// A report reaches the ECS.
    Report { sender: ProcessId, report: ServerReport },
    /// The ECS sees a report link end.
    LinkEnded { sender: ProcessId },
    /// A client's request reaches a server.
    Request { to: usize, client: usize, call: u64, ask: Ask },
    /// A reply reaches a client; none: the server does not listen.
    Response { client: usize, call: u64, reply: Option<Reply> },
    /// A client's call has waited long enough.
    Timeout { client: usize, call: u64 },
    /// A client looks for something to do.
    Wake { client: usize },
    /// A server takes what came in.
    Run { server: usize, life: u64 },
    /// A server's store does the next thing.
    Work { server: usize, life: u64 },
    /// A server's disk has synced what was written up to there.
    Synced { server: usize, life: u64, upto: u64 },
    /// A server's timer.
    Tick { server: usize, life: u64 },
    /// A server flushes and trims.
    Housekeeping { server: usize, life: u64 },
    /// A server that waits with its store asks the ECS what becomes of it.
    AskVerdict { server: usize, life: u64 },
    /// An operator looks for stores that are to be taken back.
    TakeStoresBack,
    /// A server starts.
    Start { server: usize },
    /// A server dies, and comes back after a while.
    CrashAt { server: usize, away: Micros },
    /// A server and the ECS no longer reach each other, for a while.
    LoseEcs { server: usize, lasts: Micros },
    /// A paused server goes on.
    Resume { server: usize },
    /// A paused ECS goes on.
    EcsResume,
    /// A server reports a proposal to the ECS just now.
    Proposed { server: usize },
    /// The timer of the ECS.
    EcsTick { life: u64, tick: u64 },
    /// The disk of the ECS has a state.
    EcsSynced { life: u64, ticket: u64 },
    /// The ECS starts.
    EcsStart,
    /// An operator puts the newest directory of the ECS back in its place.
    EcsRestored,
    /// The next fault.
    Fault,
    /// Links are cut, for a while.
    Cut { cuts: Vec<(Place, Place)>, lasts: Micros },
    /// A cut ends.
    Mend { cuts: Vec<(Place, Place)> },
    /// A server's links are as fast as before.
    Hasten { server: usize },
    /// Copies are moved again.
    LetGo,
    /// A storm ends.
    Calm,
    /// A server's wall clock, which has jumped, is set right.
    ClockRight { server: usize },
    /// All faults end.
    Heal,
    /// A look at how far the cluster has recovered.
    Look,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) now: Micros,
    pub(crate) rng: Rng,
    pub(crate) net: Network,
    /// When, in which order it was made, and its place in `events`.
    queue: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    /// What is to happen, by place; events are large, so the queue sorts places.
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    /// Servers that run at this moment, before anything else happens.
    pub(crate) ready: Vec<usize>,
    made: u64,
    pub(crate) happened: u64,
    hash: u64,
    trace: Trace,
}

impl Timeline {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        Self {
            now: 0,
            rng: Rng::with_seed(seed),
            net: Network::default(),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            made: 0,
            happened: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            trace,
        }
    }

    /// Lets something happen after a delay.
    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.made += 1;
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(Some(event));
        } else {
            self.events[place] = Some(event);
        }
        self.queue.push(Reverse((self.now + delay, self.made, place)));
    }

    /// The next event; time goes on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse((at, made, place)) = self.queue.pop()?;
        let event = self.events[place].take().expect("each event happens once");
        self.free.push(place);
        self.now = at;
        self.happened += 1;
        for word in [at, made, self.rng.get_seed()] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
        self.note(|| format!("{event:?}"));
        Some(event)
    }

    /// Of everything that happened.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// A line of the trace.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.trace.line(|| format!("{:>5}.{:06} {}", self.now / SECOND, self.now % SECOND, line()));
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.f64() < probability
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.u64(low..=high.max(low))
    }

    /// Sends over the network: it may be lost, doubled and late.
    pub(crate) fn send(&mut self, from: Place, to: Place, event: Event) {
        if !self.net.passes(from, to) || self.chance_of(|net| net.weather.loss) {
            return;
        }
        if self.chance_of(|net| net.weather.duplicates) {
            let delay = self.net.delay(&mut self.rng) + self.net.delay(&mut self.rng);
            self.after(delay, event.clone());
        }
        let delay = self.delay_between(from, to);
        self.after(delay, event);
    }

    /// Sends over a stream: in order, once, or not at all.
    pub(crate) fn send_in_order(&mut self, from: Place, to: Place, event: Event) {
        if self.net.passes(from, to) {
            let delay = self.net.delay(&mut self.rng);
            let at = self.net.in_order(from, to, self.now + delay);
            self.after(at - self.now, event);
        }
    }

    fn delay_between(&mut self, from: Place, to: Place) -> Micros {
        let delay = self.net.delay(&mut self.rng) + self.net.slowness(from, to);
        if self.net.weather.in_order {
            self.net.in_order(from, to, self.now + delay) - self.now
        } else {
            delay
        }
    }

    fn chance_of(&mut self, probability: impl FnOnce(&Network) -> f64) -> bool {
        let probability = probability(&self.net);
        self.chance(probability)
    }
}
