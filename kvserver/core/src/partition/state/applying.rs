//! Committed entries on their way to the state machine, and their outcomes on the way back.

use common::ids::Seq;
use common::messages::{Entry, Reply};
use common::operation::Outcome;

use super::super::super::env::Env;
use super::super::super::io::{Later, ReadId, Reader};
use super::super::super::limits::APPEND_BYTES_MAX;
use super::super::super::requests::ReplyTo;
use super::PartitionState;
use super::parts::{Applying, Busy};

impl PartitionState {
    /// The last entry that is applied or being applied.
    pub(crate) fn reaching(&self) -> Seq {
        match self.shell.applying {
            Applying::Entries(count) => Seq(self.applied.0 + count as u64),
            Applying::Nothing | Applying::ReadingBack => self.applied,
        }
    }

    /// The last entry that may be applied now.
    fn applies_to(&self) -> Seq {
        self.commit.min(self.log.durable())
    }

    /// Hands the next committed entries to the state machine. `with_changes`: their changes are to be returned too.
    pub(crate) fn advance_apply(&mut self, env: &mut Env, with_changes: bool) {
        let is_due = self.applied < self.applies_to() && self.disk.busy == Busy::Idle;
        if self.shell.applying != Applying::Nothing || !is_due {
            return;
        }
        let from = self.applied.next();
        match self.log.in_memory(from, APPEND_BYTES_MAX) {
            Some(entries) => self.apply(env, entries, with_changes),
            None => {
                self.shell.applying = Applying::ReadingBack;
                let (partition, reader) = (self.id, Reader::Apply);
                let bytes_max = APPEND_BYTES_MAX;
                env.out.effect(Later::ReadLog { partition, reader, from, bytes_max });
            }
        }
    }

    fn apply(&mut self, env: &mut Env, mut entries: Vec<Entry>, with_changes: bool) {
        let count = self.applies_to().0.saturating_sub(self.applied.0);
        entries.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        if entries.is_empty() {
            return;
        }
        assert_eq!(entries[0].id.seq, self.applied.next(), "entries are applied in order");
        assert!(self.shell.applying == Applying::Nothing, "one batch is applied at a time");
        self.shell.applying = Applying::Entries(entries.len());
        assert!(self.reaching() <= self.applies_to(), "partition {}: applied early", self.id);
        env.out.effect(Later::Apply { partition: self.id, entries, with_changes });
    }

    /// Entries for the state machine were read back.
    pub(crate) fn on_read_back(&mut self, env: &mut Env, entries: Option<Vec<Entry>>, with_changes: bool) {
        if self.shell.applying != Applying::ReadingBack {
            return;
        }
        self.shell.applying = Applying::Nothing;
        if !self.is_idle() {
            // Log and records are about to be replaced or removed.
            return;
        }
        match entries {
            Some(mut entries) => {
                // Entries may have been cut since they were read, and after a snapshot the first one is not the next.
                let cut = entries.iter().position(|entry| !self.log.contains(entry.id));
                entries.truncate(cut.unwrap_or(entries.len()));
                if entries.first().is_some_and(|entry| entry.id.seq == self.applied.next()) {
                    self.apply(env, entries, with_changes);
                }
            }
            None if self.log.base().seq > self.applied => env.out.fatal(format!(
                "partition {}: the commit log begins after entry {}, the records end at {}",
                self.id,
                self.log.base().seq,
                self.applied
            )),
            None => {}
        }
    }

    /// Whether outcomes that the shell returns are those of these records. They are not if a copy of the state has
    /// replaced the records that the entries were applied to.
    pub(crate) fn takes_outcomes(&mut self) -> bool {
        let are_unused = self.shell.applying_unused > 0;
        self.shell.applying_unused -= usize::from(are_unused);
        !are_unused
    }

    /// Entries were applied: answers the clients that asked for them. Returns the reads that waited for ticks of log
    /// time among them.
    pub(crate) fn on_applied(&mut self, env: &mut Env, outcomes: Vec<Outcome>) -> Vec<ReadId> {
        let Applying::Entries(count) = self.shell.applying else {
            panic!("partition {}: outcomes of entries that are not being applied", self.id)
        };
        assert_eq!(outcomes.len(), count, "an outcome for each entry");
        env.trace_applied(self.id, self.reaching());
        let mut ticked = Vec::new();
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let seq = Seq(self.applied.0 + 1 + index as u64);
            if let Outcome::Compared { at } = outcome {
                env.integrity.digests.on_applied((self.id, at));
            }
            if self.disk.state.failed {
                // The outcome was decided by wrong records: the next coordinator is asked.
                continue;
            }
            match self.waiting.pop_at(env, seq).map(|pending| pending.to) {
                Some(ReplyTo::Read(id)) => ticked.push(id),
                Some(to) => env.reply(to, Reply::Outcome { outcome }),
                None => {}
            }
        }
        self.applied = self.reaching();
        assert!(self.applied <= self.commit, "partition {}: applied before it was committed", self.id);
        assert!(self.applied <= self.log.durable(), "partition {}: applied before it was on disk", self.id);
        self.shell.applying = Applying::Nothing;
        ticked
    }
}
