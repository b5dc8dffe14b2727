//! Threads that wait for the disk on behalf of copies of partitions: one reads pictures for other servers, one builds
//! the copies that come from them. The core's thread must not wait: leases stand on its answers.
//!
//! Both take jobs in order and tell what is done as events. What a failure means is decided by the core and the driver.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use common::ids::{LogId, PartitionId};
use storage::{Snapshot, Staging};

use crate::core::{Input, StoredPairs};
use crate::disk::log_id;
use crate::driver::{Event, Events};
use crate::limits::CHUNK_BYTES;

/// Names a copy that is being sent or received.
pub(crate) type Copy = (PartitionId, u64);

/// What the thread that reads pictures does.
pub(crate) enum ReadJob {
    /// A picture was opened.
    Open(Copy, Snapshot),
    /// Read its next pairs, which are this chunk.
    Read(Copy, u64),
    /// It is no longer needed.
    Close(Copy),
}

/// What the thread that builds copies does.
pub(crate) enum BuildJob {
    /// Puts a chunk in. With the first one comes where to; one that was begun before for the partition is given up.
    Put {
        copy: Copy,
        index: u64,
        staging: Option<Staging>,
        pairs: StoredPairs,
        /// The copy's last entry and the state besides the records, with the last chunk.
        done: Option<(LogId, Bytes)>,
    },
    /// The partition's copy, if there is one, is given up.
    Abandon(PartitionId),
}

/// Reads pictures until the jobs end.
pub(crate) fn read(jobs: &Receiver<ReadJob>, events: &Events) {
    let mut pictures: BTreeMap<Copy, Snapshot> = BTreeMap::new();
    for job in jobs {
        match job {
            ReadJob::Open(copy, picture) => _ = pictures.insert(copy, picture),
            ReadJob::Close(copy) => _ = pictures.remove(&copy),
            ReadJob::Read(copy, index) => {
                let Some(picture) = pictures.get_mut(&copy) else { continue };
                let (partition, transfer) = copy;
                let event = match picture.chunk(CHUNK_BYTES) {
                    Ok(storage::Chunk { pairs, done }) => {
                        Event::Core(Input::SnapshotRead { partition, transfer, index, pairs, done })
                    }
                    Err(error) => {
                        // If the server goes on, it goes on sending other partitions' copies.
                        pictures.remove(&copy);
                        Event::Failed(error.into())
                    }
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        }
    }
}

/// Builds copies until the jobs end.
pub(crate) fn build(jobs: &Receiver<BuildJob>, events: &Events) {
    let mut stagings: BTreeMap<PartitionId, (u64, Staging)> = BTreeMap::new();
    for job in jobs {
        let BuildJob::Put { copy, index, staging, pairs, done } = job else {
            if let BuildJob::Abandon(partition) = job {
                stagings.remove(&partition);
            }
            continue;
        };
        let (partition, transfer) = copy;
        if let Some(staging) = staging {
            stagings.insert(partition, (transfer, staging));
        }
        let Some((_, staging)) = stagings.get_mut(&partition).filter(|(of, _)| *of == transfer) else {
            continue;
        };
        let is_last = done.is_some();
        let event = match put(staging, &pairs, done) {
            Ok(()) => {
                let whole =
                    if is_last { stagings.remove(&partition).map(|(_, staging)| staging) } else { None };
                Event::Staged { copy, index, whole }
            }
            Err(error) => Event::Failed(error.into()),
        };
        if !tell(events, event) {
            return;
        }
    }
}

fn put(
    staging: &mut Staging,
    pairs: &StoredPairs,
    done: Option<(LogId, Bytes)>,
) -> Result<(), storage::Error> {
    staging.put(pairs)?;
    match done {
        Some((base, state)) => staging.finish(log_id(base), &state),
        None => Ok(()),
    }
}

/// False: the thread ends, with the server.
fn tell(events: &Events, event: Event) -> bool {
    let failed = matches!(event, Event::Failed(_));
    events.send(event).is_ok() && !failed
}
