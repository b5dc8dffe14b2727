//! Reads at the coordinator: under leases (L1, L2), and the commit that replicas ask for (6.1).

use common::codec::Wire;
use common::ids::{Epoch, LogId, Seq, ServerId};
use common::messages::{Entry, ToReplica};
use common::operation::{Command, Operation};
use common::time::Time;

use super::super::answers::{expired, reply_of};
use super::super::ask::{Answer, Ask, Query};
use super::super::config::Reads;
use super::super::env::Env;
use super::super::io::ReadId;
use super::super::limits::CONFIRM_AGAIN;
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::super::requests::{PendingRead, ReadKind, ReadPoint, ReplyTo};
use super::state::Coordinator;

impl Coordinator {
    /// Planted bugs: the commit is sent though this coordinator has no leases, or is not active.
    fn is_named_by_mistake(&self, env: &Env, epoch: Epoch, applied: Seq) -> bool {
        let has_leases = || self.needed().all(|server| self.holds_lease(env, server, epoch, env.cx.now.time));
        (env.cx.planted(PlantedBug::IndexWithoutLease) && self.has_applied_all(applied))
            || (env.cx.planted(PlantedBug::IndexWhileInactive) && has_leases())
    }

    /// L2: reads the applied state if leases allow it; the clock is looked at again afterwards. What was committed when
    /// the read came must be applied: replicas that know the commit may have returned it to clients already.
    pub(crate) fn start_read(&mut self, p: &PartitionState, env: &mut Env, id: ReadId) {
        if self.is_ready(p, env, id) {
            if let Some(read) = env.requests.reads.get_mut(&id) {
                // A replica's question that waited until this coordinator was active gets the commit as of now: all of
                // the log that the epoch began with.
                let point = ReadPoint { epoch: p.epoch(), commit: p.commit(), ..read.point() };
                read.kind = ReadKind::Coordinator(point);
            }
            env.issue_read(id);
        } else {
            self.reads.push_back(id);
            env.touched.insert(p.id());
        }
    }

    /// Whether the read may be answered now, from the records as they are.
    fn is_ready(&self, p: &PartitionState, env: &Env, id: ReadId) -> bool {
        let Some(read) = env.requests.reads.get(&id) else { return false };
        assert_eq!(read.partition, p.id(), "a read of another partition");
        let ReadPoint { floor, commit, .. } = read.point();
        let is_well = !p.is_failed() || read.is_question();
        is_well && p.applied() >= commit && self.may_serve(env, p.epoch(), p.applied(), floor)
    }

    /// The state was read: answers, if this server might read all the while.
    pub(crate) fn on_answered(&mut self, p: &mut PartitionState, env: &mut Env, id: ReadId, answer: Answer) {
        let Some(read) = env.requests.reads.get(&id) else { return };
        assert_eq!(read.partition, p.id(), "a read of another partition");
        let (to, is_question, ReadPoint { floor, epoch, commit }) =
            (read.to, read.is_question(), read.point());
        let (mine, applied, failed) = (p.epoch(), p.applied(), p.is_failed());
        let unchecked = env.cx.planted(PlantedBug::LeaseNotRechecked);
        let may_serve = self.may_serve(env, mine, applied, floor)
            || (is_question && self.is_named_by_mistake(env, mine, applied));
        if (failed && !is_question) || (!unchecked && (epoch != mine || !may_serve)) {
            if is_question {
                // The replica asks again.
                env.requests.reads.remove(&id);
            } else {
                self.reads.push_back(id);
                env.touched.insert(p.id());
            }
            return;
        }
        if let ReplyTo::Question { server, n } = to {
            env.requests.reads.remove(&id);
            let (partition, epoch) = (p.id(), mine);
            return env.out.send(server, ToReplica::ReadIndexReply { n, commit }.about(partition, epoch));
        }
        if expired(env, &answer) {
            return self.tick_log_time(p, env, id);
        }
        env.requests.reads.remove(&id);
        env.reply(to, reply_of(answer));
    }

    /// A value has expired by this server's clock: log time is moved on at every copy before the read is answered.
    fn tick_log_time(&mut self, p: &mut PartitionState, env: &mut Env, id: ReadId) {
        let ask = Ask::Write { origin: None, age_ms: 0, operation: Operation::Tick {} };
        let now = env.cx.now.time;
        self.order(p, env, ReplyTo::Read(id), ask, now);
    }

    /// Records have expired by this server's clock: log time is moved on by a tick, so that every copy may remove them.
    /// Only the coordinator does that, and only without entries under way, as these move log time on as well.
    pub(crate) fn on_expiring(&self, p: &mut PartitionState, env: &mut Env) {
        if self.active && p.commit() == p.log().last() {
            let id = LogId { tag: p.epoch(), seq: p.log().last().next() };
            let body = Command { origin: None, stamp: env.stamp(), operation: Operation::Tick {} }.to_wire();
            p.append(env, Entry { id, body });
        }
    }

    /// A replica asks up to where it must have applied (6.1).
    pub(crate) fn on_read_index(&mut self, p: &PartitionState, env: &mut Env, from: ServerId, n: u64) {
        let (epoch, applied) = (p.epoch(), p.applied());
        let by_lease = env.cx.config.reads == Reads::Lease;
        let is_named_anyway =
            by_lease && !self.may_read(env, epoch, applied) && self.is_named_by_mistake(env, epoch, applied);
        let (to, now) = (ReplyTo::Question { server: from, n }, env.cx.now.time);
        let id = note_read(p, env, to, Query::Nothing, now);
        if is_named_anyway {
            env.issue_read(id);
        } else {
            // Before this coordinator is active it waits, as other reads do.
            self.start_read(p, env, id);
        }
    }

    /// Carries out reads that waited, in the order in which they came: what the first one waits for, the others do too.
    pub(super) fn retry_reads(&mut self, p: &PartitionState, env: &mut Env) {
        let (epoch, now) = (p.epoch(), env.cx.now.time);
        while let Some(&id) = self.reads.front() {
            if env.requests.reads.contains_key(&id) && !self.is_ready(p, env, id) {
                break;
            }
            self.reads.pop_front();
            if env.requests.reads.contains_key(&id) {
                self.start_read(p, env, id);
            }
        }
        let first = self.reads.front().and_then(|id| env.requests.reads.get(id));
        let Some(floor) = first.map(|read| read.point().floor).filter(|_| self.active) else { return };
        if env.cx.config.reads == Reads::Barrier {
            // 6.3: one ping for all reads that came before it.
            let silent = self.unconfirmed(env, epoch, floor);
            let floor = floor.max(self.ping_floor);
            let to_ask =
                silent.filter(|server| !env.promises.leases.is_asked(*server, floor, CONFIRM_AGAIN, now));
            let to_ask: Vec<ServerId> = to_ask.collect();
            env.promises.to_confirm.extend(to_ask);
        }
    }
}

/// Notes a read that begins now.
pub(super) fn note_read(p: &PartitionState, env: &mut Env, to: ReplyTo, query: Query, since: Time) -> ReadId {
    let floor = env.promises.leases.next_ping();
    let kind = ReadKind::Coordinator(ReadPoint { floor, epoch: p.epoch(), commit: p.commit() });
    env.requests.note_read(PendingRead { to, partition: p.id(), query, since, kind })
}
