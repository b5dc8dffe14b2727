//! The effects of the present batch, and what follows when its writes are on disk. Handlers collect them here; the end
//! of the batch takes them (`node/step`) for the driver.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{Epoch, LogId, PartitionId, Seq, ServerId};
use common::messages::{PeerMessage, Promised, ServerReport};
use common::view::{Member, View};

use super::io::{Effect, First, Later, LogRecord, Ticket};

/// What follows when a write to disk is done.
#[derive(Clone, Debug)]
pub(crate) enum After {
    /// The log was appended to, up to `last`, when it had been cut `cuts` times.
    Entries { partition: PartitionId, cuts: u64, last: Seq },
    /// The log is in step with the coordinator of `epoch`.
    Synced { partition: PartitionId, epoch: Epoch },
    /// The coordinator of `epoch` has noted the member that it proposes.
    Proposed { partition: PartitionId, epoch: Epoch, member: Member },
    /// A staged copy is the partition's.
    Installed { partition: PartitionId, staging: u64, generation: u32, base: LogId, state: Bytes },
    /// The partition is gone.
    Dropped { partition: PartitionId },
    /// The copy is noted as failed.
    Failed { partition: PartitionId },
    /// A view is on disk.
    View(Arc<View>),
    /// R6: the promise to an ECS that is being rebuilt is on disk. Another promise may be on its way there.
    Promised(Option<Promised>),
}

/// The effects of the present batch, and what waits for the disk.
#[derive(Debug, Default)]
pub(crate) struct Out {
    effects: Vec<Effect>,
    records: Vec<LogRecord>,
    after: Vec<After>,
    views: Vec<Arc<View>>,
    promises: Vec<Option<Promised>>,
    waiting: BTreeMap<Ticket, Vec<After>>,
    last_ticket: u64,
}

impl Out {
    pub(crate) fn effect(&mut self, effect: impl Into<Effect>) {
        self.effects.push(effect.into());
    }

    pub(crate) fn send(&mut self, to: ServerId, message: PeerMessage) {
        self.effect(First::Send { to, message });
    }

    pub(crate) fn report(&mut self, report: ServerReport) {
        self.effect(Later::Report { report });
    }

    /// Writes a record with this batch.
    pub(crate) fn persist(&mut self, record: LogRecord) {
        self.records.push(record);
    }

    /// Logs that a message of another server makes no sense and was dropped.
    pub(crate) fn warn(&mut self, reason: String) {
        self.effect(Later::Warn { reason });
    }

    /// Logs that stored data is wrong and the server goes on: a person must look.
    pub(crate) fn alarm(&mut self, reason: String) {
        self.effect(Later::Alarm { reason });
    }

    /// Ends the process, as going on would break a promise.
    pub(crate) fn fatal(&mut self, reason: String) {
        self.effect(Later::Fatal { reason });
    }

    /// Has `after` follow when this batch is on disk.
    pub(crate) fn after(&mut self, after: After) {
        self.after.push(after);
    }

    fn ticket(&mut self, after: Vec<After>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let before = self.waiting.insert(ticket, after);
        assert!(before.is_none(), "a write has a ticket of its own");
        ticket
    }

    /// Asserts what must be true after every batch.
    pub(crate) fn invariants(&self) {
        assert!(self.effects.is_empty() && self.records.is_empty(), "an effect has not left with its batch");
        assert!(self.after.is_empty(), "what follows a write has no write");
        assert!(self.views.is_empty() && self.promises.is_empty(), "a view or a promise is not written");
        let last = self.waiting.keys().last();
        assert!(last.is_none_or(|ticket| ticket.0 <= self.last_ticket), "a ticket that was not given out");
    }

    /// Writes a view behind this batch's records.
    pub(crate) fn persist_view(&mut self, view: Arc<View>) {
        self.views.push(view);
    }

    /// Writes a promise to the ECS behind this batch's records and views.
    pub(crate) fn persist_promise(&mut self, promised: Option<Promised>) {
        self.promises.push(promised);
    }

    /// What follows from the writes up to `ticket`, which are done.
    pub(crate) fn on_durable(&mut self, ticket: Ticket) -> Vec<After> {
        assert!(ticket.0 <= self.last_ticket, "a write is durable that was never asked for");
        let later = self.waiting.split_off(&Ticket(ticket.0 + 1));
        std::mem::replace(&mut self.waiting, later).into_values().flatten().collect()
    }

    /// Ends the batch: its writes go first, so that the disk works while the rest is carried out. Tickets ascend in the
    /// order of the writes: a durable ticket means that all before it are durable.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.records.is_empty() || !self.after.is_empty() {
            let after = std::mem::take(&mut self.after);
            let ticket = self.ticket(after);
            let records = std::mem::take(&mut self.records);
            effects.push(First::Persist { ticket, records }.into());
        }
        for view in std::mem::take(&mut self.views) {
            let ticket = self.ticket(vec![After::View(Arc::clone(&view))]);
            effects.push(First::PersistView { ticket, view }.into());
        }
        for promised in std::mem::take(&mut self.promises) {
            let ticket = self.ticket(vec![After::Promised(promised)]);
            effects.push(First::PersistPromise { ticket, promised }.into());
        }
        effects.append(&mut self.effects);
        assert!(
            self.after.is_empty() && self.records.is_empty(),
            "all that is written leaves with its batch"
        );
        effects
    }
}
