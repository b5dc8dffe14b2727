//! Copying a partition's state to a member that needs more than its coordinator's log has (J1), or that is empty and
//! joins a partition with a long log (`limits::COPY_FROM`). In the second case the log would do as well, but a copy is
//! shorter, and as sound at any base.
//!
//! The coordinator opens a consistent snapshot of its applied state and pins its log from there on. It sends the
//! snapshot in chunks, a window of them at a time and within the server's rate, unless an operator has paused copying.
//! The first chunks carry the state besides the records, the others the pairs. The pin moves on with what the member
//! acknowledges and ends when the member's acknowledgements count (`Progress::hold`). The member stages the chunks
//! beside what it has, makes the copy durable, and puts it in place of its log and records with one record of its
//! commit log. A crash in between leaves the old or the new one, never a mix. Writes go on all the while; the member
//! gets them from the log afterwards.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use common::ids::{Epoch, LogId, PartitionId, ServerId};
use common::messages::{ToCoordinator, ToReplica};
use common::status::TransferStatus;
use common::time::Time;

use super::coordinator::Stage;
use super::copy::{PartitionCopy, Role};
use super::env::Env;
use super::io::{Later, LogRecord};
use super::limits::{SNAPSHOT_WINDOW, STATE_PIECE_BYTES};
use super::out::After;
use super::planted::PlantedBug;
use super::state::State;

/// Stored keys and values.
type Pairs = Vec<(Bytes, Bytes)>;

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
    pairs: Pairs,
    bytes: usize,
    done: bool,
    sent: bool,
    /// The message that begins the copy was sent at least once.
    asked: bool,
}

impl Chunk {
    fn new(state: Bytes, pairs: Pairs, done: bool) -> Self {
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
        let held = env.cx.view.paused;
        let Some(transfer) = self.transfer else {
            if let Some(base) = base.filter(|_| !held) {
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
        while !held
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
            self.chunks.iter_mut().filter(|(_, chunk)| !chunk.sent && (chunk.asked || !held))
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
        if env.transfers.open >= super::limits::SNAPSHOTS_SENT_MAX {
            return;
        }
        env.transfers.open += 1;
        env.transfers.last_transfer += 1;
        let transfer = env.transfers.last_transfer;
        (self.transfer, self.base, self.began) = (Some(transfer), base, env.cx.now.time);
        env.transfers.caught_up.copies += 1;
        env.out.effect(Later::OpenSnapshot { partition, transfer });
    }
}

/// The member's side of a copy.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) coordinator: ServerId,
    transfer: u64,
    /// This server's own number of the copy. Copies of two coordinators may have the same number, and what was staged
    /// of one must never be taken for the other's.
    staging: u64,
    base: LogId,
    /// The state besides the records, as far as it has come.
    state: BytesMut,
    /// The chunk that is awaited, and the one that is not staged yet.
    next: u64,
    staged: u64,
}

/// The content of a chunk's message.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) transfer: u64,
    pub(crate) index: u64,
    pub(crate) state: Bytes,
    pub(crate) pairs: Pairs,
    pub(crate) done: bool,
}

impl PartitionCopy {
    fn sending(&mut self, transfer: u64) -> Option<(ServerId, &mut Sending)> {
        let Role::Coordinator(coordinator) = &mut self.role else { return None };
        coordinator.peers.iter_mut().find_map(|(&server, peer)| match &mut peer.stage {
            Stage::Snapshot(sending) if sending.transfer == Some(transfer) => Some((server, &mut **sending)),
            _ => None,
        })
    }

    /// The snapshot is open.
    pub(crate) fn on_snapshot_opened(&mut self, env: &mut Env, transfer: u64, state: &Bytes, bytes: u64) {
        let bare = env.cx.planted(PlantedBug::ResultsMissingFromSnapshot);
        env.touched.insert(self.id);
        if let Some((_, sending)) = self.sending(transfer) {
            sending.state = Some(if bare { vec![Bytes::new()] } else { pieces(state) });
            sending.bytes_all = bytes.saturating_add(state.len() as u64);
        }
    }

    /// Pairs of the snapshot were read.
    pub(crate) fn on_snapshot_read(
        &mut self,
        env: &mut Env,
        transfer: u64,
        index: u64,
        pairs: Pairs,
        done: bool,
    ) {
        env.touched.insert(self.id);
        let Some((_, sending)) = self.sending(transfer) else { return };
        if index == sending.next_read && std::mem::take(&mut sending.reading) {
            sending.next_read += 1;
            sending.whole = done;
            let piece = sending.state.as_ref().and_then(|pieces| pieces.get(index as usize));
            let state = piece.cloned().unwrap_or_default();
            sending.chunks.insert(index, Chunk::new(state, pairs, done));
        }
    }

    /// The member has taken chunks, or the whole copy.
    pub(crate) fn on_snapshot_ack(
        &mut self,
        env: &mut Env,
        from: ServerId,
        transfer: u64,
        next: u64,
        installed: bool,
    ) {
        let (id, now) = (self.id, env.cx.now.time);
        let Some((server, sending)) = self.sending(transfer) else { return };
        if server != from {
            return;
        }
        if next > sending.next_read && !installed {
            return env
                .out
                .warn(format!("partition {id}: {from} has taken chunks of a copy that it was not sent"));
        }
        env.touched.insert(id);
        let moved = next > sending.taken;
        sending.lost = next < sending.taken;
        sending.taken = sending.taken.max(next);
        let left = sending.chunks.split_off(&sending.taken);
        let done = std::mem::replace(&mut sending.chunks, left);
        sending.bytes_done += done.values().map(|chunk| chunk.bytes as u64).sum::<u64>();
        if installed {
            sending.close(env, id);
        }
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let Some(peer) = coordinator.peers.get_mut(&from) else { return };
        if moved || installed {
            peer.on_moved(now);
        }
        if installed {
            // Its log begins after the base now; probing it again brings it in step.
            peer.probe_again();
            peer.rewind(now);
        }
    }

