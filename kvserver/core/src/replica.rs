//! A replica of a partition, in sync or joining: stores what the coordinator sends, acknowledges what is on disk,
//! applies what is committed, and answers reads at a commit that the coordinator named (6.1).
//!
//! States: *not in step* (it says what its log has, and the first append of the epoch may cut it), *receiving* a
//! copy of the state, *following* (its log is a prefix of the coordinator's), and *in step* (it has the no-op of the
//! epoch). On its own it cuts nothing, ever.

mod index;
mod local_reads;

use common::ids::{LogId, Nonce, Seq, ServerId};
use common::messages::{Bound, Entry, Sender, ToCoordinator};
use common::time::Time;

use local_reads::LocalReads;

use super::copy::{PartitionCopy, Role};
use super::env::Env;
use super::io::{Later, ReadId, Reader};
use super::limits::APPEND_BYTES_MAX;
use super::out::After;
use super::planted::PlantedBug;
use super::process::Process;
use super::transfer::Receiving;
use super::validate::check_entries;

/// Reads that wait for the coordinator's commit, and then for this copy to reach it.
#[derive(Debug, Default)]
struct IndexReads {
    /// Reads that came after the present question; they need the next one.
    queued: Vec<ReadId>,
    /// The question under way: its number, when it was last asked, and the reads that it is for.
    asked: Option<(u64, Time, Vec<ReadId>)>,
    /// Reads that wait until the commit that the coordinator named is applied.
    ready: Vec<(Seq, ReadId)>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Replica {
    coordinator: ServerId,
    /// An acknowledgement is to be sent as soon as the disk allows.
    ack_due: bool,
    /// The last entry that was acknowledged.
    acknowledged: Option<Seq>,
    pub(crate) receiving: Option<Receiving>,
    index: IndexReads,
    alone: LocalReads,
    /// The last acknowledgement said `clean: false` (P4).
    is_bound: bool,
    /// The log is a prefix of the coordinator's: it was cut to the common point in this epoch, by this process, or it
    /// was in step before. Not on disk: a restarted process is asked again, and may be cut again.
    follows: bool,
    /// The commit when the coordinator first sent entries to this process.
    probed_at: Option<Seq>,
    /// P1: the entry after which the coordinator asked for entries, while they are read back.
    fetched: Option<LogId>,
    /// S4: the coordinator has asked what the log has, and the answer waits until this process may speak.
    asked_to_sync: bool,
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
            alone: LocalReads::new(last),
            is_bound: false,
            follows: false,
            probed_at: None,
            fetched: None,
            asked_to_sync: false,
        }
    }

    /// Keeps a copy that is being received, if the coordinator of the new epoch is the same.
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

    /// Entries were applied: carries out reads that waited for them.
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

    /// P1, P2: the coordinator asks what the log has.
    pub(crate) fn on_sync_request(&mut self, env: &mut Env, from: ServerId) {
        if self.replica().is_some() && !self.disk.installing && !self.disk.dropping {
            if env.may_speak(self.id) {
                env.out.send(from, self.sync_reply());
            } else if let Some(replica) = self.replica() {
                // S4: answered when this process may speak.
                replica.asked_to_sync = true;
            }
        }
    }

    /// P1: the coordinator's log is shorter than this one, and it asks for entries.
    pub(crate) fn on_fetch_request(&mut self, env: &mut Env, from: ServerId, prev: LogId) {
        let (partition, durable) = (self.id, self.log.durable());
        if self.replica().is_none() || self.disk.installing || self.disk.dropping || !env.may_speak(partition)
        {
            return;
        }
        if !self.log.contains(prev) || prev.seq >= durable {
            // The log has changed since the coordinator asked: it is described again.
            return env.out.send(from, self.sync_reply());
        }
        match self.log.in_memory(prev.seq.next(), APPEND_BYTES_MAX) {
            Some(entries) => self.send_fetched(env, from, prev, entries),
            None => {
                let Some(replica) = self.replica() else { return };
                replica.fetched = Some(prev);
                let (reader, bytes_max) = (Reader::Fetch, APPEND_BYTES_MAX);
                env.out.effect(Later::ReadLog { partition, reader, from: prev.seq.next(), bytes_max });
            }
        }
    }

    /// Entries for the coordinator were read back.
    pub(crate) fn on_read_for_fetch(&mut self, env: &mut Env, entries: Option<Vec<Entry>>) {
        let Some(replica) = self.replica() else { return };
        let coordinator = replica.coordinator;
        let Some(prev) = replica.fetched.take() else { return };
        match entries {
            Some(entries) => self.send_fetched(env, coordinator, prev, entries),
            None => env.out.send(coordinator, self.sync_reply()),
        }
    }

    /// Sends entries to the coordinator, but only those on disk and still in the log.
    fn send_fetched(&mut self, env: &mut Env, to: ServerId, prev: LogId, mut entries: Vec<Entry>) {
        let (partition, epoch, durable) = (self.id, self.epoch, self.log.durable());
        entries.retain(|entry| entry.id.seq <= durable && self.log.contains(entry.id));
        let follows = entries.first().is_some_and(|entry| entry.id.seq == prev.seq.next());
        if follows && self.log.contains(prev) {
            env.out.send(to, ToCoordinator::FetchReply { prev, entries }.about(partition, epoch));
        }
    }

    /// Entries of the coordinator. The first append of an epoch may shorten the log, once; no other ever does.
    pub(crate) fn on_append(&mut self, env: &mut Env, from: Sender, append: Append) {
        let Append { sync, prev, commit, mut entries } = append;
        let is_sync = sync == Some(env.cx.me.nonce);
        if self.replica().is_none() || self.disk.installing || self.disk.dropping {
            return;
        }
        env.touched.insert(self.id);
        if let Err(reason) = check_entries(prev, &entries, self.epoch) {
            return env
                .out
                .warn(format!("partition {}: an append of {} is dropped: {reason}", self.id, from.server));
        }
        // Entries before the base are applied, hence committed, hence in every coordinator's log.
        let known = self.log.contains(prev) || prev.seq < self.log.base().seq;
        if !self.follows() {
            if !is_sync || !env.may_speak(self.id) {
                return;
            }
            if !known {
                // The log has changed since the coordinator asked: it is described again.
                return env.out.send(from.server, self.sync_reply());
            }
            if !self.cut_to_common(env, from, prev.seq, &entries) {
                return;
            }
            if let Some(replica) = self.replica() {
                replica.follows = true;
                replica.receiving = None;
            }
        } else if env.cx.planted(PlantedBug::LateAppendCuts) && known && prev.seq < self.log.last() {
            let after = prev.seq.max(self.reaching()).max(self.log.base().seq);
            self.cut(env, after);
        } else if prev.seq > self.log.last() {
            let (partition, epoch, last) = (self.id, self.epoch, self.log.last());
            return env.out.send(from.server, ToCoordinator::Gap { last }.about(partition, epoch));
        }
        let reaches = entries.last().map_or(prev.seq, |entry| entry.id.seq);
        let owed = is_sync || !entries.is_empty();
        entries.retain(|entry| entry.id.seq > self.log.last());
        for entry in entries {
            if entry.id.seq != self.log.last().next() || entry.id.tag < self.log.last_tag() {
                break;
            }
            let id = entry.id;
            self.append(env, entry);
            env.trace_appended(self.id, id);
        }
        if self.disk.mark.synced != self.epoch
            && (self.has_no_op() || env.cx.planted(PlantedBug::NoOpLeftOut))
        {
            self.get_in_step(env);
        }
        self.commit = self.commit.max(commit.min(reaches).min(self.log.last()));
        if let Some(replica) = self.replica().filter(|_| is_sync) {
            replica.probed_at.get_or_insert(commit);
        }
        self.note_activity();
        if let Some(replica) = self.replica() {
            replica.ack_due |= owed;
        }
        if env.cx.planted(PlantedBug::AckBeforeFsync) {
            let (partition, epoch, seq) = (self.id, self.epoch, self.log.last());
            let bound = Vec::new();
            env.out.send(from.server, ToCoordinator::Ack { seq, clean: true, bound }.about(partition, epoch));
        }
    }

    /// Whether the log is a prefix of the coordinator's.
    fn follows(&self) -> bool {
        let cut = matches!(&self.role, Role::Replica(replica) if replica.follows);
        cut || self.is_synced()
    }

    /// Whether the log has the no-op of the epoch, which no older log has.
    fn has_no_op(&self) -> bool {
        self.log.last_tag() == self.epoch
    }

    /// Whether the copy is in step: its log is a prefix of the coordinator's and has the no-op of the epoch, and the
    /// mark on disk says so. A mark without the no-op, on a disk that lost only the end of its log, counts for nothing.
    pub(crate) fn is_synced(&self) -> bool {
        self.disk.mark.synced == self.epoch && self.has_no_op()
    }

    /// An entry of this epoch is committed, so its coordinator is active: promises to former ones bind no longer. V4a:
    /// this process is proved if it has on disk what was committed when its coordinator first heard of it, as all later
    /// commits needed its acknowledgement.
    fn note_activity(&mut self) {
        let in_epoch = self.log.id_at(self.commit).is_some_and(|id| id.tag == self.epoch);
        if !in_epoch {
            return;
        }
        self.given.promises.clear();
        let durable = self.log.durable();
        let Role::Replica(replica) = &self.role else { return };
        let is_whole = replica.probed_at.is_some_and(|commit| durable >= commit);
        self.proved |= is_whole && self.disk.synced_durable == self.epoch && self.is_synced();
    }

    /// V4a: whether the partition was resumed without this copy after a restart, before it was known what the copy has.
    /// An in-sync member was not left out: the coordinator has asked it for its log (P1). Nor was a server that has
    /// coordinated the partition since then: a coordinator writes no sync mark, but its log has entries of that epoch
    /// or a later one.
    fn was_left_out(&self, env: &Env) -> bool {
        let Some(&resumed) = env.cx.view.resumed.get(&self.id) else { return false };
        let me = env.cx.my_member();
        let in_sync = env.cx.view.assignment(self.id).is_some_and(|now| now.in_sync.contains(&me));
        let took_part =
            (in_sync || self.log.last_tag() >= resumed) && !env.cx.planted(PlantedBug::CoordinatorLeftOut);
        self.disk.mark.synced < resumed && !took_part
    }

    /// V4a: whether this copy was left out and may have acknowledged entries that no other copy has, so that only an
    /// operator may remove it. Entries that are known here to be committed are in the other copies' logs.
    pub(crate) fn may_hold_more(&self, env: &Env) -> bool {
        self.was_left_out(env) && self.log.last() > self.commit.max(self.reaching())
    }

    /// P2: cuts the log after the common point, which is `prev` or later: what is committed here is in the
    /// coordinator's log too, though it may not have been on disk, and so not reported, when the coordinator asked.
    /// Returns `false` if it is not there: then the coordinator's log is wrong, and this one is not cut.
    fn cut_to_common(&mut self, env: &mut Env, from: Sender, prev: Seq, entries: &[Entry]) -> bool {
        let after = prev.max(self.commit.min(self.log.last()));
        let base = self.log.base().seq;
        let differs =
            |entry: &&Entry| entry.id.seq > base && entry.id.seq <= after && !self.log.contains(entry.id);
        if entries.iter().any(|entry| differs(&entry)) || after < self.reaching() {
            let (partition, epoch, commit) = (self.id, self.epoch, self.commit);
            env.out.send(from.server, ToCoordinator::Ahead { commit }.about(partition, epoch));
            return false;
        }
        if env.cx.planted(PlantedBug::LogNotCut) {
            return true;
        }
        if self.log.last() > after && self.was_left_out(env) {
            // V4a: perhaps no other copy has the entries behind the common point, so the copy is kept aside and not
            // cut.
            let (partition, epoch, commit) = (self.id, self.epoch, self.log.last());
            env.out.send(from.server, ToCoordinator::Ahead { commit }.about(partition, epoch));
            return false;
        }
        self.cut(env, after);
        self.log.last() <= after
    }

    /// Notes in the mark that the log has the no-op of the epoch, with the batch that brings it.
    fn get_in_step(&mut self, env: &mut Env) {
        self.disk.mark.synced = self.epoch;
        if !env.cx.planted(PlantedBug::SyncMarkNotDurable) {
            self.persist_mark(env);
        }
        env.out.after(After::Synced { partition: self.id, epoch: self.epoch });
    }

    /// The mark of a sync is on disk.
    pub(crate) fn on_synced(&mut self, env: &mut Env, epoch: common::ids::Epoch) {
        self.disk.synced_durable = self.disk.synced_durable.max(epoch);
        self.note_activity();
        env.touched.insert(self.id);
    }

    /// More of the log is on disk.
    pub(crate) fn on_durable(&mut self, env: &mut Env, seq: Seq, cuts: u64) {
        self.log.on_durable(seq, cuts);
        env.trace_stored(self.id, self.log.durable());
        self.note_activity();
        if let Some(replica) = self.replica() {
            replica.ack_due = true;
        }
        env.touched.insert(self.id);
    }

    /// P4: sends acknowledgements, only of what is on disk. From the no-op of the epoch on the mark must be on disk,
    /// too. Acknowledgements of entries before it only show progress, and count for nothing else.
    pub(crate) fn settle_replica(&mut self, env: &mut Env) {
        let (partition, epoch, seq) = (self.id, self.epoch, self.log.durable());
        let may_speak = env.may_speak(partition);
        let is_synced = self.disk.synced_durable == self.epoch
            && (self.is_synced() || env.cx.planted(PlantedBug::NoOpLeftOut));
        // While the no-op is on its way to the disk, its own acknowledgement will be enough.
        let comes_before = !self.has_no_op() && !env.cx.planted(PlantedBug::NoOpLeftOut);
        let in_step = may_speak && (is_synced || (self.follows() && comes_before));
        let is_bound = !self.is_clean(env);
        let clean = env.cx.now.time >= env.promises.bound_by_past && !is_bound && is_synced;
        let last = self.log.last();
        let bound = self.bounds(env);
        let Some(replica) = self.replica() else { return };
        // The next coordinator may be waiting for a clean acknowledgement.
        replica.ack_due |= replica.is_bound && !is_bound;
        // Entries that are still on their way to the disk bring an acknowledgement of their own.
        let says_something = seq == last || replica.acknowledged.is_none_or(|before| before < seq);
        if replica.ack_due && in_step && says_something {
            replica.ack_due = false;
            replica.acknowledged = Some(seq);
            replica.is_bound = is_bound;
            env.trace_acknowledged(partition, seq, replica.coordinator);
            env.out
                .send(replica.coordinator, ToCoordinator::Ack { seq, clean, bound }.about(partition, epoch));
        }
        if may_speak && std::mem::take(&mut replica.asked_to_sync) {
            let to = replica.coordinator;
            env.out.send(to, self.sync_reply());
        }
        self.ask_index(env);
    }

    /// P3b: promises to former coordinators that still bind this server.
    fn bounds(&mut self, env: &Env) -> Vec<Bound> {
        let now = env.cx.now.time;
        self.given.promises.retain(|_, until| *until > now);
        let left = |until: &Time| u64::try_from(until.since(now).as_micros()).unwrap_or(u64::MAX);
        let bound = |(process, until): (&Process, &Time)| Bound {
            server: process.server,
            nonce: process.nonce,
            for_us: left(until),
        };
        self.given.promises.iter().map(bound).collect()
    }
}

/// The content of an append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) sync: Option<Nonce>,
    pub(crate) prev: LogId,
    pub(crate) commit: Seq,
    pub(crate) entries: Vec<Entry>,
}
