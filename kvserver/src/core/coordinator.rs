//! The coordinator of a partition: becomes active (P1-P4), orders writes and commits them (W1-W3), reads under
//! leases (L1-L3), and takes in joining members (J1-J3).
//!
//! States: *becoming* (its members are brought in step, promises run out), then *active*. Its log is never cut.
//! What it lacks on purpose: it never shrinks the in-sync set by itself, never counts fewer acknowledgements
//! because time has passed, and never answers a write as failed once it is in the log.

use std::collections::{BTreeMap, VecDeque};

use common::codec::Wire;
use common::ids::{Epoch, Incarnation, LogId, PartitionId, Seq, ServerId};
use common::limits::CLIENT_RETRY_FOR;
use common::messages::{Entry, PeerMessage, Reply, Run, Sender, ServerReport};
use common::operation::{Command, Found, Operation};
use common::time::Time;
use common::view::{Assignment, Member};

use super::copy::{PartitionCopy, Pending, Role};
use super::env::{After, Env, PendingRead, ReplyTo, Stray};
use super::io::{Answer, Ask, Effect, Query, ReadId, Reader};
use super::limits::{
    APPEND_BYTES_MAX, COMMIT_NOTICE, JOIN_LAG_MAX, JOINER_PATIENCE, PARKED_MAX, PENDING_MAX, REPORT_AGAIN,
    RESEND, RESEND_MAX, STREAM_WINDOW_BYTES,
};
use super::mutation::Mutation;
use super::transfer::Sending;

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
    /// Since when something is awaited of it; for reports of silence.
    awaited: Option<Time>,
}

impl Progress {
    fn new(member: Member, now: Time) -> Self {
        Self {
            member,
            incarnation: Incarnation::default(),
            stage: Stage::Probe { asked: None },
            acked: None,
            clean: false,
            moved: now,
            patience: RESEND,
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
    fn waits(&self, last: Seq) -> bool {
        match &self.stage {
            Stage::Stream { fresh, .. } => *fresh || self.acked.is_none_or(|acked| acked < last),
            Stage::Probe { .. } | Stage::Snapshot(_) => true,
        }
    }
}

/// The one joining member that counts before the ECS has answered.
#[derive(Debug)]
struct Extra {
    member: Member,
    incarnation: Incarnation,
    /// The note of the proposal is on disk.
    noted: bool,
    proposed: Option<Time>,
    since: Time,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) active: bool,
    /// Pings from this number on were sent after the epoch was adopted.
    ping_floor: u64,
    /// The last entry when the epoch was adopted: all of it is committed before anything new.
    adopted_last: Seq,
    /// The in-sync members but this server.
    in_sync: Vec<ServerId>,
    pub(crate) peers: BTreeMap<ServerId, Progress>,
    extra: Option<Extra>,
    /// Reads that wait for leases.
    reads: VecDeque<ReadId>,
    /// When members were last told of commits alone, without entries.
    noticed: Time,
}

impl Coordinator {
    pub(crate) fn new(
        env: &mut Env,
        partition: PartitionId,
        assignment: &Assignment,
        former: Option<Self>,
        last: Seq,
    ) -> Self {
        let mut coordinator = Self {
            active: env.mutated(Mutation::ServesBeforeSync),
            ping_floor: env.leases.next_ping(),
            adopted_last: last,
            in_sync: assignment.replicas().map(|member| member.server).collect(),
            peers: BTreeMap::new(),
            extra: None,
            reads: VecDeque::new(),
            noticed: env.now.time,
        };
        coordinator.relist(env, partition, assignment);
        if let Some(former) = former {
            // A copy under way goes on: what it holds is committed, so it serves every later epoch.
            for (server, old) in former.peers {
                let Stage::Snapshot(sending) = old.stage else { continue };
                match coordinator.peers.get_mut(&server) {
                    Some(peer) if peer.member == old.member => {
                        peer.incarnation = old.incarnation;
                        peer.stage = Stage::Snapshot(sending);
                        peer.rewind(env.now.time);
                    }
                    _ => sending.close(env, partition),
                }
            }
            coordinator.reads = former.reads;
        }
        coordinator
    }

