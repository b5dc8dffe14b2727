//! Carries out what the core decides: first what is written (`store/log_writer`) and sent (`net/peers`), then
//! everything else of a batch in its order: entries are applied and values are read (`store/state_machine`), replies go
//! to their connections (`inbound/reply_queue`). What this thread writes to the log itself comes last of all.

use common::clock;
use common::ids::{PartitionId, Seq};
use common::messages::{Entry, Reply};
use kvserver_core::{
    Answer, Effect, First, Input, Later, LogRecord, PartitionKeys, Query, ReadId, Reader, Ticket, Token,
};

use super::state::{Driver, Open, hand};
use crate::error::Failure;
use crate::store::log_writer::Job;
use crate::workers::digest::DigestJob;
use crate::workers::key_scan::KeyScan;
use crate::workers::transfer::{BuildJob, ReadJob};

impl Driver {
    /// Carries out the core's effects until there are none. What this thread writes to the log itself comes last, so
    /// messages and replies do not wait for it.
    pub(super) fn carry_out(&mut self) -> Result<(), Failure> {
        let mut own = None;
        loop {
            let effects = self.parts.node.effects();
            self.replied = None;
            if effects.is_empty() {
                self.replies.deliver();
                let Some((ticket, records)) = own.take() else { return Ok(()) };
                self.parts.log.write(ticket, records)?;
                self.step(Input::Durable { ticket });
                continue;
            }
            let mut later = Vec::with_capacity(effects.len());
            for effect in effects {
                match effect {
                    Effect::First(first) => self.carry_out_first(first, &mut own)?,
                    Effect::Later(effect) => later.push(effect),
                }
            }
            for (to, messages) in std::mem::take(&mut self.outgoing) {
                self.parts.peers.send(to, messages);
            }
            let mut answers = Vec::new();
            for effect in later {
                self.carry_out_later(effect, &mut answers)?;
            }
            // Read the state, then look at the clock, then answer.
            let now = clock::now();
            for answer in answers {
                self.parts.node.step(now, answer);
            }
            self.replies.deliver();
        }
    }

    /// `own`: records that this thread is to write itself, at the end of the batch.
    fn carry_out_first(
        &mut self,
        effect: First,
        own: &mut Option<(Ticket, Vec<LogRecord>)>,
    ) -> Result<(), Failure> {
        match effect {
            First::Persist { ticket, records } if own.is_none() && self.parts.log.suits(&records) => {
                *own = Some((ticket, records));
            }
            First::Persist { ticket, records } => self.submit(own, Job::Records(ticket, records))?,
            First::PersistView { ticket, view } => self.submit(own, Job::View(ticket, view))?,
            First::PersistPromise { ticket, promised } => {
                let store = self.parts.me.store;
                self.submit(own, Job::Promise(ticket, store, promised))?;
            }
            First::Send { to, message } => self.outgoing.entry(to).or_default().push(message),
            // Logged before the message that it describes leaves, so that the lines of all servers are in order.
            First::Trace { traced } => self.parts.traces.log(&traced),
        }
        Ok(())
    }

    /// Passes a job to the log thread, after what this thread was to write before it.
    fn submit(&mut self, own: &mut Option<(Ticket, Vec<LogRecord>)>, job: Job) -> Result<(), Failure> {
        if let Some((ticket, records)) = own.take() {
            self.parts.log.submit(Job::Records(ticket, records))?;
        }
        self.parts.log.submit(job)
    }

