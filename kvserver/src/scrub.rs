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

/// A piece that was read.
pub(crate) struct Piece {
    pub(crate) partition: PartitionId,
    pub(crate) bytes: usize,
    /// Keys whose records have expired.
    pub(crate) expired: Vec<Bytes>,
    /// Its checksums are right.
    pub(crate) is_good: bool,
    /// It was the partition's last.
    pub(crate) done: bool,
}

/// Runs until the jobs end. Where something does not check, the rest of that partition is left out: if the server goes
/// on, it has been said.
pub(crate) fn run(jobs: &Receiver<ScrubJob>, events: &Events) {
    let mut open = None;
    for job in jobs {
        let found = match job {
            ScrubJob::Open(partition, picture, log_time) => {
                open = Some((partition, picture, log_time));
                continue;
            }
            ScrubJob::Read => match &mut open {
                Some((partition, picture, log_time)) => (*partition, read(*partition, picture, *log_time)),
                None => continue,
            },
        };
        let (partition, found) = found;
        let piece = match found {
            Ok(piece) => piece,
            Err(failure) => {
                if events.send(Event::Failed(failure)).is_err() {
                    return;
                }
                Piece { partition, bytes: 0, expired: Vec::new(), is_good: false, done: true }
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
    Ok(Piece { partition, bytes, expired, is_good: true, done: chunk.done })
}
