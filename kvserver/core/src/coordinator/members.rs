//! What a coordinator knows of each member, and how it sends it the log: the member is probed, brought in step (P2),
//! and streamed to.

use std::collections::VecDeque;
use std::time::Duration;

use common::ids::{Epoch, Incarnation, LogId, Nonce, PartitionId, Seq, ServerId};
use common::messages::{Bound, Entry, Run, Sender, ServerReport, ToReplica};
use common::time::Time;
use common::view::Member;

use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::io::{Later, Reader};
use super::super::limits::{APPEND_BYTES_MAX, RESEND, STREAM_WINDOW_BYTES};
use super::super::planted::PlantedBug;
use super::super::process::Process;
use super::super::transfer::Sending;
use super::reconcile::Claim;
use super::{Coordinator, Extra};

/// The stage of a member at its coordinator, as in etcd's raft.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It is asked what its log has.
    Probe {
        /// When it was last asked.
        asked: Option<Time>,
    },
    /// Entries are sent to it.
    Stream {
        /// The common point of both logs when it was probed.
        common: LogId,
        /// The next entry to send.
        next: Seq,
        /// By append in flight: last entry and bytes.
        in_flight: VecDeque<(Seq, usize)>,
        /// Entries for it are being read back.
        reading: bool,
        /// The commit that it was last sent.
        told: Seq,
        /// It has acknowledged nothing since it was probed: the coordinator asks for an acknowledgement, even without
        /// new entries.
        fresh: bool,
    },
    /// It gets a copy of the state.
    Snapshot(Box<Sending>),
}

/// What the coordinator knows of one member.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) member: Member,
    /// Its process, once that has said what its log has; acknowledgements of another process do not count (S2).
    pub(crate) process: Option<Sender>,
    /// What it said about its log.
    pub(super) claim: Option<Claim>,
    pub(crate) stage: Stage,
    /// The last entry that it acknowledged in this epoch; `None`: none yet. With the no-op of the epoch it is in step.
    pub(crate) acked: Option<Seq>,
    /// P5: the last entry that any process of the member has acknowledged in this epoch.
    acked_by_any: Option<Seq>,
    /// P4: its last acknowledgement was clean: no read lease that it gave may still run.
    pub(crate) clean: bool,
    /// When it last made progress, and the present time-out.
    pub(crate) moved: Time,
    pub(crate) patience: std::time::Duration,
    /// The first entry that the log is to keep for it: it has what comes before, or gets it with a copy. `None` when
    /// the entries that it lacks cannot be applied, and so trimmed, without its acknowledgement, or when it is silent.
    pub(crate) hold: Option<Seq>,
    /// Since when an answer is awaited of it, as [`Context::watched`](crate::context::Context::watched) counts; for
    /// reports of silence.
    pub(super) awaited: Option<Time>,
}

impl Progress {
    pub(super) fn new(member: Member, now: Time) -> Self {
        Self {
            member,
            process: None,
            claim: None,
            stage: Stage::Probe { asked: None },
            acked: None,
            acked_by_any: None,
            clean: false,
            moved: now,
            patience: RESEND,
            hold: None,
            awaited: None,
        }
    }

    /// The incarnation of its process.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.process.map(|process| process.incarnation).unwrap_or_default()
    }

    /// Asks again what its log has.
    pub(crate) fn probe_again(&mut self) {
        self.claim = None;
        self.stage = Stage::Probe { asked: None };
    }

    pub(crate) fn on_moved(&mut self, now: Time) {
        self.moved = now;
        self.patience = RESEND;
        self.awaited = None;
    }

    /// Sends again from what was acknowledged, or asks again what its log has.
    pub(crate) fn rewind(&mut self, now: Time) {
        self.moved = now;
        match &mut self.stage {
            Stage::Probe { asked } => *asked = None,
            Stage::Stream { common, next, in_flight, told, .. } => {
                *next = self.acked.unwrap_or(common.seq).max(common.seq).next();
                in_flight.clear();
                *told = Seq::default();
            }
            Stage::Snapshot(sending) => sending.rewind(),
        }
    }

    fn has_open_picture(&self) -> bool {
        matches!(&self.stage, Stage::Snapshot(sending) if sending.is_open())
    }

    /// Whether something was sent that is not answered.
    pub(super) fn waits(&self, last: Seq) -> bool {
        match &self.stage {
            Stage::Stream { fresh, .. } => *fresh || self.acked.is_none_or(|acked| acked < last),
            // After its answer the member waits for the log of the epoch.
            Stage::Probe { .. } => self.claim.is_none(),
            Stage::Snapshot(_) => true,
        }
    }
}

