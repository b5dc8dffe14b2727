//! The commit log at work: writes what the core wants persisted, many batches for one fdatasync, and tells what is done.
//!
//! A thread of its own does it, as a rule: while one fdatasync runs, the next batches gather, which is the group commit,
//! and reads go on. When there is little to write, nothing waits and the disk is fast, the core's thread writes by
//! itself: waking the other one and being woken by it would take as long as the disk. A failure ends the server;
//! nothing that waited is acknowledged.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::clock;
use common::ids::StoreId;
use common::messages::Promised;
use common::view::View;
use storage::{LogWriter, Record};

use crate::core::{Input, LogRecord, Ticket};
use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::identity;
use crate::limits::{INLINE_RECORDS_MAX, INLINE_SYNC_US_MAX, LOG_BATCH_BYTES};
use crate::metrics::LogFigures;
use crate::pulse::{DiskWatch, Writer};

/// What the log thread is asked for.
pub(crate) enum Job {
    /// Append and sync.
    Records(Ticket, Vec<LogRecord>),
    /// Keep a view.
    View(Ticket, Arc<View>),
    /// Keep what this store has promised to an ECS that is being rebuilt.
    Promise(Ticket, StoreId, Option<Promised>),
}

/// The writer, and how long its syncs take of late. Whoever holds the writer's lock writes.
struct Log {
    writer: Mutex<LogWriter>,
    sync_us: AtomicU64,
    watch: Arc<DiskWatch>,
    /// Held for a moment after each sync, and for a copy of it: never while the disk works.
    figures: Mutex<LogFigures>,
}

impl Log {
    fn writer(&self) -> MutexGuard<'_, LogWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> MutexGuard<'_, LogFigures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all that was appended durable: so many records.
    fn sync(&self, writer: &mut LogWriter, records: usize) -> Result<(), storage::Error> {
        let began = clock::time();
        writer.sync()?;
        let took = clock::time().since(began).as_micros() as u64;
        let mean = self.sync_us.load(Ordering::Relaxed);
        self.sync_us.store((mean * 7 + took) / 8, Ordering::Relaxed);
        let mut figures = self.figures();
        figures.syncs.record(took);
        figures.records.record(records as u64);
        Ok(())
    }
}

/// The core's end of the log.
pub(crate) struct LogQueue {
    // Before `jobs`: the thread that closes the log has it alone when the jobs end.
    log: Arc<Log>,
    jobs: Sender<Job>,
    newest: Ticket,
    durable: Ticket,
}

/// The log thread's end.
pub(crate) struct LogThread {
    log: Arc<Log>,
    jobs: Receiver<Job>,
}

/// The two ends of a log.
pub(crate) fn queue(writer: LogWriter, watch: Arc<DiskWatch>) -> (LogQueue, LogThread) {
    let (writer, sync_us) = (Mutex::new(writer), AtomicU64::new(INLINE_SYNC_US_MAX));
    let log = Arc::new(Log { writer, sync_us, watch, figures: Mutex::default() });
    let (sender, jobs) = channel();
    let none = Ticket(0);
    (LogQueue { log: Arc::clone(&log), jobs: sender, newest: none, durable: none }, LogThread { log, jobs })
}

impl LogQueue {
    /// Passes a job to the log thread.
    pub(crate) fn submit(&mut self, job: Job) -> Result<(), Failure> {
        self.newest = match job {
            Job::Records(ticket, _) | Job::View(ticket, _) | Job::Promise(ticket, ..) => ticket,
        };
        self.jobs
            .send(job)
            .map_err(|_| Failure::Stopped("the log thread has ended; see the log above".to_owned()))
    }

    /// All up to `ticket` is on disk.
    pub(crate) fn on_durable(&mut self, ticket: Ticket) {
        self.durable = self.durable.max(ticket);
    }

    /// Runs something of this thread that `waits` for the disk, as for the log, or does not.
    pub(crate) fn watched<T>(&self, waits: bool, run: impl FnOnce() -> T) -> T {
        if waits { self.log.watch.over(Writer::Core, run) } else { run() }
    }

    /// What the log has done since the process began.
    pub(crate) fn figures(&self) -> LogFigures {
        self.log.figures().clone()
    }

    /// Whether this thread had better write by itself: little, at once, on a fast disk.
    pub(crate) fn suits(&self, records: &[LogRecord]) -> bool {
        self.durable == self.newest
            && records.len() <= INLINE_RECORDS_MAX
            && self.log.sync_us.load(Ordering::Relaxed) < INLINE_SYNC_US_MAX
    }

