//! From the log to the records: committed entries go to the state machine in order, and their outcomes to the clients
//! that asked.

use common::ids::{LogId, Seq};
use common::messages::{Change, Entry, Reply};
use common::operation::Outcome;

use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::io::{Later, Reader};
use super::super::limits::APPEND_BYTES_MAX;
use super::super::requests::ReplyTo;

impl PartitionCopy {
    /// Hands the next committed entries to the state machine.
    pub(super) fn advance_apply(&mut self, env: &mut Env) {
        let target = self.commit.min(self.log.durable());
        let held = self.disk.dropping || self.disk.installing;
        if self.shell.applying > 0 || self.shell.reading_back || self.applied >= target || held {
            return;
        }
        let from = self.applied.next();
        match self.log.in_memory(from, APPEND_BYTES_MAX) {
            Some(entries) => self.apply(env, entries),
            None => {
                self.shell.reading_back = true;
                let (partition, reader) = (self.id, Reader::Apply);
                let bytes_max = APPEND_BYTES_MAX;
                env.out.effect(Later::ReadLog { partition, reader, from, bytes_max });
            }
        }
    }

    fn apply(&mut self, env: &mut Env, mut entries: Vec<Entry>) {
        let target = self.commit.min(self.log.durable());
        let count = target.0.saturating_sub(self.applied.0);
        entries.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        if entries.is_empty() {
            return;
        }
        assert_eq!(entries[0].id.seq, self.applied.next(), "entries are applied in order");
        self.shell.applying = entries.len();
        let tell = self.watches.is_open();
        env.out.effect(Later::Apply { partition: self.id, entries, tell });
    }

    /// Entries for the state machine were read back.
    pub(crate) fn on_read_back(&mut self, env: &mut Env, entries: Option<Vec<Entry>>) {
        if !std::mem::take(&mut self.shell.reading_back) {
            return;
        }
        match entries {
            Some(mut entries) => {
                // Entries may have been cut since they were read, and after a snapshot the first one is not the next.
                let cut = entries.iter().position(|entry| !self.log.contains(entry.id));
                entries.truncate(cut.unwrap_or(entries.len()));
                if entries.first().is_some_and(|entry| entry.id.seq == self.applied.next()) {
                    self.apply(env, entries);
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

    /// Entries were applied: answers the clients that asked for them.
    pub(crate) fn on_applied(
        &mut self,
        env: &mut Env,
        outcomes: Vec<Outcome>,
        changes: Vec<(LogId, Vec<Change>)>,
    ) {
        if self.shell.applying_unused > 0 {
            // A copy of the state has replaced the records that these entries were applied to.
            self.shell.applying_unused -= 1;
            return;
        }
        assert_eq!(outcomes.len(), self.shell.applying, "an outcome for each entry");
        env.trace_applied(self.id, self.reaching());
        let mut ticked = Vec::new();
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let seq = Seq(self.applied.0 + 1 + index as u64);
            self.watches.no_ops.on_applied(seq, &outcome);
            if let Outcome::Compared { at } = outcome {
                env.integrity.digests.on_applied((self.id, at));
            }
            if self.disk.mark.failed {
                // The outcome was decided by wrong records: the next coordinator is asked.
                continue;
            }
            if self.pending.front().is_some_and(|pending| pending.seq == seq) {
                let pending = self.pending.pop(&mut env.budgets.pending).expect("there is one");
                match pending.to {
                    ReplyTo::Read(id) => ticked.push(id),
                    to => env.reply(to, Reply::Outcome { outcome }),
                }
            }
        }
        self.applied = self.reaching();
        self.shell.applying = 0;
        self.on_changes(env, changes);
        for id in ticked {
            self.start_read(env, id);
        }
        if let Role::Replica(replica) = &mut self.role {
            replica.on_applied(env, self.applied);
        }
    }

    /// A staged copy has taken the place of log and records.
    pub(crate) fn replace(&mut self, env: &mut Env, base: LogId) {
        self.forget_changes(env, base.seq);
        self.log.install(base);
        self.commit = self.commit.max(base.seq);
        self.applied = base.seq;
        self.shell.applying_unused += usize::from(std::mem::take(&mut self.shell.applying) > 0);
        self.shell.reading_back = false;
    }

    /// The commit log no longer has entries up to `seq`.
    pub(crate) fn on_trimmed(&mut self, seq: Seq) {
        self.log.on_trimmed(seq.min(self.applied));
    }
}
