//! Copying a partition's state to a member whose log does not reach back far enough (J1).
//!
//! The coordinator opens a consistent picture of its applied state, pins its log from there on, and sends the pairs
//! in chunks, a window of them at a time. The member stages them beside what it has, makes the copy durable, and puts
//! it in place of its log and records with one record of its commit log. A crash in between leaves the old or the new
//! one, never a mix. Writes go on all the while; the member gets them from the log afterwards.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{Epoch, LogId, PartitionId, ServerId};
use common::messages::PeerMessage;

use super::coordinator::Stage;
use super::copy::{PartitionCopy, Role};
use super::env::{After, Env};
use super::io::{Effect, LogRecord};
use super::limits::SNAPSHOT_WINDOW;
use super::mutation::Mutation;

/// Stored keys and values.
type Pairs = Vec<(Bytes, Bytes)>;

/// The coordinator's side of a copy.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Names the copy; none before the picture was asked for.
    transfer: Option<u64>,
    base: LogId,
    /// The state besides the records, when the picture is open.
    state: Option<Bytes>,
    announced: bool,
    /// The next chunk to read.
    next_read: u64,
    reading: bool,
    /// Chunks below are taken.
    taken: u64,
    /// Chunks that are read and not taken, and whether they were sent.
    chunks: BTreeMap<u64, Chunk>,
    whole: bool,
    /// The member last asked for a chunk that it had taken before: it has begun anew.
    lost: bool,
}

#[derive(Debug)]
struct Chunk {
    pairs: Pairs,
    done: bool,
    sent: bool,
}

impl Sending {
    pub(crate) fn new() -> Self {
        Self {
            transfer: None,
            base: LogId::default(),
            state: None,
            announced: false,
            next_read: 0,
            reading: false,
            taken: 0,
            chunks: BTreeMap::new(),
            whole: false,
            lost: false,
        }
    }

    /// Sends everything again that was not taken.
    pub(crate) fn rewind(&mut self) {
        self.announced = false;
        self.chunks.values_mut().for_each(|chunk| chunk.sent = false);
    }

    /// The member waits for a chunk that is no longer here.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(crate) fn is_open(&self) -> bool {
        self.transfer.is_some()
    }

    /// The picture is no longer needed.
    pub(crate) fn close(&self, env: &mut Env, partition: PartitionId) {
        if let Some(transfer) = self.transfer {
            env.transfers_open -= 1;
            env.out.effect(Effect::CloseSnapshot { partition, transfer });
            if !env.mutated(Mutation::PinNotReleased) {
                env.out.effect(Effect::PinLog { partition, from: None });
            }
        }
    }

    /// Does the next thing that can be done. `base`: the last entry that a picture opened now contains; none if
    /// none may be opened.
    pub(crate) fn advance(
        &mut self,
        env: &mut Env,
        to: ServerId,
        partition: PartitionId,
        epoch: Epoch,
        base: Option<LogId>,
    ) {
        let Some(transfer) = self.transfer else {
            if let Some(base) = base {
                self.open(env, partition, base);
            }
            return;
        };
        let Some(state) = &self.state else { return };
        if !self.announced {
            self.announced = true;
            let (base, state) = (self.base, state.clone());
            env.out.send(to, PeerMessage::SnapshotBegin { partition, epoch, transfer, base, state });
        }
        if !self.reading && !self.whole && self.next_read < self.taken.saturating_add(SNAPSHOT_WINDOW) {
            self.reading = true;
            env.out.effect(Effect::ReadSnapshot { partition, transfer, index: self.next_read });
        }
        for (&index, chunk) in self.chunks.iter_mut().filter(|(_, chunk)| !chunk.sent) {
            chunk.sent = true;
            let (pairs, done) = (chunk.pairs.clone(), chunk.done);
            env.out.send(to, PeerMessage::SnapshotChunk { partition, epoch, transfer, index, pairs, done });
        }
    }

    fn open(&mut self, env: &mut Env, partition: PartitionId, base: LogId) {
        if env.transfers_open >= super::limits::SNAPSHOTS_SENT_MAX {
            return;
        }
        env.transfers_open += 1;
        env.last_transfer += 1;
        let transfer = env.last_transfer;
        (self.transfer, self.base) = (Some(transfer), base);
        env.out.effect(Effect::PinLog { partition, from: Some(base.seq.next()) });
        env.out.effect(Effect::OpenSnapshot { partition, transfer });
    }
}

/// The member's side of a copy.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) coordinator: ServerId,
    transfer: u64,
    base: LogId,
    state: Bytes,
    /// The chunk that is awaited, and the one that is not staged yet.
    next: u64,
    staged: u64,
}

impl PartitionCopy {
    fn sending(&mut self, transfer: u64) -> Option<(ServerId, &mut Sending)> {
        let Role::Coordinator(coordinator) = &mut self.role else { return None };
        coordinator.peers.iter_mut().find_map(|(&server, peer)| match &mut peer.stage {
            Stage::Snapshot(sending) if sending.transfer == Some(transfer) => Some((server, &mut **sending)),
            _ => None,
        })
    }

    /// The picture is open.
    pub(crate) fn on_snapshot_opened(&mut self, env: &mut Env, transfer: u64, state: Bytes) {
        let bare = env.mutated(Mutation::ResultsMissingFromSnapshot);
        env.touched.insert(self.id);
        if let Some((_, sending)) = self.sending(transfer) {
            sending.state = Some(if bare { Bytes::new() } else { state });
        }
    }

