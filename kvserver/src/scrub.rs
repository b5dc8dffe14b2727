//! The thread that reads everything that is stored, a piece at a time when it is asked: each value's checksum is looked at
//! by the store, its form here. It also finds records that have expired.

use std::sync::mpsc::Receiver;

use bytes::Bytes;
use common::ids::PartitionId;
use common::time::WallTime;
use storage::Snapshot;

use crate::core::decode_record;
use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::SCRUB_BYTES;

/// What the thread does.
pub(crate) enum ScrubJob {
    /// This picture is next, of a partition whose log time is as given.
    Open(PartitionId, Snapshot, WallTime),
    /// Read the next piece.
    Read,
}

/// A piece that was read and found good.
pub(crate) struct Piece {
    pub(crate) partition: PartitionId,
    pub(crate) bytes: usize,
    /// Keys whose records have expired.
    pub(crate) expired: Vec<Bytes>,
    /// It was the partition's last.
    pub(crate) done: bool,
}

/// Runs until the jobs end, or until something does not check.
pub(crate) fn run(jobs: &Receiver<ScrubJob>, events: &Events) {
    let mut open = None;
    for job in jobs {
        let found = match job {
            ScrubJob::Open(partition, picture, log_time) => {
                open = Some((partition, picture, log_time));
                continue;
            }
            ScrubJob::Read => match &mut open {
                Some((partition, picture, log_time)) => read(*partition, picture, *log_time),
                None => continue,
            },
        };
        let (event, ends) = match found {
            Ok(piece) => (Event::Scrubbed(piece), false),
            Err(failure) => (Event::Failed(failure), true),
        };
        if matches!(&event, Event::Scrubbed(Piece { done: true, .. })) {
            open = None;
        }
        if events.send(event).is_err() || ends {
            return;
        }
    }
}

fn read(partition: PartitionId, picture: &mut Snapshot, log_time: WallTime) -> Result<Piece, Failure> {
    let chunk = picture.chunk(SCRUB_BYTES)?;
    let (mut bytes, mut expired) = (0, Vec::new());
    for (key, record) in chunk.pairs {
        bytes += key.len() + record.len();
        let found = decode_record(record).map_err(|error| {
            Failure::Damaged(format!("partition {partition}, key \"{}\": {error}", key.escape_ascii()))
        })?;
        if found.expires.is_some_and(|expires| expires <= log_time) {
            expired.push(key);
        }
    }
    Ok(Piece { partition, bytes, expired, done: chunk.done })
}
