//! A server's disk and store as its core uses them: writes and syncs, works in order, flushes and trims.

use common::ids::{LogId, PartitionId, Seq};
use kvserver_core::{Answer, Effect, Input, Later, LogRecord, Ticket};

use super::super::disk::Disk;
use super::super::timeline::{Event, MS, Timeline};
use super::super::truth::Truth;
use super::{DiskFault, FLIPPED_BIT, Server, right};

impl Server {
    pub(super) fn persist(
        &mut self,
        line: &mut Timeline,
        truth: &mut Truth,
        ticket: Ticket,
        records: Vec<LogRecord>,
    ) {
        for (index, record) in records.iter().enumerate() {
            if let LogRecord::Entry { partition, entry } = record {
                let previous = previous_of(&self.disk, *partition, &records[..index], entry.id.seq);
                truth.check_stamp(*partition, entry, right(line.now));
                truth.on_written(*partition, previous, entry);
            }
        }
        if self.fail(DiskFault::Full) {
            return;
        }
        self.disk.write_records(ticket, records);
        self.sync(line);
    }

    /// Asks the disk to sync the writes, if no sync is under way.
    pub(super) fn sync(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        let Some(process) = &mut self.process else { return };
        let Some((first, last)) = self.disk.unsynced() else { return };
        if std::mem::replace(&mut process.syncing, true) {
            return;
        }
        // Two writes of one batch may be synced one after the other.
        let upto = if line.chance(0.2) { line.between(first, last) } else { last };
        let delay = if line.chance(self.slow) { line.between(1, 60) * MS } else { line.between(80, 900) };
        line.after(delay, Event::Synced { server, life, upto });
    }

    pub(crate) fn on_synced(&mut self, line: &mut Timeline, upto: u64) {
        if line.now < self.fails_until {
            self.disk_fault = Some(DiskFault::Sync);
        }
        if self.fail(DiskFault::Sync) {
            return;
        }
        let tickets = self.disk.sync(upto);
        /// Moments of a disk that it may go back to.
        const SAVED_MAX: usize = 6;
        if self.saves > 0.0 && line.chance(self.saves) {
            if self.saved.len() == SAVED_MAX {
                self.saved.remove(line.rng.usize(0..SAVED_MAX));
            }
            self.saved.push((self.incarnation, self.disk.image()));
        }
        let Some(process) = &mut self.process else { return };
        process.syncing = false;
        process.inbox.extend(tickets.into_iter().map(|ticket| Input::Durable { ticket }));
        self.wake(line);
        self.sync(line);
    }

    pub(super) fn enqueue(&mut self, line: &mut Timeline, work: Effect) {
        let Some(process) = &mut self.process else { return };
        process.work.push_back(work);
        self.work_on(line);
    }

    fn work_on(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        let Some(process) = &mut self.process else { return };
        if process.work.is_empty() || std::mem::replace(&mut process.working, true) {
            return;
        }
        let delay = if line.chance(self.slow) { line.between(1, 80) * MS } else { line.between(0, 60) };
        line.after(delay, Event::Work { server, life });
    }

    /// The store does the next thing.
    pub(crate) fn on_work(&mut self, line: &mut Timeline, truth: &mut Truth) {
        let Some(process) = &mut self.process else { return };
        process.working = false;
        let Some(work) = process.work.pop_front() else { return };
        if matches!(work, Effect::Later(Later::ReadLog { .. })) && self.fail(DiskFault::Rot) {
            return;
        }
        let misreads = line.now < self.misreads_until;
        let rotten = self.disk_fault == Some(DiskFault::Rot);
        let Some(process) = &mut self.process else { return };
        let mut found = process.execute(&mut self.disk, truth, work, misreads);
        let reason = || FLIPPED_BIT.to_owned();
        match &mut found {
            Some(Input::Answered { answer, .. }) if rotten => *answer = Answer::Damaged(reason()),
            // Where the server goes on, a second reading is right.
            Some(Input::SnapshotRead { .. }) if rotten => {
                process.inbox.push(Input::Damaged { reason: reason() });
            }
            _ => {}
        }
        if matches!(found, Some(Input::Answered { .. } | Input::SnapshotRead { .. })) && rotten {
            (self.disk_fault, truth.misread) = (None, true);
        }
        process.inbox.extend(found);
        if line.chance(0.3) {
            process.finish_digest();
        }
        self.wake(line);
        self.work_on(line);
    }

    /// Flushes a tree, and drops the log below it, at random.
    pub(crate) fn on_housekeeping(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        let next = line.between(20 * MS, 400 * MS);
        line.after(next, Event::Housekeeping { server, life });
        let wall = self.now(line.now).wall;
        let Some(process) = &mut self.process else { return };
        process.finish_digest();
        if process.store.trees.is_empty() {
            return;
        }
        let nth = line.rng.usize(0..process.store.trees.len());
        let (&partition, tree) = process.store.trees.iter().nth(nth).expect("within the map");
        if line.chance(self.compares) {
            process.inbox.push(Input::Compare { partition });
        }
        if tree.first_expiry().is_some_and(|expires| expires <= wall) && line.chance(0.3) {
            process.inbox.push(Input::Expiring { partition });
        }
        self.disk.flush(partition, tree.clone());
        if !self.trims || line.chance(0.3) {
            return;
        }
        let mut seq = tree.applied.seq;
        if let Some(pin) = process.pins.get(&partition) {
            seq = seq.min(Seq(pin.0.saturating_sub(1)));
        }
        if self.disk.trim(partition, seq) {
            process.inbox.push(Input::Trimmed { partition, seq });
            self.wake(line);
        }
        self.sync(line);
    }
}

/// The entry before place `seq`, when the records `before` it in its batch are written.
fn previous_of(disk: &Disk, partition: PartitionId, before: &[LogRecord], seq: Seq) -> LogId {
    let in_batch = before.iter().rev().find_map(|record| match record {
        LogRecord::Entry { partition: other, entry } if *other == partition && entry.id.seq.next() == seq => {
            Some(entry.id)
        }
        _ => None,
    });
    let log = disk.written.logs.get(&partition);
    in_batch.unwrap_or_else(|| {
        let before = Seq(seq.0 - 1);
        let known = log.and_then(|log| log.entries.get(&before).map(|entry| entry.id));
        known.unwrap_or_else(|| log.map(|log| log.base).unwrap_or_default())
    })
}