    /// Pairs of the picture were read.
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
            sending.chunks.insert(index, Chunk { pairs, done, sent: false });
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
        let (id, now) = (self.id, env.now.time);
        let Some((server, sending)) = self.sending(transfer) else { return };
        if server != from {
            return;
        }
        env.touched.insert(id);
        let moved = next > sending.taken;
        sending.lost = next < sending.taken;
        sending.taken = sending.taken.max(next);
        let taken = sending.taken;
        sending.chunks.retain(|&index, _| index >= taken);
        if installed {
            sending.close(env, id);
        }
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let Some(peer) = coordinator.peers.get_mut(&from) else { return };
        if moved || installed {
            peer.on_moved(now);
        }
        if installed {
            // Its log begins after the base now; the question what it holds brings it into step.
            peer.stage = Stage::Probe { asked: None };
            peer.rewind(now);
        }
    }

    /// A copy for this member begins.
    pub(crate) fn on_snapshot_begin(
        &mut self,
        env: &mut Env,
        from: ServerId,
        transfer: u64,
        base: LogId,
        state: Bytes,
    ) {
        let (partition, epoch, unneeded) = (self.id, self.epoch, self.needs_no_copy(base));
        let last_installed = self.installed;
        let Role::Replica(replica) = &mut self.role else { return };
        if self.installing || self.dropping {
            return;
        }
        if unneeded || last_installed == Some((from, transfer)) {
            // The coordinator asks again what the log holds.
            replica.receiving = None;
            let ack =
                PeerMessage::SnapshotAck { partition, epoch, transfer, next: u64::MAX, installed: true };
            return env.out.send(from, ack);
        }
        let coordinator = from;
        let new = Receiving { coordinator, transfer, base, state, next: 0, staged: 0 };
        let same = replica.receiving.take().filter(|now| now.transfer == transfer && now.coordinator == from);
        let next = replica.receiving.insert(same.unwrap_or(new)).staged;
        env.out.send(from, PeerMessage::SnapshotAck { partition, epoch, transfer, next, installed: false });
    }

    /// What is applied is never undone, and what is in step and as long needs no copy.
    fn needs_no_copy(&self, base: LogId) -> bool {
        let in_step = self.mark.synced == self.epoch;
        base.seq < self.reaching() || (in_step && self.log.last() >= base.seq)
    }

    /// The next pairs of it.
    pub(crate) fn on_snapshot_chunk(
        &mut self,
        env: &mut Env,
        from: ServerId,
        chunk: (u64, u64, Pairs, bool),
    ) {
        let (transfer, index, pairs, done) = chunk;
        let (id, epoch) = (self.id, self.epoch);
        let Role::Replica(replica) = &mut self.role else { return };
        let Some(receiving) = &mut replica.receiving else { return };
        if receiving.transfer != transfer || receiving.coordinator != from {
            return;
        }
        if index == receiving.next {
            receiving.next += 1;
            let done = done.then(|| (receiving.base, receiving.state.clone()));
            env.out.effect(Effect::Stage { partition: id, transfer, index, pairs, done });
        } else if index < receiving.staged {
            let next = receiving.staged;
            let ack = PeerMessage::SnapshotAck { partition: id, epoch, transfer, next, installed: false };
            env.out.send(from, ack);
        }
    }

    /// A chunk is staged; with the last one the copy is whole and on disk, and takes its place.
    pub(crate) fn on_staged(&mut self, env: &mut Env, transfer: u64, index: u64, generation: Option<u32>) {
        let (id, epoch) = (self.id, self.epoch);
        let busy = self.installing || self.dropping;
        let Role::Replica(replica) = &mut self.role else { return };
        let Some(receiving) = &mut replica.receiving else { return };
        if receiving.transfer != transfer || receiving.staged != index || busy {
            return;
        }
        receiving.staged = index + 1;
        let (from, next, base, state) =
            (receiving.coordinator, index + 1, receiving.base, receiving.state.clone());
        match generation {
            None => {
                let ack = PeerMessage::SnapshotAck { partition: id, epoch, transfer, next, installed: false };
                env.out.send(from, ack);
            }
            // The log caught up meanwhile by itself: what is applied stays.
            Some(_) if self.needs_no_copy(base) => {
                let next = u64::MAX;
                let ack = PeerMessage::SnapshotAck { partition: id, epoch, transfer, next, installed: true };
                env.out.send(from, ack);
                self.end_receiving();
            }
            Some(generation) => {
                self.installing = true;
                env.out.persist(LogRecord::Install { partition: id, generation, base });
                env.out.after(After::Installed { partition: id, transfer, generation, base, state });
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
        transfer: u64,
        generation: u32,
        base: LogId,
        state: Bytes,
    ) {
        env.out.effect(Effect::Install { partition: self.id, generation, state });
        self.replace(base);
        self.installing = false;
        env.touched.insert(self.id);
        let Some(receiving) = self.end_receiving().filter(|now| now.transfer == transfer) else { return };
        let from = receiving.coordinator;
        self.installed = Some((from, transfer));
        let (partition, epoch) = (self.id, self.epoch);
        let ack = PeerMessage::SnapshotAck { partition, epoch, transfer, next: u64::MAX, installed: true };
        env.out.send(from, ack);
    }
}
