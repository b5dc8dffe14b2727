//! Requests of clients that wait in a partition: writes until they are applied, and requests until the coordinator can
//! take them.

use common::codec::Wire;
use common::ids::{PartitionId, Seq};
use common::messages::Reply;
use common::operation::Command;
use common::time::Time;

use super::super::ask::Ask;
use super::super::bounded_queue::BoundedQueue;
use super::super::env::Env;
use super::super::limits::{PARKED_MAX, PENDING_MAX};
use super::super::log::Log;
use super::super::planted::PlantedBug;
use super::super::requests::{ClientRequest, ReplyTo};
use super::super::trace_step::TraceStep;

/// An entry that was ordered here and is not applied yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) seq: Seq,
    pub(crate) to: ReplyTo,
    pub(crate) since: Time,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Waiting {
    partition: PartitionId,
    /// Ascending.
    pending: BoundedQueue<Pending>,
    /// Requests that wait until this coordinator is active, or until there are fewer pending writes.
    parked: BoundedQueue<ClientRequest>,
}

impl Waiting {
    pub(super) fn new(partition: PartitionId) -> Self {
        Self { partition, pending: BoundedQueue::new(), parked: BoundedQueue::new() }
    }

    pub(super) fn await_applied(&mut self, env: &mut Env, pending: Pending, bytes: usize) {
        assert!(bytes > 0, "an entry has bytes");
        assert!(self.last().is_none_or(|last| last < pending.seq), "writes wait in the order of the log");
        self.pending.push(&mut env.budgets.pending, pending, bytes);
    }

    /// Takes the next write, if it is applied.
    pub(super) fn pop_applied(&mut self, env: &mut Env, applied: Seq) -> Option<Pending> {
        let is_applied = self.pending.front().is_some_and(|pending| pending.seq <= applied);
        if is_applied { self.pending.pop(&mut env.budgets.pending) } else { None }
    }

    /// Takes the next write, if it is the entry at `seq`.
    pub(super) fn pop_at(&mut self, env: &mut Env, seq: Seq) -> Option<Pending> {
        let next = self.pending.front().map(|pending| pending.seq);
        assert!(next.is_none_or(|next| next >= seq), "a write was applied and not answered");
        let is_next = next == Some(seq);
        if is_next { self.pending.pop(&mut env.budgets.pending) } else { None }
    }

    /// The last entry that a client waits for.
    pub(super) fn last(&self) -> Option<Seq> {
        self.pending.back().map(|pending| pending.seq)
    }

    /// Whether as many writes are under way as there may be.
    pub(crate) fn is_full(&self, env: &Env) -> bool {
        self.pending.is_full(env.budgets.pending, PENDING_MAX)
    }

    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.parked.is_empty()
    }

    /// Bytes of the pending writes, and of the parked requests.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.pending.bytes(), self.parked.bytes())
    }

    /// Lets a request wait.
    pub(crate) fn park(&mut self, env: &mut Env, asked: ClientRequest) {
        if env.cx.planted(PlantedBug::MovedInCircles) && !asked.maybe_done {
            let view = env.cx.view.number;
            return env.reply(asked.to, Reply::Moved { view });
        }
        if self.parked.is_full(env.budgets.parked, PARKED_MAX) {
            let reason = format!("too many requests wait for partition {}, retry", self.partition);
            env.reject_busy(asked, reason);
        } else {
            env.touched.insert(self.partition);
            let bytes = asked.ask.bytes();
            env.trace_request(asked.to, TraceStep::Parked {});
            self.parked.push(&mut env.budgets.parked, asked, bytes);
        }
    }

    /// Takes the parked request whose turn it is.
    pub(crate) fn pop_parked(&mut self, env: &mut Env) -> Option<ClientRequest> {
        self.parked.pop(&mut env.budgets.parked)
    }

    /// Takes the next parked request that has waited too long.
    pub(crate) fn pop_late(&mut self, env: &mut Env) -> Option<ClientRequest> {
        let (now, longest) = (env.cx.now.time, env.cx.config.park);
        let is_late = self.parked.front().is_some_and(|parked| now.since(parked.since) > longest);
        if is_late { self.pop_parked(env) } else { None }
    }

    /// J5: passes parked requests on to the next coordinator.
    pub(crate) fn reroute_parked(&mut self, env: &mut Env) {
        let parked = self.parked.take(&mut env.budgets.parked);
        env.requests.unrouted.extend(parked);
    }

    /// J5: passes on what is ordered and not applied: the next coordinator is asked with the same origin.
    pub(super) fn reroute_pending(&mut self, env: &mut Env, log: &Log) {
        for pending in self.pending.take(&mut env.budgets.pending) {
            reroute(env, log, pending);
        }
    }

    /// Asserts what must be true after every step. `last`: the end of the log; `failed`: outcomes are not believed.
    pub(super) fn invariants(&self, last: Seq, applied: Seq, failed: bool) {
        self.pending.invariants();
        self.parked.invariants();
        assert!(self.parked.len() <= PARKED_MAX, "requests that wait are bounded");
        let seqs = || self.pending.iter().map(|pending| pending.seq);
        assert!(
            seqs().zip(seqs().skip(1)).all(|(one, next)| one < next),
            "writes wait in the order of the log"
        );
        assert!(seqs().all(|seq| seq <= last), "a write waits for an entry that is cut");
        assert!(failed || seqs().all(|seq| seq > applied), "a write is applied and not answered");
    }
}

/// Passes a read on, or a write that is in this log and perhaps in others.
fn reroute(env: &mut Env, log: &Log, Pending { seq, to, since }: Pending) {
    if let ReplyTo::Read(id) = to {
        return env.requests.reroute_read(id);
    }
    if env.cx.planted(PlantedBug::IndeterminateRefused) {
        return env.reply(to, Reply::Busy { reason: "the coordinator changed".to_owned() });
    }
    let entry = log.in_memory(seq, 1).and_then(|mut entries| entries.pop());
    let command = entry.and_then(|entry| Command::from_wire(entry.body).ok());
    match command {
        Some(Command { origin: origin @ Some(_), operation, .. }) => {
            let ask = Ask::Write { origin, age_ms: 0, operation };
            env.requests.unrouted.push(ClientRequest { to, ask, since, maybe_done: true });
        }
        _ => env.reply(to, Reply::Unknown { reason: "the coordinator changed".to_owned() }),
    }
}