    /// Writes and syncs now. Only if it [suits](Self::suits): what was submitted is on disk.
    pub(crate) fn write(&mut self, ticket: Ticket, records: Vec<LogRecord>) -> Result<(), Failure> {
        assert_eq!(self.durable, self.newest, "the log thread has something to write before");
        let mut writer = self.log.writer();
        let (log, count) = (&self.log, records.len());
        let written = log
            .watch
            .over(Writer::Core, || append(&mut writer, records).and_then(|()| log.sync(&mut writer, count)));
        written.map_err(failure)?;
        drop(writer);
        (self.newest, self.durable) = (ticket, ticket);
        Ok(())
    }
}

fn failure(error: storage::Error) -> Failure {
    match error.into() {
        Failure::DiskFull(reason) => Failure::DiskFull(format!("the commit log: {reason}")),
        Failure::Damaged(reason) => Failure::Damaged(format!("the commit log: {reason}")),
        Failure::Store(reason) => Failure::Store(format!("the commit log: {reason}")),
        Failure::Stopped(reason) => Failure::Stopped(format!("the commit log: {reason}")),
    }
}

impl LogThread {
    /// Runs until the jobs end; then closes the log in good order.
    pub(crate) fn run(self, dir: &Path, events: &Events) {
        while let Ok(first) = self.jobs.recv() {
            let log = &self.log;
            let event = match log.watch.over(Writer::Log, || write(log, dir, first, &self.jobs)) {
                Ok(ticket) => Event::Core(Input::Durable { ticket }),
                Err(error) => Event::Failed(failure(error)),
            };
            let failed = matches!(event, Event::Failed(_));
            if events.send(event).is_err() || failed {
                return;
            }
        }
        let writer = Arc::into_inner(self.log).and_then(|log| log.writer.into_inner().ok());
        if let Some(Err(error)) = writer.map(LogWriter::close) {
            tracing::warn!("the commit log could not be closed in good order: {error}");
        }
    }
}

/// Writes `first` and all that has gathered meanwhile; the newest ticket that is on disk.
fn write(log: &Log, dir: &Path, first: Job, jobs: &Receiver<Job>) -> Result<Ticket, storage::Error> {
    let mut writer = log.writer();
    let mut newest;
    let mut count = 0;
    let mut job = Some(first);
    loop {
        match job.take() {
            Some(Job::Records(ticket, records)) => {
                count += records.len();
                append(&mut writer, records)?;
                newest = ticket;
            }
            Some(Job::View(ticket, view)) => {
                identity::write_view(dir, &view)?;
                newest = ticket;
            }
            Some(Job::Promise(ticket, store, promised)) => {
                identity::write_promise(dir, store, promised)?;
                newest = ticket;
            }
            None => unreachable!("the loop goes on only with a job"),
        }
        job = jobs.try_recv().ok();
        if job.is_none() {
            break;
        }
    }
    log.sync(&mut writer, count)?;
    Ok(newest)
}

/// One batch, or several if it is large: split only before an entry, so that a cut and the mark that belongs to it
/// stay together.
pub(crate) fn append(log: &mut LogWriter, records: Vec<LogRecord>) -> Result<(), storage::Error> {
    let mut batch = Vec::with_capacity(records.len());
    let mut bytes = 0;
    for record in records {
        let size = match &record {
            LogRecord::Entry { entry, .. } => entry.body.len(),
            _ => 0,
        };
        if bytes + size > LOG_BATCH_BYTES && size > 0 && !batch.is_empty() {
            log.append(&batch)?;
            batch.clear();
            bytes = 0;
        }
        bytes += size;
        batch.push(to_storage(record));
    }
    if batch.is_empty() { Ok(()) } else { log.append(&batch) }
}

fn to_storage(record: LogRecord) -> Record {
    match record {
        LogRecord::Entry { partition, entry } => {
            Record::Entry { partition: partition.0, id: log_id(entry.id), body: entry.body }
        }
        LogRecord::Cut { partition, after } => Record::Cut { partition: partition.0, after: after.0 },
        LogRecord::Mark { partition, mark } => Record::Mark { partition: partition.0, mark },
        LogRecord::Install { partition, generation, base } => {
            Record::Install { partition: partition.0, generation, base: log_id(base) }
        }
        LogRecord::Drop { partition } => Record::Drop { partition: partition.0 },
    }
}

/// The store's name of an entry.
pub(crate) fn log_id(id: common::ids::LogId) -> storage::LogId {
    let tag = storage::Tag { generation: id.tag.generation, version: id.tag.version };
    storage::LogId { tag, seq: id.seq.0 }
}

/// The protocol's name of an entry.
pub(crate) fn from_log_id(id: storage::LogId) -> common::ids::LogId {
    common::ids::LogId { tag: from_tag(id.tag), seq: common::ids::Seq(id.seq) }
}

pub(crate) fn from_tag(tag: storage::Tag) -> common::ids::Epoch {
    common::ids::Epoch { generation: tag.generation, version: tag.version }
}
