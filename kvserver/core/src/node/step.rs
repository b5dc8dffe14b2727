//! A batch: steps, and what they made possible once for all of them. A request goes to `route`, a message of another
//! server to `peer`, the end of a write to the partition that waits for it (`partition/inputs`); at the end of the
//! batch each partition that was touched is settled (`partition/role`).

use common::ids::PartitionId;
use common::time::Now;

use super::forwards::Foreign;

use super::super::ask::Answer;
use super::super::coordinator::state::Coordinator;
use super::super::io::{Effect, Input, ReadId, Ticket};
use super::super::out::After;
use super::super::partition::Partition;
use super::super::process::Anew;
use super::super::requests::ReadKind;

use super::state::Node;

impl Node {
    /// Takes one input. Effects are collected until [`Node::effects`].
    pub fn step(&mut self, now: Now, input: Input) {
        self.env.set_now(now);
        match input {
            Input::View(view) => self.on_view(view),
            Input::Promise(asked) => self.on_promise(asked),
            Input::Refused(refusal) => self.on_refused(refusal),
            Input::Peer { from, message } => self.on_peer(from, message),
            Input::PeerLinked { server } => self.on_peer_linked(server, Anew::Link),
            Input::Client { token, ask } => self.on_client(token, ask, Foreign::SendAway),
            Input::Trace { token, request } => self.env.trace_client(token, request),
            Input::ClientAnywhere { token, ask } => self.on_client(token, ask, Foreign::PassOn),
            Input::Durable { ticket } => self.on_durable(ticket),
            Input::Applied { partition, outcomes, changes } => {
                self.with(partition, |copy, env| copy.on_applied(env, outcomes, changes));
            }
            Input::Answered { read, answer } => self.on_answered(read, answer),
            Input::LogRead { partition, reader, entries } => {
                self.with(partition, |copy, env| copy.on_log_read(env, reader, entries));
            }
            Input::Trimmed { partition, seq } => self.with(partition, |copy, _| copy.on_trimmed(seq)),
            Input::SnapshotOpened { partition, transfer, state, bytes } => {
                self.with(partition, |copy, env| copy.on_snapshot_opened(env, transfer, &state, bytes));
            }
            Input::SnapshotRead { partition, transfer, index, pairs, done } => {
                self.with(partition, |copy, _| copy.on_snapshot_read(transfer, index, pairs, done));
            }
            Input::Staged { partition, staging, index, generation } => {
                self.with(partition, |copy, env| copy.on_staged(env, staging, index, generation));
            }
            Input::Damaged { reason } => _ = self.env.goes_on_damaged(&reason),
            Input::Digested { partition, at, digest } => {
                self.env.integrity.digests.on_made((partition, at), digest);
                self.with(partition, |copy, env| copy.on_digested(env, at));
            }
            Input::Compare { partition } => self.turns.add(partition),
            Input::Expiring { partition } => self.with(partition, Partition::on_expiring),
            Input::Tick => self.on_tick(),
        }
    }

    /// Ends the batch, and returns its effects.
    pub fn effects(&mut self) -> Vec<Effect> {
        assert!(self.settling.is_empty(), "the batch before this one is settled");
        loop {
            for unrouted in std::mem::take(&mut self.env.requests.unrouted) {
                self.route(unrouted);
            }
            std::mem::swap(&mut self.settling, &mut self.env.touched);
            if self.settling.is_empty() && self.env.requests.unrouted.is_empty() {
                break;
            }
            while let Some(partition) = self.settling.pop_first() {
                let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
                copy.settle(&mut self.env);
                if copy.is_busy() {
                    self.busy.insert(partition);
                } else {
                    self.busy.remove(partition);
                }
                self.reported.changed.insert(partition);
            }
        }
        assert!(self.env.touched.is_empty(), "all that was touched is settled");
        assert!(self.env.requests.unrouted.is_empty(), "each request is on its way");
        self.confirm();
        self.env.out.take()
    }

    pub(super) fn on_durable(&mut self, ticket: Ticket) {
        for after in self.env.out.on_durable(ticket) {
            match after {
                After::View(view) => self.use_view(view),
                After::Promised(promised) => self.report_holdings(promised),
                After::Entries { partition, cuts, last } => {
                    self.with(partition, |copy, env| copy.on_durable(env, last, cuts));
                }
                After::Synced { partition, epoch } => {
                    self.with(partition, |copy, env| copy.on_synced(env, epoch));
                }
                After::Proposed { partition, epoch, member } => {
                    self.with(partition, |copy, env| copy.on_proposal_noted(env, epoch, member));
                }
                After::Installed { partition, staging, generation, base, state } => {
                    self.with(partition, |copy, env| {
                        copy.on_installed(env, staging, generation, (base, state))
                    });
                }
                After::Failed { partition } => self.with(partition, |copy, env| copy.on_failed(env)),
                After::Dropped { partition } => self.with(partition, |copy, env| copy.on_dropped(env)),
            }
        }
    }

    pub(super) fn on_answered(&mut self, read: ReadId, answer: Answer) {
        let Some(pending) = self.env.requests.reads.get(&read) else { return };
        let (partition, kind) = (pending.partition, pending.kind);
        assert!(usize::from(partition.0) < self.copies.len(), "a read is of a copy that is here");
        if !self.env.admits(&answer) {
            // The process ends: the client finds another server.
            return;
        }
        if let ReadKind::ByIndex | ReadKind::UnderLease = kind {
            return self.with(partition, |copy, env| copy.on_indexed_answer(env, read, answer));
        }
        // Most answers do not change the copy; it marks itself as touched when one does.
        if let Some(copy) = self.copies.get_mut(usize::from(partition.0)) {
            copy.on_answered(&mut self.env, read, answer);
        }
    }

    pub(super) fn on_tick(&mut self) {
        let now = self.env.cx.now.time;
        self.env.look_at_clocks();
        if now >= self.next.ping {
            self.ping();
        }
        if now >= self.next.heartbeat {
            self.next.heartbeat = now + self.env.cx.config.timers.heartbeat;
            self.heartbeat();
        }
        for partition in self.busy.iter() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            copy.on_tick(&mut self.env);
        }
        self.look_at_watches();
        self.retry_forwards();
        self.ask_for_newer_views();
        self.env.traces.forget_old(now);
        self.compare_next();
    }

    /// Begins the next comparison, when the last one has ended.
    pub(super) fn compare_next(&mut self) {
        let copy = |now: PartitionId| self.copies.get(usize::from(now.0));
        let is_comparing = |copy: &Partition| copy.coordinator().is_some_and(Coordinator::is_comparing);
        if self.turns.now.and_then(copy).is_some_and(is_comparing) {
            return;
        }
        while let Some(partition) = self.turns.next() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            if copy.begin_comparison(&mut self.env) {
                return;
            }
        }
    }
}