    /// The members as the view lists them; joining ones come and go without a new epoch.
    pub(crate) fn relist(&mut self, env: &mut Env, partition: PartitionId, assignment: &Assignment) {
        let listed: Vec<Member> = assignment.replicas().chain(assignment.joining.iter().copied()).collect();
        let extra = self.extra.as_ref().map(|extra| extra.member);
        self.peers.retain(|_, peer| {
            let stays = listed.contains(&peer.member) || Some(peer.member) == extra;
            if let Stage::Snapshot(sending) = &peer.stage
                && !stays
            {
                sending.close(env, partition);
            }
            stays
        });
        for member in listed {
            self.peers.entry(member.server).or_insert_with(|| Progress::new(member, env.now.time));
        }
    }

    /// Ends the copies under way: this server no longer coordinates.
    pub(crate) fn close_transfers(&mut self, env: &mut Env, partition: PartitionId) {
        for peer in self.peers.values() {
            if let Stage::Snapshot(sending) = &peer.stage {
                sending.close(env, partition);
            }
        }
    }

    pub(crate) fn take_reads(&mut self) -> VecDeque<ReadId> {
        std::mem::take(&mut self.reads)
    }

    /// Whose acknowledgements and leases are needed.
    fn needed(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.in_sync.iter().copied().chain(self.extra.iter().map(|extra| extra.member.server))
    }

    /// Servers to ping.
    pub(crate) fn granters(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.peers.keys().copied()
    }

    /// The first entry that someone may still want from memory.
    pub(crate) fn needs_from(&self, reaching: Seq) -> Seq {
        let streamed = self.peers.values().filter_map(|peer| match &peer.stage {
            Stage::Stream { .. } => Some(peer.acked.map_or(reaching, |acked| acked.min(reaching))),
            _ => None,
        });
        streamed.min().unwrap_or(reaching).min(reaching).next()
    }

    pub(crate) fn is_busy(&self, last: Seq, commit: Seq) -> bool {
        let untold = |peer: &Progress| match &peer.stage {
            Stage::Stream { told, .. } => *told < commit,
            _ => true,
        };
        !self.active
            || !self.reads.is_empty()
            || self.extra.is_some()
            || self.peers.values().any(|peer| peer.waits(last) || untold(peer))
    }

    /// L1, L2: leases of all that count.
    fn may_read(&self, env: &Env, epoch: Epoch, applied: Seq) -> bool {
        self.may_read_at(env, epoch, applied, env.now.time)
    }

    /// `applied`: a former coordinator may have acknowledged anything of the log that this one began with, so the
    /// records must hold all of it before they are read. What was acknowledged since is applied anyway.
    pub(crate) fn may_read_at(&self, env: &Env, epoch: Epoch, applied: Seq, time: Time) -> bool {
        if env.mutated(Mutation::ReadWithoutLease) {
            return self.active && applied >= self.adopted_last;
        }
        self.active
            && applied >= self.adopted_last
            && self.needed().all(|server| {
                self.peers.get(&server).is_some_and(|peer| peer.acked.is_some())
                    && env.leases.holds(server, self.ping_floor, epoch, time)
            })
    }

    pub(crate) fn invariants(&self, last: Seq) {
        for peer in self.peers.values() {
            assert!(peer.acked.is_none_or(|acked| acked <= last), "acknowledged what was never sent");
        }
    }
}

impl PartitionCopy {
    fn coordinator(&mut self) -> Option<&mut Coordinator> {
        match &mut self.role {
            Role::Coordinator(coordinator) => Some(coordinator),
            _ => None,
        }
    }

