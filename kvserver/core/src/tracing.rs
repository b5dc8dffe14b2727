//! The steps of traced requests (`traces`), as they are done.

use std::collections::BTreeSet;

use common::ids::{LogId, PartitionId, RequestId, Seq, ServerId};
use common::messages::{PeerMessage, Reply, ToReplica};
use common::time::Time;

use super::env::Env;
use super::io::{First, Token};
use super::limits::TRACED_MAX;
use super::requests::ReplyTo;
use super::trace_step::{TraceStep, Traced};
use super::traces::{Asker, Entry, Request};

impl Env {
    /// The next request of a client under this token is traced.
    pub(crate) fn trace_client(&mut self, token: Token, id: RequestId) {
        self.trace(Asker::Client(token), id);
    }

    /// The request that a server passes on under this number is traced. A further try of one that is being answered
    /// changes nothing.
    pub(crate) fn trace_forward(&mut self, from: ServerId, n: u64, id: RequestId) {
        if !self.requests.answering.contains(&(from, n)) {
            self.trace(Asker::Peer(from, n), id);
        }
    }

    fn trace(&mut self, asker: Asker, id: RequestId) {
        if self.traces.requests.len() < TRACED_MAX {
            let request = Request { id, since: self.cx.now.time, partition: None };
            self.traces.requests.insert(asker, request);
        }
    }

    /// A request came, and this is its partition.
    #[inline]
    pub(crate) fn trace_received(&mut self, to: ReplyTo, partition: PartitionId) {
        if self.traces.is_empty() {
            return;
        }
        let Some(asker) = Asker::of(to) else { return };
        if let Some(request) = self.traces.requests.get_mut(&asker) {
            request.partition = Some(partition);
        }
        let from = match asker {
            Asker::Client(_) => None,
            Asker::Peer(server, _) => Some(server),
        };
        self.trace_request(to, TraceStep::Received { from });
    }

    /// Something was done with a request.
    #[inline]
    pub(crate) fn trace_request(&mut self, to: ReplyTo, step: TraceStep) {
        if self.traces.is_empty() {
            return;
        }
        if let Some(Request { id, since, partition }) = self.traced(to) {
            self.trace_step(id, partition, since, step);
        }
    }

    /// A request is passed on: a message before it says to its coordinator that it is traced.
    #[inline]
    pub(crate) fn trace_passed_on(&mut self, reply_to: ReplyTo, to: ServerId, n: u64) {
        if self.traces.is_empty() {
            return;
        }
        if let Some(Request { id: request, .. }) = self.traced(reply_to) {
            self.out.send(to, PeerMessage::TraceForward { n, request });
            self.trace_request(reply_to, TraceStep::Forwarded { to });
        }
    }

    /// A write has its position: a message before the entry says to its replicas that it is traced.
    #[inline]
    pub(crate) fn trace_ordered(
        &mut self,
        to: ReplyTo,
        partition: PartitionId,
        entry: LogId,
        replicas: impl Iterator<Item = ServerId>,
    ) {
        if self.traces.is_empty() {
            return;
        }
        let Some(Request { id: request, since, .. }) = self.traced(to) else { return };
        let (epoch, seq) = (entry.tag, entry.seq);
        for replica in replicas {
            self.out.send(replica, ToReplica::TraceEntry { seq, request }.about(partition, epoch));
        }
        self.trace_entry(partition, seq, request, since);
        if let Some(traced) = self.traces.entries.get_mut(&(partition, seq)) {
            traced.appended = true;
        }
        self.trace_step(request, Some(partition), since, TraceStep::Ordered { entry });
    }

    /// The coordinator is about to send an entry of a traced request.
    pub(crate) fn trace_coming(&mut self, partition: PartitionId, seq: Seq, id: RequestId) {
        self.trace_entry(partition, seq, id, self.cx.now.time);
    }

    fn trace_entry(&mut self, partition: PartitionId, seq: Seq, id: RequestId, since: Time) {
        if self.traces.entries.len() < TRACED_MAX {
            let (appended, stored, acknowledged, by) = (false, false, false, BTreeSet::new());
            let entry = Entry { id, since, appended, stored, acknowledged, by };
            self.traces.entries.insert((partition, seq), entry);
        }
    }

