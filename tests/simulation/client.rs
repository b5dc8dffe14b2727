//! Clients: they ask for a few keys, so that they get in each other's way; ask again by the rules of the client
//! library (the same write under the same number, at any server); and give up after a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{ClientId, LogId, RequestNumber};
use common::messages::Reply;
use common::operation::{Check, Condition, Expiry, Operation, Origin, Outcome, Part};
use common::ring::Partitions;
use common::time::WallTime;
use common::view::View;
use kvserver_core::{Ask, Query};

use super::history::{Invocation, Observed, Operated};
use super::net::Place;
use super::scenario::Scenario;
use super::server::place_of;
use super::server::{FLIPPED_BIT, WALL_BEGIN_MS};
use super::timeline::{Event, MS, Micros, Timeline};

/// Bytes of a value from which on a client puts instead of appending.
const APPENDED_MAX: usize = 120;

/// Share of operations that a client gives up when all tries were answered as not done: then it must be so.
const GIVES_UP_AT_ONCE: f64 = 0.3;

/// An operation that is not answered yet.
#[derive(Debug)]
struct Active {
    /// Its place in the history.
    record: usize,
    invocation: Invocation,
    first_unanswered: RequestNumber,
    since: Micros,
    /// The newest try.
    call: u64,
    /// Tries that were not answered as not done.
    open: BTreeSet<u64>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Client {
    index: usize,
    id: ClientId,
    keys: Vec<Bytes>,
    partitions: Partitions,
    /// Some values of this key expire.
    expiring: Option<Bytes>,
    /// The value of this key is a number.
    counter: Bytes,
    /// Operations that it has under way at most.
    slots: usize,
    gives_up_after: Micros,
    /// Longest pause between two operations.
    thinks: Micros,
    /// Values get this long by chance.
    value_bytes_max: usize,
    reads_anywhere: f64,
    last_number: u64,
    last_call: u64,
    active: BTreeMap<u64, Active>,
    /// By call: the operation.
    calls: BTreeMap<u64, u64>,
    pub(crate) view: Option<Arc<View>>,
    /// The last value seen of each key.
    seen: BTreeMap<Bytes, (LogId, Bytes)>,
    pub(crate) history: Vec<Operated>,
    /// It asks for nothing new.
    pub(crate) stopped: bool,
    /// What it has to do all the same.
    script: VecDeque<(Bytes, bool)>,
}

impl Client {
    pub(crate) fn new(index: usize, keys: Vec<Bytes>, scenario: &Scenario, line: &mut Timeline) -> Self {
        let partitions = Partitions::try_from(scenario.partitions).expect("a power of two");
        let expiring = keys.last().filter(|_| scenario.expires).cloned();
        let counter = keys[0].clone();
        Self {
            partitions,
            expiring,
            counter,
            index,
            id: ClientId(0xC11E_0000 + index as u128),
            keys,
            slots: line.rng.usize(1..=3),
            gives_up_after: line.between(1, 8) * 1_000 * MS,
            thinks: scenario.thinks,
            value_bytes_max: scenario.value_bytes_max,
            reads_anywhere: scenario.reads_anywhere,
            last_number: 0,
            last_call: 0,
            active: BTreeMap::new(),
            calls: BTreeMap::new(),
            view: None,
            seen: BTreeMap::new(),
            history: Vec::new(),
            stopped: false,
            script: VecDeque::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.active.is_empty() && self.script.is_empty()
    }

    /// Asks less often: only that it goes on is of interest now.
    pub(crate) fn slow_down(&mut self) {
        self.thinks *= 4;
    }

    /// Puts and gets each key once, with patience: everything must work again.
    pub(crate) fn probe(&mut self, line: &mut Timeline) {
        self.gives_up_after = Micros::MAX;
        self.script = self.keys.iter().flat_map(|key| [(key.clone(), true), (key.clone(), false)]).collect();
        line.after(0, Event::Wake { client: self.index });
    }

    /// Asks for something, if it has nothing better to do.
    pub(crate) fn on_wake(&mut self, line: &mut Timeline, servers: usize) {
        if !self.stopped {
            let pause = line.between(0, self.thinks);
            line.after(pause, Event::Wake { client: self.index });
        }
        if self.active.len() >= self.slots {
            return;
        }
        if self.stopped {
            let Some((key, puts)) = self.script.pop_front() else { return };
            let invocation = if puts && key == self.counter {
                self.write(Operation::Add { key: key.clone(), by: 1 }, true)
            } else if puts {
                let value = self.token(line);
                self.write(Operation::put(key.clone(), value), true)
            } else {
                Invocation::Get
            };
            return self.begin(line, servers, key, invocation);
        }
        let key = self.keys[line.rng.usize(0..self.keys.len())].clone();
        let invocation = self.choose(line, &key);
        self.begin(line, servers, key, invocation);
    }

    /// A value that no other write has.
    fn token(&self, line: &mut Timeline) -> Bytes {
        let token = format!("c{}n{};", self.index, self.history.len());
        let padding = if self.value_bytes_max > 0 { line.rng.usize(0..self.value_bytes_max) } else { 0 };
        Bytes::from([token.as_bytes(), &vec![b'.'; padding]].concat())
    }

    /// A moment at which a value is to expire.
    fn soon(&self, line: &mut Timeline) -> WallTime {
        WallTime(WALL_BEGIN_MS + line.now / MS + line.between(0, 1_500))
    }

    /// Something to do with the number.
    fn count(&mut self, line: &mut Timeline) -> Invocation {
        let key = self.counter.clone();
        let by = i64::try_from(line.between(1, 9)).expect("small");
        let add = Operation::Add { key: key.clone(), by };
        let operation = match line.between(0, 99) {
            0..=34 => return Invocation::Get,
            35..=39 => return Invocation::Scan,
            40..=49 => Operation::Take { key },
            50..=69 => {
                let condition = if line.chance(0.3) { Condition::Present {} } else { Condition::Always {} };
                let checks = vec![Check { key: key.clone(), condition }];
                Operation::Batch { checks, parts: vec![Part(add), Part(Operation::Fetch { key })] }
            }
            _ => add,
        };
        let with_origin = line.chance(0.9);
        self.write(operation, with_origin)
    }

    fn choose(&mut self, line: &mut Timeline, key: &Bytes) -> Invocation {
        if *key == self.counter {
            return self.count(line);
        }
        let (key, value) = (key.clone(), self.token(line));
        let seen = self.seen.get(&key).cloned();
        let condition = match (line.between(0, 9), &seen) {
            (0..=2, Some((version, _))) => Condition::Version { version: *version },
            (3..=4, Some((_, value))) => Condition::Value { value: value.clone() },
            (5, _) => Condition::Absent {},
            (6, _) => Condition::Present {},
            _ => Condition::Always {},
        };
        let long = seen.is_some_and(|(_, value)| value.len() > APPENDED_MAX);
        let operation = match line.between(0, 99) {
            0..=34 => return Invocation::Get,
            35..=39 => return Invocation::Scan,
            90..=99 if self.expiring.as_ref() == Some(&key) => {
                let expires = line.chance(0.8).then(|| self.soon(line));
                Operation::Expire { key, expires }
            }
            40..=54 if !long => Operation::Append { key, value },
            55..=64 => Operation::Delete { key, condition },
            // What they return of a large value is not remembered for a retry.
            65..=69 if self.value_bytes_max == 0 => Operation::Take { key },
            70..=77 if self.value_bytes_max == 0 => {
                let (expiry, return_old) = (Expiry::Never {}, line.chance(0.7));
                Operation::Set { key, value, expiry, condition, return_old }
            }
            _ => {
                let expires = self.expiring.as_ref() == Some(&key) && line.chance(0.5);
                let expires = expires.then(|| self.soon(line));
                Operation::Put { key, value, expires, condition }
            }
        };
        let with_origin = line.chance(0.9);
        self.write(operation, with_origin)
    }

    fn write(&mut self, operation: Operation, with_origin: bool) -> Invocation {
        let origin = with_origin.then(|| {
            self.last_number += 1;
            (self.id, RequestNumber(self.last_number))
        });
        Invocation::Write { origin, operation }
    }

    fn begin(&mut self, line: &mut Timeline, servers: usize, key: Bytes, invocation: Invocation) {
        let unanswered = self.active.values().filter_map(|active| number_of(&active.invocation));
        let own = number_of(&invocation).unwrap_or_default();
        let first_unanswered = unanswered.chain([own]).min().unwrap_or_default();
        let record = self.history.len();
        self.history.push(Operated {
            key,
            invocation: invocation.clone(),
            invoked: line.now,
            returned: None,
            observed: Observed::Unknown,
        });
        let active =
            Active { record, invocation, first_unanswered, since: line.now, call: 0, open: BTreeSet::new() };
        self.active.insert(record as u64, active);
        self.call(line, servers, record as u64);
    }

    /// Sends a try to the coordinator as this client knows it, or anywhere.
    fn call(&mut self, line: &mut Timeline, servers: usize, operation: u64) {
        let Some(active) = self.active.get_mut(&operation) else { return };
        let key = &self.history[active.record].key;
        let coordinator = self.view.as_ref().and_then(|view| {
            let assignment = view.assignment(view.partitions.of_key(key))?;
            view.servers.get(&assignment.coordinator).map(|info| place_of(&info.address))
        });
        let anywhere = line.rng.usize(0..servers);
        let is_read = matches!(active.invocation, Invocation::Get | Invocation::Scan);
        let to = if line.chance(if is_read { self.reads_anywhere } else { 0.15 }) {
            anywhere
        } else {
            coordinator.unwrap_or(anywhere)
        };
        self.last_call += 1;
        let call = self.last_call;
        self.calls.insert(call, operation);
        active.call = call;
        active.open.insert(call);
        let ask = match &active.invocation {
            Invocation::Get => Ask::Read(Query::get(key.clone())),
            Invocation::Scan => {
                let partition = self.partitions.of_key(key);
                let (after, prefix, limit) = (None, Bytes::new(), u32::MAX);
                Ask::Read(Query::Scan { partition, after, prefix, limit })
            }
            Invocation::Write { origin, operation } => {
                let first_unanswered = active.first_unanswered;
                let origin = origin.map(|(client, number)| Origin { client, number, first_unanswered });
                let age_ms = (line.now - active.since) / MS;
                Ask::Write { origin, age_ms, operation: operation.clone() }
            }
        };
        let client = self.index;
        if line.net.passes(Place::Clients, Place::Server(to)) {
            let delay = line.net.delay(&mut line.rng);
            line.after(delay, Event::Request { to, client, call, ask });
        }
        let patience = line.between(150, 900) * MS;
        line.after(patience, Event::Timeout { client, call });
    }

    /// A try was not answered in time, or it is time for the next one.
    pub(crate) fn on_timeout(&mut self, line: &mut Timeline, servers: usize, call: u64) {
        let Some(&operation) = self.calls.get(&call) else { return };
        let Some(active) = self.active.get(&operation).filter(|active| active.call == call) else { return };
        let once_only =
            matches!(active.invocation, Invocation::Write { origin: None, .. }) && !active.open.is_empty();
        if once_only || line.now - active.since >= self.gives_up_after {
            return self.give_up(line, operation);
        }
        self.call(line, servers, operation);
    }

    fn give_up(&mut self, line: &mut Timeline, operation: u64) {
        let not_done = self.active.get(&operation).is_some_and(|active| active.open.is_empty());
        let (observed, returned) =
            if not_done { (Observed::NotDone, Some(line.now)) } else { (Observed::Unknown, None) };
        self.end(line, operation, observed, returned);
    }

    fn end(&mut self, line: &mut Timeline, operation: u64, observed: Observed, returned: Option<Micros>) {
        let Some(active) = self.active.remove(&operation) else { return };
        let record = &mut self.history[active.record];
        (record.observed, record.returned) = (observed, returned);
        line.note(|| format!("    client {}: {record:?}", self.index));
        if self.stopped {
            line.after(0, Event::Wake { client: self.index });
        }
    }

    /// A try was answered. `true`: the view should be fetched anew.
    pub(crate) fn on_response(&mut self, line: &mut Timeline, call: u64, reply: Option<Reply>) -> bool {
        let Some(&operation) = self.calls.get(&call) else { return false };
        let Some(active) = self.active.get_mut(&operation) else { return false };
        let observed = match reply {
            Some(Reply::Outcome { outcome }) => {
                assert!(
                    outcome != Outcome::Superseded {},
                    "I7: a write that is not answered yet was taken for an answered one: {active:?}"
                );
                Observed::Outcome(outcome)
            }
            Some(Reply::Value { found }) => Observed::Value(found),
            Some(Reply::Page { pairs, .. }) => Observed::Page(pairs),
            Some(Reply::Unknown { .. }) => {
                // It may be done: retried when the try is over.
                return false;
            }
            // Of the only copy, on a bad disk: a second reading is right.
            Some(Reply::Refused { reason }) if reason.contains(FLIPPED_BIT) => {
                assert!(matches!(self.history[active.record].invocation, Invocation::Get | Invocation::Scan));
                let pause = line.between(2, 60) * MS;
                line.after(pause, Event::Timeout { client: self.index, call });
                return true;
            }
            Some(Reply::Refused { reason }) => panic!("a sound request was refused: {reason}"),
            None | Some(_) => {
                active.open.remove(&call);
                if active.open.is_empty()
                    && self.gives_up_after < Micros::MAX
                    && line.chance(GIVES_UP_AT_ONCE)
                {
                    self.give_up(line, operation);
                    return true;
                }
                let pause = line.between(2, 60) * MS;
                line.after(pause, Event::Timeout { client: self.index, call });
                return true;
            }
        };
        let key = self.history[active.record].key.clone();
        if let Observed::Value(Some(found)) = &observed {
            self.seen.insert(key, (found.version, found.value.clone()));
        }
        let now = line.now;
        self.end(line, operation, observed, Some(now));
        line.chance(0.01)
    }
}

fn number_of(invocation: &Invocation) -> Option<RequestNumber> {
    match invocation {
        Invocation::Write { origin: Some((_, number)), .. } => Some(*number),
        _ => None,
    }
}
