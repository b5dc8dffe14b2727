//! The coordinator of a partition: becomes active (P1-P4), orders writes and commits them (W1-W3), reads under
//! leases (L1-L3), and takes in joining members (J1-J3).
//!
//! States: *becoming* (the log of the epoch is found, its members are brought in step, promises run out), then
//! *active*; or *stopped*, where the members' logs cannot all be right. Once the epoch has begun, its log is never cut.
//! What it lacks on purpose: it never shrinks the in-sync set by itself, never counts fewer acknowledgements because
//! time has passed, and never answers a write as failed once it is in the log.

mod becoming;
mod grants;
mod joining;
mod members;
mod minimum;
mod reading;
mod reads;
mod reconcile;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{LogId, PartitionId, Seq, ServerId};
use common::limits::CLIENT_RETRY_FOR;
use common::messages::{Entry, Reply, Sender, ServerReport};
use common::operation::{Command, InvalidOperation};
use common::status::TransferStatus;
use common::time::Time;
use common::view::{Assignment, Member};

pub(crate) use members::{Progress, Stage};
pub(crate) use reads::{expired, reply_of};

use joining::Extra;
use reconcile::{Disagreement, Fetch};

use super::ask::Ask;
use super::compare::Comparison;
use super::copy::{PartitionCopy, Pending, Role};
use super::env::Env;
use super::io::ReadId;
use super::keys::is_gathered;
use super::limits::{
    COMMAND_BYTES, COMMIT_NOTICE, JOINER_PATIENCE, PARKED_MAX, PENDING_MAX, REPORT_AGAIN, RESEND_MAX,
};
use super::planted::PlantedBug;
use super::process::Process;
use super::requests::{ClientRequest, PendingRead, ReplyTo};
use super::traces::TraceStep;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) active: bool,
    /// Pings from this number on were sent after the epoch was adopted.
    ping_floor: u64,
    /// The no-op of the epoch, once its log was found (P1): nothing is committed in the epoch before it is.
    begin: Option<LogId>,
    fetch: Option<Fetch>,
    /// When the ECS was last asked to name another member as coordinator (P1).
    yielded: Option<Time>,
    disagreement: Option<Disagreement>,
    /// P3b: promises to former coordinators that members have named in acknowledgements of this epoch, and until when
    /// they bind.
    bounds: BTreeMap<Process, Time>,
    /// The last tick of log time that follows the no-op of the epoch with nothing but ticks between, see `minimum`.
    ticked: Seq,
    /// The in-sync members other than this server.
    in_sync: Vec<ServerId>,
    pub(crate) peers: BTreeMap<ServerId, Progress>,
    extra: Option<Extra>,
    /// Reads that wait for leases.
    reads: VecDeque<ReadId>,
    /// When members were last sent the commit alone, without entries.
    noticed: Time,
    pub(crate) comparison: Option<Comparison>,
}

impl Coordinator {
    /// Takes over the joining members of a view: they come and go without a new epoch.
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
            self.peers.entry(member.server).or_insert_with(|| Progress::new(member, env.cx.now.time));
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

    /// The copies that are being sent, for the status.
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

    /// The members whose acknowledgements and leases are needed: the in-sync set and the extra.
    fn needed(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.in_sync.iter().copied().chain(self.extra.iter().map(|extra| extra.member.server))
    }

    /// Whether the records have all that a former coordinator may have acknowledged: the no-op of the epoch is applied.
    pub(crate) fn has_applied_all(&self, applied: Seq) -> bool {
        self.active && self.begin.is_some_and(|begin| applied >= begin.seq)
    }

    /// Whether the member has acknowledged the no-op of the epoch, and so the whole log before it.
    fn has_synced(&self, server: ServerId) -> bool {
        let acked = self.peers.get(&server).and_then(|peer| peer.acked);
        self.begin.is_some_and(|begin| acked.is_some_and(|acked| acked >= begin.seq))
    }

    /// S2, 7.2: the process is the one whose acknowledgements count.
    fn counts_process(&self, process: Process) -> bool {
        let peer = self.peers.get(&process.server);
        let is_present = peer.is_some_and(|peer| peer.process.map(Process::from) == Some(process));
        is_present && self.needed().any(|server| server == process.server)
    }

    pub(crate) fn has_replicas(&self) -> bool {
        !self.in_sync.is_empty()
    }

    /// The in-sync members other than this server.
    pub(crate) fn replicas(&self) -> Vec<ServerId> {
        self.in_sync.clone()
    }

    /// Whether a message is of an in-sync member, with the store that counts.
    pub(crate) fn is_replica(&self, from: Sender) -> bool {
        let counts = self.in_sync.contains(&from.server);
        counts && self.peers.get(&from.server).is_some_and(|peer| peer.member.store == from.store)
    }

