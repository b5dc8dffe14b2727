//! The commit log at work: writes what the core wants persisted, many batches for one fdatasync, and reports what is
//! durable.
//!
//! A thread of its own does it, as a rule: while one fdatasync runs, the next batches gather, which is the group
//! commit, and reads go on. When there is little to write, nothing waits and the disk is fast, the core's thread writes
//! by itself: waking the other one and being woken by it would take as long as the disk. A failure ends the server;
//! nothing that waited is acknowledged.
//!
//! Each batch vouches for those before it; for the last one the log thread does it, once, when nothing has been written
//! for [`VOUCH_AFTER`]. While the log is at work, the thread checks that often whether it rests. While it rests, the
//! thread sleeps, or tries the disk every [`TRY_DISK_EVERY`] where the last syncs were slow.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::clock;
use common::ids::StoreId;
use common::messages::Promised;
use common::time::Time;
use common::view::View;
use storage::{LogWriter, Record};

use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::{
    INLINE_RECORDS_MAX, INLINE_SYNC_US_MAX, LOG_BATCH_BYTES, TRY_DISK_ABOVE_US, TRY_DISK_EVERY, VOUCH_AFTER,
};
use crate::metrics::LogFigures;
use crate::net::heartbeat::{DiskStallMonitor, Writer};
use crate::store::identity;
use crate::store::log_ids::log_id;
use crate::store::syncs::Syncs;
use kvserver_core::{Input, LogRecord, Ticket};

/// A job of the log thread.
pub(crate) enum Job {
    /// Append and sync.
    Records(Ticket, Vec<LogRecord>),
    /// Keep a view.
    View(Ticket, Arc<View>),
    /// Keep what this store has promised to an ECS that is being rebuilt.
    Promise(Ticket, StoreId, Option<Promised>),
    /// Nothing to write: the core's thread has written to a log that was at rest.
    Look,
}

/// The log's writer, and how long its syncs take of late. The thread that has the writer's lock writes.
struct Log {
    writer: Mutex<LogWriter>,
    sync_us: AtomicU64,
    /// The log has been written to and not been vouched for since. Changed under the writer's lock alone.
    at_work: AtomicBool,
    watch: Arc<DiskStallMonitor>,
    /// Figures of the log. Locked only for memory operations, never during disk operations.
    figures: Mutex<LogFigures>,
    /// Times of the last syncs, and when the last one ended. Locked as `figures` is.
    syncs: Mutex<(Syncs, Time)>,
}

impl Log {
    fn writer(&self) -> MutexGuard<'_, LogWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> MutexGuard<'_, LogFigures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all that was appended durable, which is so many records.
    fn sync(&self, writer: &mut LogWriter, records: usize) -> Result<(), storage::Error> {
        let began = clock::time();
        writer.sync()?;
        let now = clock::time();
        let took = now.since(began).as_micros() as u64;
        self.note(took, now);
        let mean = self.sync_us.load(Ordering::Relaxed);
        self.sync_us.store((mean * 7 + took) / 8, Ordering::Relaxed);
        let mut figures = self.figures();
        figures.syncs.record(took);
        figures.records.record(records as u64);
        Ok(())
    }

    /// Vouches for the log if nothing was written since the last look. `seen`: the number of the next batch at that
    /// look.
    fn vouch_if_rests(&self, seen: &mut u64) -> Result<(), storage::Error> {
        // The core's thread is writing: the log is at work.
        let Ok(mut writer) = self.writer.try_lock() else { return Ok(()) };
        if std::mem::replace(seen, writer.next_batch()) != writer.next_batch() {
            return Ok(());
        }
        let vouched = self.watch.over(Writer::Log, || writer.vouch());
        self.at_work.store(false, Ordering::Relaxed);
        match vouched {
            // What was acknowledged is on disk, and the next batch that fits vouches for it.
            Err(storage::Error::DiskFull { .. }) => Ok(()),
            vouched => vouched,
        }
    }

    fn syncs(&self) -> MutexGuard<'_, (Syncs, Time)> {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, took_us: u64, now: Time) {
        let mut syncs = self.syncs();
        syncs.0.record(took_us);
        syncs.1 = now;
    }

    fn seems_slow(&self) -> bool {
        self.syncs().0.median(None).is_some_and(|median| median >= TRY_DISK_ABOVE_US)
    }

    /// Measures the disk with a small write, when nothing was written for a while and the last syncs were slow. A
    /// server that has lost its copies because of a slow disk writes nothing else.
    fn try_disk(&self, dir: &Path) {
        let began = clock::time();
        if began.since(self.syncs().1) < TRY_DISK_EVERY {
            // The core's thread has written.
            return;
        }
        let tried = self.watch.over(Writer::Log, || write_trial(dir));
        let now = clock::time();
        match tried {
            Ok(()) => self.note(now.since(began).as_micros() as u64, now),
            // The log will meet the same error, and handles it.
            Err(error) => tracing::debug!("the trial of the disk failed: {error}"),
        }
    }
}

