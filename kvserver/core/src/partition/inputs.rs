//! What comes in for a partition, handed to the role that it is for. What a role cannot use it never sees: a message to
//! the coordinator is dropped where there is none.

use bytes::Bytes;
use common::ids::{Epoch, LogId, Seq, ServerId};
use common::messages::{Change, Digest, Entry, ProcessId, ReadGrant, ToCoordinator, ToReplica};
use common::operation::Outcome;
use common::time::Time;
use common::view::Member;

use super::super::ask::{Answer, Query, WatchAsk};
use super::super::compare;
use super::super::env::Env;
use super::super::io::{Later, ReadId, Reader, StoredPairs};
use super::super::planted::PlantedBug;
use super::super::process::{Anew, Process};
use super::super::replica::append::Append;
use super::super::replica::index::answer_without_role;
use super::super::requests::{ClientRequest, ReplyTo};
use super::super::transfer::receiver::Piece;
use super::super::watch::Watches;
use super::Partition;

impl Partition {
    /// A message of a member to the coordinator.
    pub(crate) fn on_to_coordinator(&mut self, env: &mut Env, from: ProcessId, message: ToCoordinator) {
        let Some((coordinator, p)) = self.as_coordinator() else { return };
        match message {
            ToCoordinator::SyncReply { base, last, runs, commit: _ } => {
                coordinator.on_sync_reply(p, env, from, base, last, &runs);
            }
            ToCoordinator::Ack { seq, clean, bound } => coordinator.on_ack(p, env, from, seq, clean, &bound),
            ToCoordinator::FetchReply { prev, entries } => {
                coordinator.on_fetched(p, env, from, prev, entries)
            }
            ToCoordinator::Ahead { commit } => coordinator.on_member_ahead(p, env, from, commit),
            ToCoordinator::Gap { last } => coordinator.on_gap(p, env, from, last),
            ToCoordinator::ReadIndex { n } => coordinator.on_read_index(p, env, from.server, n),
            ToCoordinator::SnapshotAck { transfer, next, installed } => {
                coordinator.on_snapshot_ack(p, env, from.server, transfer, next, installed);
            }
            ToCoordinator::DigestReply { at, digest, equal_with } => {
                coordinator.on_digest_reply(p, env, from, at, digest, equal_with);
            }
        }
    }

    /// A message of the coordinator.
    pub(crate) fn on_to_replica(&mut self, env: &mut Env, from: ProcessId, message: ToReplica) {
        match message {
            // What is said of the records is for every copy, whatever its role.
            ToReplica::DigestRequest { at } => {
                return compare::on_digest_request(&self.state, env, from.server, at);
            }
            ToReplica::Equal { at, servers } => {
                return compare::on_equal(&mut self.state, env, at, servers);
            }
            ToReplica::Differs { at, digest } => return self.on_differs(env, from.server, at, digest),
            ToReplica::TraceEntry { seq, request } => return env.trace_coming(self.id(), seq, request),
            _ => {}
        }
        let Some((replica, p)) = self.as_replica() else { return };
        match message {
            ToReplica::SyncRequest {} => replica.on_sync_request(p, env, from.server),
            ToReplica::FetchRequest { prev } => replica.on_fetch_request(p, env, from.server, prev),
            ToReplica::Append { sync, prev, commit, entries } => {
                replica.on_append(p, env, from, Append { sync, prev, commit, entries });
            }
            ToReplica::SnapshotBegin { transfer, base } => {
                replica.on_snapshot_begin(p, env, from.server, transfer, base);
            }
            ToReplica::SnapshotChunk { transfer, index, state, pairs, done } => {
                let piece = Piece { transfer, index, state, pairs, done };
                replica.on_snapshot_chunk(p, env, from.server, piece);
            }
            ToReplica::ReadIndexReply { n, commit } => replica.on_read_index_reply(p, env, n, commit),
            ToReplica::DigestRequest { .. }
            | ToReplica::Equal { .. }
            | ToReplica::Differs { .. }
            | ToReplica::TraceEntry { .. } => {}
        }
    }

    /// The link to a server is new, or its process is.
    pub(crate) fn on_peer_linked(&mut self, env: &mut Env, server: ServerId, anew: Anew) {
        if anew == Anew::Process && env.cx.planted(PlantedBug::RestartEndsReadLease) {
            self.state.given_mut().forget_read_leases(server);
        }
        if let Some((coordinator, p)) = self.as_coordinator() {
            coordinator.on_peer_linked(p, env, server, anew);
        }
    }

