//! Messages of other servers: what is old is dropped, the rest goes to the copy that it is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::ids::{Epoch, PartitionId, ServerId};
use common::messages::{PeerMessage, Sender};
use common::view::{Member, View};

use super::super::copy::Role;
use super::super::limits::WANT_VIEW_AGAIN;
use super::super::member::Append;
use super::super::mutation::Mutation;
use super::super::transfer::Piece;
use super::Node;

impl Node {
    pub(super) fn ping(&mut self) {
        let now = self.env.now.time;
        self.next_ping = now + self.env.config.timers.ping;
        let granters: BTreeSet<ServerId> = self
            .copies
            .iter()
            .filter_map(|copy| match &copy.role {
                Role::Coordinator(coordinator) => Some(coordinator.granters()),
                _ => None,
            })
            .flatten()
            .collect();
        let view = self.env.view.number;
        for server in granters {
            let n = self.env.leases.on_ping_sent(server, now);
            self.env.out.send(server, PeerMessage::Ping { n, view });
        }
        self.ask_read_leases();
    }

    /// 6.3: pings for the reads that wait for one.
    pub(super) fn confirm(&mut self) {
        let (now, view) = (self.env.now.time, self.env.view.number);
        for server in std::mem::take(&mut self.env.to_confirm) {
            let n = self.env.leases.on_ping_sent(server, now);
            self.env.out.send(server, PeerMessage::Ping { n, view });
        }
    }

    pub(super) fn on_peer_linked(&mut self, server: ServerId, restarted: bool) {
        for copy in &mut self.copies {
            copy.on_peer_linked(&mut self.env, server, restarted);
        }
    }

    pub(super) fn want_view(&mut self, from: ServerId) {
        let now = self.env.now.time;
        if self.wanted.get(&from).is_none_or(|&at| now.since(at) >= WANT_VIEW_AGAIN) {
            self.wanted.insert(from, now);
            self.env.out.send(from, PeerMessage::WantView { have: self.env.view.number });
        }
    }

    pub(super) fn on_peer(&mut self, from: Sender, message: PeerMessage) {
        let known = self.incarnations.entry((from.server, from.store)).or_insert(from.incarnation);
        // Of a former process.
        if from.incarnation < *known {
            return;
        }
        if from.incarnation > *known {
            *known = from.incarnation;
            self.on_peer_linked(from.server, true);
        }
        match message {
            PeerMessage::Ping { n, view } => self.on_ping(from, n, view),
            PeerMessage::Pong { n, view } => self.on_pong(from, n, view),
            // Several servers may tell of the same one at the same time.
            PeerMessage::View { number, .. } if number <= self.newest => {}
            PeerMessage::View { json, .. } => {
                if let Ok(view) = serde_json::from_slice::<View>(&json) {
                    self.on_view(Arc::new(view));
                }
            }
            PeerMessage::WantView { have } => {
                if have < self.env.view.number {
                    self.env.send_view(from.server);
                }
            }
            PeerMessage::ReadLeaseRequest { n, view, partitions } => {
                self.on_read_lease_request(from, n, view, &partitions);
            }
            PeerMessage::ReadLease { n, partitions } => self.on_read_lease(from.server, n, partitions),
            PeerMessage::Forward { n, request } => self.on_forward(from.server, n, request),
            PeerMessage::TraceForward { n, request } => self.env.trace_forward(from.server, n, request),
            PeerMessage::ForwardReply { n, reply } => self.on_forward_reply(from.server, n, reply),
            message => self.on_partition_message(from, message),
        }
    }

    /// L1: no promise while a newer view is known than the one that the holder acts by.
    fn on_ping(&mut self, sender: Sender, n: u64, view: Epoch) {
        let from = sender.server;
        self.env.saw_view(from, view);
        let own = self.env.view.number;
        if view < self.newest && !self.env.mutated(Mutation::PromiseToOldView) {
            if view < own {
                self.env.send_view(from);
            }
            return;
        }
        if view > own {
            // Answered again when that view is in use: a promise given before counts for no epoch of it.
            self.early.keep(sender, PeerMessage::Ping { n, view });
        }
        if view > self.newest {
            self.want_view(from);
        }
        self.env.leases.on_promise(from, self.env.now.time);
        self.env.out.send(from, PeerMessage::Pong { n, view: own });
    }

    fn on_pong(&mut self, sender: Sender, n: u64, view: Epoch) {
        let from = sender.server;
        self.env.saw_view(from, view);
        if view > self.env.view.number && !self.env.mutated(Mutation::PromiseToOldView) {
            self.early.keep(sender, PeerMessage::Pong { n, view });
            return self.want_view(from);
        }
        let member = Member { server: sender.server, store: sender.store };
        self.env.leases.on_pong(member, n, view, self.env.now.time);
        self.env.touched.extend(&self.busy);
    }

