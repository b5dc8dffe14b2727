//! The coordinator of a partition: becomes active (P1-P4), orders writes and commits them (W1-W3), reads under
//! leases (L1-L3), and takes in joining members (J1-J3).
//!
//! States: *becoming* (its members are brought in step, promises run out), then *active*. Its log is never cut.
//! What it lacks on purpose: it never shrinks the in-sync set by itself, never counts fewer acknowledgements
//! because time has passed, and never answers a write as failed once it is in the log.

mod becoming;
mod grants;
mod joining;
mod members;
mod reads;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{Epoch, LogId, PartitionId, Seq, ServerId};
use common::limits::CLIENT_RETRY_FOR;
use common::messages::{Entry, Reply, Sender, ServerReport};
use common::operation::{Command, InvalidOperation};
use common::status::TransferStatus;
use common::time::Time;
use common::view::{Assignment, Member};

pub(crate) use members::{Progress, Stage};
pub(crate) use reads::{expired, reply_of};

use joining::Extra;

use super::ask::Ask;
use super::compare::Comparison;
use super::copy::{PartitionCopy, Pending, Role};
use super::env::{Env, PendingRead, Reads, ReplyTo, Stray};
use super::io::ReadId;
use super::keys::is_gathered;
use super::limits::{
    COMMAND_BYTES, COMMIT_NOTICE, JOINER_PATIENCE, PARKED_MAX, PENDING_MAX, REPORT_AGAIN, RESEND_MAX,
};
use super::mutation::Mutation;
use super::traces::TraceStep;

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
    pub(crate) comparison: Option<Comparison>,
}

impl Coordinator {
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

    /// The first entry that the log is to keep for members.
    pub(crate) fn hold(&self) -> Option<Seq> {
        self.peers.values().filter_map(|peer| peer.hold).min()
    }

    /// For people: the copies that are being sent.
    pub(crate) fn transfers(&self, now: Time, partition: PartitionId, me: ServerId) -> Vec<TransferStatus> {
        let status = |(&server, peer): (&ServerId, &Progress)| match &peer.stage {
            Stage::Snapshot(sending) => sending.status(now, partition, me, server),
            _ => None,
        };
        self.peers.iter().filter_map(status).collect()
    }

    pub(crate) fn take_reads(&mut self) -> VecDeque<ReadId> {
        std::mem::take(&mut self.reads)
    }

    /// Whose acknowledgements and leases are needed.
    fn needed(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.in_sync.iter().copied().chain(self.extra.iter().map(|extra| extra.member.server))
    }

    /// Whether the member that counts has promised, as [`Leases::holds`](super::lease::Leases::holds).
    fn holds_lease(&self, env: &Env, server: ServerId, epoch: Epoch, time: Time) -> bool {
        let peer = self.peers.get(&server);
        peer.is_some_and(|peer| env.leases.holds(peer.member, self.ping_floor, epoch, time))
    }

    /// The records hold all that a former coordinator may have acknowledged.
    pub(crate) fn has_applied_all(&self, applied: Seq) -> bool {
        self.active && applied >= self.adopted_last
    }

    pub(crate) fn has_replicas(&self) -> bool {
        !self.in_sync.is_empty()
    }

    /// The in-sync members but this server.
    pub(crate) fn replicas(&self) -> Vec<ServerId> {
        self.in_sync.clone()
    }

    /// An in-sync member speaks, with the store that counts.
    pub(crate) fn is_replica(&self, from: Sender) -> bool {
        let counts = self.in_sync.contains(&from.server);
        counts && self.peers.get(&from.server).is_some_and(|peer| peer.member.store == from.store)
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
            || commit < last
            || !self.reads.is_empty()
            || self.extra.is_some()
            || self.comparison.is_some()
            || self.peers.values().any(|peer| peer.waits(last) || untold(peer))
    }

    /// L1, L2: leases of all that count.
    fn may_read(&self, env: &Env, epoch: Epoch, applied: Seq) -> bool {
        self.may_read_at(env, epoch, applied, env.now.time)
    }

    /// 7.1: what is left of the leases that this coordinator reads under.
    fn lease_left(&self, env: &Env, epoch: Epoch, applied: Seq) -> Option<Duration> {
        let now = env.now.time;
        let until = self.needed().map(|server| {
            let member = self.peers.get(&server)?.member;
            env.leases.until(member, self.ping_floor, epoch)
        });
        let until = until.min().flatten().filter(|_| self.may_read(env, epoch, applied))?;
        Some(until.since(now))
    }

