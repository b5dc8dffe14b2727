//! The log thread: writes what the core wants persisted, many batches for one fdatasync, and tells what is done.
//!
//! While one fdatasync runs, the next batches gather: that is the group commit. A failure ends the thread and the
//! server; nothing that waited is acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use common::view::View;
use storage::{LogWriter, Record};

use crate::core::{Input, LogRecord, Ticket};
use crate::driver::Event;
use crate::error::Failure;
use crate::identity;
use crate::limits::LOG_BATCH_BYTES;

/// What the log thread does.
pub(crate) enum Job {
    /// Append and sync.
    Records(Ticket, Vec<LogRecord>),
    /// Keep a view.
    View(Ticket, Arc<View>),
}

/// Runs until the jobs end; then closes the log in good order.
pub(crate) fn run(mut log: LogWriter, dir: &Path, jobs: &Receiver<Job>, events: &Sender<Event>) {
    while let Ok(first) = jobs.recv() {
        let result = write(&mut log, dir, first, jobs);
        let event = match result {
            Ok(ticket) => Event::Core(Input::Durable { ticket }),
            Err(error) => Event::Failed(match error.into() {
                Failure::DiskFull(reason) => Failure::DiskFull(format!("the commit log: {reason}")),
                Failure::Broken(reason) => Failure::Broken(format!("the commit log: {reason}")),
            }),
        };
        let failed = matches!(event, Event::Failed(_));
        if events.send(event).is_err() || failed {
            return;
        }
    }
    if let Err(error) = log.close() {
        tracing::warn!("the commit log could not be closed in good order: {error}");
    }
}

/// Writes `first` and all that has gathered meanwhile; the newest ticket that is on disk.
fn write(
    log: &mut LogWriter,
    dir: &Path,
    first: Job,
    jobs: &Receiver<Job>,
) -> Result<Ticket, storage::Error> {
    let mut newest;
    let mut job = Some(first);
    loop {
        match job.take() {
            Some(Job::Records(ticket, records)) => {
                append(log, records)?;
                newest = ticket;
            }
            Some(Job::View(ticket, view)) => {
                identity::write_view(dir, &view)?;
                newest = ticket;
            }
            None => unreachable!("the loop goes on only with a job"),
        }
        job = jobs.try_recv().ok();
        if job.is_none() {
            break;
        }
    }
    log.sync()?;
    Ok(newest)
}

/// One batch, or several if it is large: split only before an entry, so that a cut and the mark that belongs to it
/// stay together.
fn append(log: &mut LogWriter, records: Vec<LogRecord>) -> Result<(), storage::Error> {
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