    /// A request for this partition, at its coordinator.
    pub(crate) fn on_ask(&mut self, env: &mut Env, asked: ClientRequest) {
        match self.as_coordinator() {
            Some((coordinator, p)) => coordinator.on_ask(p, env, asked),
            None => self.state.waiting.park(env, asked),
        }
    }

    /// A client asks for changes.
    pub(crate) fn on_watch(&mut self, env: &mut Env, to: ReplyTo, asked: WatchAsk) {
        self.watches.on_watch(&self.state, env, to, asked);
    }

    /// Answers clients that have waited long enough for a change.
    pub(crate) fn watch_tick(&mut self, env: &mut Env) {
        let shows_changes = self.shows_changes();
        self.watches.on_tick(&self.state, env, shows_changes);
    }

    /// Takes a read at this replica. Returns `false` if it has to go to the coordinator.
    pub(crate) fn on_replica_read(&mut self, env: &mut Env, to: ReplyTo, query: &Query, since: Time) -> bool {
        self.as_replica().is_some_and(|(replica, p)| replica.on_read(p, env, to, query, since))
    }

    /// The state was read for the coordinator.
    pub(crate) fn on_answered(&mut self, env: &mut Env, id: ReadId, answer: Answer) {
        match self.as_coordinator() {
            Some((coordinator, p)) => coordinator.on_answered(p, env, id, answer),
            None => env.requests.reroute_read(id),
        }
    }

    /// The state was read for a replica.
    pub(crate) fn on_indexed_answer(&mut self, env: &mut Env, id: ReadId, answer: Answer) {
        match self.as_replica() {
            Some((replica, p)) => replica.on_answered(p, env, id, answer),
            None => answer_without_role(&self.state, env, id, answer),
        }
    }

    /// Entries were applied.
    pub(crate) fn on_applied(
        &mut self,
        env: &mut Env,
        outcomes: Vec<Outcome>,
        changes: Vec<(LogId, Vec<Change>)>,
    ) {
        if !self.state.takes_outcomes() {
            return;
        }
        self.watches.on_applied(self.state.applied(), &outcomes);
        let ticked = self.state.on_applied(env, outcomes);
        self.watches.on_changes(&self.state, env, changes);
        for id in ticked {
            match self.as_coordinator() {
                Some((coordinator, p)) => coordinator.start_read(p, env, id),
                None => env.requests.reroute_read(id),
            }
        }
        if let Some((replica, p)) = self.as_replica() {
            replica.on_applied(env, p.applied());
        }
    }

    /// Entries were read back from the commit log.
    pub(crate) fn on_log_read(&mut self, env: &mut Env, reader: Reader, entries: Option<Vec<Entry>>) {
        match reader {
            Reader::Apply => self.state.on_read_back(env, entries, self.watches.is_open()),
            Reader::Watch => self.watches.on_log_read(&self.state, env, entries),
            Reader::Member(server) => {
                if let Some((coordinator, p)) = self.as_coordinator() {
                    coordinator.on_log_read(p, env, server, entries);
                }
            }
            Reader::Fetch => {
                if let Some((replica, p)) = self.as_replica() {
                    replica.on_log_read(p, env, entries);
                }
            }
        }
    }

    /// The commit log no longer has entries up to `seq`.
    pub(crate) fn on_trimmed(&mut self, seq: Seq) {
        self.state.on_trimmed(seq);
    }

    /// Records have expired by this server's clock.
    pub(crate) fn on_expiring(&mut self, env: &mut Env) {
        if let Some((coordinator, p)) = self.as_coordinator() {
            coordinator.on_expiring(p, env);
        }
    }

    /// A snapshot for a member is open.
    pub(crate) fn on_snapshot_opened(&mut self, env: &mut Env, transfer: u64, state: &Bytes, bytes: u64) {
        if let Some((coordinator, _)) = self.as_coordinator() {
            coordinator.on_snapshot_opened(env, transfer, state, bytes);
        }
    }

    /// StoredPairs of a snapshot for a member were read.
    pub(crate) fn on_snapshot_read(&mut self, transfer: u64, index: u64, pairs: StoredPairs, done: bool) {
        if let Some((coordinator, _)) = self.as_coordinator() {
            coordinator.on_snapshot_read(transfer, index, pairs, done);
        }
    }

    /// A chunk of a copy for this server is staged.
    pub(crate) fn on_staged(&mut self, env: &mut Env, staging: u64, index: u64, generation: Option<u32>) {
        if let Some((replica, p)) = self.as_replica() {
            replica.on_staged(p, env, staging, index, generation);
        }
    }

