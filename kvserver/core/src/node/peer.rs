//! Messages of other servers: old ones are dropped, the others go to their copy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::ids::{Epoch, PartitionId, ServerId};
use common::messages::{PartitionMessage, PeerMessage, ProcessId, ServerReport, ToCoordinator};
use common::view::{Member, View};

use super::super::context::named_process;
use super::super::coordinator::state::Coordinator;
use super::super::limits::WANT_VIEW_AGAIN;
use super::super::partition::Partition;
use super::super::planted::PlantedBug;
use super::super::process::{Anew, Heard};
use super::Node;

impl Node {
    pub(super) fn ping(&mut self) {
        let now = self.env.cx.now.time;
        self.next.ping = now + self.env.cx.config.timers.ping;
        self.report_unheard();
        let coordinators = self.copies.iter().filter_map(Partition::coordinator);
        let granters: BTreeSet<ServerId> = coordinators.flat_map(Coordinator::granters).collect();
        let view = self.env.cx.view.number;
        assert!(!granters.contains(&self.env.cx.me.server), "a server needs no lease of its own");
        for server in granters {
            let n = self.env.promises.leases.on_ping_sent(server, now);
            self.env.send_clock(server);
            self.env.out.send(server, PeerMessage::Ping { n, view });
        }
        self.ask_read_leases();
    }

    pub(super) fn expect_by_view(&mut self) {
        let (me, now) = (self.env.cx.me.server, self.env.cx.watched());
        let grace = self.env.cx.config.timers.dead;
        self.unheard.on_view(me, &self.env.cx.view, now, grace);
    }

    fn report_unheard(&mut self) {
        let servers = self.unheard.due(self.env.cx.watched(), &self.env.cx.config.timers);
        if !servers.is_empty() {
            self.env.out.report(ServerReport::Unheard { servers });
        }
    }

    /// 6.3: sends the pings that reads wait for.
    pub(super) fn confirm(&mut self) {
        let (now, view) = (self.env.cx.now.time, self.env.cx.view.number);
        for server in std::mem::take(&mut self.env.promises.to_confirm) {
            let n = self.env.promises.leases.on_ping_sent(server, now);
            self.env.out.send(server, PeerMessage::Ping { n, view });
        }
    }

    pub(super) fn on_peer_linked(&mut self, server: ServerId, anew: Anew) {
        for copy in &mut self.copies {
            copy.on_peer_linked(&mut self.env, server, anew);
        }
    }

    pub(super) fn want_view(&mut self, from: ServerId) {
        self.want_view_within(from, WANT_VIEW_AGAIN);
    }

    /// Asks for a newer view, unless that was done less than `again` ago.
    pub(super) fn want_view_within(&mut self, from: ServerId, again: Duration) {
        let now = self.env.cx.now.time;
        if self.wanted.get(&from).is_none_or(|&at| now.since(at) >= again) {
            self.wanted.insert(from, now);
            self.env.out.send(from, PeerMessage::WantView { have: self.env.cx.view.number });
        }
    }

