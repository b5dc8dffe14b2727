//! A copy of the state at the coordinator that sends it.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{Epoch, LogId, PartitionId, ServerId};
use common::messages::ToReplica;
use common::status::TransferStatus;
use common::time::Time;

use super::super::env::Env;
use super::super::io::{Later, StoredPairs};
use super::super::limits::{SNAPSHOT_WINDOW, SNAPSHOTS_SENT_MAX, STATE_PIECE_BYTES};
use super::super::planted::PlantedBug;

/// The coordinator's side of a copy.
#[derive(Debug)]
pub(crate) struct Sending {
    /// The number of the copy; `None` before its snapshot was asked for.
    transfer: Option<u64>,
    base: LogId,
    /// The state besides the records in pieces, one at least, when the snapshot is open. The first chunks carry them.
    state: Option<Vec<Bytes>>,
    /// When the snapshot was asked for.
    began: Time,
    /// Bytes of the snapshot, roughly.
    bytes_all: u64,
    /// Bytes that the member has taken.
    bytes_done: u64,
    announced: bool,
    /// The next chunk to read.
    next_read: u64,
    reading: bool,
    /// Chunks below this number are taken.
    taken: u64,
    /// Chunks that are read and not taken, and whether they were sent.
    chunks: BTreeMap<u64, Chunk>,
    whole: bool,
    /// The member last asked for a chunk that it had taken before, so it has begun anew.
    lost: bool,
}

#[derive(Debug)]
struct Chunk {
    state: Bytes,
    pairs: StoredPairs,
    bytes: usize,
    done: bool,
    sent: bool,
    /// The message that begins the copy was sent at least once.
    asked: bool,
}

impl Chunk {
    fn new(state: Bytes, pairs: StoredPairs, done: bool) -> Self {
        let bytes = pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() + state.len();
        Self { state, pairs, bytes, done, sent: false, asked: false }
    }
}

/// A state in pieces, one at least.
fn pieces(state: &Bytes) -> Vec<Bytes> {
    let starts = (0..state.len().max(1)).step_by(STATE_PIECE_BYTES);
    starts.map(|start| state.slice(start..state.len().min(start + STATE_PIECE_BYTES))).collect()
}

impl Sending {
    pub(crate) fn new() -> Self {
        Self {
            transfer: None,
            base: LogId::default(),
            state: None,
            began: Time::default(),
            bytes_all: 0,
            bytes_done: 0,
            announced: false,
            next_read: 0,
            reading: false,
            taken: 0,
            chunks: BTreeMap::new(),
            whole: false,
            lost: false,
        }
    }

    /// Makes everything be sent again that was not taken.
    pub(crate) fn rewind(&mut self) {
        self.announced = false;
        self.chunks.values_mut().for_each(|chunk| chunk.sent = false);
    }