/// Name of the file that is written to measure how long a sync takes; its content does not matter.
const TRIAL: &str = "sync-trial";

fn write_trial(dir: &Path) -> std::io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(TRIAL))?;
    file.write_all_at(&[0; 512], 0)?;
    file.sync_data()
}

/// The core's end of the log.
pub(crate) struct LogQueue {
    // Declared before `jobs`, so dropped before it: when the jobs end, the log thread has the log alone and can close
    // it.
    log: Arc<Log>,
    jobs: Sender<Job>,
    newest: Ticket,
    durable: Ticket,
    /// Jobs that the log thread was given and has not reported as durable: tickets, and bytes of entries.
    ahead: VecDeque<(Ticket, usize)>,
    bytes_ahead: usize,
}

/// The log thread's end.
pub(crate) struct LogThread {
    log: Arc<Log>,
    jobs: Receiver<Job>,
}

/// The two ends of a log.
pub(crate) fn queue(writer: LogWriter, watch: Arc<DiskStallMonitor>) -> (LogQueue, LogThread) {
    let (writer, sync_us) = (Mutex::new(writer), AtomicU64::new(INLINE_SYNC_US_MAX));
    let at_work = AtomicBool::new(false);
    let (figures, syncs) = (Mutex::default(), Mutex::default());
    let log = Arc::new(Log { writer, sync_us, at_work, watch, figures, syncs });
    let (sender, jobs) = channel();
    let none = Ticket(0);
    let (newest, durable, ahead, bytes_ahead) = (none, none, VecDeque::new(), 0);
    let queue = LogQueue { log: Arc::clone(&log), jobs: sender, newest, durable, ahead, bytes_ahead };
    (queue, LogThread { log, jobs })
}

impl LogQueue {
    /// Passes a job to the log thread.
    pub(crate) fn submit(&mut self, job: Job) -> Result<(), Failure> {
        if let Job::Records(ticket, records) = &job {
            let bytes = records.iter().map(entry_bytes).sum();
            self.ahead.push_back((*ticket, bytes));
            self.bytes_ahead += bytes;
        }
        self.newest = match job {
            Job::Records(ticket, _) | Job::View(ticket, _) | Job::Promise(ticket, ..) => ticket,
            Job::Look => self.newest,
        };
        self.jobs
            .send(job)
            .map_err(|_| Failure::Stopped("the log thread has ended; see the log above".to_owned()))
    }

    /// Notes that all up to `ticket` is on disk.
    pub(crate) fn on_durable(&mut self, ticket: Ticket) {
        self.durable = self.durable.max(ticket);
        while let Some((_, bytes)) = self.ahead.pop_front_if(|(waits, _)| *waits <= ticket) {
            self.bytes_ahead -= bytes;
        }
    }

    /// Bytes of entries that the log thread has not reported as durable.
    pub(crate) fn bytes_ahead(&self) -> usize {
        self.bytes_ahead
    }

    /// Runs a part of this thread's work. If it `waits` for the disk, it counts as a write under way (see
    /// [`DiskStallMonitor`]).
    pub(crate) fn watched<T>(&self, waits: bool, run: impl FnOnce() -> T) -> T {
        if waits { self.log.watch.over(Writer::Core, run) } else { run() }
    }

    /// Figures of the log since the process began.
    pub(crate) fn figures(&self) -> LogFigures {
        self.log.figures().clone()
    }

    /// How long a sync takes of late, in microseconds; none before the first.
    pub(crate) fn sync_time(&self) -> Option<u64> {
        let (syncs, _) = *self.log.syncs();
        syncs.median(self.log.watch.stalled_for(clock::time()))
    }

    /// Whether this thread should write these records itself: they are few, the disk is fast, and the log thread has
    /// nothing under way.
    pub(crate) fn suits(&self, records: &[LogRecord]) -> bool {
        self.durable == self.newest
            && records.len() <= INLINE_RECORDS_MAX
            && self.log.sync_us.load(Ordering::Relaxed) < INLINE_SYNC_US_MAX
            && self.log.writer.try_lock().is_ok()
    }

