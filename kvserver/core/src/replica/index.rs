//! Reads at a replica by index (6.1): it asks the coordinator for its commit, and answers when it has applied that far.

use common::ids::Seq;
use common::messages::{Reply, ToCoordinator};
use common::time::Time;

use super::super::ask::{Answer, Ask, Query};
use super::super::coordinator::{expired, reply_of};
use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::io::ReadId;
use super::super::limits::RESEND;
use super::super::requests::{ClientRequest, PendingRead, ReplyTo};

impl PartitionCopy {
    /// Takes a read at this replica. Returns `false` if it has to go to the coordinator.
    pub(crate) fn on_replica_read(&mut self, env: &mut Env, to: ReplyTo, query: &Query, since: Time) -> bool {
        if !self.is_synced() || self.disk.mark.failed {
            return false;
        }
        let (partition, epoch, commit) = (self.id, self.epoch, Seq(0));
        let alone = self.may_answer_alone(env, query);
        let Some(replica) = self.replica() else { return false };
        let (query, indexed, floor) = (query.clone(), true, 0);
        let id = env.requests.note_read(PendingRead {
            to,
            partition,
            query,
            since,
            indexed,
            alone,
            floor,
            epoch,
            commit,
        });
        if alone {
            env.issue_read(id);
        } else {
            replica.index.queued.push(id);
        }
        env.touched.insert(partition);
        true
    }

    /// Asks the coordinator for its commit: one question at a time, for all reads that came before it.
    pub(super) fn ask_index(&mut self, env: &mut Env) {
        let (partition, epoch, now) = (self.id, self.epoch, env.cx.now.time);
        let Some(replica) = self.replica() else { return };
        if replica.index.asked.is_none() && !replica.index.queued.is_empty() {
            env.requests.last_question += 1;
            let n = env.requests.last_question;
            let reads = std::mem::take(&mut replica.index.queued);
            replica.index.asked = Some((n, now, reads));
            env.out.send(replica.coordinator, ToCoordinator::ReadIndex { n }.about(partition, epoch));
        }
    }

    /// The coordinator has named its commit.
    pub(crate) fn on_read_index_reply(&mut self, env: &mut Env, n: u64, commit: Seq) {
        let (last, in_step, applied) = (self.log.last(), self.is_synced(), self.applied);
        env.touched.insert(self.id);
        let Some(replica) = self.replica() else { return };
        if replica.index.asked.as_ref().is_none_or(|(asked, _, _)| *asked != n) {
            return;
        }
        let Some((_, _, reads)) = replica.index.asked.take() else { return };
        replica.index.ready.extend(reads.into_iter().map(|read| (commit, read)));
        replica.on_applied(env, applied);
        if in_step {
            self.commit = self.commit.max(commit.min(last));
            self.note_activity();
        }
    }

    /// The state was read at the commit that the coordinator named.
    pub(crate) fn on_indexed_answer(&mut self, env: &mut Env, id: ReadId, answer: Answer) {
        if self.disk.mark.failed {
            return self.stray_read(env, id);
        }
        let Some(read) = env.requests.reads.get_mut(&id) else { return };
        if std::mem::take(&mut read.alone) && !self.stands_alone(env, &answer) {
            env.touched.insert(self.id);
            let Role::Replica(replica) = &mut self.role else { return self.stray_read(env, id) };
            return replica.index.queued.push(id);
        }
        let Some(read) = env.requests.reads.remove(&id) else { return };
        if expired(env, &answer) || matches!(answer, Answer::Damaged(_)) {
            // Only the coordinator moves log time on, and its copy may be readable where this one is damaged.
            let ask = Ask::Read(read.query);
            return env.requests.unrouted.push(ClientRequest {
                to: read.to,
                ask,
                since: read.since,
                maybe_done: false,
            });
        }
        env.reply(read.to, reply_of(answer));
    }

    /// Asks the coordinator again, and gives up reads that waited too long.
    pub(crate) fn replica_tick(&mut self, env: &mut Env) {
        let (partition, epoch, now) = (self.id, self.epoch, env.cx.now.time);
        env.touched.insert(partition);
        let Some(replica) = self.replica() else { return };
        if let Some((n, at, _)) = &mut replica.index.asked
            && now.since(*at) >= RESEND
        {
            *at = now;
            env.out.send(replica.coordinator, ToCoordinator::ReadIndex { n: *n }.about(partition, epoch));
        }
        let late = |env: &Env, id: &ReadId| {
            env.requests.reads.get(id).is_none_or(|read| now.since(read.since) > env.cx.config.park)
        };
        let mut given_up = Vec::new();
        let mut prune = |reads: &mut Vec<ReadId>| {
            given_up.extend(reads.extract_if(.., |id| late(env, id)));
        };
        prune(&mut replica.index.queued);
        if let Some((_, _, reads)) = &mut replica.index.asked {
            prune(reads);
            if reads.is_empty() {
                replica.index.asked = None;
            }
        }
        // Another member may reach the coordinator, though this one does not.
        let long = |env: &Env, id: &ReadId| {
            env.requests.reads.get(id).is_some_and(|read| now.since(read.since) >= 2 * RESEND)
        };
        let mut elsewhere: Vec<ReadId> = replica.index.queued.extract_if(.., |id| long(env, id)).collect();
        if let Some((_, _, reads)) = &mut replica.index.asked {
            elsewhere.extend(reads.extract_if(.., |id| long(env, id)));
            if reads.is_empty() {
                replica.index.asked = None;
            }
        }
        given_up.extend(replica.index.ready.extract_if(.., |(_, id)| late(env, id)).map(|(_, id)| id));
        elsewhere.into_iter().for_each(|id| self.stray_read(env, id));
        for id in given_up {
            if let Some(read) = env.requests.reads.remove(&id) {
                let reason = format!("partition {partition}: the coordinator does not answer, retry");
                env.reply(read.to, Reply::Busy { reason });
            }
        }
    }
}
