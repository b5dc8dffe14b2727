//! A replica beside its coordinator: it says what its log has, sends entries that the coordinator lacks (P1), and
//! acknowledges what is on disk (P4); the coordinator takes that in `coordinator/members`.

use common::ids::{LogId, ServerId};
use common::messages::{Bound, Entry, ToCoordinator};
use common::time::Time;

use super::super::context::named_process;
use super::super::env::Env;
use super::super::io::{Later, Reader};
use super::super::limits::APPEND_BYTES_MAX;
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::super::process::Process;
use super::state::Replica;

impl Replica {
    /// P1, P2: the coordinator asks what the log has.
    pub(crate) fn on_sync_request(&mut self, p: &PartitionState, env: &mut Env, from: ServerId) {
        if !p.is_idle() {
            return;
        }
        if env.may_speak(p.id()) {
            env.out.send(from, p.sync_reply());
        } else {
            // S4: answered when this process may speak.
            self.asked_to_sync = true;
        }
    }

    /// P1: the coordinator's log is shorter than this one, and it asks for entries.
    pub(crate) fn on_fetch_request(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        from: ServerId,
        prev: LogId,
    ) {
        let partition = p.id();
        if !p.is_idle() || !env.may_speak(partition) {
            return;
        }
        if !p.log().contains(prev) || prev.seq >= p.log().durable() {
            // The log has changed since the coordinator asked: it is described again.
            return env.out.send(from, p.sync_reply());
        }
        match p.log().in_memory(prev.seq.next(), APPEND_BYTES_MAX) {
            Some(entries) => send_fetched(p, env, from, prev, entries),
            None => {
                self.fetched = Some(prev);
                let (reader, bytes_max) = (Reader::Fetch, APPEND_BYTES_MAX);
                env.out.effect(Later::ReadLog { partition, reader, from: prev.seq.next(), bytes_max });
            }
        }
    }

    /// Entries for the coordinator were read back.
    pub(crate) fn on_log_read(&mut self, p: &PartitionState, env: &mut Env, entries: Option<Vec<Entry>>) {
        let Some(prev) = self.fetched.take() else { return };
        match entries {
            Some(entries) => send_fetched(p, env, self.coordinator, prev, entries),
            None => env.out.send(self.coordinator, p.sync_reply()),
        }
    }

    /// Whether the log is a prefix of the coordinator's.
    pub(super) fn follows(&self, p: &PartitionState) -> bool {
        self.follows || p.is_synced()
    }

    /// An entry of this epoch may be committed, and then its coordinator is active: promises to former ones bind no
    /// longer. V4a: this process is proved if it has on disk what was committed when its coordinator first heard of
    /// it, as all later commits needed its acknowledgement.
    pub(crate) fn note_activity(&self, p: &mut PartitionState) {
        if !p.has_commit_of_epoch() {
            return;
        }
        p.given_mut().release_promises();
        let is_whole = self.probed_at.is_some_and(|commit| p.log().durable() >= commit);
        if is_whole && p.synced_durable() == p.epoch() && p.is_synced() {
            p.prove();
        }
    }

    /// Ends a batch: does once what its inputs made possible.
    pub(crate) fn settle(&mut self, p: &mut PartitionState, env: &mut Env) {
        self.acknowledge(p, env);
        if env.may_speak(p.id()) && std::mem::take(&mut self.asked_to_sync) {
            env.out.send(self.coordinator, p.sync_reply());
        }
        self.ask_index(p, env);
    }

    /// P4: sends acknowledgements, only of what is on disk. From the no-op of the epoch on the mark must be on disk,
    /// too. Acknowledgements of entries before it only show progress, and count for nothing else.
    fn acknowledge(&mut self, p: &mut PartitionState, env: &mut Env) {
        let seq = p.log().durable();
        let leaves_no_op_out = env.cx.planted(PlantedBug::NoOpLeftOut);
        let is_synced = p.synced_durable() == p.epoch() && (p.is_synced() || leaves_no_op_out);
        // While the no-op is on its way to the disk, its own acknowledgement will be enough.
        let comes_before = !p.has_no_op() && !leaves_no_op_out;
        let in_step = env.may_speak(p.id()) && (is_synced || (self.follows(p) && comes_before));
        let is_bound = !is_clean(p, env);
        let clean = env.cx.now.time >= env.promises.bound_by_past && !is_bound && is_synced;
        let bound = bounds(p, env.cx.now.time);
        // The next coordinator may be waiting for a clean acknowledgement.
        self.ack_due |= self.is_bound && !is_bound;
        // Entries that are still on their way to the disk bring an acknowledgement of their own.
        let says_something = seq == p.log().last() || self.acknowledged.is_none_or(|before| before < seq);
        if self.ack_due && in_step && says_something {
            self.ack_due = false;
            let goes_on = self.acknowledged.is_none_or(|before| before <= seq);
            assert!(goes_on, "partition {}: an acknowledgement was taken back", p.id());
            self.acknowledged = Some(seq);
            self.is_bound = is_bound;
            env.trace_acknowledged(p.id(), seq, self.coordinator);
            let ack = ToCoordinator::Ack { seq, clean, bound };
            env.out.send(self.coordinator, ack.about(p.id(), p.epoch()));
        }
    }
}

/// Sends entries to the coordinator, but only those on disk and still in the log.
fn send_fetched(p: &PartitionState, env: &mut Env, to: ServerId, prev: LogId, mut entries: Vec<Entry>) {
    let log = p.log();
    entries.retain(|entry| entry.id.seq <= log.durable() && log.contains(entry.id));
    debug_assert!(entries.is_sorted_by_key(|entry| entry.id), "entries leave in the order of the log");
    let follows = entries.first().is_some_and(|entry| entry.id.seq == prev.seq.next());
    if follows && log.contains(prev) {
        env.out.send(to, ToCoordinator::FetchReply { prev, entries }.about(p.id(), p.epoch()));
    }
}

/// P4: whether no read lease that this server gave may still run, other than those of the present in-sync set. These
/// are void before a coordinator is active in this epoch, as their members have acknowledged it.
fn is_clean(p: &mut PartitionState, env: &Env) -> bool {
    let epoch = p.epoch();
    let may_run = |process: Process| !env.promises.has_left(process, epoch);
    p.given_mut().prune_read_leases(env.cx.now.time, may_run);
    let assignment = env.cx.view.assignment(p.id());
    let counts = |process: &Process| {
        let is_in_sync = assignment.is_some_and(|a| a.in_sync_member(process.server).is_some());
        is_in_sync && named_process(&env.cx.view, process.server).map(Process::from) == Some(*process)
    };
    p.given().read_leases().all(counts) || env.cx.planted(PlantedBug::CleanDespiteReadGrants)
}

/// P3b: promises to former coordinators that still bind this server.
fn bounds(p: &mut PartitionState, now: Time) -> Vec<Bound> {
    p.given_mut().prune_promises(now);
    let left = |until: &Time| u64::try_from(until.since(now).as_micros()).unwrap_or(u64::MAX);
    let bound = |(process, until): (&Process, &Time)| Bound {
        server: process.server,
        nonce: process.nonce,
        for_us: left(until),
    };
    p.given().promises().map(bound).collect()
}
