//! What a coordinator knows of each member, and sending it the log: probed, brought in step (P2), streamed to.

use std::collections::VecDeque;

use common::ids::{Epoch, Incarnation, LogId, PartitionId, Seq, ServerId};
use common::messages::{Entry, PeerMessage, Run, Sender};
use common::time::Time;
use common::view::Member;

use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::io::{Effect, Reader};
use super::super::limits::{APPEND_BYTES_MAX, RESEND, STREAM_WINDOW_BYTES};
use super::super::transfer::Sending;
use super::{Coordinator, Extra};

/// Where a member stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It is asked what its log holds.
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
        /// The commit that it was last told.
        told: Seq,
        /// It has acknowledged nothing since it was probed: an acknowledgement is asked for, even of nothing new.
        fresh: bool,
    },
    /// It gets a copy of the state.
    Snapshot(Box<Sending>),
}

/// What the coordinator knows of one member.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) member: Member,
    /// Its process; acknowledgements of an older one do not count.
    pub(crate) incarnation: Incarnation,
    pub(crate) stage: Stage,
    /// Acknowledged in this epoch; `None`: not in step yet.
    pub(crate) acked: Option<Seq>,
    /// It holds no read lease of its own giving.
    pub(crate) clean: bool,
    /// When it last moved on, and the present time-out.
    pub(crate) moved: Time,
    pub(crate) patience: std::time::Duration,
    /// The first entry that the log is to keep for it: it has what comes before, or gets it with a copy. None when what
    /// it lacks is not applied, and so not trimmed, without its acknowledgement, or when it is silent.
    pub(crate) hold: Option<Seq>,
    /// Since when something is awaited of it, as [`Env::watched`](super::super::env::Env::watched) counts; for reports of silence.
    pub(super) awaited: Option<Time>,
}

impl Progress {
    pub(super) fn new(member: Member, now: Time) -> Self {
        Self {
            member,
            incarnation: Incarnation::default(),
            stage: Stage::Probe { asked: None },
            acked: None,
            clean: false,
            moved: now,
            patience: RESEND,
            hold: None,
            awaited: None,
        }
    }

    pub(crate) fn on_moved(&mut self, now: Time) {
        self.moved = now;
        self.patience = RESEND;
        self.awaited = None;
    }

    /// Begins anew with what was acknowledged (or with the question what there is).
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

    /// Something was sent that is not answered.
    pub(super) fn waits(&self, last: Seq) -> bool {
        match &self.stage {
            Stage::Stream { fresh, .. } => *fresh || self.acked.is_none_or(|acked| acked < last),
            Stage::Probe { .. } | Stage::Snapshot(_) => true,
        }
    }
}

