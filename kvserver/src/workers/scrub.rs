//! The thread that reads everything that is stored, a piece at a time when it is asked: of each partition first the
//! records, then the entries that the commit log still has, which a restart or a member that is behind would need. The
//! store checks checksums, this thread the form of records. It also finds records that have expired.

use std::sync::mpsc::Receiver;

use bytes::Bytes;
use common::ids::PartitionId;
use storage::{LogReader, Read, Snapshot};

use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::SCRUB_BYTES;
use crate::workers::pieces::ScrubPiece;
use kvserver_core::{LogTime, decode_record};

/// A job of the thread.
pub(crate) enum ScrubJob {
    /// Begin with this partition.
    Open(Stored),
    /// Read the next piece.
    Read,
}

/// What is stored of a partition, and how far it is read.
pub(crate) struct Stored {
    pub(crate) partition: PartitionId,
    /// The records; `None` when all of them were read.
    pub(crate) records: Option<Snapshot>,
    /// The log time of the records.
    pub(crate) log_time: LogTime,
    pub(crate) log: LogReader,
    /// The next entry to read, and the last.
    pub(crate) next: u64,
    pub(crate) last: u64,
}

/// Runs until the jobs end. Where a checksum is wrong, it is reported and the rest of that partition is skipped.
pub(crate) fn run(jobs: &Receiver<ScrubJob>, events: &Events) {
    let mut open: Option<Stored> = None;
    for job in jobs {
        let stored = match job {
            ScrubJob::Open(stored) => {
                open = Some(stored);
                continue;
            }
            ScrubJob::Read => open.as_mut(),
        };
        let Some(stored) = stored else { continue };
        let partition = stored.partition;
        let piece = match stored.read() {
            Ok(piece) => piece,
            Err(failure) => {
                if events.send(Event::Failed(failure)).is_err() {
                    return;
                }
                ScrubPiece { partition, bytes: 0, expired: Vec::new(), is_good: false, done: true }
            }
        };
        if piece.done {
            open = None;
        }
        if events.send(Event::Scrubbed(piece)).is_err() {
            return;
        }
    }
}

impl Stored {
    fn read(&mut self) -> Result<ScrubPiece, Failure> {
        let partition = self.partition;
        let (bytes, expired, done) = match &mut self.records {
            Some(records) => {
                let (bytes, expired, whole) = read_records(partition, records, &self.log_time)?;
                if whole {
                    self.records = None;
                }
                (bytes, expired, whole && self.next > self.last)
            }
            None => {
                let bytes = self.read_log()?;
                (bytes, Vec::new(), self.next > self.last)
            }
        };
        Ok(ScrubPiece { partition, bytes, expired, is_good: true, done })
    }

    /// Reads entries, and returns their bytes. Entries that are trimmed meanwhile are skipped; a cut or a drop ends it.
    fn read_log(&mut self) -> Result<usize, Failure> {
        match self.log.read(self.partition.0, self.next, SCRUB_BYTES)? {
            Read::Trimmed { base } => {
                self.next = base.seq + 1;
                Ok(0)
            }
            Read::Entries(entries) => {
                self.next = entries.last().map_or(u64::MAX, |(id, _)| id.seq.saturating_add(1));
                Ok(entries.iter().map(|(_, body)| body.len()).sum())
            }
        }
    }
}

/// Reads a piece of the records. Returns its bytes, the keys of expired records, and whether it is the last.
fn read_records(
    partition: PartitionId,
    records: &mut Snapshot,
    log_time: &LogTime,
) -> Result<(usize, Vec<Bytes>, bool), Failure> {
    let chunk = records.chunk(SCRUB_BYTES)?;
    let (mut bytes, mut expired) = (0, Vec::new());
    for (key, record) in chunk.pairs {
        bytes += key.len() + record.len();
        let found = decode_record(record).map_err(|error| {
            Failure::Damaged(format!("partition {partition}, key \"{}\": {error}", key.escape_ascii()))
        })?;
        if log_time.is_past(&found) {
            expired.push(key);
        }
    }
    Ok((bytes, expired, chunk.done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::{Change, LogId, Opened, Options, Record, Store, Tag};

    #[test]
    fn records_are_read_and_then_the_entries_that_the_log_still_has() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { background: false, ..Options::default() };
        let Opened { mut log, reader, mut trees, .. } = Store::open(dir.path(), &options).unwrap();
        let id = |seq| LogId { tag: Tag { generation: 0, version: 1 }, seq };
        for seq in 1..=4 {
            log.append(&[Record::Entry { partition: 7, id: id(seq), body: vec![1; 1000].into() }]).unwrap();
            let value = Bytes::from(vec![0; 100]);
            trees.apply(7, &[Change::Put { key: vec![seq as u8].into(), value }], id(seq)).unwrap();
        }
        log.sync().unwrap();
        let read = |last| {
            let (log_time, records) = (LogTime::default(), Some(trees.snapshot(7).unwrap()));
            let (partition, log) = (PartitionId(7), reader.clone());
            let mut stored = Stored { partition, records, log_time, log, next: 1, last };
            let mut pieces = Vec::new();
            loop {
                let piece = stored.read().unwrap();
                pieces.push(piece.bytes);
                if piece.done {
                    break pieces;
                }
            }
        };
        assert_eq!(read(4), [404, 4000]);
        assert_eq!(read(0), [404], "nothing is applied that the log has");
    }
}