    /// A request for this partition, at its coordinator.
    pub(crate) fn on_ask(&mut self, env: &mut Env, asked: Stray) {
        env.touched.insert(self.id);
        if !matches!(self.role, Role::Coordinator(_)) {
            return self.park(env, asked);
        }
        match asked {
            Stray { to, ask: Ask::Read(query), since, .. } => {
                let (partition, epoch, commit) = (self.id, self.epoch, self.commit);
                let read = PendingRead { to, partition, query, since, indexed: false, epoch, commit };
                let id = env.note_read(read);
                self.start_read(env, id);
            }
            asked => self.on_write(env, asked),
        }
    }

    fn on_write(&mut self, env: &mut Env, asked: Stray) {
        let Stray { to, ask, since, .. } = &asked;
        let (to, since) = (*to, *since);
        let Ask::Write { age_ms, operation, .. } = ask else { return };
        if let Err(error) = operation.check(env.config.value_bytes_max) {
            return env.reply(to, Reply::Refused { reason: error.to_string() });
        }
        if u128::from(*age_ms) > CLIENT_RETRY_FOR.as_millis() {
            let reason =
                format!("the write was first asked for {age_ms} ms ago; its outcome can no longer be told");
            return env.reply(to, Reply::Unknown { reason });
        }
        let full = self.pending.len() >= PENDING_MAX;
        match &self.role {
            Role::Coordinator(coordinator) if coordinator.active && !full => {
                self.order(env, to, asked.ask, since);
            }
            _ => self.park(env, asked),
        }
    }

    fn park(&mut self, env: &mut Env, asked: Stray) {
        if self.parked.len() < PARKED_MAX {
            self.parked.push_back(asked);
        } else {
            let reason = format!("partition {} has {PARKED_MAX} requests waiting, retry", self.id);
            asked.put_off(env, reason);
        }
    }

    /// W1: gives a write its place in the log.
    fn order(&mut self, env: &mut Env, to: ReplyTo, ask: Ask, since: Time) {
        let Ask::Write { origin, operation, .. } = ask else { return };
        let (to, origin) = match (to, origin) {
            (ReplyTo::Client { token, session: None }, None) => {
                let origin = env.session_origin();
                (ReplyTo::Client { token, session: Some(origin.number) }, Some(origin))
            }
            other => other,
        };
        let id = LogId { tag: self.epoch, seq: self.log.last().next() };
        let body = Command { origin, stamp: env.now.wall, operation }.to_wire();
        self.append(env, Entry { id, body });
        self.pending.push_back(Pending { seq: id.seq, to, since });
    }

    /// L2: reads the applied state if leases allow it; the clock is looked at again afterwards. What was committed when
    /// the read came must be applied: replicas that were told the commit may have shown it to somebody already.
    pub(crate) fn start_read(&mut self, env: &mut Env, id: ReadId) {
        let (epoch, applied) = (self.epoch, self.applied);
        let is_behind = env.reads.get(&id).is_some_and(|read| applied < read.commit);
        let Some(coordinator) = self.coordinator() else { return self.stray_read(env, id) };
        if coordinator.may_read(env, epoch, applied) && !is_behind {
            if let Some(read) = env.reads.get_mut(&id) {
                read.epoch = epoch;
            }
            env.issue_read(id);
        } else {
            coordinator.reads.push_back(id);
        }
    }

    fn stray_read(&mut self, env: &mut Env, id: ReadId) {
        let Some(read) = env.reads.remove(&id) else { return };
        let stray = Stray { to: read.to, ask: Ask::Read(read.query), since: read.since, maybe_done: false };
        env.strays.push(stray);
    }

