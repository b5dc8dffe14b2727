//! Copies of the state that the coordinator sends (`transfer`).

use bytes::Bytes;
use common::ids::ServerId;

use super::super::env::Env;
use super::super::io::StoredPairs;
use super::super::partition::state::PartitionState;
use super::super::transfer::sender::Sending;
use super::progress::Stage;
use super::state::Coordinator;

impl Coordinator {
    fn sending(&mut self, transfer: u64) -> Option<(ServerId, &mut Sending)> {
        self.peers.iter_mut().find_map(|(&server, peer)| match &mut peer.stage {
            Stage::Snapshot(sending) if sending.is_transfer(transfer) => Some((server, &mut **sending)),
            _ => None,
        })
    }

    /// The snapshot is open.
    pub(crate) fn on_snapshot_opened(&mut self, env: &Env, transfer: u64, state: &Bytes, bytes: u64) {
        if let Some((_, sending)) = self.sending(transfer) {
            sending.on_opened(env, state, bytes);
        }
    }

    /// StoredPairs of the snapshot were read.
    pub(crate) fn on_snapshot_read(&mut self, transfer: u64, index: u64, pairs: StoredPairs, done: bool) {
        if let Some((_, sending)) = self.sending(transfer) {
            sending.on_read(index, pairs, done);
        }
    }

    /// The member has taken chunks, or the whole copy.
    pub(crate) fn on_snapshot_ack(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        from: ServerId,
        transfer: u64,
        next: u64,
        installed: bool,
    ) {
        let (id, now) = (p.id(), env.cx.now.time);
        let Some((_, sending)) = self.sending(transfer).filter(|(server, _)| *server == from) else { return };
        if !sending.has_read(next) && !installed {
            return env
                .out
                .warn(format!("partition {id}: {from} has taken chunks of a copy that it was not sent"));
        }
        env.touched.insert(id);
        let moved = sending.on_taken(next);
        if installed {
            assert!(sending.is_open(), "partition {id}: a copy is in place that was never opened");
            sending.close(env, id);
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if moved || installed {
            peer.on_moved(now);
        }
        if installed {
            // Its log begins after the base now; probing it again brings it in step.
            peer.probe_again();
            peer.rewind(now);
        }
    }
}
