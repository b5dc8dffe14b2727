//! Reads at the coordinator: under leases (L1, L2), and the commit that replicas ask for (6.1).

use common::codec::Wire;
use common::ids::{Epoch, LogId, Seq, ServerId};
use common::messages::{Entry, Reply, ToReplica};
use common::operation::{Command, Found, Operation};

use super::super::ask::{Answer, Ask, Query};
use super::super::config::Reads;
use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::io::ReadId;
use super::super::limits::CONFIRM_AGAIN;
use super::super::planted::PlantedBug;
use super::super::requests::{ClientRequest, PendingRead, ReplyTo};
use super::Coordinator;

impl Coordinator {
    /// Planted bugs: the commit is sent though this coordinator has no leases, or is not active.
    fn tells_by_mistake(&self, env: &Env, epoch: Epoch, applied: Seq) -> bool {
        let has_leases = || self.needed().all(|server| self.holds_lease(env, server, epoch, env.cx.now.time));
        (env.cx.planted(PlantedBug::IndexWithoutLease) && self.has_applied_all(applied))
            || (env.cx.planted(PlantedBug::IndexWhileInactive) && has_leases())
    }
}

impl PartitionCopy {
    /// L2: reads the applied state if leases allow it; the clock is looked at again afterwards. What was committed when
    /// the read came must be applied: replicas that know the commit may have returned it to clients already.
    pub(crate) fn start_read(&mut self, env: &mut Env, id: ReadId) {
        let (epoch, commit) = (self.epoch, self.commit);
        let is_ready = self.is_ready(env, id);
        let Some(coordinator) = self.coordinator() else { return self.stray_read(env, id) };
        if is_ready {
            if let Some(read) = env.requests.reads.get_mut(&id) {
                read.epoch = epoch;
                // A replica's question that waited until this coordinator was active gets the commit as of now: all of
                // the log that the epoch began with.
                read.commit = commit;
            }
            env.issue_read(id);
        } else {
            coordinator.reads.push_back(id);
            env.touched.insert(self.id);
        }
    }

    /// Whether the read may be answered now, from the records as they are.
    fn is_ready(&self, env: &Env, id: ReadId) -> bool {
        let (Role::Coordinator(coordinator), Some(read)) = (&self.role, env.requests.reads.get(&id)) else {
            return false;
        };
        let is_question = matches!(read.to, ReplyTo::Question { .. });
        let is_well = !self.disk.mark.failed || is_question;
        is_well
            && self.applied >= read.commit
            && coordinator.may_serve(env, self.epoch, self.applied, read.floor)
    }

    /// Sends a read on to the partition's coordinator.
    pub(crate) fn stray_read(&mut self, env: &mut Env, id: ReadId) {
        let Some(read) = env.requests.reads.remove(&id) else { return };
        let unrouted =
            ClientRequest { to: read.to, ask: Ask::Read(read.query), since: read.since, maybe_done: false };
        env.requests.unrouted.push(unrouted);
    }

    /// The state was read: answers, if this server might read all the while.
    pub(crate) fn on_answered(&mut self, env: &mut Env, id: ReadId, answer: Answer) {
        let Some(read) = env.requests.reads.get(&id) else { return };
        let (to, epoch, commit, floor) = (read.to, read.epoch, read.commit, read.floor);
        let (mine, applied, failed) = (self.epoch, self.applied, self.disk.mark.failed);
        let is_question = matches!(to, ReplyTo::Question { .. });
        let unchecked = env.cx.planted(PlantedBug::LeaseNotRechecked);
        let Some(coordinator) = self.coordinator() else { return self.stray_read(env, id) };
        let may_serve = coordinator.may_serve(env, mine, applied, floor)
            || (is_question && coordinator.tells_by_mistake(env, mine, applied));
        if (failed && !is_question) || (!unchecked && (epoch != mine || !may_serve)) {
            if is_question {
                // The replica asks again.
                env.requests.reads.remove(&id);
            } else {
                coordinator.reads.push_back(id);
                env.touched.insert(self.id);
            }
            return;
        }
        if let ReplyTo::Question { server, n } = to {
            env.requests.reads.remove(&id);
            let (partition, epoch) = (self.id, mine);
            return env.out.send(server, ToReplica::ReadIndexReply { n, commit }.about(partition, epoch));
        }
        if expired(env, &answer) {
            return self.tick_log_time(env, id);
        }
        env.requests.reads.remove(&id);
        env.reply(to, reply_of(answer));
    }

