//! Reads at the coordinator: under leases (L1, L2), and the commit that replicas ask for (section 6.1).

use common::ids::ServerId;
use common::messages::{PeerMessage, Reply};
use common::operation::{Found, Operation};

use super::super::copy::PartitionCopy;
use super::super::env::{Env, PendingRead, ReplyTo, Stray};
use super::super::io::{Answer, Ask, Query, ReadId};
use super::super::mutation::Mutation;

impl PartitionCopy {
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

    /// Reads that waited for leases.
    pub(super) fn retry_reads(&mut self, env: &mut Env) {
        let (epoch, applied) = (self.epoch, self.applied);
        let Some(coordinator) = self.coordinator() else { return };
        if coordinator.reads.is_empty() || !coordinator.may_read(env, epoch, applied) {
            return;
        }
        for id in coordinator.take_reads() {
            self.start_read(env, id);
        }
    }
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