    pub(super) fn on_peer(&mut self, from: ProcessId, message: PeerMessage) {
        let asks_for_view = matches!(message, PeerMessage::WantView { .. } | PeerMessage::View { .. });
        match self.processes.hear(from, is_vow(&message), self.newest.number.max(known_view(&message))) {
            // It is of a former process, or of a twin.
            Heard::Refused => return,
            Heard::Unnamed if !asks_for_view => return self.keep_until_named(from, message),
            Heard::Present | Heard::Unnamed => {}
            Heard::Newer => self.on_restarted(from.server),
        }
        self.unheard.on_heard(from.server, self.env.cx.watched());
        self.forwards.bypassed.remove(&from.server);
        match message {
            PeerMessage::Clock { wall, stamps } => {
                self.env.clock.on_heard(from.server, wall, stamps, self.env.cx.now.time);
            }
            PeerMessage::Ping { n, view } => self.on_ping(from, n, view),
            PeerMessage::Pong { n, view } => self.on_pong(from, n, view),
            // Several servers may send the same view at the same time.
            PeerMessage::View { number, .. } if number <= self.newest.number => {}
            PeerMessage::View { json, .. } => {
                if let Ok(view) = serde_json::from_slice::<View>(&json) {
                    self.on_view(Arc::new(view));
                }
            }
            PeerMessage::WantView { have } => {
                if have < self.env.cx.view.number {
                    self.env.send_view(from.server);
                } else if self.newest.number <= have {
                    // S4: a view that is known and not on disk yet is a newer one, too.
                    let answer = PeerMessage::NoNewerView { number: self.newest.number, to: from.nonce };
                    self.env.out.send(from.server, answer);
                }
            }
            PeerMessage::NoNewerView { number, to } => {
                if to == self.env.cx.me.nonce && number <= self.env.cx.view.number {
                    self.env.promises.vows.on_shown(Member { server: from.server, store: from.store });
                    self.copies.iter().for_each(|copy| self.env.touched.insert(copy.id()));
                }
            }
            PeerMessage::ReadLeaseRequest { n, view, partitions } => {
                self.on_read_lease_request(from, n, view, &partitions);
            }
            PeerMessage::ReadLease { n, partitions } => self.on_read_lease(from.server, n, partitions),
            PeerMessage::Forward { n, request } => self.on_forward(from.server, n, request),
            PeerMessage::TraceForward { n, request } => self.env.trace_forward(from.server, n, request),
            PeerMessage::Relay { n, request } => self.on_relay(from.server, n, request),
            PeerMessage::ForwardReply { n, reply } => self.on_forward_reply(from.server, n, reply),
            PeerMessage::Partition { partition, epoch, message } => {
                self.on_partition_message(from, partition, epoch, message);
            }
        }
    }

    /// Another process of a server counts from now on.
    pub(super) fn on_restarted(&mut self, server: ServerId) {
        self.env.clock.on_restarted(server);
        self.on_peer_linked(server, Anew::Process);
    }

    /// Keeps a message of a newer process until a view that names the process is here.
    fn keep_until_named(&mut self, from: ProcessId, message: PeerMessage) {
        let known = self.env.cx.view.number;
        let is_ahead = matches!(
            message,
            PeerMessage::Ping { view: number, .. } | PeerMessage::Partition { epoch: number, .. } if number > known
        );
        if is_ahead {
            self.future_epochs.keep(from, message);
            self.want_view(from.server);
        }
    }

    /// L1: answers a ping. There is no promise while this server knows a newer view than the ping names.
    fn on_ping(&mut self, sender: ProcessId, n: u64, view: Epoch) {
        let from = sender.server;
        self.env.promises.saw_view(sender.into(), view);
        self.env.send_clock(from);
        let own = self.env.cx.view.number;
        if view < self.newest.number && !self.env.cx.planted(PlantedBug::PromiseToOldView) {
            if view < own {
                self.env.send_view(from);
            }
            return;
        }
        if view > own {
            // Answered again when that view is in use: a promise given before counts for no epoch of it.
            self.future_epochs.keep(sender, PeerMessage::Ping { n, view });
        }
        if view > self.newest.number {
            self.want_view(from);
        }
        if !self.env.may_promise(from) {
            // S4: answered when the view that names this process is in use.
            return self.future_epochs.keep(sender, PeerMessage::Ping { n, view });
        }
        self.env.promises.leases.on_promise(sender.into(), self.env.cx.now.time);
        self.env.out.send(from, PeerMessage::Pong { n, view: own });
    }