    /// A copy for this member begins.
    pub(crate) fn on_snapshot_begin(&mut self, env: &mut Env, from: ServerId, transfer: u64, base: LogId) {
        let (partition, epoch, unneeded) = (self.id, self.epoch, self.needs_no_copy(base));
        let last_installed = self.disk.installed;
        let Role::Replica(replica) = &mut self.role else { return };
        if self.disk.installing || self.disk.dropping {
            return;
        }
        if unneeded || last_installed == Some((from, transfer)) {
            // The coordinator asks again what the log has.
            replica.receiving = None;
            let ack = ToCoordinator::SnapshotAck { transfer, next: u64::MAX, installed: true }
                .about(partition, epoch);
            return env.out.send(from, ack);
        }
        let coordinator = from;
        env.transfers.last_staging += 1;
        let (staging, state) = (env.transfers.last_staging, BytesMut::new());
        let new = Receiving { coordinator, transfer, staging, base, state, next: 0, staged: 0 };
        let same = replica.receiving.take().filter(|now| now.transfer == transfer && now.coordinator == from);
        let next = replica.receiving.insert(same.unwrap_or(new)).staged;
        env.out.send(
            from,
            ToCoordinator::SnapshotAck { transfer, next, installed: false }.about(partition, epoch),
        );
    }

    /// Whether a copy is not needed: applied entries are never undone, and a log that is in step and as long is as
    /// good.
    fn needs_no_copy(&self, base: LogId) -> bool {
        let in_step = self.is_synced();
        base.seq < self.reaching() || (in_step && self.log.last() >= base.seq)
    }

    /// A piece of the copy has come.
    pub(crate) fn on_snapshot_chunk(&mut self, env: &mut Env, from: ServerId, piece: Piece) {
        let Piece { transfer, index, state, pairs, done } = piece;
        let (id, epoch) = (self.id, self.epoch);
        let Role::Replica(replica) = &mut self.role else { return };
        let Some(receiving) = &mut replica.receiving else { return };
        if receiving.transfer != transfer || receiving.coordinator != from {
            return;
        }
        if index == receiving.next {
            receiving.state.extend_from_slice(&state);
            if done && let Err(error) = State::decode(receiving.state.clone().freeze()) {
                replica.receiving = None;
                return env.out.warn(format!(
                    "partition {id}: a copy of {from} is dropped, its state besides the records does not read: \
                     {error}. That server is of another version, as a rule a newer one: upgrade this one"
                ));
            }
            receiving.next += 1;
            let done = done.then(|| (receiving.base, receiving.state.clone().freeze()));
            let staging = receiving.staging;
            env.out.effect(Later::Stage { partition: id, staging, index, pairs, done });
        } else if index < receiving.staged {
            let next = receiving.staged;
            let ack = ToCoordinator::SnapshotAck { transfer, next, installed: false }.about(id, epoch);
            env.out.send(from, ack);
        }
    }

    /// A chunk is staged; with the last one the copy is whole and on disk, and is installed.
    pub(crate) fn on_staged(&mut self, env: &mut Env, staging: u64, index: u64, generation: Option<u32>) {
        let (id, epoch) = (self.id, self.epoch);
        let busy = self.disk.installing || self.disk.dropping;
        let Role::Replica(replica) = &mut self.role else { return };
        let Some(receiving) = &mut replica.receiving else { return };
        if receiving.staging != staging || receiving.staged != index || busy {
            return;
        }
        receiving.staged = index + 1;
        let transfer = receiving.transfer;
        let (from, next, base) = (receiving.coordinator, index + 1, receiving.base);
        let state = generation.map(|_| receiving.state.clone().freeze()).unwrap_or_default();
        match generation {
            None => {
                let ack = ToCoordinator::SnapshotAck { transfer, next, installed: false }.about(id, epoch);
                env.out.send(from, ack);
            }
            // The log has caught up meanwhile: applied entries stay.
            Some(_) if self.needs_no_copy(base) => {
                let next = u64::MAX;
                let ack = ToCoordinator::SnapshotAck { transfer, next, installed: true }.about(id, epoch);
                env.out.send(from, ack);
                self.end_receiving();
            }
            Some(generation) => {
                self.disk.installing = true;
                env.out.persist(LogRecord::Install { partition: id, generation, base });
                if !self.disk.mark.equal_with.is_empty() {
                    // Comparisons of the former records say nothing about the new ones.
                    self.disk.mark.equal_with.clear();
                    self.persist_mark(env);
                }
                env.out.after(After::Installed { partition: id, staging, generation, base, state });
            }
        }
    }

    fn end_receiving(&mut self) -> Option<Receiving> {
        match &mut self.role {
            Role::Replica(replica) => replica.receiving.take(),
            _ => None,
        }
    }

    /// The install record is on disk.
    pub(crate) fn on_installed(
        &mut self,
        env: &mut Env,
        staging: u64,
        generation: u32,
        base: LogId,
        state: Bytes,
    ) {
        env.out.effect(Later::Install { partition: self.id, generation, state });
        self.replace(env, base);
        self.disk.installing = false;
        env.touched.insert(self.id);
        let Some(receiving) = self.end_receiving().filter(|now| now.staging == staging) else { return };
        let (from, transfer) = (receiving.coordinator, receiving.transfer);
        self.disk.installed = Some((from, transfer));
        let (partition, epoch) = (self.id, self.epoch);
        let ack =
            ToCoordinator::SnapshotAck { transfer, next: u64::MAX, installed: true }.about(partition, epoch);
        env.out.send(from, ack);
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