    /// Whether the member waits for a chunk that is no longer here.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(crate) fn is_open(&self) -> bool {
        self.transfer.is_some()
    }

    /// The last entry that the open snapshot contains.
    pub(crate) fn base(&self) -> Option<LogId> {
        self.transfer.map(|_| self.base)
    }

    /// Whether the member has all that was sent, so that only this server's disk or the rate is awaited.
    pub(crate) fn is_idle(&self) -> bool {
        let asked = self.chunks.values().any(|chunk| chunk.asked) || (self.whole && self.chunks.is_empty());
        !asked
    }

    /// The progress, for the status.
    pub(crate) fn status(
        &self,
        now: Time,
        partition: PartitionId,
        from: ServerId,
        to: ServerId,
    ) -> Option<TransferStatus> {
        self.state.as_ref()?;
        let millis = u64::try_from(now.since(self.began).as_millis()).unwrap_or(u64::MAX).max(1);
        Some(TransferStatus {
            partition: partition.0,
            from,
            to,
            bytes_done: self.bytes_done,
            bytes_all: self.bytes_all.max(self.bytes_done),
            bytes_per_second: self.bytes_done.saturating_mul(1000) / millis,
        })
    }

    /// Closes the snapshot.
    pub(crate) fn close(&self, env: &mut Env, partition: PartitionId) {
        if let Some(transfer) = self.transfer {
            assert!(env.transfers.open > 0, "partition {partition}: a snapshot is closed once");
            env.transfers.open -= 1;
            env.out.effect(Later::CloseSnapshot { partition, transfer });
        }
    }

    /// Takes the next steps that are possible. `base`: the last entry that a snapshot opened now would contain; `None`
    /// if none may be opened.
    pub(crate) fn advance(
        &mut self,
        env: &mut Env,
        to: ServerId,
        partition: PartitionId,
        epoch: Epoch,
        base: Option<LogId>,
    ) {
        // Paused by an operator: chunks that were sent may be sent again, as the member may wait for them, but no new
        // ones.
        let paused = env.cx.view.paused;
        let Some(transfer) = self.transfer else {
            if let Some(base) = base.filter(|_| !paused) {
                self.open(env, partition, base);
            }
            return;
        };
        let Some(state) = &self.state else { return };
        if !self.announced {
            self.announced = true;
            let base = self.base;
            env.out.send(to, ToReplica::SnapshotBegin { transfer, base }.about(partition, epoch));
        }
        while !paused
            && !self.reading
            && !self.whole
            && self.next_read < self.taken.saturating_add(SNAPSHOT_WINDOW)
        {
            let index = self.next_read;
            // The last piece of the state travels with the first pairs.
            if let Some(piece) = state.get(index as usize).filter(|_| index + 1 < state.len() as u64) {
                self.chunks.insert(index, Chunk::new(piece.clone(), Vec::new(), false));
                self.next_read += 1;
                continue;
            }
            self.reading = true;
            env.out.effect(Later::ReadSnapshot { partition, transfer, index });
        }
        let (now, rate) = (env.cx.now.time, env.cx.config.transfer_rate);
        for (&index, chunk) in
            self.chunks.iter_mut().filter(|(_, chunk)| !chunk.sent && (chunk.asked || !paused))
        {
            if !env.transfers.pace.is_open(now) {
                break;
            }
            env.transfers.pace.take(now, chunk.bytes, rate);
            env.transfers.caught_up.copy_bytes += chunk.bytes as u64;
            (chunk.sent, chunk.asked) = (true, true);
            let (state, pairs, done) = (chunk.state.clone(), chunk.pairs.clone(), chunk.done);
            env.out.send(
                to,
                ToReplica::SnapshotChunk { transfer, index, state, pairs, done }.about(partition, epoch),
            );
        }
    }

    fn open(&mut self, env: &mut Env, partition: PartitionId, base: LogId) {
        if env.transfers.open >= SNAPSHOTS_SENT_MAX {
            return;
        }
        assert!(self.transfer.is_none(), "partition {partition}: a snapshot is opened once");
        env.transfers.open += 1;
        assert!(env.transfers.open <= SNAPSHOTS_SENT_MAX, "copies that are sent at a time are bounded");
        env.transfers.last_transfer += 1;
        let transfer = env.transfers.last_transfer;
        (self.transfer, self.base, self.began) = (Some(transfer), base, env.cx.now.time);
        env.transfers.caught_up.copies += 1;
        env.out.effect(Later::OpenSnapshot { partition, transfer });
    }

    /// Whether this is the copy with that number.
    pub(crate) fn is_transfer(&self, transfer: u64) -> bool {
        self.transfer == Some(transfer)
    }

    /// The snapshot is open, with this state besides the records and about so many bytes of pairs.
    pub(crate) fn on_opened(&mut self, env: &Env, state: &Bytes, bytes: u64) {
        assert!(self.transfer.is_some() && self.state.is_none(), "a snapshot is opened once");
        let bare = env.cx.planted(PlantedBug::ResultsMissingFromSnapshot);
        self.state = Some(if bare { vec![Bytes::new()] } else { pieces(state) });
        assert!(
            self.state.as_ref().is_some_and(|pieces| !pieces.is_empty()),
            "a state has one piece at least"
        );
        self.bytes_all = bytes.saturating_add(state.len() as u64);
    }

    /// StoredPairs of the snapshot were read.
    pub(crate) fn on_read(&mut self, index: u64, pairs: StoredPairs, done: bool) {
        if index == self.next_read && std::mem::take(&mut self.reading) {
            self.next_read += 1;
            self.whole = done;
            let piece = self.state.as_ref().and_then(|pieces| pieces.get(index as usize));
            let state = piece.cloned().unwrap_or_default();
            let before = self.chunks.insert(index, Chunk::new(state, pairs, done));
            assert!(before.is_none(), "a chunk is read once");
        }
    }

    /// Whether the member may have taken the chunks below `next`: no others were read for it.
    pub(crate) fn has_read(&self, next: u64) -> bool {
        next <= self.next_read
    }

    /// The member has taken the chunks below `next`. Returns whether that are more than before.
    pub(crate) fn on_taken(&mut self, next: u64) -> bool {
        let moved = next > self.taken;
        self.lost = next < self.taken;
        self.taken = self.taken.max(next);
        let left = self.chunks.split_off(&self.taken);
        let done = std::mem::replace(&mut self.chunks, left);
        self.bytes_done += done.values().map(|chunk| chunk.bytes as u64).sum::<u64>();
        moved
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert!(
            self.transfer.is_some() || (self.state.is_none() && !self.reading),
            "read before it was open"
        );
        assert!(self.taken <= self.next_read, "taken before it was read");
        let are_kept = self.chunks.keys().all(|index| (self.taken..self.next_read).contains(index));
        assert!(are_kept, "only what is read and not taken is kept");
        assert!(!self.announced || self.state.is_some(), "announced before it was open");
        assert!(!self.whole || !self.reading, "a chunk is read behind the last one");
        let kept = self.chunks.values();
        assert!(kept.clone().all(|chunk| chunk.asked || !chunk.sent), "sent and not asked for");
        assert!(kept.rev().skip(1).all(|chunk| !chunk.done), "a chunk behind the last one");
        let last = self.chunks.values().next_back();
        assert!(last.is_none_or(|chunk| chunk.done == self.whole), "the last chunk makes the copy whole");
        let bound = self.taken.saturating_add(SNAPSHOT_WINDOW);
        assert!(self.next_read <= bound, "a window of chunks is in memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_sent_in_pieces_that_fit_a_message() {
        assert_eq!(pieces(&Bytes::new()), [Bytes::new()]);
        let state: Bytes = (0..2 * STATE_PIECE_BYTES + 5).map(|i| i as u8).collect();
        let parts = pieces(&state);
        let lengths: Vec<usize> = parts.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [STATE_PIECE_BYTES, STATE_PIECE_BYTES, 5]);
        assert_eq!(parts.concat(), state);
    }
}