    /// An entry joined the log.
    #[inline]
    pub(crate) fn trace_appended(&mut self, partition: PartitionId, entry: LogId) {
        if self.traces.is_empty() {
            return;
        }
        let Some(traced) = self.traces.entries.get_mut(&(partition, entry.seq)) else { return };
        traced.appended = true;
        let (id, since) = (traced.id, traced.since);
        self.trace_step(id, Some(partition), since, TraceStep::Appended { entry });
    }

    /// The log is on disk up to `seq`.
    #[inline]
    pub(crate) fn trace_stored(&mut self, partition: PartitionId, seq: Seq) {
        if self.traces.is_empty() {
            return;
        }
        self.trace_entries(partition, seq, TraceStep::Stored {}, |entry| {
            entry.appended && !std::mem::replace(&mut entry.stored, true)
        });
    }

    /// This replica acknowledges its log up to `seq`.
    #[inline]
    pub(crate) fn trace_acknowledged(&mut self, partition: PartitionId, seq: Seq, to: ServerId) {
        if self.traces.is_empty() {
            return;
        }
        self.trace_entries(partition, seq, TraceStep::Acknowledged { to }, |entry| {
            entry.stored && !std::mem::replace(&mut entry.acknowledged, true)
        });
    }

    /// A replica has acknowledged its log up to `seq`.
    #[inline]
    pub(crate) fn trace_acknowledged_by(&mut self, partition: PartitionId, seq: Seq, by: ServerId) {
        if self.traces.is_empty() {
            return;
        }
        self.trace_entries(partition, seq, TraceStep::AcknowledgedBy { by }, |entry| entry.by.insert(by));
    }

    /// The records have everything up to `seq`, which is the last step of those entries.
    #[inline]
    pub(crate) fn trace_applied(&mut self, partition: PartitionId, seq: Seq) {
        if self.traces.is_empty() {
            return;
        }
        self.trace_entries(partition, seq, TraceStep::Applied {}, |_| true);
        self.traces.entries.retain(|(of, entry), _| *of != partition || *entry > seq);
    }

    /// A request is answered.
    #[inline]
    pub(crate) fn trace_answered(&mut self, to: ReplyTo, reply: &Reply) {
        if self.traces.is_empty() {
            return;
        }
        self.trace_request(to, TraceStep::Answered { outcome: in_a_word(reply) });
        if let Some(asker) = Asker::of(to) {
            self.traces.requests.remove(&asker);
        }
    }

    fn traced(&self, to: ReplyTo) -> Option<Request> {
        self.traces.requests.get(&Asker::of(to)?).copied()
    }

    /// Emits a step for each entry up to `seq` for which `takes` returns `true`.
    fn trace_entries(
        &mut self,
        partition: PartitionId,
        seq: Seq,
        step: TraceStep,
        takes: impl Fn(&mut Entry) -> bool,
    ) {
        let entries = self.traces.entries.range_mut((partition, Seq(0))..=(partition, seq));
        let done: Vec<(RequestId, Time)> =
            entries.filter_map(|(_, entry)| takes(entry).then_some((entry.id, entry.since))).collect();
        for (id, since) in done {
            self.trace_step(id, Some(partition), since, step);
        }
    }

    fn trace_step(
        &mut self,
        request: RequestId,
        partition: Option<PartitionId>,
        since: Time,
        step: TraceStep,
    ) {
        let after = self.cx.now.time.since(since);
        self.out.effect(First::Trace { traced: Traced { request, partition, after, step } });
    }
}

fn in_a_word(reply: &Reply) -> &'static str {
    match reply {
        Reply::Moved { .. } => "moved",
        Reply::Busy { .. } => "busy",
        Reply::Unknown { .. } => "unknown",
        Reply::Refused { .. } => "refused",
        Reply::TooLarge { .. } => "too large",
        _ => "done",
    }
}
