//! The threads that wait for the disk when partitions are copied: one reads snapshots for other servers, one builds the
//! copies that come from them. The core's thread must not wait, as leases depend on its answers.
//!
//! Both take jobs in order and report what is done as events. The core and the driver decide what a failure means.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use common::ids::{LogId, PartitionId};
use storage::{Snapshot, Staging};

use crate::driver::{Event, Events};
use crate::error::Failure;
use crate::limits::CHUNK_BYTES;
use crate::store::log_ids::log_id;
use crate::store::sealed::{self, Counts};
use crate::workers::pieces::TransferId;
use kvserver_core::{Input, StoredPairs, decode_record};

/// A job of the thread that reads snapshots.
pub(crate) enum ReadJob {
    /// A snapshot was opened.
    Open(TransferId, Snapshot),
    /// Read the next pairs of the snapshot, which are the chunk with this number.
    Read(TransferId, u64),
    /// The snapshot is no longer needed.
    Close(TransferId),
}

/// A job of the thread that builds copies.
pub(crate) enum BuildJob {
    /// Puts a chunk into the copy. The first chunk brings the staging; a copy of the same partition that was begun
    /// before is given up.
    Put {
        copy: TransferId,
        index: u64,
        staging: Option<Staging>,
        pairs: StoredPairs,
        /// The copy's last entry and the state besides the records, with the last chunk.
        done: Option<(LogId, Bytes)>,
    },
    /// Gives up the partition's copy, if there is one.
    Abandon(PartitionId),
}

/// Reads snapshots until the jobs end.
pub(crate) fn read(jobs: &Receiver<ReadJob>, events: &Events) {
    let mut snapshots: BTreeMap<TransferId, Snapshot> = BTreeMap::new();
    for job in jobs {
        match job {
            ReadJob::Open(copy, snapshot) => _ = snapshots.insert(copy, snapshot),
            ReadJob::Close(copy) => _ = snapshots.remove(&copy),
            ReadJob::Read(copy, index) => {
                let Some(snapshot) = snapshots.get_mut(&copy) else { continue };
                let (partition, transfer) = copy;
                let event = match snapshot.chunk(CHUNK_BYTES) {
                    Ok(storage::Chunk { pairs, done }) => {
                        Event::Core(Input::SnapshotRead { partition, transfer, index, pairs, done })
                    }
                    Err(error) => {
                        // If the server goes on after this error, copies of other partitions go on as well.
                        snapshots.remove(&copy);
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
    let mut stagings: BTreeMap<PartitionId, (u64, Staging, Counts)> = BTreeMap::new();
    for job in jobs {
        let BuildJob::Put { copy, index, staging, pairs, done } = job else {
            if let BuildJob::Abandon(partition) = job {
                stagings.remove(&partition);
            }
            continue;
        };
        let (partition, transfer) = copy;
        if let Some(staging) = staging {
            stagings.insert(partition, (transfer, staging, Counts::default()));
        }
        let Some((_, staging, counts)) = stagings.get_mut(&partition).filter(|(of, ..)| *of == transfer)
        else {
            continue;
        };
        let is_last = done.is_some();
        let event = match put(staging, counts, &pairs, done) {
            Ok(()) => {
                let whole = if is_last {
                    stagings.remove(&partition).map(|(_, one, counts)| (one, counts))
                } else {
                    None
                };
                Event::Staged { copy, index, whole }
            }
            Err(failure) => Event::Failed(failure),
        };
        if !send(events, event) {
            return;
        }
    }
}

fn put(
    staging: &mut Staging,
    counts: &mut Counts,
    pairs: &StoredPairs,
    done: Option<(LogId, Bytes)>,
) -> Result<(), Failure> {
    staging.put(pairs)?;
    for (key, record) in pairs {
        let found = decode_record(record.clone()).map_err(|error| Failure::Store(error.to_string()))?;
        counts.count(found.expires.is_some(), true);
        if let Some(expires) = found.expires {
            staging.put_due(expires.0, key)?;
        }
    }
    if let Some((base, state)) = done {
        staging.finish(log_id(base), &sealed::encode(*counts, state))?;
    }
    Ok(())
}

/// Sends an event. `false`: the server has ended, so the thread ends.
fn send(events: &Events, event: Event) -> bool {
    let failed = matches!(event, Event::Failed(_));
    events.send(event).is_ok() && !failed
}