    /// Servers to ping.
    pub(crate) fn granters(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.peers.keys().copied()
    }

    /// The first entry that a member may still need from memory.
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
    pub(crate) fn on_ask(&mut self, env: &mut Env, asked: ClientRequest) {
        if !matches!(self.role, Role::Coordinator(_)) {
            return self.park(env, asked);
        }
        if matches!(asked.ask, Ask::Write { .. }) && !self.parked.is_empty() {
            // A write must not overtake writes that wait.
            return self.park(env, asked);
        }
        self.admit(env, asked);
    }

    /// Takes a request whose turn it is.
    fn admit(&mut self, env: &mut Env, asked: ClientRequest) {
        match asked {
            ClientRequest { to, ask: Ask::Read(query), since, .. } => {
                let (partition, epoch, commit) = (self.id, self.epoch, self.commit);
                let floor = env.promises.leases.next_ping();
                let (indexed, alone) = (false, false);
                let read = PendingRead { to, partition, query, since, indexed, alone, floor, epoch, commit };
                let id = env.requests.note_read(read);
                self.start_read(env, id);
            }
            asked => self.on_write(env, asked),
        }
    }

    fn on_write(&mut self, env: &mut Env, asked: ClientRequest) {
        let ClientRequest { to, ask, since, maybe_done } = &asked;
        let (to, since) = (*to, *since);
        let Ask::Write { age_ms, operation, .. } = ask else { return };
        let gathered = is_gathered(&env.cx.view, operation);
        let checked = operation.check(env.cx.config.value_bytes_max);
        if let Err(error) = checked.and(gathered.then_some(()).ok_or(InvalidOperation::BatchScattered)) {
            let reason = error.to_string();
            let reply = if *maybe_done { Reply::Unknown { reason } } else { Reply::Refused { reason } };
            return env.reply(to, reply);
        }
        let age_ms = u128::from(*age_ms) + env.cx.now.time.since(since).as_millis();
        if age_ms > CLIENT_RETRY_FOR.as_millis() {
            let reason =
                format!("the write was first asked for {age_ms} ms ago; its outcome is no longer known");
            return env.reply(to, Reply::Unknown { reason });
        }
        if env.cx.now.time < env.requests.doubtful_until {
            let reason = "the server was stopped for long: it does not know how old the write is, retry";
            return env.reply(to, Reply::Unknown { reason: reason.to_owned() });
        }
        let full = self.is_full(env);
        match &self.role {
            Role::Coordinator(coordinator) if coordinator.active && !full && !coordinator.is_short(env) => {
                self.order(env, to, asked.ask, since);
            }
            _ => self.park(env, asked),
        }
    }

    fn park(&mut self, env: &mut Env, asked: ClientRequest) {
        if env.cx.planted(PlantedBug::MovedInCircles) && !asked.maybe_done {
            let view = env.cx.view.number;
            return env.reply(asked.to, Reply::Moved { view });
        }
        if self.parked.is_full(env.budgets.parked, PARKED_MAX) {
            let reason = format!("too many requests wait for partition {}, retry", self.id);
            env.reject_busy(asked, reason);
        } else {
            env.touched.insert(self.id);
            let bytes = asked.ask.bytes();
            env.trace_request(asked.to, TraceStep::Parked {});
            self.parked.push(&mut env.budgets.parked, asked, bytes);
        }
    }

    /// Whether as many writes are under way as there may be.
    fn is_full(&self, env: &Env) -> bool {
        self.pending.is_full(env.budgets.pending, PENDING_MAX)
    }

    /// W1: gives a write its place in the log.
    fn order(&mut self, env: &mut Env, to: ReplyTo, ask: Ask, since: Time) {
        let Ask::Write { origin, operation, .. } = ask else { return };
        let (to, origin) = match (to, origin) {
            (ReplyTo::Client { token, session: None }, None) => {
                let origin = env.requests.session_origin();
                (ReplyTo::Client { token, session: Some(origin.number) }, Some(origin))
            }
            other => other,
        };
        let id = LogId { tag: self.epoch, seq: self.log.last().next() };
        // The body stays in memory for a while: it is allocated once, in its exact size.
        let mut body = Vec::with_capacity(COMMAND_BYTES + operation.bytes());
        Command { origin, stamp: env.stamp(), operation }.write(&mut body);
        let body = Bytes::from(body);
        let bytes = body.len();
        if let Role::Coordinator(coordinator) = &mut self.role {
            env.trace_ordered(to, self.id, id, coordinator.needed());
            coordinator.on_ordered(to, id.seq);
        }
        self.append(env, Entry { id, body });
        self.pending.push(&mut env.budgets.pending, Pending { seq: id.seq, to, since }, bytes);
    }