    /// The state was read: answer if it was ours to read all the while.
    pub(crate) fn on_answered(&mut self, env: &mut Env, id: ReadId, answer: Answer) {
        let Some(read) = env.reads.get(&id) else { return };
        let (to, epoch, commit) = (read.to, read.epoch, read.commit);
        let (mine, applied) = (self.epoch, self.applied);
        env.touched.insert(self.id);
        let unchecked = env.mutated(Mutation::LeaseNotRechecked);
        let Some(coordinator) = self.coordinator() else { return self.stray_read(env, id) };
        if !unchecked && (epoch != mine || !coordinator.may_read(env, mine, applied)) {
            if matches!(answer, Answer::Nothing) {
                // The replica asks again.
                env.reads.remove(&id);
            } else {
                coordinator.reads.push_back(id);
            }
            return;
        }
        if let (Answer::Nothing, ReplyTo::Peer { server, n }) = (&answer, to) {
            env.reads.remove(&id);
            let (partition, epoch) = (self.id, mine);
            return env.out.send(server, PeerMessage::ReadIndexReply { partition, epoch, n, commit });
        }
        if expired(env, &answer) {
            return self.tick_log_time(env, id);
        }
        env.reads.remove(&id);
        env.reply(to, reply_of(answer));
    }

    /// A value has expired by this clock: log time is moved on at every copy before anyone is told.
    fn tick_log_time(&mut self, env: &mut Env, id: ReadId) {
        let ask = Ask::Write { origin: None, age_ms: 0, operation: Operation::Tick {} };
        let now = env.now.time;
        self.order(env, ReplyTo::Read(id), ask, now);
    }

