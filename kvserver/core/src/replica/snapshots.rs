//! Copies of the state that this replica receives (`transfer`).

use bytes::BytesMut;
use common::ids::{LogId, ServerId};
use common::messages::ToCoordinator;

use super::super::env::Env;
use super::super::io::Later;
use super::super::out::After;
use super::super::partition::state::PartitionState;
use super::super::state::State;
use super::super::transfer::receiver::{Piece, Receiving};
use super::state::Replica;

impl Replica {
    /// A copy for this member begins.
    pub(crate) fn on_snapshot_begin(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        from: ServerId,
        transfer: u64,
        base: LogId,
    ) {
        if !p.is_idle() {
            return;
        }
        if needs_no_copy(p, base) || p.installed() == Some((from, transfer)) {
            // The coordinator asks again what the log has.
            self.receiving = None;
            return send_installed(p, env, from, transfer);
        }
        env.transfers.last_staging += 1;
        let (staging, state) = (env.transfers.last_staging, BytesMut::new());
        let new = Receiving { coordinator: from, transfer, staging, base, state, next: 0, staged: 0 };
        let same = self.receiving.take().filter(|now| now.transfer == transfer && now.coordinator == from);
        let next = self.receiving.insert(same.unwrap_or(new)).staged;
        let is_fresh = self.receiving.as_ref().is_some_and(|now| now.staged <= now.next);
        assert!(is_fresh, "partition {}: staged before it came", p.id());
        send_taken(p, env, from, transfer, next);
    }

    /// A piece of the copy has come.
    pub(crate) fn on_snapshot_chunk(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        from: ServerId,
        piece: Piece,
    ) {
        let (id, Piece { transfer, index, state, pairs, done }) = (p.id(), piece);
        let Some(receiving) = &mut self.receiving else { return };
        if receiving.transfer != transfer || receiving.coordinator != from {
            return;
        }
        if index == receiving.next {
            receiving.state.extend_from_slice(&state);
            if done && let Err(error) = State::decode(receiving.state.clone().freeze()) {
                self.receiving = None;
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
            send_taken(p, env, from, transfer, receiving.staged);
        }
    }

    /// A chunk is staged; with the last one the copy is whole and on disk, and is installed.
    pub(crate) fn on_staged(
        &mut self,
        p: &mut PartitionState,
        env: &mut Env,
        staging: u64,
        index: u64,
        generation: Option<u32>,
    ) {
        let Some(receiving) = &mut self.receiving else { return };
        if receiving.staging != staging || receiving.staged != index || !p.is_idle() {
            return;
        }
        receiving.staged = index + 1;
        assert!(receiving.staged <= receiving.next, "partition {}: staged before it came", p.id());
        let (from, transfer, base) = (receiving.coordinator, receiving.transfer, receiving.base);
        let Some(generation) = generation else { return send_taken(p, env, from, transfer, index + 1) };
        if needs_no_copy(p, base) {
            // The log has caught up meanwhile: applied entries stay.
            self.receiving = None;
            return send_installed(p, env, from, transfer);
        }
        let (partition, state) = (p.id(), receiving.state.clone().freeze());
        p.begin_install(env, generation, base);
        env.out.after(After::Installed { partition, staging, generation, base, state });
    }

    /// The staged copy has taken the place of log and records.
    pub(crate) fn on_installed(&mut self, p: &mut PartitionState, env: &mut Env, staging: u64) {
        let Some(receiving) = self.receiving.take().filter(|now| now.staging == staging) else { return };
        let (from, transfer) = (receiving.coordinator, receiving.transfer);
        assert!(p.log().base() == receiving.base, "partition {}: another copy is in place", p.id());
        p.note_installed(from, transfer);
        send_installed(p, env, from, transfer);
    }
}

/// Whether a copy is not needed: applied entries are never undone, and a log that is in step and as long is as good.
fn needs_no_copy(p: &PartitionState, base: LogId) -> bool {
    base.seq < p.reaching() || (p.is_synced() && p.log().last() >= base.seq)
}

/// Says that the chunks below `next` are taken.
fn send_taken(p: &PartitionState, env: &mut Env, to: ServerId, transfer: u64, next: u64) {
    let ack = ToCoordinator::SnapshotAck { transfer, next, installed: false };
    env.out.send(to, ack.about(p.id(), p.epoch()));
}

/// Says that the copy is in place, or not needed.
fn send_installed(p: &PartitionState, env: &mut Env, to: ServerId, transfer: u64) {
    let ack = ToCoordinator::SnapshotAck { transfer, next: u64::MAX, installed: true };
    env.out.send(to, ack.about(p.id(), p.epoch()));
}