impl PartitionCopy {
    /// A member has said what its log has: for P1, and for P2 when the log of the epoch is known.
    pub(crate) fn on_sync_reply(
        &mut self,
        env: &mut Env,
        from: Sender,
        base: LogId,
        last: LogId,
        runs: &[Run],
    ) {
        let (id, epoch, now) = (self.id, self.epoch, env.cx.now.time);
        let Some(coordinator) = self.coordinator() else { return };
        let Some(peer) = coordinator.peers.get_mut(&from.server) else { return };
        // A member that is not in step may send it again: its log was not what it had said.
        let asked = match peer.stage {
            Stage::Probe { .. } => true,
            Stage::Stream { .. } => peer.acked.is_none(),
            Stage::Snapshot(_) => false,
        };
        if peer.member.store != from.store || !asked {
            return;
        }
        peer.process = Some(from);
        peer.claim = Some(Claim { base, last, runs: runs.to_vec() });
        peer.on_moved(now);
        let member = peer.member;
        let counts = coordinator.in_sync.contains(&from.server);
        let lost = peer.acked_by_any.filter(|acked| counts && *acked > last.seq);
        if coordinator.fetch.as_ref().is_some_and(|fetch| fetch.from == from.server) {
            // It no longer has what it claimed before: P1 begins again.
            coordinator.fetch = None;
        }
        let is_chosen = coordinator.begin.is_some();
        if let Some(acked) = lost {
            env.out.alarm(format!(
                "partition {id}: server {} had acknowledged entries up to {acked} in this epoch, and after its restart \
                 its log ends at {last}: its disk has lost what it had synced",
                from.server.short()
            ));
            env.out.report(ServerReport::LostEntries { partition: id, epoch, member });
        }
        if is_chosen {
            self.bring_in_step(env, from.server);
        }
        env.touched.insert(id);
    }

    /// P2: begins to send a member the log of the epoch from the common point on, or a copy of the state.
    pub(super) fn bring_in_step(&mut self, env: &mut Env, server: ServerId) {
        let Role::Coordinator(coordinator) = &self.role else { return };
        let Some(claim) = coordinator.peers.get(&server).and_then(|peer| peer.claim.clone()) else { return };
        let common = self.log.common_point(claim.base, claim.last, &claim.runs);
        let own_base = self.log.base().seq;
        let reaching = self.reaching();
        let begins =
            claim.last == LogId::default() && reaching.0 >= env.cx.config.copy_from && !self.disk.mark.failed;
        let Some(coordinator) = self.coordinator() else { return };
        let counts = coordinator.needed().any(|needed| needed == server);
        let Some(peer) = coordinator.peers.get_mut(&server) else { return };
        if matches!(peer.stage, Stage::Snapshot(_)) {
            return;
        }
        let by_copy = begins && !counts;
        let streams = common.filter(|common| common.seq >= own_base && !by_copy);
        peer.hold = streams.filter(|common| !counts || common.seq < reaching).map(|common| common.seq.next());
        peer.stage = match streams {
            Some(common) => Stage::Stream {
                common,
                next: common.seq.next(),
                in_flight: VecDeque::new(),
                reading: false,
                told: Seq::default(),
                fresh: true,
            },
            _ => Stage::Snapshot(Box::new(Sending::new())),
        };
        env.touched.insert(self.id);
    }