    /// Ends a batch: does once what its inputs made possible.
    pub(crate) fn settle_coordinator(&mut self, env: &mut Env) {
        self.choose_log(env);
        self.try_activate(env);
        if self.coordinator().is_some_and(|coordinator| coordinator.active && !coordinator.is_short(env)) {
            while !self.is_full(env) {
                let Some(asked) = self.parked.pop(&mut env.budgets.parked) else { break };
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

    /// W1: commits what all members that count have on disk. 7.2: commits nothing while a process that does not count,
    /// or not any more, may still have a read lease that this server gave.
    fn advance_commit(&mut self, env: &mut Env) {
        self.sift_read_grants(env);
        let own =
            if env.cx.planted(PlantedBug::OwnCopyBeforeFsync) { self.log.last() } else { self.log.durable() };
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let fetched = coordinator.begin.filter(|_| env.cx.planted(PlantedBug::FetchedNotDurable));
        let own = own.max(fetched.map(|begin| begin.seq).unwrap_or_default());
        if !coordinator.active {
            return;
        }
        if self.given.read_grants.keys().any(|process| !coordinator.counts_process(*process))
            && !env.cx.planted(PlantedBug::ReadGrantIgnored)
        {
            return;
        }
        let acked =
            |server: ServerId| coordinator.peers.get(&server).and_then(|peer| peer.acked).unwrap_or_default();
        let least = if env.cx.planted(PlantedBug::JoinerNotAwaited) {
            coordinator.in_sync.iter().copied().map(acked).min()
        } else if env.cx.planted(PlantedBug::AckWithoutOneReplica) {
            let mut acks: Vec<Seq> = coordinator.needed().map(acked).collect();
            acks.sort_unstable();
            acks.get(1).or(acks.first()).copied()
        } else {
            coordinator.needed().map(acked).min()
        };
        let commit = least.unwrap_or(own).min(own).min(coordinator.commits_up_to(env, own));
        self.commit = self.commit.max(commit);
    }

    /// Sends unanswered messages again, reports silent members, gives up reads that waited too long.
    pub(crate) fn coordinator_tick(&mut self, env: &mut Env) {
        env.touched.insert(self.id);
        let (id, epoch, last, now) = (self.id, self.epoch, self.log.last(), env.cx.now.time);
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
        let stopped = coordinator.disagreement.is_some();
        let needed: Vec<ServerId> = coordinator.needed().collect();
        // A member that has all entries and answers no pings delays reads, also in a partition without writes.
        let reads_wait = coordinator.active && !coordinator.reads.is_empty();
        let floor = coordinator.ping_floor;
        for (&server, peer) in &mut coordinator.peers {
            let waits = peer.waits(last) && !stopped;
            if !waits
                && (!needed.contains(&server) || env.promises.leases.holds(peer.member, floor, epoch, now))
            {
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
                    peer.probe_again();
                }
                peer.rewind(now);
            }
            if matches!(&peer.stage, Stage::Snapshot(sending) if !sending.is_open() || sending.is_idle()) {
                // The copy waits for its turn at this server, or for the rate: the member is not silent.
                peer.awaited = None;
                continue;
            }
            let awaited = *peer.awaited.get_or_insert(env.cx.watched());
            // A silent joining member delays no write, but it takes one of the joining places, and the log is kept for
            // its copy.
            let patience = if needed.contains(&server) { 1 } else { JOINER_PATIENCE };
            if env.cx.watched().since(awaited) >= env.cx.config.timers.report * patience {
                peer.awaited = Some(env.cx.watched());
                env.out.report(ServerReport::Silent { partition: id, epoch, member: server });
                if patience > 1 {
                    // The log is not kept for it any longer: a member that is away for long gets a copy.
                    if let Stage::Snapshot(sending) = &peer.stage {
                        sending.close(env, id);
                        peer.probe_again();
                    }
                    peer.hold = None;
                }
            }
        }
        if env.cx.planted(PlantedBug::ProposalDropped)
            && coordinator.extra.as_ref().is_some_and(|extra| now.since(extra.since) > REPORT_AGAIN / 4)
        {
            coordinator.extra = None;
        }
        while let Some(&read) = coordinator.reads.front() {
            if env.requests.reads.get(&read).is_some_and(|read| now.since(read.since) <= env.cx.config.park) {
                break;
            }
            coordinator.reads.pop_front();
            late.push(read);
        }
        for read in late {
            if let Some(read) = env.requests.reads.remove(&read) {
                let reason = format!("partition {id} waits for the leases of its coordinator, retry");
                env.reply(read.to, Reply::Busy { reason });
            }
        }
    }
}
