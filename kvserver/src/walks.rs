//! The thread that goes over all keys of a partition, for scans and counts: a partition may have so many that the core's
//! thread must not wait for it. What it looks at is a picture of the records as they were when the core wanted them
//! read; the core looks at the clock when the answer is there.

use std::sync::mpsc::Receiver;

use common::time::WallTime;
use storage::Snapshot;

use crate::core::{Answer, Input, PartitionKeys, ReadId, decode_record};
use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::SCRUB_BYTES;

/// A partition to be gone over.
pub(crate) struct Walk {
    pub(crate) read: ReadId,
    pub(crate) records: Snapshot,
    /// What has expired by then is not there.
    pub(crate) log_time: WallTime,
    /// Collects what is wanted.
    pub(crate) keys: PartitionKeys,
}

/// Goes over partitions until the jobs end.
pub(crate) fn run(jobs: &Receiver<Walk>, events: &Events) {
    for walk in jobs {
        let read = walk.read;
        let told = match walk.carry_out() {
            Ok(answer) => events.send(Event::Core(Input::Answered { read, answer })),
            Err(Failure::Damaged(reason)) => {
                let answer = Answer::Damaged(reason);
                events.send(Event::Core(Input::Answered { read, answer }))
            }
            Err(failure) => events.send(Event::Failed(failure)),
        };
        if told.is_err() {
            return;
        }
    }
}

impl Walk {
    fn carry_out(mut self) -> Result<Answer, Failure> {
        loop {
            let chunk = self.records.chunk(SCRUB_BYTES)?;
            for (key, record) in chunk.pairs {
                let found = decode_record(record)
                    .map_err(|error| Failure::Damaged(format!("key \"{}\": {error}", key.escape_ascii())))?;
                if found.expires.is_none_or(|expires| expires > self.log_time) {
                    self.keys.push(key, found.expires);
                }
            }
            if chunk.done {
                return Ok(self.keys.answer());
            }
        }
    }
}
