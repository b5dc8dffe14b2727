//! The thread that makes digests of copies as they were at an entry of the log.
//!
//! A copy that a person wants to be compared is read at once and as a whole. A copy that coordinators compare in the
//! background is read a piece at a time, when the scrub's rate allows it.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use common::ids::{LogId, PartitionId};
use common::messages::Digest;
use storage::Snapshot;

use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::SCRUB_BYTES;
use crate::workers::pieces::DigestPiece;
use kvserver_core::{Input, LogTime, digest_record};

/// A copy as it was at an entry, and the digest of its state besides the records.
pub(crate) struct DigestSource {
    pub(crate) partition: PartitionId,
    pub(crate) at: LogId,
    pub(crate) records: Snapshot,
    pub(crate) digest: Digest,
    pub(crate) log_time: LogTime,
    /// The comparison is a coordinator's, in the background: the copy is read within the scrub's rate.
    pub(crate) paced: bool,
}

/// A job of the thread.
pub(crate) enum DigestJob {
    /// Makes a digest: at once, or (`paced`) a piece at a time after those that came before.
    Make(Box<DigestSource>),
    /// Reads the next piece.
    Read,
}

/// Makes digests until the jobs end.
pub(crate) fn run(jobs: &Receiver<DigestJob>, events: &Events) {
    let mut waiting: VecDeque<DigestSource> = VecDeque::new();
    for job in jobs {
        let sent = match job {
            DigestJob::Make(source) if source.paced => {
                waiting.push_back(*source);
                true
            }
            DigestJob::Make(mut source) => loop {
                match source.read() {
                    Ok((_, false)) => {}
                    Ok((_, true)) => break source.report(events, Ok(())),
                    Err(failure) => break source.report(events, Err(failure)),
                }
            },
            DigestJob::Read => {
                let Some(source) = waiting.front_mut() else { continue };
                let (bytes, ended) = match source.read() {
                    Ok((bytes, done)) => (bytes, done.then_some(Ok(()))),
                    Err(failure) => (0, Some(Err(failure))),
                };
                let done = ended.is_some();
                let sent = ended.is_none_or(|outcome| source.report(events, outcome));
                if done {
                    waiting.pop_front();
                }
                sent && events.send(Event::DigestRead(DigestPiece { bytes, done })).is_ok()
            }
        };
        if !sent {
            return;
        }
    }
}

impl DigestSource {
    /// Reads the next piece. Returns its bytes, and whether it was the last.
    fn read(&mut self) -> Result<(usize, bool), Failure> {
        let chunk = self.records.chunk(SCRUB_BYTES)?;
        let mut bytes = 0;
        for (key, record) in &chunk.pairs {
            bytes += key.len() + record.len();
            digest_record(&mut self.digest, &self.log_time, key, record).map_err(|error| {
                let (partition, key) = (self.partition, key.escape_ascii());
                Failure::Damaged(format!("partition {partition}, key \"{key}\": {error}"))
            })?;
        }
        Ok((bytes, chunk.done))
    }

    /// Reports the digest, or that there will be none and why. `false`: the server has ended.
    fn report(&self, events: &Events, outcome: Result<(), Failure>) -> bool {
        let (partition, at) = (self.partition, self.at);
        let (digest, failure) = match outcome {
            Ok(()) => (Some(self.digest), None),
            Err(failure) => (None, Some(failure)),
        };
        let failed = failure.is_none_or(|failure| events.send(Event::Failed(failure)).is_ok());
        failed && events.send(Event::Core(Input::Digested { partition, at, digest })).is_ok()
    }
}