    /// A value has expired by this server's clock: log time is moved on at every copy before the read is answered.
    fn tick_log_time(&mut self, env: &mut Env, id: ReadId) {
        let ask = Ask::Write { origin: None, age_ms: 0, operation: Operation::Tick {} };
        let now = env.cx.now.time;
        self.order(env, ReplyTo::Read(id), ask, now);
    }

    /// Records have expired by this server's clock: log time is moved on by a tick, so that every copy may remove them.
    /// Only the coordinator does that, and only without entries under way, as these move log time on as well.
    pub(crate) fn on_expiring(&mut self, env: &mut Env) {
        let Role::Coordinator(coordinator) = &self.role else { return };
        if coordinator.active && self.commit == self.log.last() {
            let id = LogId { tag: self.epoch, seq: self.log.last().next() };
            let body = Command { origin: None, stamp: env.stamp(), operation: Operation::Tick {} }.to_wire();
            self.append(env, Entry { id, body });
        }
    }

    /// A replica asks up to where it must have applied (6.1).
    pub(crate) fn on_read_index(&mut self, env: &mut Env, from: ServerId, n: u64) {
        let (epoch, applied) = (self.epoch, self.applied);
        let (partition, commit, since) = (self.id, self.commit, env.cx.now.time);
        let Some(coordinator) = self.coordinator() else { return };
        let by_lease = env.cx.config.reads == Reads::Lease;
        let tells_anyway = by_lease
            && !coordinator.may_read(env, epoch, applied)
            && coordinator.tells_by_mistake(env, epoch, applied);
        let (to, query, floor) =
            (ReplyTo::Question { server: from, n }, Query::Nothing, env.promises.leases.next_ping());
        let (indexed, alone) = (false, false);
        let read = PendingRead { to, partition, query, since, indexed, alone, floor, epoch, commit };
        let id = env.requests.note_read(read);
        if tells_anyway {
            env.issue_read(id);
        } else {
            // Before this coordinator is active it waits, as other reads do.
            self.start_read(env, id);
        }
    }

    /// Carries out reads that waited, in the order in which they came: what the first one waits for, the others do too.
    pub(super) fn retry_reads(&mut self, env: &mut Env) {
        let (epoch, now) = (self.epoch, env.cx.now.time);
        while let Some(&id) = self.coordinator().and_then(|coordinator| coordinator.reads.front()) {
            if env.requests.reads.contains_key(&id) && !self.is_ready(env, id) {
                break;
            }
            if let Some(coordinator) = self.coordinator() {
                coordinator.reads.pop_front();
            }
            if env.requests.reads.contains_key(&id) {
                self.start_read(env, id);
            }
        }
        let Role::Coordinator(coordinator) = &self.role else { return };
        let first = coordinator.reads.front().and_then(|id| env.requests.reads.get(id));
        let Some(floor) = first.map(|read| read.floor).filter(|_| coordinator.active) else { return };
        if env.cx.config.reads == Reads::Barrier {
            // 6.3: one ping for all reads that came before it.
            let silent = coordinator.unconfirmed(env, epoch, floor);
            let floor = floor.max(coordinator.ping_floor);
            let to_ask =
                silent.filter(|server| !env.promises.leases.is_asked(*server, floor, CONFIRM_AGAIN, now));
            let to_ask: Vec<ServerId> = to_ask.collect();
            env.promises.to_confirm.extend(to_ask);
        }
    }
}

/// Whether something that was read has expired by this server's clock, though not yet by log time.
pub(crate) fn expired(env: &Env, answer: &Answer) -> bool {
    let now = env.stamp();
    let gone = |found: &Found| found.expires.is_some_and(|expires| expires <= now);
    match answer {
        Answer::Value(found) => found.as_ref().is_some_and(gone),
        Answer::Page { pairs, .. } => pairs.iter().any(|pair| gone(&pair.found)),
        Answer::TooLarge { expires, .. } | Answer::Keys { expires, .. } => {
            expires.is_some_and(|expires| expires <= now)
        }
        Answer::Nothing | Answer::Damaged(_) => false,
    }
}

/// The reply to a client.
pub(crate) fn reply_of(answer: Answer) -> Reply {
    match answer {
        Answer::Value(found) => Reply::Value { found },
        Answer::TooLarge { key, bytes, .. } => Reply::TooLarge { key, bytes },
        Answer::Page { pairs, more } => Reply::Page { pairs, more },
        Answer::Keys { keys, count, next, .. } => Reply::Keys { keys, count, next },
        Answer::Nothing => Reply::Value { found: None },
        Answer::Damaged(reason) => {
            let reason = format!("what is stored is damaged, and there is no other copy in sync: {reason}");
            Reply::Refused { reason }
        }
    }
}