    /// Messages about one partition: of an older epoch, the sender is told the newer view; of a newer one, it is
    /// asked for it.
    fn on_partition_message(&mut self, from: Sender, message: PeerMessage) {
        let Some((partition, epoch)) = subject(&message) else { return };
        let known = self.copies.get(usize::from(partition.0)).map_or(self.env.view.number, |copy| copy.epoch);
        if epoch > known {
            self.early.keep(from, message);
            return self.want_view(from.server);
        }
        let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { return };
        let asks = !matches!(
            message,
            PeerMessage::Ack { .. }
                | PeerMessage::Gap { .. }
                | PeerMessage::SyncReply { .. }
                | PeerMessage::SnapshotAck { .. }
                | PeerMessage::ReadIndexReply { .. }
                | PeerMessage::DigestReply { .. }
        );
        let counts = matches!(message, PeerMessage::Ack { .. }) && self.env.mutated(Mutation::OldAckCounted);
        if epoch < copy.epoch && !counts && !self.env.mutated(Mutation::OldEpochAccepted) {
            if asks {
                self.env.send_view(from.server);
            }
            return;
        }
        let assignment = self.env.view.assignment(partition);
        let is_coordinator = assignment.is_some_and(|a| a.coordinator == from.server);
        let env = &mut self.env;
        env.touched.insert(partition);
        let foreign = !is_coordinator && !env.mutated(Mutation::OldEpochAccepted);
        match message {
            PeerMessage::SyncReply { base, last, runs, .. } => {
                copy.on_sync_reply(env, from, base, last, &runs)
            }
            PeerMessage::Ack { seq, clean, .. } => copy.on_ack(env, from, seq, clean),
            PeerMessage::Gap { last, .. } => copy.on_gap(env, from, last),
            PeerMessage::ReadIndex { n, .. } => copy.on_read_index(env, from.server, n),
            PeerMessage::SnapshotAck { transfer, next, installed, .. } => {
                copy.on_snapshot_ack(env, from.server, transfer, next, installed);
            }
            PeerMessage::DigestReply { at, digest, equal_with, .. } => {
                copy.on_digest_reply(env, from, at, digest, equal_with);
            }
            // The rest comes from the coordinator of the epoch or from nobody.
            _ if foreign => {}
            PeerMessage::SyncRequest { .. } => copy.on_sync_request(env, from.server),
            PeerMessage::Append { sync, prev, commit, entries, .. } => {
                copy.on_append(env, from, Append { sync, prev, commit, entries });
            }
            PeerMessage::SnapshotBegin { transfer, base, .. } => {
                copy.on_snapshot_begin(env, from.server, transfer, base);
            }
            PeerMessage::SnapshotChunk { transfer, index, state, pairs, done, .. } => {
                copy.on_snapshot_chunk(env, from.server, Piece { transfer, index, state, pairs, done });
            }
            PeerMessage::DigestRequest { at, .. } => copy.on_digest_request(env, from.server, at),
            PeerMessage::Equal { at, servers, .. } => copy.on_equal(env, at, servers),
            PeerMessage::Differs { at, digest, .. } => copy.on_differs(env, from.server, at, digest),
            PeerMessage::TraceEntry { seq, request, .. } => env.trace_coming(partition, seq, request),
            PeerMessage::ReadIndexReply { n, commit, .. } => copy.on_read_index_reply(env, n, commit),
            _ => {}
        }
    }
}

/// What a partition's message is about.
fn subject(message: &PeerMessage) -> Option<(PartitionId, Epoch)> {
    match message {
        PeerMessage::SyncRequest { partition, epoch }
        | PeerMessage::SyncReply { partition, epoch, .. }
        | PeerMessage::Append { partition, epoch, .. }
        | PeerMessage::Ack { partition, epoch, .. }
        | PeerMessage::Gap { partition, epoch, .. }
        | PeerMessage::SnapshotBegin { partition, epoch, .. }
        | PeerMessage::SnapshotChunk { partition, epoch, .. }
        | PeerMessage::SnapshotAck { partition, epoch, .. }
        | PeerMessage::ReadIndex { partition, epoch, .. }
        | PeerMessage::ReadIndexReply { partition, epoch, .. }
        | PeerMessage::DigestRequest { partition, epoch, .. }
        | PeerMessage::DigestReply { partition, epoch, .. }
        | PeerMessage::Equal { partition, epoch, .. }
        | PeerMessage::TraceEntry { partition, epoch, .. }
        | PeerMessage::Differs { partition, epoch, .. } => Some((*partition, *epoch)),
        _ => None,
    }
}