    /// A replica asks up to where it must have applied.
    pub(crate) fn on_read_index(&mut self, env: &mut Env, from: ServerId, n: u64) {
        let (epoch, applied) = (self.epoch, self.applied);
        let (partition, commit, since) = (self.id, self.commit, env.now.time);
        let Some(coordinator) = self.coordinator() else { return };
        if !coordinator.may_read(env, epoch, applied) {
            return;
        }
        let to = ReplyTo::Peer { server: from, n };
        let read = PendingRead { to, partition, query: Query::Nothing, since, indexed: false, epoch, commit };
        let id = env.note_read(read);
        env.issue_read(id);
    }

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
        let now = env.now.time;
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&from.server)) else { return };
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
        peer.stage = match common {
            Some(common) if common.seq >= own_base => Stage::Stream {
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
        let (last, now) = (self.log.last(), env.now.time);
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
        let Some(peer) = self.coordinator().and_then(|c| c.peers.get_mut(&server)) else { return };
        if restarted {
            if let Stage::Snapshot(sending) = &peer.stage {
                sending.close(env, id);
            }
            *peer = Progress { awaited: peer.awaited, ..Progress::new(peer.member, now) };
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
        send_append(env, server, id, epoch, sync, prev, commit, entries, next, in_flight);
        *told = commit;
    }

    /// What the batch made possible.
    pub(crate) fn settle_coordinator(&mut self, env: &mut Env) {
        self.try_activate(env);
        if self.coordinator().is_some_and(|coordinator| coordinator.active) {
            while self.pending.len() < PENDING_MAX {
                let Some(asked) = self.parked.pop_front() else { break };
                self.on_ask(env, asked);
            }
        }
        self.stream(env, false);
        self.advance_commit(env);
        self.consider_joiners(env);
        self.retry_reads(env);
    }

    /// P3: active only when all in-sync members have the whole log as it was, and promises to former coordinators
    /// have run out (or those have acknowledged this epoch).
    fn try_activate(&mut self, env: &mut Env) {
        let (durable, now) = (self.log.durable(), env.now.time);
        self.promises.retain(|_, until| *until > now);
        let promises = &self.promises;
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        if coordinator.active || durable < coordinator.adopted_last {
            return;
        }
        let synced = |server: &ServerId| {
            let peer = coordinator.peers.get(server);
            peer.and_then(|peer| peer.acked).is_some_and(|acked| acked >= coordinator.adopted_last)
        };
        if !coordinator.in_sync.iter().all(synced) {
            return;
        }
        let released = |server: &ServerId| coordinator.peers.get(server).is_some_and(|peer| peer.clean);
        let free = promises.keys().all(released) && now >= env.bound_by_past;
        if free || env.mutated(Mutation::PromiseNotAwaited) {
            coordinator.active = true;
        }
    }

    /// W1: committed is what all that count have on disk.
    fn advance_commit(&mut self, env: &mut Env) {
        let own =
            if env.mutated(Mutation::OwnCopyBeforeFsync) { self.log.last() } else { self.log.durable() };
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        if !coordinator.active {
            return;
        }
        let acked =
            |server: ServerId| coordinator.peers.get(&server).and_then(|peer| peer.acked).unwrap_or_default();
        let mut acks: Vec<Seq> = if env.mutated(Mutation::JoinerNotAwaited) {
            coordinator.in_sync.iter().copied().map(acked).collect()
        } else {
            coordinator.needed().map(acked).collect()
        };
        if env.mutated(Mutation::AckWithoutOneReplica) && acks.len() > 1 {
            acks.sort_unstable();
            acks.remove(0);
        }
        let commit = acks.into_iter().min().unwrap_or(own).min(own);
        self.commit = self.commit.max(commit);
    }

    /// Sends what members lack. With `notice` also the commit alone, to those that were told an older one.
    fn stream(&mut self, env: &mut Env, notice: bool) {
        let (id, epoch, commit, now) = (self.id, self.epoch, self.commit, env.now.time);
        let reaching = self.reaching();
        let log = &self.log;
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        // One picture at a time for each partition: they share the pin of its log.
        let mut may_open = !coordinator.peers.values().any(Progress::has_open_picture);
        for (&server, peer) in &mut coordinator.peers {
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
                }
                Stage::Stream { next, in_flight, reading, told, fresh, .. } => {
                    let sync = peer.acked.is_none() || *fresh;
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

    /// J2: a joining member that has almost caught up counts from now on, and is proposed when it has all that is
    /// committed. One at a time: writes wait for it.
    fn consider_joiners(&mut self, env: &mut Env) {
        let (id, epoch, commit, last, now) =
            (self.id, self.epoch, self.commit, self.log.last(), env.now.time);
        let early = env.mutated(Mutation::ProposedBeforeCaughtUp);
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        if !coordinator.active {
            return;
        }
        if coordinator.extra.is_none() {
            let in_sync = &coordinator.in_sync;
            let near = |acked: Seq| last.0 - acked.0 <= JOIN_LAG_MAX;
            let joiner = coordinator.peers.iter().find(|(server, peer)| {
                !in_sync.contains(server)
                    && (peer.acked.is_some_and(near) || (early && peer.incarnation.0 > 0))
            });
            let Some((_, peer)) = joiner else { return };
            let (member, incarnation) = (peer.member, peer.incarnation);
            coordinator.extra = Some(Extra { member, incarnation, noted: false, proposed: None, since: now });
            self.mark.proposed_in = epoch;
            self.mark.proposed = vec![member];
            self.persist_mark(env);
            env.out.after(After::Proposed { partition: id, epoch, member });
            return;
        }
        let peers = &coordinator.peers;
        let Some(extra) = &mut coordinator.extra else { return };
        let peer = peers.get(&extra.member.server);
        let caught_up = peer.is_some_and(|peer| peer.acked.is_some_and(|acked| acked >= commit));
        if let Some(peer) = peer.filter(|_| caught_up) {
            // After a restart the joiner's acknowledgements were counted anew: they are those of its new process.
            extra.incarnation = peer.incarnation;
        }
        let again = extra.proposed.is_none_or(|at| now.since(at) >= REPORT_AGAIN);
        if extra.noted && again && (caught_up || early) {
            extra.proposed = Some(now);
            let (member, incarnation) = (extra.member, extra.incarnation);
            env.out.report(ServerReport::Propose { partition: id, epoch, member, incarnation });
        }
    }

    /// The note of a proposal is on disk.
    pub(crate) fn on_proposal_noted(&mut self, env: &mut Env, epoch: Epoch, member: Member) {
        if epoch != self.epoch {
            return;
        }
        let Some(coordinator) = self.coordinator() else { return };
        if let Some(extra) = coordinator.extra.as_mut().filter(|extra| extra.member == member) {
            extra.noted = true;
        }
        env.touched.insert(self.id);
    }

    /// Reads that waited for leases.
    fn retry_reads(&mut self, env: &mut Env) {
        let (epoch, applied) = (self.epoch, self.applied);
        let Some(coordinator) = self.coordinator() else { return };
        if coordinator.reads.is_empty() || !coordinator.may_read(env, epoch, applied) {
            return;
        }
        for id in coordinator.take_reads() {
            self.start_read(env, id);
        }
    }

    /// Sends again what was not answered, reports who is silent, gives up reads that waited too long.
    pub(crate) fn coordinator_tick(&mut self, env: &mut Env) {
        env.touched.insert(self.id);
        let (id, epoch, last, now) = (self.id, self.epoch, self.log.last(), env.now.time);
        let notice = self.coordinator().is_some_and(|coordinator| {
            let due = now.since(coordinator.noticed) >= COMMIT_NOTICE;
            if due {
                coordinator.noticed = now;
            }
            due
        });
        self.stream(env, notice);
        let mut late = Vec::new();
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let needed: Vec<ServerId> = coordinator.needed().collect();
        for (&server, peer) in &mut coordinator.peers {
            if !peer.waits(last) {
                peer.awaited = None;
                continue;
            }
            if now.since(peer.moved) >= peer.patience {
                peer.patience = (peer.patience * 2).min(RESEND_MAX);
                if let Stage::Snapshot(sending) = &peer.stage
                    && sending.is_lost()
                {
                    sending.close(env, id);
                    peer.stage = Stage::Probe { asked: None };
                }
                peer.rewind(now);
            }
            if matches!(&peer.stage, Stage::Snapshot(sending) if !sending.is_open()) {
                // It waits for its turn here.
                peer.awaited = None;
                continue;
            }
            let awaited = *peer.awaited.get_or_insert(now);
            // A joining member holds no write up, but a place, and the log of a copy under way.
            let patience = if needed.contains(&server) { 1 } else { JOINER_PATIENCE };
            if now.since(awaited) >= env.config.timers.report * patience {
                peer.awaited = Some(now);
                env.out.report(ServerReport::Silent { partition: id, epoch, member: server });
            }
        }
        if env.mutated(Mutation::ProposalDropped)
            && coordinator.extra.as_ref().is_some_and(|extra| now.since(extra.since) > REPORT_AGAIN / 4)
        {
            coordinator.extra = None;
        }
        while let Some(&read) = coordinator.reads.front() {
            if env.reads.get(&read).is_some_and(|read| now.since(read.since) <= env.config.park) {
                break;
            }
            coordinator.reads.pop_front();
            late.push(read);
        }
        for read in late {
            if let Some(read) = env.reads.remove(&read) {
                let reason = format!("partition {id} waits for the leases of its coordinator, retry");
                env.reply(read.to, Reply::Busy { reason });
            }
        }
    }
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

/// Whether something that was read has expired by this server's clock, though not yet in log time.
pub(crate) fn expired(env: &Env, answer: &Answer) -> bool {
    let gone = |found: &Found| found.expires.is_some_and(|expires| expires <= env.now.wall);
    match answer {
        Answer::Value(found) => found.as_ref().is_some_and(gone),
        Answer::Page { pairs, .. } => pairs.iter().any(|pair| gone(&pair.found)),
        Answer::Nothing => false,
    }
}

/// The reply to a client.
pub(crate) fn reply_of(answer: Answer) -> Reply {
    match answer {
        Answer::Value(found) => Reply::Value { found },
        Answer::Page { pairs, more } => Reply::Page { pairs, more },
        Answer::Nothing => Reply::Value { found: None },
    }
}