    fn on_pong(&mut self, sender: ProcessId, n: u64, view: Epoch) {
        let from = sender.server;
        self.env.promises.saw_view(sender.into(), view);
        if view > self.env.cx.view.number && !self.env.cx.planted(PlantedBug::PromiseToOldView) {
            self.future_epochs.keep(sender, PeerMessage::Pong { n, view });
            return self.want_view(from);
        }
        let member = Member { server: sender.server, store: sender.store };
        self.env.promises.leases.on_pong(member, n, view, self.env.cx.now.time);
        self.env.touched.extend(&self.busy);
    }

    /// Takes a message about one partition. If its epoch is older, its sender is sent the newer view; if it is newer,
    /// the sender is asked for its view.
    fn on_partition_message(
        &mut self,
        from: ProcessId,
        partition: PartitionId,
        epoch: Epoch,
        message: PartitionMessage,
    ) {
        let known = self
            .copies
            .get(usize::from(partition.0))
            .map_or(self.env.cx.view.number, |copy| copy.state().epoch());
        if epoch > known {
            self.future_epochs.keep(from, PeerMessage::Partition { partition, epoch, message });
            return self.want_view(from.server);
        }
        let Some(copy) = self.copies.get(usize::from(partition.0)) else { return };
        if epoch < copy.state().epoch() && !self.counts_late(&message) {
            if message.asks() {
                self.env.send_view(from.server);
            }
            return;
        }
        self.env.touched.insert(partition);
        match message {
            PartitionMessage::ToCoordinator(message) => {
                self.copies[usize::from(partition.0)].on_to_coordinator(&mut self.env, from, message);
            }
            PartitionMessage::ToReplica(message) if self.is_coordinator(from, partition) => {
                self.copies[usize::from(partition.0)].on_to_replica(&mut self.env, from, message);
            }
            PartitionMessage::ToReplica(_) => {}
        }
    }

    /// Planted bugs: messages of older epochs that are taken.
    fn counts_late(&self, message: &PartitionMessage) -> bool {
        let bug = match message {
            PartitionMessage::ToCoordinator(ToCoordinator::Ack { .. }) => Some(PlantedBug::OldAckCounted),
            PartitionMessage::ToCoordinator(ToCoordinator::SyncReply { .. }) => {
                Some(PlantedBug::StaleSyncCounted)
            }
            PartitionMessage::ToCoordinator(_) | PartitionMessage::ToReplica(_) => None,
        };
        bug.is_some_and(|bug| self.env.cx.planted(bug)) || self.env.cx.planted(PlantedBug::OldEpochAccepted)
    }

    /// S3: the coordinator of an epoch is one process, the one that the view names.
    fn is_coordinator(&self, from: ProcessId, partition: PartitionId) -> bool {
        let assignment = self.env.cx.view.assignment(partition);
        let is_named = named_process(&self.env.cx.view, from.server) == Some(from);
        assignment.is_some_and(|a| a.coordinator == from.server) && is_named
            || self.env.cx.planted(PlantedBug::OldEpochAccepted)
    }
}

/// A view that the sender knows, as the message shows.
fn known_view(message: &PeerMessage) -> Epoch {
    if let PeerMessage::Partition { epoch, .. }
    | PeerMessage::Ping { view: epoch, .. }
    | PeerMessage::Pong { view: epoch, .. } = message
    {
        *epoch
    } else {
        Epoch::default()
    }
}

/// Whether a process may send this message only when it may speak (S4): promises, acknowledgements, and what its logs
/// have.
fn is_vow(message: &PeerMessage) -> bool {
    let PeerMessage::Partition { message: PartitionMessage::ToCoordinator(message), .. } = message else {
        return matches!(message, PeerMessage::Pong { .. });
    };
    match message {
        ToCoordinator::SyncReply { .. }
        | ToCoordinator::FetchReply { .. }
        | ToCoordinator::Ahead { .. }
        | ToCoordinator::Ack { .. } => true,
        ToCoordinator::Gap { .. }
        | ToCoordinator::SnapshotAck { .. }
        | ToCoordinator::ReadIndex { .. }
        | ToCoordinator::DigestReply { .. } => false,
    }
}
