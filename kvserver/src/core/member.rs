//! A replica of a partition, in sync or joining: stores what the coordinator sends, acknowledges what is on disk,
//! applies what is committed, and answers reads at a commit that the coordinator named (section 6.1).
//!
//! States: *not in step* (it tells what its log holds, and the first append of the epoch may cut it), *receiving* a
//! copy of the state, and *in step*. On its own it cuts nothing, ever.

mod alone;

use common::ids::{LogId, Seq, ServerId};
use common::messages::{Entry, PeerMessage, Reply, Sender};
use common::time::Time;

use alone::Alone;

use super::ask::{Answer, Ask, Query};
use super::coordinator::{expired, reply_of};
use super::copy::{PartitionCopy, Role};
use super::door::check_entries;
use super::env::{After, Env, PendingRead, ReplyTo, Stray};
use super::io::ReadId;
use super::limits::RESEND;
use super::mutation::Mutation;
use super::transfer::Receiving;

/// Reads that wait for the coordinator's commit, and then for this copy to reach it.
#[derive(Debug, Default)]
struct IndexReads {
    /// Came after the present question; they need the next one.
    queued: Vec<ReadId>,
    /// The question under way: its number, when it was last asked, and whose it is.
    asked: Option<(u64, Time, Vec<ReadId>)>,
    /// Answered: wait until this much is applied.
    ready: Vec<(Seq, ReadId)>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Replica {
    coordinator: ServerId,
    /// An acknowledgement is owed as soon as the disk allows.
    ack_due: bool,
    /// What was acknowledged last.
    acknowledged: Option<Seq>,
    pub(crate) receiving: Option<Receiving>,
    index: IndexReads,
    alone: Alone,
    /// It said last that its read leases may run.
    is_bound: bool,
}

impl Replica {
    /// `last`: the end of the log.
    pub(crate) fn new(coordinator: ServerId, receiving: Option<Receiving>, last: Seq) -> Self {
        Self {
            coordinator,
            ack_due: false,
            acknowledged: None,
            receiving,
            index: IndexReads::default(),
            alone: Alone::new(last),
            is_bound: false,
        }
    }

    /// A copy under way goes on in a new epoch of the same coordinator.
    pub(crate) fn keep_receiving(self, coordinator: ServerId) -> Option<Receiving> {
        self.receiving.filter(|receiving| receiving.coordinator == coordinator)
    }

    pub(crate) fn coordinator(&self) -> ServerId {
        self.coordinator
    }

    pub(crate) fn take_reads(&mut self) -> Vec<ReadId> {
        let IndexReads { queued, asked, ready, .. } = std::mem::take(&mut self.index);
        let asked = asked.into_iter().flat_map(|(_, _, reads)| reads);
        asked.chain(queued).chain(ready.into_iter().map(|(_, read)| read)).collect()
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.index.queued.is_empty()
            || self.index.asked.is_some()
            || !self.index.ready.is_empty()
            || self.ack_due
            || self.is_bound
    }