impl PartitionCopy {
    /// P2: a member has told what its log holds.
    pub(crate) fn on_sync_reply(
        &mut self,
        env: &mut Env,
        from: Sender,
        base: LogId,
        last: LogId,
        runs: &[Run],
    ) {
        let common = self.log.common_point(base, last, runs);
        let own_base = self.log.base().seq;
        let (now, reaching) = (env.now.time, self.reaching());
        let begins = last == LogId::default() && reaching.0 >= env.config.copy_from && !self.mark.failed;
        let Some(coordinator) = self.coordinator() else { return };
        let counts = coordinator.needed().any(|server| server == from.server);
        let Some(peer) = coordinator.peers.get_mut(&from.server) else { return };
        // A member that is not in step may tell it again: its log was not what it had told.
        let asked = match peer.stage {
            Stage::Probe { .. } => true,
            Stage::Stream { .. } => peer.acked.is_none(),
            Stage::Snapshot(_) => false,
        };
        if peer.member.store != from.store || !asked {
            return;
        }
        peer.incarnation = from.incarnation;
        peer.on_moved(now);
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
    pub(crate) fn on_ack(&mut self, env: &mut Env, from: Sender, seq: Seq, clean: bool) {
        let (id, last, now) = (self.id, self.log.last(), env.now.time);
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&from.server)) else { return };
        if peer.member.store != from.store || peer.incarnation != from.incarnation || seq > last {
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
            peer.on_moved(now);
            env.trace_acknowledged_by(id, seq, from.server);
        }
        peer.clean |= clean;
        env.touched.insert(self.id);
    }

    /// A member misses something before the last append.
    pub(crate) fn on_gap(&mut self, env: &mut Env, from: Sender, last: Seq) {
        let now = env.now.time;
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&from.server)) else { return };
        let behind = peer.acked.is_none_or(|acked| acked <= last);
        if peer.incarnation == from.incarnation && behind && now.since(peer.moved) > RESEND / 10 {
            peer.rewind(now);
            env.touched.insert(self.id);
        }
    }

    /// The link to a member is new, or it is a new process: what was sent may be lost, and what an older process
    /// acknowledged does not count (S2).
    pub(crate) fn on_peer_linked(&mut self, env: &mut Env, server: ServerId, restarted: bool) {
        let (id, now) = (self.id, env.now.time);
        if restarted {
            // Its former process took its read leases with it.
            self.read_grants.remove(&server);
        }
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&server)) else { return };
        if restarted {
            if let Stage::Snapshot(sending) = &peer.stage {
                sending.close(env, id);
            }
            *peer = Progress { awaited: peer.awaited, hold: peer.hold, ..Progress::new(peer.member, now) };
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
        let (id, epoch, commit, now) = (self.id, self.epoch, self.commit, env.now.time);
        let log = &self.log;
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let counts = coordinator.needed().any(|needed| needed == server);
        let Some(peer) = coordinator.peers.get_mut(&server) else { return };
        let Stage::Stream { next, in_flight, reading, told, fresh, .. } = &mut peer.stage else { return };
        if !std::mem::take(reading) {
            return;
        }
        env.touched.insert(id);
        let Some(mut entries) = entries else {
            // Trimmed meanwhile: what the member lacks is only in the state.
            peer.stage = Stage::Probe { asked: None };
            peer.moved = now;
            return;
        };
        // Entries that were cut and written again since are not what the log says now.
        entries.retain(|entry| log.contains(entry.id));
        if entries.first().is_none_or(|entry| entry.id.seq != *next) {
            return;
        }
        let Some(prev) = log.id_at(Seq(next.0 - 1)) else { return };
        let sync = peer.acked.is_none() || *fresh;
        if !counts {
            count_caught_up(env, &entries);
        }
        send_append(env, server, id, epoch, sync, prev, commit, entries, next, in_flight);
        *told = commit;
    }

    /// Keeps the log from the first entry on that a member still needs of it (J1).
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

    /// Sends what members lack. With `notice` also the commit alone, to those that were told an older one.
    pub(super) fn stream(&mut self, env: &mut Env, notice: bool) {
        let (id, epoch, commit, now) = (self.id, self.epoch, self.commit, env.now.time);
        let reaching = self.reaching();
        let log = &self.log;
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let Coordinator { peers, in_sync, extra, .. } = &mut **coordinator;
        // One picture at a time for each partition: members of one partition do not hurry each other.
        let mut may_open = !self.mark.failed && !peers.values().any(Progress::has_open_picture);
        for (&server, peer) in peers {
            match &mut peer.stage {
                Stage::Probe { asked } if asked.is_none() => {
                    *asked = Some(now);
                    env.out.send(server, PeerMessage::SyncRequest { partition: id, epoch });
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
                            send_append(env, server, id, epoch, sync, prev, commit, entries, next, in_flight);
                            *told = commit;
                        } else {
                            *reading = true;
                            env.out.effect(Effect::ReadLog {
                                partition: id,
                                reader: Reader::Member(server),
                                from: *next,
                                bytes_max: APPEND_BYTES_MAX,
                            });
                        }
                    }
                    if was_idle && !in_flight.is_empty() {
                        // Nothing was awaited before: its time to answer begins now.
                        peer.moved = now;
                    }
                    if is_trimmed {
                        // While it did not answer, the log was trimmed beyond what it has.
                        peer.stage = Stage::Probe { asked: None };
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

/// Entries for a member that does not count yet.
fn count_caught_up(env: &mut Env, entries: &[Entry]) {
    env.caught_up.log_entries += entries.len() as u64;
    env.caught_up.log_bytes += entries.iter().map(|entry| entry.body.len() as u64).sum::<u64>();
}

/// One append, and the note that it is under way.
#[expect(clippy::too_many_arguments, reason = "the fields of one message and of its sender's bookkeeping")]
fn send_append(
    env: &mut Env,
    to: ServerId,
    partition: PartitionId,
    epoch: Epoch,
    sync: bool,
    prev: LogId,
    commit: Seq,
    entries: Vec<Entry>,
    next: &mut Seq,
    in_flight: &mut VecDeque<(Seq, usize)>,
) {
    let bytes: usize = entries.iter().map(|entry| entry.body.len() + 1).sum();
    let last = entries.last().map_or(prev.seq, |entry| entry.id.seq);
    if sync || bytes > 0 {
        in_flight.push_back((last, bytes));
    }
    *next = last.next();
    env.out.send(to, PeerMessage::Append { partition, epoch, sync, prev, commit, entries });
}