    /// The install record of a staged copy is on disk, whatever the role is by now.
    pub(crate) fn on_installed(&mut self, env: &mut Env, staging: u64, generation: u32, at: (LogId, Bytes)) {
        let (base, state) = at;
        env.out.effect(Later::Install { partition: self.id(), generation, state });
        self.watches.forget(env, base.seq);
        self.state.on_installed(env, base);
        if let Some((replica, p)) = self.as_replica() {
            replica.on_installed(p, env, staging);
            // Reads may have waited for entries that the copy contains.
            replica.on_applied(env, p.applied());
        }
    }

    /// The drop record is on disk.
    pub(crate) fn on_dropped(&mut self, env: &mut Env) {
        env.out.effect(Later::Drop { partition: self.id() });
        self.watches.forget(env, Seq(0));
        self.watches = Watches::new(Seq(0));
        self.state.on_dropped(env);
    }

    /// More of the log is on disk.
    pub(crate) fn on_durable(&mut self, env: &mut Env, seq: Seq, cuts: u64) {
        self.state.on_durable(env, seq, cuts);
        self.note_activity();
        if let Some((replica, _)) = self.as_replica() {
            replica.owe_ack();
        }
    }

    /// The mark of a sync is on disk.
    pub(crate) fn on_synced(&mut self, env: &mut Env, epoch: Epoch) {
        self.state.on_synced(env, epoch);
        self.note_activity();
    }

    /// An entry of this epoch may be known to be committed now: then its coordinator is active.
    fn note_activity(&mut self) {
        if let Some((replica, p)) = self.as_replica() {
            replica.note_activity(p);
        } else if self.state.has_commit_of_epoch() {
            self.state.given_mut().release_promises();
        }
    }

    /// The note of a proposal is on disk.
    pub(crate) fn on_proposal_noted(&mut self, env: &mut Env, epoch: Epoch, member: Member) {
        if let Some((coordinator, p)) = self.as_coordinator() {
            coordinator.on_proposal_noted(p, env, epoch, member);
        }
    }

    /// The mark of a failed copy is on disk.
    pub(crate) fn on_failed(&mut self, env: &mut Env) {
        self.state.on_failed(env);
    }

    /// P3b: this server has promised to a former coordinator.
    pub(crate) fn note_promise(&mut self, to: Process, until: Time) {
        self.state.given_mut().note_promise(to, until);
    }

    /// 7.1: a member asks for a read lease.
    pub(crate) fn grant_read_lease(&mut self, env: &Env, to: ProcessId, epoch: Epoch) -> Option<ReadGrant> {
        let (coordinator, p) = self.as_coordinator()?;
        coordinator.grant_read_lease(p, env, to, epoch)
    }

    /// Whether this replica has a read lease at `now`.
    pub(crate) fn has_read_lease(&self, now: Time) -> bool {
        self.replica().is_some_and(|replica| replica.has_read_lease(&self.state, now))
    }

    /// The coordinator to ask for a read lease, if clients have read here of late.
    pub(crate) fn wants_read_lease(&self, env: &Env) -> Option<ServerId> {
        self.replica()?.wants_read_lease(&self.state, env)
    }

    /// 7.1: the coordinator has given a read lease, in answer to a question of `asked`.
    pub(crate) fn on_read_lease(&mut self, env: &Env, from: ServerId, grant: ReadGrant, asked: Time) {
        if let Some((replica, p)) = self.as_replica() {
            replica.on_read_lease(p, env, from, grant, asked);
        }
    }

    /// Begins a comparison of the copies. Returns whether it did.
    pub(crate) fn begin_comparison(&mut self, env: &mut Env) -> bool {
        self.as_coordinator().is_some_and(|(coordinator, p)| coordinator.begin_comparison(p, env))
    }

    /// A digest of this copy is made, or will not be made. A coordinator that compares waits for it.
    pub(crate) fn on_digested(&mut self, env: &mut Env, at: LogId) {
        if let Some(replica) = self.replica()
            && at.tag == self.state.epoch()
        {
            compare::on_digest_request(&self.state, env, replica.coordinator(), at);
        }
    }

    /// The coordinator has found that this copy differs from most others.
    fn on_differs(&mut self, env: &mut Env, from: ServerId, at: LogId, digest: Digest) {
        if compare::on_differs(&mut self.state, env, from, at, digest)
            && let Some((replica, _)) = self.as_replica()
        {
            let reads = replica.take_reads();
            env.requests.reroute_reads(reads);
        }
    }
}