    /// A member has the log on disk up to `seq`.
    pub(crate) fn on_ack(&mut self, env: &mut Env, from: Sender, seq: Seq, clean: bool, bound: &[Bound]) {
        let (id, last, now) = (self.id, self.log.last(), env.cx.now.time);
        self.note_bounds(env, bound);
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&from.server)) else { return };
        if peer.member.store != from.store || peer.process != Some(from) || seq > last {
            return;
        }
        let Stage::Stream { next, in_flight, fresh, .. } = &mut peer.stage else { return };
        *fresh = false;
        while in_flight.front().is_some_and(|(sent, _)| *sent <= seq) {
            in_flight.pop_front();
        }
        *next = (*next).max(seq.next());
        if peer.acked.is_none_or(|acked| acked < seq) {
            peer.acked = Some(seq);
            peer.acked_by_any = peer.acked_by_any.max(Some(seq));
            peer.on_moved(now);
            env.trace_acknowledged_by(id, seq, from.server);
        }
        peer.clean |= clean;
        env.touched.insert(self.id);
    }

    /// P3b: notes promises to former coordinators that a member has named.
    fn note_bounds(&mut self, env: &Env, bound: &[Bound]) {
        let (now, me, longest) = (env.cx.now.time, Process::from(env.cx.me), env.cx.config.timers.promise);
        let Some(coordinator) = self.coordinator().filter(|coordinator| !coordinator.active) else { return };
        for Bound { server, nonce, for_us } in bound {
            let process = Process { server: *server, nonce: *nonce };
            let until = now + Duration::from_micros(*for_us).min(longest);
            if process != me {
                let known = coordinator.bounds.entry(process).or_insert(until);
                *known = until.max(*known);
            }
        }
    }

    /// A member misses entries before the last append.
    pub(crate) fn on_gap(&mut self, env: &mut Env, from: Sender, last: Seq) {
        let now = env.cx.now.time;
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&from.server)) else { return };
        let behind = peer.acked.is_none_or(|acked| acked <= last);
        if peer.process == Some(from) && behind && now.since(peer.moved) > RESEND / 10 {
            peer.rewind(now);
            env.touched.insert(self.id);
        }
    }

    /// The link to a member is new, or its process is: what was sent may be lost, and acknowledgements of an older
    /// process do not count (S2).
    pub(crate) fn on_peer_linked(&mut self, env: &mut Env, server: ServerId, restarted: bool) {
        let (id, now) = (self.id, env.cx.now.time);
        if restarted && env.cx.planted(PlantedBug::RestartEndsReadLease) {
            self.given.read_grants.retain(|process, _| process.server != server);
        }
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&server)) else { return };
        if restarted {
            if let Stage::Snapshot(sending) = &peer.stage {
                sending.close(env, id);
            }
            *peer = Progress {
                awaited: peer.awaited,
                hold: peer.hold,
                acked_by_any: peer.acked_by_any,
                ..Progress::new(peer.member, now)
            };
        } else {
            peer.rewind(now);
        }
        env.touched.insert(self.id);
    }

    /// Entries for a member were read back from the commit log.
    pub(crate) fn on_read_for_member(
        &mut self,
        env: &mut Env,
        server: ServerId,
        entries: Option<Vec<Entry>>,
    ) {
        let (id, epoch, commit, now) = (self.id, self.epoch, self.commit, env.cx.now.time);
        let log = &self.log;
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let counts = coordinator.needed().any(|needed| needed == server);
        let Some(peer) = coordinator.peers.get_mut(&server) else { return };
        let process = peer.process.map(|process| process.nonce).unwrap_or_default();
        let Stage::Stream { next, in_flight, reading, told, fresh, .. } = &mut peer.stage else { return };
        if !std::mem::take(reading) {
            return;
        }
        env.touched.insert(id);
        let Some(mut entries) = entries else {
            // The log was trimmed meanwhile: what the member lacks is only in the state.
            peer.probe_again();
            peer.moved = now;
            return;
        };
        // Entries that were cut and replaced since are not in the log any more.
        entries.retain(|entry| log.contains(entry.id));
        if entries.first().is_none_or(|entry| entry.id.seq != *next) {
            return;
        }
        let Some(prev) = log.id_at(Seq(next.0 - 1)) else { return };
        let sync = (peer.acked.is_none() || *fresh).then_some(process);
        if !counts {
            count_caught_up(env, &entries);
        }
        send_append(env, server, id, epoch, sync, prev, commit, entries, next, in_flight);
        *told = commit;
    }

    /// Keeps the log from the first entry on that a member still needs (J1).
    pub(super) fn settle_holds(&mut self) {
        let reaching = self.reaching();
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let Coordinator { peers, in_sync, extra, .. } = &mut **coordinator;
        for (server, peer) in peers {
            let (Some(hold), Some(acked)) = (peer.hold, peer.acked) else { continue };
            let is_near = counts(in_sync, extra, *server) && acked >= reaching;
            peer.hold = (!is_near).then(|| hold.max(acked.next()));
        }
    }

    /// Sends members the entries that they lack. With `notice` also the commit alone, to those that were sent an older
    /// one.
    pub(super) fn stream(&mut self, env: &mut Env, notice: bool) {
        let (id, epoch, commit, now) = (self.id, self.epoch, self.commit, env.cx.now.time);
        let reaching = self.reaching();
        let log = &self.log;
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        if coordinator.disagreement.is_some() {
            return;
        }
        let Coordinator { peers, in_sync, extra, .. } = &mut **coordinator;
        // One snapshot is read at a time for each partition, also where several of its members need one.
        let mut may_open = !self.disk.mark.failed && !peers.values().any(Progress::has_open_picture);
        for (&server, peer) in peers {
            let process = peer.process.map(|process| process.nonce).unwrap_or_default();
            match &mut peer.stage {
                Stage::Probe { asked } if asked.is_none() => {
                    *asked = Some(now);
                    env.out.send(server, ToReplica::SyncRequest {}.about(id, epoch));
                }
                Stage::Probe { .. } => {}
                Stage::Snapshot(sending) => {
                    let base = log.id_at(reaching).filter(|_| may_open);
                    sending.advance(env, server, id, epoch, base);
                    may_open &= !sending.is_open();
                    if let Some(base) = sending.base() {
                        peer.hold = Some(base.seq.next());
                    }
                }
                Stage::Stream { next, in_flight, reading, told, fresh, .. } => {
                    let sync = peer.acked.is_none() || *fresh;
                    if *next == log.last().next() && !sync && !(notice && *told < commit) {
                        continue;
                    }
                    let (was_idle, mut is_trimmed) = (in_flight.is_empty(), false);
                    loop {
                        let window: usize = in_flight.iter().map(|(_, bytes)| *bytes).sum();
                        // The first append of an epoch travels alone: only it may shorten the member's log.
                        if *reading || window >= STREAM_WINDOW_BYTES || (sync && !in_flight.is_empty()) {
                            break;
                        }
                        let Some(prev) = log.id_at(Seq(next.0 - 1)) else {
                            is_trimmed = true;
                            break;
                        };
                        if *next > log.last() {
                            if sync || (notice && *told < commit) {
                                let entries = Vec::new();
                                let sync = sync.then_some(process);
                                send_append(
                                    env, server, id, epoch, sync, prev, commit, entries, next, in_flight,
                                );
                                *told = commit;
                            }
                            break;
                        }
                        if let Some(entries) = log.in_memory(*next, APPEND_BYTES_MAX) {
                            if !counts(in_sync, extra, server) {
                                count_caught_up(env, &entries);
                            }
                            let sync = sync.then_some(process);
                            send_append(env, server, id, epoch, sync, prev, commit, entries, next, in_flight);
                            *told = commit;
                        } else {
                            *reading = true;
                            env.out.effect(Later::ReadLog {
                                partition: id,
                                reader: Reader::Member(server),
                                from: *next,
                                bytes_max: APPEND_BYTES_MAX,
                            });
                        }
                    }
                    if was_idle && !in_flight.is_empty() {
                        // No answer was awaited before: its time to answer begins now.
                        peer.moved = now;
                    }
                    if is_trimmed {
                        // The log was trimmed beyond what it has while it did not answer.
                        peer.probe_again();
                        peer.moved = now;
                    }
                }
            }
        }
    }
}