    /// L2, or section 6.3: whether a read that began when ping `floor` was the next one may be answered.
    fn may_serve(&self, env: &Env, epoch: Epoch, applied: Seq, floor: u64) -> bool {
        match env.config.reads {
            Reads::Lease => self.may_read(env, epoch, applied),
            Reads::Barrier => {
                self.active
                    && applied >= self.adopted_last
                    && (self.unconfirmed(env, epoch, floor).next().is_none()
                        || env.mutated(Mutation::BarrierNotAwaited))
            }
        }
    }

    /// Members that have not confirmed the epoch since ping `floor` was the next one.
    fn unconfirmed<'a>(
        &'a self,
        env: &'a Env,
        epoch: Epoch,
        floor: u64,
    ) -> impl Iterator<Item = ServerId> + 'a {
        let floor = floor.max(self.ping_floor);
        self.needed().filter(move |server| {
            self.peers
                .get(server)
                .is_none_or(|peer| peer.acked.is_none() || !env.leases.confirmed(peer.member, floor, epoch))
        })
    }

    /// `applied`: a former coordinator may have acknowledged anything of the log that this one began with, so the
    /// records must hold all of it before they are read. What was acknowledged since is applied anyway.
    pub(crate) fn may_read_at(&self, env: &Env, epoch: Epoch, applied: Seq, time: Time) -> bool {
        if env.config.reads == Reads::Barrier {
            return false;
        }
        if env.mutated(Mutation::ReadWithoutLease) {
            return self.active && applied >= self.adopted_last;
        }
        let holds = |server: &ServerId| {
            self.peers.get(server).is_some_and(|peer| peer.acked.is_some())
                && self.holds_lease(env, *server, epoch, time)
        };
        let leased = if env.mutated(Mutation::LeaseOfMajority) {
            2 * self.needed().filter(holds).count() >= self.needed().count()
        } else if env.mutated(Mutation::LeaseIgnoresJoiner) {
            self.in_sync.iter().all(holds)
        } else {
            self.needed().all(|server| holds(&server))
        };
        self.active && applied >= self.adopted_last && leased
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
        if !matches!(self.role, Role::Coordinator(_)) {
            return self.park(env, asked);
        }
        if matches!(asked.ask, Ask::Write { .. }) && !self.parked.is_empty() {
            // No write passes those that wait.
            return self.park(env, asked);
        }
        self.admit(env, asked);
    }

    /// A request whose turn it is.
    fn admit(&mut self, env: &mut Env, asked: Stray) {
        match asked {
            Stray { to, ask: Ask::Read(query), since, .. } => {
                let (partition, epoch, commit) = (self.id, self.epoch, self.commit);
                let floor = env.leases.next_ping();
                let (indexed, alone) = (false, false);
                let read = PendingRead { to, partition, query, since, indexed, alone, floor, epoch, commit };
                let id = env.note_read(read);
                self.start_read(env, id);
            }
            asked => self.on_write(env, asked),
        }
    }

    fn on_write(&mut self, env: &mut Env, asked: Stray) {
        let Stray { to, ask, since, maybe_done } = &asked;
        let (to, since) = (*to, *since);
        let Ask::Write { age_ms, operation, .. } = ask else { return };
        let gathered = is_gathered(&env.view, operation);
        let checked = operation.check(env.config.value_bytes_max);
        if let Err(error) = checked.and(gathered.then_some(()).ok_or(InvalidOperation::BatchScattered)) {
            let reason = error.to_string();
            let reply = if *maybe_done { Reply::Unknown { reason } } else { Reply::Refused { reason } };
            return env.reply(to, reply);
        }
        let age_ms = u128::from(*age_ms) + env.now.time.since(since).as_millis();
        if age_ms > CLIENT_RETRY_FOR.as_millis() {
            let reason =
                format!("the write was first asked for {age_ms} ms ago; its outcome can no longer be told");
            return env.reply(to, Reply::Unknown { reason });
        }
        if env.now.time < env.doubtful_until {
            let reason = "the server was stopped for long: it cannot tell how old the write is, retry";
            return env.reply(to, Reply::Unknown { reason: reason.to_owned() });
        }
        let full = self.is_full(env);
        match &self.role {
            Role::Coordinator(coordinator) if coordinator.active && !full => {
                self.order(env, to, asked.ask, since);
            }
            _ => self.park(env, asked),
        }
    }

    fn park(&mut self, env: &mut Env, asked: Stray) {
        if env.mutated(Mutation::MovedInCircles) && !asked.maybe_done {
            let view = env.view.number;
            return env.reply(asked.to, Reply::Moved { view });
        }
        if self.parked.is_full(env.parked, PARKED_MAX) {
            let reason = format!("too many requests wait for partition {}, retry", self.id);
            asked.put_off(env, reason);
        } else {
            env.touched.insert(self.id);
            let bytes = asked.ask.bytes();
            env.trace_request(asked.to, TraceStep::Parked {});
            self.parked.push(&mut env.parked, asked, bytes);
        }
    }

    /// More writes than these must not be under way.
    fn is_full(&self, env: &Env) -> bool {
        self.pending.is_full(env.pending, PENDING_MAX)
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
        // It stays in memory for a while: no more is allocated than it takes, and at once.
        let mut body = Vec::with_capacity(COMMAND_BYTES + operation.bytes());
        Command { origin, stamp: env.now.wall, operation }.write(&mut body);
        let body = Bytes::from(body);
        let bytes = body.len();
        if let Role::Coordinator(coordinator) = &self.role {
            env.trace_ordered(to, self.id, id, coordinator.needed());
        }
        self.append(env, Entry { id, body });
        self.pending.push(&mut env.pending, Pending { seq: id.seq, to, since }, bytes);
    }

    /// What the batch made possible.
    pub(crate) fn settle_coordinator(&mut self, env: &mut Env) {
        self.try_activate(env);
        if self.coordinator().is_some_and(|coordinator| coordinator.active) {
            while !self.is_full(env) {
                let Some(asked) = self.parked.pop(&mut env.parked) else { break };
                self.admit(env, asked);
            }
        }
        self.stream(env, false);
        self.advance_commit(env);
        self.consider_joiners(env);
        self.settle_holds();
        self.retry_reads(env);
        self.go_on_comparing(env);
    }

    /// W1: committed is what all that count have on disk. 7.2: nothing is while a member that does not count any more
    /// may have a read lease of this server.
    fn advance_commit(&mut self, env: &mut Env) {
        self.sift_read_grants(env);
        let own =
            if env.mutated(Mutation::OwnCopyBeforeFsync) { self.log.last() } else { self.log.durable() };
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        if !coordinator.active {
            return;
        }
        if self.read_grants.keys().any(|server| !coordinator.needed().any(|needed| needed == *server))
            && !env.mutated(Mutation::ReadGrantIgnored)
        {
            return;
        }
        let acked =
            |server: ServerId| coordinator.peers.get(&server).and_then(|peer| peer.acked).unwrap_or_default();
        let least = if env.mutated(Mutation::JoinerNotAwaited) {
            coordinator.in_sync.iter().copied().map(acked).min()
        } else if env.mutated(Mutation::AckWithoutOneReplica) {
            let mut acks: Vec<Seq> = coordinator.needed().map(acked).collect();
            acks.sort_unstable();
            acks.get(1).or(acks.first()).copied()
        } else {
            coordinator.needed().map(acked).min()
        };
        let commit = least.unwrap_or(own).min(own);
        self.commit = self.commit.max(commit);
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
        // A member that has all entries and answers no pings holds reads up, where nobody writes too.
        let reads_wait = coordinator.active && !coordinator.reads.is_empty();
        let floor = coordinator.ping_floor;
        for (&server, peer) in &mut coordinator.peers {
            let waits = peer.waits(last);
            if !waits && (!needed.contains(&server) || env.leases.holds(peer.member, floor, epoch, now)) {
                peer.awaited = None;
                continue;
            }
            if !waits && !reads_wait {
                continue;
            }
            if waits && now.since(peer.moved) >= peer.patience {
                peer.patience = (peer.patience * 2).min(RESEND_MAX);
                if let Stage::Snapshot(sending) = &peer.stage
                    && sending.is_lost()
                {
                    sending.close(env, id);
                    peer.stage = Stage::Probe { asked: None };
                }
                peer.rewind(now);
            }
            if matches!(&peer.stage, Stage::Snapshot(sending) if !sending.is_open() || sending.is_idle()) {
                // It waits for its turn here, or for the rate.
                peer.awaited = None;
                continue;
            }
            let awaited = *peer.awaited.get_or_insert(env.watched());
            // A joining member holds no write up, but a place, and the log of a copy under way.
            let patience = if needed.contains(&server) { 1 } else { JOINER_PATIENCE };
            if env.watched().since(awaited) >= env.config.timers.report * patience {
                peer.awaited = Some(env.watched());
                env.out.report(ServerReport::Silent { partition: id, epoch, member: server });
                if patience > 1 {
                    // It keeps the log no longer: who is away for long gets a copy.
                    if let Stage::Snapshot(sending) = &peer.stage {
                        sending.close(env, id);
                        peer.stage = Stage::Probe { asked: None };
                    }
                    peer.hold = None;
                }
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