    /// Writes and syncs now. Only where that [suits](Self::suits), so that all that was submitted before is on disk.
    pub(crate) fn write(&mut self, ticket: Ticket, records: Vec<LogRecord>) -> Result<(), Failure> {
        assert_eq!(self.durable, self.newest, "the log thread has something to write before");
        let log = Arc::clone(&self.log);
        let mut writer = log.writer();
        let count = records.len();
        let written = log
            .watch
            .over(Writer::Core, || append(&mut writer, records).and_then(|()| log.sync(&mut writer, count)));
        written.map_err(failure)?;
        if !self.log.at_work.swap(true, Ordering::Relaxed) {
            self.submit(Job::Look)?;
        }
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
    /// Waits for a job: while the log is at work until the next check whether it rests, and while the disk is slow
    /// until its next trial.
    fn next_job(&self) -> Result<Job, RecvTimeoutError> {
        if self.log.at_work.load(Ordering::Relaxed) {
            self.jobs.recv_timeout(VOUCH_AFTER)
        } else if self.log.seems_slow() {
            self.jobs.recv_timeout(TRY_DISK_EVERY)
        } else {
            self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    /// Runs until the jobs end; then closes the log in good order.
    pub(crate) fn run(self, dir: &Path, events: &Events) {
        // The batch that was to come next at the last look.
        let mut seen = 0;
        loop {
            let done = match self.next_job() {
                Ok(Job::Look) => continue,
                Ok(first) => {
                    self.log.watch.over(Writer::Log, || write(&self.log, dir, first, &self.jobs)).map(Some)
                }
                Err(RecvTimeoutError::Timeout) if self.log.at_work.load(Ordering::Relaxed) => {
                    self.log.vouch_if_rests(&mut seen).map(|()| None)
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.log.try_disk(dir);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let event = match done {
                Ok(None) => continue,
                Ok(Some(ticket)) => Event::Core(Input::Durable { ticket }),
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

/// Writes `first` and all that has gathered meanwhile. Returns the newest ticket that is on disk.
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
            Some(Job::Look) | None => unreachable!("the loop goes on only with a job that has a ticket"),
        }
        job = jobs.try_iter().find(|job| !matches!(job, Job::Look));
        if job.is_none() {
            break;
        }
    }
    log.at_work.store(true, Ordering::Relaxed);
    log.sync(&mut writer, count)?;
    Ok(newest)
}

fn entry_bytes(record: &LogRecord) -> usize {
    match record {
        LogRecord::Entry { entry, .. } => entry.body.len(),
        _ => 0,
    }
}

/// Appends records as one batch, or as several if they are large. They are split only before an entry, so that a cut
/// and the durable state that belongs to it stay together.
pub(crate) fn append(log: &mut LogWriter, records: Vec<LogRecord>) -> Result<(), storage::Error> {
    let mut batch = Vec::with_capacity(records.len());
    let mut bytes = 0;
    for record in records {
        let size = entry_bytes(&record);
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
        LogRecord::DurableState { partition, durable_state } => {
            Record::DurableState { partition: partition.0, durable_state }
        }
        LogRecord::Install { partition, generation, base } => {
            Record::Install { partition: partition.0, generation, base: log_id(base) }
        }
        LogRecord::Drop { partition } => Record::Drop { partition: partition.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use bytes::Bytes;
    use common::ids::PartitionId;
    use tokio::sync::mpsc::unbounded_channel;

    /// Waits until the log is vouched for and at rest. Returns the number of the next batch.
    fn rests(queue: &LogQueue) -> u64 {
        const WITHIN: Duration = Duration::from_secs(20);
        let began = clock::time();
        loop {
            let writer = queue.log.writer();
            if writer.is_vouched() && !queue.log.at_work.load(Ordering::Relaxed) {
                return writer.next_batch();
            }
            drop(writer);
            assert!(clock::time().since(began) < WITHIN, "the log was not vouched for");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_idle_log_is_vouched_for_once_on_either_way_of_writing() {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::Options { background: false, ..storage::Options::default() };
        let opened = storage::Store::open(dir.path(), &options).unwrap();
        let (mut queue, thread) = queue(opened.log, Arc::default());
        let (events, mut done) = unbounded_channel();
        let path = dir.path().to_owned();
        let thread = std::thread::spawn(move || thread.run(&path, &events));
        let records = || {
            vec![LogRecord::DurableState {
                partition: PartitionId(0),
                durable_state: Bytes::from_static(b"m"),
            }]
        };
        queue.write(Ticket(1), records()).unwrap();
        let first = rests(&queue);
        queue.write(Ticket(2), records()).unwrap();
        assert_eq!(rests(&queue), first + 2, "a batch and one that vouches for it");
        queue.submit(Job::Records(Ticket(3), records())).unwrap();
        assert!(matches!(done.blocking_recv(), Some(Event::Core(Input::Durable { ticket: Ticket(3) }))));
        assert_eq!(rests(&queue), first + 4);
        drop(queue);
        thread.join().unwrap();
    }
}