/// Whether a server is one of [`Coordinator::needed`].
fn counts(in_sync: &[ServerId], extra: &Option<Extra>, server: ServerId) -> bool {
    in_sync.contains(&server) || extra.as_ref().is_some_and(|extra| extra.member.server == server)
}

/// Counts entries for a member that does not count yet (`caught_up`).
fn count_caught_up(env: &mut Env, entries: &[Entry]) {
    env.transfers.caught_up.log_entries += entries.len() as u64;
    env.transfers.caught_up.log_bytes += entries.iter().map(|entry| entry.body.len() as u64).sum::<u64>();
}

/// Sends one append, and notes that it is under way.
#[expect(clippy::too_many_arguments, reason = "the fields of one message and of its sender's bookkeeping")]
fn send_append(
    env: &mut Env,
    to: ServerId,
    partition: PartitionId,
    epoch: Epoch,
    sync: Option<Nonce>,
    prev: LogId,
    commit: Seq,
    entries: Vec<Entry>,
    next: &mut Seq,
    in_flight: &mut VecDeque<(Seq, usize)>,
) {
    let bytes: usize = entries.iter().map(|entry| entry.body.len() + 1).sum();
    let last = entries.last().map_or(prev.seq, |entry| entry.id.seq);
    if sync.is_some() || bytes > 0 {
        in_flight.push_back((last, bytes));
    }
    *next = last.next();
    env.out.send(to, ToReplica::Append { sync, prev, commit, entries }.about(partition, epoch));
}