    /// `answers`: those of reads, which the core takes at the end of the batch.
    fn carry_out_later(&mut self, effect: Later, answers: &mut Vec<Input>) -> Result<(), Failure> {
        let machine = &mut self.parts.machine;
        match effect {
            Later::Apply { partition, entries, with_changes } => {
                self.apply(partition, entries, with_changes)?
            }
            Later::Reply { token, reply } => self.reply(token, reply),
            Later::ReadLog { partition, reader, from, bytes_max } => {
                let found = machine.read_log(partition, from, bytes_max)?;
                self.on_log_read(partition, reader, found);
            }
            Later::PinLog { partition, from } => machine.pin(partition, from),
            Later::OpenSnapshot { partition, transfer } => {
                let (snapshot, state) = machine.open_snapshot(partition)?;
                hand(&self.parts.readers, ReadJob::Open((partition, transfer), snapshot))?;
                let bytes = self.parts.machine.bytes_of(partition);
                self.step(Input::SnapshotOpened { partition, transfer, state, bytes });
            }
            Later::ReadSnapshot { partition, transfer, index } => {
                hand(&self.parts.readers, ReadJob::Read((partition, transfer), index))?;
            }
            Later::CloseSnapshot { partition, transfer } => {
                hand(&self.parts.readers, ReadJob::Close((partition, transfer)))?;
            }
            Later::Stage { partition, staging, index, pairs, done } => {
                let copy = (partition, staging);
                let staging = (index == 0).then(|| machine.stage(partition));
                hand(&self.parts.builders, BuildJob::Put { copy, index, staging, pairs, done })?;
            }
            Later::Install { partition, generation, state } => {
                machine.install(partition, generation, state)?
            }
            Later::Drop { partition } => {
                machine.drop_partition(partition);
                hand(&self.parts.builders, BuildJob::Abandon(partition))?;
            }
            Later::Adopted { view } => {
                tracing::debug!(view = %view.number, servers = view.servers.len(), "view adopted");
                self.parts.peers.on_view(&view);
                self.parts.machine.on_view(&view, self.parts.me.server);
                self.parts.views.send_replace(Some(view));
            }
            Later::Report { report } => self.report(report),
            Later::Warn { reason } => tracing::warn!("{reason}"),
            Later::Alarm { reason } => tracing::error!("{reason}"),
            Later::Condemn { reason } => return Err(Failure::Damaged(reason)),
            Later::Stop { reason } => return Err(Failure::Stopped(reason)),
            Later::Fatal { reason } => return Err(Failure::Store(reason)),
            Later::Read { read, partition, query } => self.read(read, partition, query, answers)?,
        }
        Ok(())
    }

    fn apply(
        &mut self,
        partition: PartitionId,
        entries: Vec<Entry>,
        with_changes: bool,
    ) -> Result<(), Failure> {
        let machine = &mut self.parts.machine;
        let waits = !machine.has_tree(partition);
        let outcomes = self.parts.log.watched(waits, || machine.apply(partition, entries, with_changes))?;
        let changes = machine.take_changes();
        let (sources, left_out) = machine.take_digest_sources();
        self.step(Input::Applied { partition, outcomes, changes });
        for source in sources {
            if source.paced {
                self.parts.scrub.on_digest_source();
            }
            hand(&self.parts.digester, DigestJob::Make(Box::new(source)))?;
        }
        for at in left_out {
            self.step(Input::Digested { partition, at, digest: None });
        }
        Ok(())
    }

    fn reply(&mut self, token: Token, reply: Reply) {
        if let Some(Open { outbox, id, asked, passed }) = self.open.remove(&token) {
            if let Some((to, bytes)) = passed {
                self.queue.on_answered(to, bytes);
            }
            let now = *self.replied.get_or_insert_with(clock::time);
            self.meter.on_reply(now, &asked, &reply);
            self.replies.push(&outbox, id, reply);
        }
    }

    /// Reads applied state; what a thread of its own reads is answered later.
    fn read(
        &mut self,
        read: ReadId,
        partition: PartitionId,
        query: Query,
        answers: &mut Vec<Input>,
    ) -> Result<(), Failure> {
        match query {
            Query::Keys { after, limit, .. } => {
                self.walk(read, partition, PartitionKeys::new(after, Some(limit)))
            }
            Query::Count { .. } => self.walk(read, partition, PartitionKeys::new(0, None)),
            query => {
                let answer = match self.parts.machine.read(partition, &query) {
                    Err(Failure::Damaged(reason)) => Answer::Damaged(reason),
                    found => found?,
                };
                answers.push(Input::Answered { read, answer });
                Ok(())
            }
        }
    }

    /// Has a thread go over all keys of a partition.
    fn walk(&mut self, read: ReadId, partition: PartitionId, keys: PartitionKeys) -> Result<(), Failure> {
        match self.parts.machine.snapshot(partition) {
            Ok((records, log_time)) => {
                hand(&self.parts.key_scanner, KeyScan { read, records, log_time, keys })
            }
            Err(Failure::Damaged(reason)) => {
                self.step(Input::Answered { read, answer: Answer::Damaged(reason) });
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    fn on_log_read(&mut self, partition: PartitionId, reader: Reader, found: Result<Vec<Entry>, Seq>) {
        let entries = match found {
            Ok(entries) => Some(entries),
            Err(seq) => {
                self.step(Input::Trimmed { partition, seq });
                None
            }
        };
        self.step(Input::LogRead { partition, reader, entries });
    }
}
