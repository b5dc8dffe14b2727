//! The thread that goes over all keys of a partition, for scans and counts: a partition may have so many that the
//! core's thread must not wait for it. It reads a snapshot of the records as of the moment when the core asked; the
//! core checks its leases when the answer is there.

use std::sync::mpsc::Receiver;

use storage::Snapshot;

use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::SCRUB_BYTES;
use kvserver_core::{Answer, Input, LogTime, PartitionKeys, ReadId, decode_record};

/// A job: a partition to go over.
pub(crate) struct KeyScan {
    pub(crate) read: ReadId,
    pub(crate) records: Snapshot,
    /// Records that have expired by then are skipped.
    pub(crate) log_time: LogTime,
    /// Collects the keys that were asked for.
    pub(crate) keys: PartitionKeys,
}

/// Goes over partitions until the jobs end.
pub(crate) fn run(jobs: &Receiver<KeyScan>, events: &Events) {
    for scan in jobs {
        let read = scan.read;
        let sent = match scan.carry_out() {
            Ok(answer) => events.send(Event::Core(Input::Answered { read, answer })),
            Err(Failure::Damaged(reason)) => {
                let answer = Answer::Damaged(reason);
                events.send(Event::Core(Input::Answered { read, answer }))
            }
            Err(failure) => events.send(Event::Failed(failure)),
        };
        if sent.is_err() {
            return;
        }
    }
}

impl KeyScan {
    fn carry_out(mut self) -> Result<Answer, Failure> {
        loop {
            let chunk = self.records.chunk(SCRUB_BYTES)?;
            for (key, record) in chunk.pairs {
                let found = decode_record(record)
                    .map_err(|error| Failure::Damaged(format!("key \"{}\": {error}", key.escape_ascii())))?;
                if !self.log_time.is_past(&found) {
                    self.keys.push(key, found.expires);
                }
            }
            if chunk.done {
                return Ok(self.keys.answer());
            }
        }
    }
}
