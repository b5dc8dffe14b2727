//! Reads at a replica by index (6.1): it asks the coordinator for its commit, and answers when it has applied that far.

use common::ids::Seq;
use common::messages::{Reply, ToCoordinator};
use common::time::Time;

use super::super::answers::{expired, reply_of};
use super::super::ask::{Answer, Query};
use super::super::env::Env;
use super::super::io::ReadId;
use super::super::limits::RESEND;
use super::super::partition::state::PartitionState;
use super::super::requests::{PendingRead, ReadKind, ReplyTo};
use super::state::Replica;

impl Replica {
    /// Takes a read at this replica. Returns `false` if it has to go to the coordinator.
    pub(crate) fn on_read(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        to: ReplyTo,
        query: &Query,
        since: Time,
    ) -> bool {
        if !p.is_synced() || p.is_failed() {
            return false;
        }
        let (partition, query) = (p.id(), query.clone());
        let alone = self.may_answer_alone(p, env, &query);
        let kind = if alone { ReadKind::UnderLease } else { ReadKind::ByIndex };
        let id = env.requests.note_read(PendingRead { to, partition, query, since, kind });
        if alone {
            env.issue_read(id);
        } else {
            self.index.queued.push(id);
        }
        env.touched.insert(partition);
        true
    }

    /// Asks the coordinator for its commit: one question at a time, for all reads that came before it.
    pub(super) fn ask_index(&mut self, p: &PartitionState, env: &mut Env) {
        if self.index.asked.is_none() && !self.index.queued.is_empty() {
            env.requests.last_question += 1;
            let n = env.requests.last_question;
            let reads = std::mem::take(&mut self.index.queued);
            self.index.asked = Some((n, env.cx.now.time, reads));
            env.out.send(self.coordinator, ToCoordinator::ReadIndex { n }.about(p.id(), p.epoch()));
        }
    }

    /// The coordinator has named its commit.
    pub(crate) fn on_read_index_reply(&mut self, p: &mut PartitionState, env: &mut Env, n: u64, commit: Seq) {
        if self.index.asked.as_ref().is_none_or(|(asked, _, _)| *asked != n) {
            return;
        }
        let Some((_, _, reads)) = self.index.asked.take() else { return };
        self.index.ready.extend(reads.into_iter().map(|read| (commit, read)));
        self.on_applied(env, p.applied());
        if p.is_synced() {
            p.advance_commit_to(commit.min(p.log().last()));
            self.note_activity(p);
        }
    }

    /// Entries were applied: carries out reads that waited for them.
    pub(crate) fn on_applied(&mut self, env: &mut Env, applied: Seq) {
        let (now_ready, later) =
            std::mem::take(&mut self.index.ready).into_iter().partition(|(seq, _)| *seq <= applied);
        self.index.ready = later;
        debug_assert!(self.index.ready.iter().all(|(seq, _)| *seq > applied), "a read waits for no entry");
        let now_ready: Vec<(Seq, ReadId)> = now_ready;
        for (_, id) in now_ready {
            env.issue_read(id);
        }
    }

    /// The state was read at the commit that the coordinator named, or under a read lease.
    pub(crate) fn on_answered(&mut self, p: &PartitionState, env: &mut Env, id: ReadId, answer: Answer) {
        if p.is_failed() {
            return env.requests.reroute_read(id);
        }
        let kind = env.requests.reads.get(&id).map(|read| read.kind);
        if matches!(kind, Some(ReadKind::UnderLease)) && !self.stands_alone(p, env, &answer) {
            if let Some(read) = env.requests.reads.get_mut(&id) {
                read.kind = ReadKind::ByIndex;
            }
            env.touched.insert(p.id());
            return self.index.queued.push(id);
        }
        answer_at_index(env, id, answer);
    }

    /// Asks the coordinator again, and gives up reads that waited too long.
    pub(crate) fn on_tick(&mut self, p: &PartitionState, env: &mut Env) {
        let (partition, now) = (p.id(), env.cx.now.time);
        env.touched.insert(partition);
        if let Some((n, at, _)) = &mut self.index.asked
            && now.since(*at) >= RESEND
        {
            *at = now;
            env.out.send(self.coordinator, ToCoordinator::ReadIndex { n: *n }.about(partition, p.epoch()));
        }
        let mut given_up = self.index.take_waiting(|id| {
            env.requests.reads.get(id).is_none_or(|read| now.since(read.since) > env.cx.config.park)
        });
        // Another member may reach the coordinator, though this one does not.
        let elsewhere = self.index.take_waiting(|id| {
            env.requests.reads.get(id).is_some_and(|read| now.since(read.since) >= 2 * RESEND)
        });
        let late = |env: &Env, id: &ReadId| {
            env.requests.reads.get(id).is_none_or(|read| now.since(read.since) > env.cx.config.park)
        };
        given_up.extend(self.index.ready.extract_if(.., |(_, id)| late(env, id)).map(|(_, id)| id));
        env.requests.reroute_reads(elsewhere);
        for id in given_up {
            if let Some(read) = env.requests.reads.remove(&id) {
                let reason = format!("partition {partition}: the coordinator does not answer, retry");
                env.reply(read.to, Reply::Busy { reason });
            }
        }
    }
}

/// The state was read for a replica, and this server has become something else: an answer at a commit that was the
/// coordinator's then is still right, and one under a read lease is not.
pub(crate) fn answer_without_role(p: &PartitionState, env: &mut Env, id: ReadId, answer: Answer) {
    if p.is_failed()
        || env.requests.reads.get(&id).is_some_and(|read| matches!(read.kind, ReadKind::UnderLease))
    {
        return env.requests.reroute_read(id);
    }
    answer_at_index(env, id, answer);
}

fn answer_at_index(env: &mut Env, id: ReadId, answer: Answer) {
    if expired(env, &answer) || matches!(answer, Answer::Damaged(_)) {
        // Only the coordinator moves log time on, and its copy may be readable where this one is damaged.
        return env.requests.reroute_read(id);
    }
    if let Some(read) = env.requests.reads.remove(&id) {
        env.reply(read.to, reply_of(answer));
    }
}
