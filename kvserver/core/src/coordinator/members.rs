//! What members say of their logs: they are probed, brought in step (P2), and acknowledge what is on their disks.
//! The commit follows when the batch is settled (`writes`).

use std::time::Duration;

use common::ids::{LogId, Seq, ServerId};
use common::messages::{Bound, ProcessId, Run, ServerReport};

use super::super::env::Env;
use super::super::limits::RESEND;
use super::super::partition::state::PartitionState;
use super::super::process::{Anew, Process};
use super::super::transfer::sender::Sending;
use super::progress::{Claim, Progress, Stage, Stream};
use super::state::{Coordinator, counts};

impl Coordinator {
    /// A member has said what its log has: for P1, and for P2 when the log of the epoch is known.
    pub(crate) fn on_sync_reply(
        &mut self,
        p: &mut PartitionState,
        env: &mut Env,
        from: ProcessId,
        base: LogId,
        last: LogId,
        runs: &[Run],
    ) {
        let (id, epoch, now) = (p.id(), p.epoch(), env.cx.now.time);
        let Some(peer) = self.peers.get_mut(&from.server) else { return };
        // A member that is not in step may send it again: its log was not what it had said.
        let asked = match peer.stage {
            Stage::Probe { .. } => true,
            Stage::Stream(_) => peer.acked.is_none(),
            Stage::Snapshot(_) => false,
        };
        if peer.member.store != from.store || !asked {
            return;
        }
        peer.process = Some(from);
        peer.claim = Some(Claim { base, last, runs: runs.to_vec() });
        peer.on_moved(now);
        let member = peer.member;
        let counts = self.in_sync.contains(&from.server);
        let lost = peer.acked_by_any.filter(|acked| counts && *acked > last.seq);
        if self.fetch.as_ref().is_some_and(|fetch| fetch.from == from.server) {
            // It no longer has what it claimed before: P1 begins again.
            self.fetch = None;
        }
        if let Some(acked) = lost {
            env.out.alarm(format!(
                "partition {id}: server {} had acknowledged entries up to {acked} in this epoch, and after its restart \
                 its log ends at {last}: its disk has lost what it had synced",
                from.server.short()
            ));
            env.out.report(ServerReport::LostEntries { partition: id, epoch, member });
        }
        if self.begin.is_some() {
            self.bring_in_step(p, env, from.server);
        }
        env.touched.insert(id);
    }

    /// P2: begins to send a member the log of the epoch from the common point on, or a copy of the state.
    pub(super) fn bring_in_step(&mut self, p: &PartitionState, env: &mut Env, server: ServerId) {
        assert!(self.begin.is_some(), "partition {}: the log of the epoch is not known yet", p.id());
        let counts = self.needed().any(|needed| needed == server);
        let Some(peer) = self.peers.get_mut(&server) else { return };
        let Some(claim) = &peer.claim else { return };
        if matches!(peer.stage, Stage::Snapshot(_)) {
            return;
        }
        let (own_base, reaching) = (p.log().base().seq, p.reaching());
        let is_long = reaching.0 >= env.cx.config.copy_from;
        let by_copy = claim.last == LogId::default() && is_long && !p.is_failed() && !counts;
        let common = p.log().common_point(claim.base, claim.last, &claim.runs);
        let streams = common.filter(|common| common.seq >= own_base && !by_copy);
        let is_own = streams.is_none_or(|common| p.log().contains(common));
        assert!(is_own, "partition {}: the common point is in this log", p.id());
        peer.retained =
            streams.filter(|common| !counts || common.seq < reaching).map(|common| common.seq.next());
        peer.stage = match streams {
            Some(common) => Stage::Stream(Stream::after(common)),
            None => Stage::Snapshot(Box::new(Sending::new())),
        };
        env.touched.insert(p.id());
    }

    /// A member has the log on disk up to `seq`.
    pub(crate) fn on_ack(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        from: ProcessId,
        seq: Seq,
        clean: bool,
        bound: &[Bound],
    ) {
        self.note_bounds(env, bound);
        let Some(peer) = self.peers.get_mut(&from.server) else { return };
        if peer.member.store != from.store || peer.process != Some(from) || seq > p.log().last() {
            return;
        }
        let Stage::Stream(stream) = &mut peer.stage else { return };
        stream.fresh = false;
        while stream.in_flight.front().is_some_and(|(sent, _)| *sent <= seq) {
            stream.in_flight.pop_front();
        }
        stream.next = stream.next.max(seq.next());
        assert!(stream.next <= p.log().last().next(), "partition {}: more is sent than there is", p.id());
        if peer.acked.is_none_or(|acked| acked < seq) {
            peer.acked = Some(seq);
            peer.acked_by_any = peer.acked_by_any.max(Some(seq));
            peer.on_moved(env.cx.now.time);
            env.trace_acknowledged_by(p.id(), seq, from.server);
        }
        peer.clean |= clean;
        assert!(
            peer.acked <= peer.acked_by_any,
            "partition {}: an acknowledgement is forgotten (P5)",
            p.id()
        );
        env.touched.insert(p.id());
    }

    /// P3b: notes promises to former coordinators that a member has named.
    fn note_bounds(&mut self, env: &Env, bound: &[Bound]) {
        let (now, me, longest) = (env.cx.now.time, Process::from(env.cx.me), env.cx.config.timers.promise);
        if self.active {
            return;
        }
        for Bound { server, nonce, for_us } in bound {
            let process = Process { server: *server, nonce: *nonce };
            let until = now + Duration::from_micros(*for_us).min(longest);
            if process != me {
                let known = self.bounds.entry(process).or_insert(until);
                *known = until.max(*known);
            }
        }
    }

    /// A member misses entries before the last append.
    pub(crate) fn on_gap(&mut self, p: &PartitionState, env: &mut Env, from: ProcessId, last: Seq) {
        let now = env.cx.now.time;
        let Some(peer) = self.peers.get_mut(&from.server) else { return };
        let behind = peer.acked.is_none_or(|acked| acked <= last);
        if peer.process == Some(from) && behind && now.since(peer.moved) > RESEND / 10 {
            peer.rewind(now);
            env.touched.insert(p.id());
        }
    }

    /// The link to a member is new, or its process is: what was sent may be lost, and acknowledgements of an older
    /// process do not count (S2).
    pub(crate) fn on_peer_linked(&mut self, p: &PartitionState, env: &mut Env, server: ServerId, anew: Anew) {
        let now = env.cx.now.time;
        let Some(peer) = self.peers.get_mut(&server) else { return };
        if anew == Anew::Process {
            if let Stage::Snapshot(sending) = &peer.stage {
                sending.close(env, p.id());
            }
            *peer = Progress {
                awaited: peer.awaited,
                retained: peer.retained,
                acked_by_any: peer.acked_by_any,
                ..Progress::new(peer.member, now)
            };
        } else {
            peer.rewind(now);
        }
        env.touched.insert(p.id());
    }

    /// Keeps the log from the first entry on that a member still needs (J1).
    pub(super) fn settle_retained(&mut self, p: &PartitionState) {
        let reaching = p.reaching();
        let Self { peers, in_sync, voter, .. } = self;
        for (server, peer) in peers {
            let (Some(retained), Some(acked)) = (peer.retained, peer.acked) else { continue };
            let is_near = counts(in_sync, voter, *server) && acked >= reaching;
            peer.retained = (!is_near).then(|| retained.max(acked.next()));
        }
    }
}
