//! The thread that makes digests of copies as they were at an entry of the log, and the digests that it has made.
//!
//! The entry is the same at every copy, so copies are compared at one place of the log however much is written meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Receiver;

use common::ids::{LogId, PartitionId};
use common::messages::Digest;
use common::time::WallTime;
use storage::Snapshot;

use crate::core::digest_record;
use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::{DIGESTS_KEPT, SCRUB_BYTES};

/// A copy as it was at an entry, and what its digest begins with.
pub(crate) struct DigestJob {
    pub(crate) partition: PartitionId,
    pub(crate) at: LogId,
    pub(crate) picture: Snapshot,
    pub(crate) digest: Digest,
    pub(crate) log_time: WallTime,
}

/// Makes digests until the jobs end, or until something does not check.
pub(crate) fn run(jobs: &Receiver<DigestJob>, events: &Events) {
    for job in jobs {
        let (partition, at) = (job.partition, job.at);
        let event = match make(job) {
            Ok(digest) => Event::Digested(partition, at, digest),
            Err(failure) => Event::Failed(failure),
        };
        let failed = matches!(event, Event::Failed(_));
        if events.send(event).is_err() || failed {
            return;
        }
    }
}

fn make(job: DigestJob) -> Result<Digest, Failure> {
    let DigestJob { partition, mut picture, mut digest, log_time, .. } = job;
    loop {
        let chunk = picture.chunk(SCRUB_BYTES)?;
        for (key, record) in &chunk.pairs {
            digest_record(&mut digest, log_time, key, record).map_err(|error| {
                Failure::Damaged(format!("partition {partition}, key \"{}\": {error}", key.escape_ascii()))
            })?;
        }
        if chunk.done {
            return Ok(digest);
        }
    }
}

/// The digests that were made last.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    made: BTreeMap<(PartitionId, LogId), Digest>,
    order: VecDeque<(PartitionId, LogId)>,
}

impl Digests {
    pub(crate) fn keep(&mut self, partition: PartitionId, at: LogId, digest: Digest) {
        if self.made.insert((partition, at), digest).is_none() {
            self.order.push_back((partition, at));
        }
        while self.order.len() > DIGESTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.made.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, partition: PartitionId, at: LogId) -> Option<Digest> {
        self.made.get(&(partition, at)).copied()
    }
}