    /// Entries were applied: reads that waited for them are carried out.
    pub(crate) fn on_applied(&mut self, env: &mut Env, applied: Seq) {
        let (now_ready, later) =
            std::mem::take(&mut self.index.ready).into_iter().partition(|(seq, _)| *seq <= applied);
        self.index.ready = later;
        let now_ready: Vec<(Seq, ReadId)> = now_ready;
        for (_, id) in now_ready {
            env.issue_read(id);
        }
    }
}

impl PartitionCopy {
    fn replica(&mut self) -> Option<&mut Replica> {
        match &mut self.role {
            Role::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    /// P2: the coordinator asks what the log holds.
    pub(crate) fn on_sync_request(&mut self, env: &mut Env, from: ServerId) {
        if self.replica().is_some() && !self.installing && !self.dropping {
            env.out.send(from, self.sync_reply());
        }
    }

    /// Entries of the coordinator. The first append of an epoch may shorten the log, once; no other ever does.
    pub(crate) fn on_append(&mut self, env: &mut Env, from: Sender, append: Append) {
        let Append { sync, prev, commit, mut entries } = append;
        if self.replica().is_none() || self.installing || self.dropping {
            return;
        }
        env.touched.insert(self.id);
        if let Err(reason) = check_entries(prev, &entries, self.epoch) {
            return env
                .warn(format!("partition {}: an append of {} is dropped: {reason}", self.id, from.server));
        }
        let in_step = self.mark.synced == self.epoch;
        // What comes before the base is applied, so committed, so in every coordinator's log.
        let known = self.log.contains(prev) || prev.seq < self.log.base().seq;
        if !in_step {
            if !sync {
                return;
            }
            if !known {
                // The log is not what it was when the coordinator asked: it is told again.
                return env.out.send(from.server, self.sync_reply());
            }
            if !self.cut_to_common(env, prev.seq, &entries) {
                return;
            }
            self.get_in_step(env);
        } else if env.mutated(Mutation::LateAppendCuts) && known && prev.seq < self.log.last() {
            let after = prev.seq.max(self.reaching()).max(self.log.base().seq);
            self.cut(env, after);
        } else if prev.seq > self.log.last() {
            let (partition, epoch, last) = (self.id, self.epoch, self.log.last());
            return env.out.send(from.server, PeerMessage::Gap { partition, epoch, last });
        }
        let reaches = entries.last().map_or(prev.seq, |entry| entry.id.seq);
        let owed = sync || !entries.is_empty();
        entries.retain(|entry| entry.id.seq > self.log.last());
        for entry in entries {
            if entry.id.seq != self.log.last().next() || entry.id.tag < self.log.last_tag() {
                break;
            }
            let id = entry.id;
            self.append(env, entry);
            env.trace_appended(self.id, id);
        }
        self.commit = self.commit.max(commit.min(reaches).min(self.log.last()));
        if let Some(replica) = self.replica() {
            replica.ack_due |= owed;
        }
        if env.mutated(Mutation::AckBeforeFsync) {
            let (partition, epoch, seq) = (self.id, self.epoch, self.log.last());
            env.out.send(from.server, PeerMessage::Ack { partition, epoch, seq, clean: true });
        }
    }

    /// P2: cuts the log after the common point, which is `prev` or later: what is committed here is in the coordinator's
    /// log too, though it may not have been on disk, and so not told, when the coordinator asked. False if that is not
    /// so; then the process stops.
    fn cut_to_common(&mut self, env: &mut Env, prev: Seq, entries: &[Entry]) -> bool {
        let after = prev.max(self.commit.min(self.log.last()));
        let base = self.log.base().seq;
        let differs =
            |entry: &&Entry| entry.id.seq > base && entry.id.seq <= after && !self.log.contains(entry.id);
        if let Some(entry) = entries.iter().find(differs) {
            let (partition, id, commit) = (self.id, entry.id, self.commit);
            env.fatal(format!(
                "partition {partition}: the coordinator's entry {id} is another one here, where all is committed up to \
                 {commit}: this copy is not a prefix of its coordinator's. Keep the storage directory and report this"
            ));
            return false;
        }
        if env.mutated(Mutation::LogNotCut) {
            return true;
        }
        self.cut(env, after);
        self.log.last() <= after
    }

    /// The log is a prefix of the coordinator's from here on in this epoch: noted with the cut that made it so.
    fn get_in_step(&mut self, env: &mut Env) {
        self.mark.synced = self.epoch;
        if let Some(replica) = self.replica() {
            replica.receiving = None;
        }
        if !env.mutated(Mutation::SyncMarkNotDurable) {
            self.persist_mark(env);
        }
        env.out.after(After::Synced { partition: self.id, epoch: self.epoch });
    }

    /// The mark of a sync is on disk.
    pub(crate) fn on_synced(&mut self, env: &mut Env, epoch: common::ids::Epoch) {
        self.synced_durable = self.synced_durable.max(epoch);
        env.touched.insert(self.id);
    }

    /// More of the log is on disk.
    pub(crate) fn on_durable(&mut self, env: &mut Env, seq: Seq, cuts: u64) {
        self.log.on_durable(seq, cuts);
        env.trace_stored(self.id, self.log.durable());
        if let Some(replica) = self.replica() {
            replica.ack_due = true;
        }
        env.touched.insert(self.id);
    }

    /// P4 and the acknowledgement: only of what is on disk, and only in step.
    pub(crate) fn settle_replica(&mut self, env: &mut Env) {
        let (partition, epoch, seq) = (self.id, self.epoch, self.log.durable());
        let in_step = self.synced_durable == self.epoch && self.mark.synced == self.epoch;
        let is_bound = !self.is_clean(env);
        let clean = env.now.time >= env.bound_by_past && !is_bound;
        let last = self.log.last();
        let Some(replica) = self.replica() else { return };
        // The next coordinator may be waiting to hear it.
        replica.ack_due |= replica.is_bound && !is_bound;
        // What is still on its way to the disk brings an acknowledgement of its own.
        let says_something = seq == last || replica.acknowledged.is_none_or(|before| before < seq);
        if replica.ack_due && in_step && says_something {
            replica.ack_due = false;
            replica.acknowledged = Some(seq);
            replica.is_bound = is_bound;
            env.trace_acknowledged(partition, seq, replica.coordinator);
            env.out.send(replica.coordinator, PeerMessage::Ack { partition, epoch, seq, clean });
        }
        self.ask_index(env);
    }

    /// A read at this replica; false if it has to go to the coordinator.
    pub(crate) fn on_replica_read(&mut self, env: &mut Env, to: ReplyTo, query: &Query, since: Time) -> bool {
        if self.mark.synced != self.epoch || self.mark.failed {
            return false;
        }
        let (partition, epoch, commit) = (self.id, self.epoch, Seq(0));
        let alone = self.may_answer_alone(env, query);
        let Some(replica) = self.replica() else { return false };
        let (query, indexed, floor) = (query.clone(), true, 0);
        let id =
            env.note_read(PendingRead { to, partition, query, since, indexed, alone, floor, epoch, commit });
        if alone {
            env.issue_read(id);
        } else {
            replica.index.queued.push(id);
        }
        env.touched.insert(partition);
        true
    }

    /// One question at a time, for all reads that came before it.
    fn ask_index(&mut self, env: &mut Env) {
        let (partition, epoch, now) = (self.id, self.epoch, env.now.time);
        let Some(replica) = self.replica() else { return };
        if replica.index.asked.is_none() && !replica.index.queued.is_empty() {
            env.last_question += 1;
            let n = env.last_question;
            let reads = std::mem::take(&mut replica.index.queued);
            replica.index.asked = Some((n, now, reads));
            env.out.send(replica.coordinator, PeerMessage::ReadIndex { partition, epoch, n });
        }
    }

    /// The coordinator has named its commit.
    pub(crate) fn on_read_index_reply(&mut self, env: &mut Env, n: u64, commit: Seq) {
        let (last, in_step, applied) = (self.log.last(), self.mark.synced == self.epoch, self.applied);
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
        }
    }

    /// The state was read at the commit that the coordinator named.
    pub(crate) fn on_indexed_answer(&mut self, env: &mut Env, id: ReadId, answer: Answer) {
        if self.mark.failed {
            return self.stray_read(env, id);
        }
        let Some(read) = env.reads.get_mut(&id) else { return };
        if std::mem::take(&mut read.alone) && !self.stands_alone(env, &answer) {
            env.touched.insert(self.id);
            let Role::Replica(replica) = &mut self.role else { return self.stray_read(env, id) };
            return replica.index.queued.push(id);
        }
        let Some(read) = env.reads.remove(&id) else { return };
        if expired(env, &answer) || matches!(answer, Answer::Damaged(_)) {
            // Only the coordinator moves log time on; and its copy may be better than this one.
            let ask = Ask::Read(read.query);
            return env.strays.push(Stray { to: read.to, ask, since: read.since, maybe_done: false });
        }
        env.reply(read.to, reply_of(answer));
    }

    /// Asks again, and gives up reads that waited too long.
    pub(crate) fn replica_tick(&mut self, env: &mut Env) {
        let (partition, epoch, now) = (self.id, self.epoch, env.now.time);
        env.touched.insert(partition);
        let Some(replica) = self.replica() else { return };
        if let Some((n, at, _)) = &mut replica.index.asked
            && now.since(*at) >= RESEND
        {
            *at = now;
            env.out.send(replica.coordinator, PeerMessage::ReadIndex { partition, epoch, n: *n });
        }
        let late = |env: &Env, id: &ReadId| {
            env.reads.get(id).is_none_or(|read| now.since(read.since) > env.config.park)
        };
        let mut given_up = Vec::new();
        let mut sift = |reads: &mut Vec<ReadId>| {
            given_up.extend(reads.extract_if(.., |id| late(env, id)));
        };
        sift(&mut replica.index.queued);
        if let Some((_, _, reads)) = &mut replica.index.asked {
            sift(reads);
            if reads.is_empty() {
                replica.index.asked = None;
            }
        }
        given_up.extend(replica.index.ready.extract_if(.., |(_, id)| late(env, id)).map(|(_, id)| id));
        for id in given_up {
            if let Some(read) = env.reads.remove(&id) {
                let reason = format!("partition {partition}: the coordinator does not answer, retry");
                env.reply(read.to, Reply::Busy { reason });
            }
        }
    }
}

/// The content of an append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) sync: bool,
    pub(crate) prev: LogId,
    pub(crate) commit: Seq,
    pub(crate) entries: Vec<Entry>,
}
