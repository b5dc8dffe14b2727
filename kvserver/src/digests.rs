//! The thread that makes digests of copies as they were at an entry of the log.
//!
//! What a person asked for is read at once and as a whole; what coordinators compare in the background a piece at a
//! time when the scrub's rate allows it.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use common::ids::{LogId, PartitionId};
use common::messages::Digest;
use common::time::WallTime;
use storage::Snapshot;

use crate::core::{Input, digest_record};
use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::SCRUB_BYTES;

/// A copy as it was at an entry, and what its digest begins with.
pub(crate) struct Picture {
    pub(crate) partition: PartitionId,
    pub(crate) at: LogId,
    pub(crate) records: Snapshot,
    pub(crate) digest: Digest,
    pub(crate) log_time: WallTime,
    /// A coordinator compares in the background: it is read within the rate.
    pub(crate) paced: bool,
}

/// What the thread does.
pub(crate) enum DigestJob {
    /// Makes a digest: at once, or a piece at a time behind those that came before.
    Make(Picture),
    /// Reads the next piece.
    Read,
}

/// A piece of a picture was read.
pub(crate) struct DigestPiece {
    pub(crate) bytes: usize,
    /// It was the picture's last: the digest is made, or given up.
    pub(crate) done: bool,
}

/// Makes digests until the jobs end.
pub(crate) fn run(jobs: &Receiver<DigestJob>, events: &Events) {
    let mut waiting: VecDeque<Picture> = VecDeque::new();
    for job in jobs {
        let told = match job {
            DigestJob::Make(picture) if picture.paced => {
                waiting.push_back(picture);
                true
            }
            DigestJob::Make(mut picture) => loop {
                match picture.read() {
                    Ok((_, false)) => {}
                    Ok((_, true)) => break picture.tell(events, Ok(())),
                    Err(failure) => break picture.tell(events, Err(failure)),
                }
            },
            DigestJob::Read => {
                let Some(picture) = waiting.front_mut() else { continue };
                let (bytes, ended) = match picture.read() {
                    Ok((bytes, done)) => (bytes, done.then_some(Ok(()))),
                    Err(failure) => (0, Some(Err(failure))),
                };
                let done = ended.is_some();
                let told = ended.is_none_or(|outcome| picture.tell(events, outcome));
                if done {
                    waiting.pop_front();
                }
                told && events.send(Event::DigestRead(DigestPiece { bytes, done })).is_ok()
            }
        };
        if !told {
            return;
        }
    }
}

impl Picture {
    /// Reads the next piece; its bytes, and whether it was the last.
    fn read(&mut self) -> Result<(usize, bool), Failure> {
        let chunk = self.records.chunk(SCRUB_BYTES)?;
        let mut bytes = 0;
        for (key, record) in &chunk.pairs {
            bytes += key.len() + record.len();
            digest_record(&mut self.digest, self.log_time, key, record).map_err(|error| {
                let (partition, key) = (self.partition, key.escape_ascii());
                Failure::Damaged(format!("partition {partition}, key \"{key}\": {error}"))
            })?;
        }
        Ok((bytes, chunk.done))
    }

    /// Tells the digest, or that there will be none and why. False: the server ends.
    fn tell(&self, events: &Events, outcome: Result<(), Failure>) -> bool {
        let (partition, at) = (self.partition, self.at);
        let (digest, failure) = match outcome {
            Ok(()) => (Some(self.digest), None),
            Err(failure) => (None, Some(failure)),
        };
        let failed = failure.is_none_or(|failure| events.send(Event::Failed(failure)).is_ok());
        failed && events.send(Event::Core(Input::Digested { partition, at, digest })).is_ok()
    }
}
