//! What each report does to the facts. Old processes and other epochs are dropped here, each for a named reason.

use std::time::Duration;

use common::address;
use common::ids::{Epoch, PartitionId, ServerId};
use common::leaps::{incarnation_leaps, view_leaps};
use common::limits::SERVERS_MAX;
use common::messages::{LogTail, ProcessId, ServerReport};
use common::status::TransferStatus;
use common::time::Time;
use common::view::{Assignment, Member, ServerState};

use super::newcomers::Arrival;
use super::{Ecs, Effect};
use crate::disks::Reading;
use crate::limits::NUMBERS_LEFT_OUT_MAX;
use crate::peers::{Behind, Disagreement, Load, Peer, Yield};
use crate::plan::RequestedState;
use crate::planner::WEIGHT_MAX;
use crate::planted::PlantedBug;
use crate::refusal::Refusal;
use crate::reports::{Proposal, Registration};

impl Ecs {
    pub(super) fn on_report(&mut self, now: Time, sender: ProcessId, report: ServerReport) {
        match report {
            ServerReport::Hello { address, weight, view, rebuild, tails } => {
                let registration = Registration { sender, address, weight };
                self.on_introduction(now, Arrival { registration, view, rebuild, tails });
            }
            ServerReport::Suspect { suspicion } => self.on_suspect(now, sender, suspicion),
            ServerReport::Holdings { promised, view, tails } => {
                self.on_holdings(now, sender, promised, view, tails);
            }
            report if !self.awaits(now, sender) => self.on_report_of_known(now, sender, report),
            _ => (),
        }
    }

    fn on_introduction(&mut self, now: Time, arrival: Arrival) {
        let Registration { sender, address, .. } = arrival.registration.clone();
        let leap = self.refusal_of_leap(sender, arrival.view);
        let refusal = leap.or_else(|| self.refusal_of_foreign(arrival.view, arrival.rebuild));
        match refusal.or_else(|| self.refusal(sender, &address, false)) {
            None => self.on_arrival(now, arrival),
            Some(refusal) => self.refuse(now, sender, Some(address), refusal),
        }
    }

    /// A report of a process that has said hello before.
    fn on_report_of_known(&mut self, now: Time, sender: ProcessId, report: ServerReport) {
        // Reports of an older process, or of one that did not say hello, are dropped; so are those of a failed store.
        let Some(peer) = self.reports.peers.get_mut(&sender.server).filter(|peer| peer.sender == sender)
        else {
            return self.on_stranger(now, sender);
        };
        if peer.failed {
            return;
        }
        self.wanted |= peer.hear(now, self.timing.judged_from, &self.config.timers);
        self.on_known_heard(now, sender);
        let info = self.durable.view.servers.get(&sender.server);
        let is_down = info.is_some_and(|info| info.state == ServerState::Down);
        self.wanted |= is_down && !self.is_paused(sender.server, now);
        self.notice_return(now);
        match report {
            ServerReport::Hello { .. } | ServerReport::Holdings { .. } | ServerReport::Suspect { .. } => {
                unreachable!("taken by the caller")
            }
            ServerReport::Aside { stores } => self.on_aside(sender.server, stores),
            ServerReport::Heartbeat { view, copies, requests, keys, bytes, free_bytes, health } => {
                self.served.on_copies(now, sender.server, &copies, &self.durable.view);
                self.on_copies(sender, &copies);
                let load = Load { keys, bytes, free_bytes, requests_per_second: 0.0, health };
                self.on_disk(now, sender.server, Reading { health, free_bytes, bytes });
                self.on_heartbeat(now, sender, view, requests, load);
            }
            ServerReport::Transfers { transfers } => self.on_transfers(sender.server, transfers),
            ServerReport::Unheard { servers } => self.on_unheard(now, sender.server, &servers),
            ServerReport::Silent { partition, epoch, member } => {
                self.on_silent(now, sender, partition, epoch, member);
            }
            ServerReport::Propose { partition, epoch, member, incarnation } => {
                self.on_propose(partition, Proposal { sender, epoch, member, incarnation });
            }
            ServerReport::CopyFailed { partition, epoch } => self.on_copy_failed(sender, partition, epoch),
            ServerReport::Yield { partition, epoch, to } => self.on_yield(sender, partition, epoch, to),
            ServerReport::LostEntries { partition, epoch, member } => {
                self.on_lost_entries(sender, partition, epoch, member);
            }
            ServerReport::CopiesDisagree { partition, epoch, member, commit } => {
                let member = member.server;
                let found = Disagreement { epoch, coordinator: sender.server, member, commit };
                self.on_disagree(partition, found);
            }
            // For people: the shell keeps them.
            ServerReport::Figures { .. } | ServerReport::Unknown => {}
            ServerReport::Leave {} => self.on_requested_state(sender.server, RequestedState::Leave),
            ServerReport::StoreFailed { .. } => self.on_store_failed(sender.server),
        }
    }

    /// A report link ended: its process becomes suspect. The end of an older process's link means nothing.
    pub(super) fn on_link_ended(&mut self, now: Time, sender: ProcessId) {
        if let Some(peer) = self.reports.peers.get_mut(&sender.server)
            && peer.sender == sender
        {
            peer.on_link_ended(now);
        }
        // Its successor may be waiting for that; and a newcomer that is gone waits no more.
        self.forget_newcomer(sender);
    }

    pub(super) fn on_requested_state(&mut self, server: ServerId, state: RequestedState) {
        if self.reports.peers.contains_key(&server) {
            self.orders.states.insert(server, state);
            self.wanted = true;
        }
    }

    /// Refuses numbers that are too high to be real: if they were accepted, the real server or the ECS would be shut
    /// out for ever.
    pub(super) fn refusal_of_leap(&self, sender: ProcessId, view: Epoch) -> Option<Refusal> {
        let stores = self.newest().registry.get(&sender.server).map(|known| &known.stores);
        let known = stores.into_iter().flat_map(|stores| stores.values().copied()).max();
        let heard = self.reports.peers.get(&sender.server).map(|peer| peer.sender.incarnation);
        // A store that replaces another one goes on counting; a new server began at 1.
        let known = known.max(heard).unwrap_or_default();
        if incarnation_leaps(known, sender.incarnation) {
            return Some(Refusal::IncarnationLeaps { known: known.0, said: sender.incarnation.0 });
        }
        let own = Epoch { generation: self.known_generation(), ..self.durable.view.number };
        view_leaps(own, view).then_some(Refusal::ViewLeaps { server: view, own })
    }

    /// Why a hello is refused, if it is. `alone`: no other process of the store is alive.
    pub(super) fn refusal(&self, sender: ProcessId, address: &str, alone: bool) -> Option<Refusal> {
        if let Err(invalid) = address::split(address) {
            return Some(Refusal::Address(invalid));
        }
        let newest = self.persists.under_way.as_ref().map_or(&self.durable, |persisting| &persisting.state);
        let known = newest.registry.get(&sender.server);
        let of_store = known.and_then(|known| known.stores.get(&sender.store).copied());
        let peer = self.reports.peers.get(&sender.server);
        let other_store = peer.is_some_and(|peer| peer.sender.store != sender.store);
        let of_process = peer.filter(|_| !other_store).map(|peer| peer.sender.incarnation);
        // A store that was replaced comes back only with a later process than its last.
        let replaced = other_store && of_store.is_some_and(|last| sender.incarnation <= last);
        // N1: the same start of the store cannot be two processes, unless one is of a copy of the directory.
        let twin = peer.filter(|peer| {
            let same = (peer.sender.store, peer.sender.incarnation) == (sender.store, sender.incarnation);
            same && peer.sender.nonce != sender.nonce && !self.config.planted(PlantedBug::TwinTaken)
        });
        let twin = twin.is_some() && (alone || !self.has_living_twin(sender));
        let last = of_store.max(of_process);
        if replaced || twin || last.is_some_and(|last| sender.incarnation < last) {
            return Some(Refusal::OldProcess { known: last.unwrap_or_default() });
        }
        if known.is_some_and(|known| {
            known.left.is_some_and(|left| of_store.is_some() && sender.incarnation <= left)
        }) {
            return Some(Refusal::Left);
        }
        let full = self.reports.peers.len() >= SERVERS_MAX;
        (peer.is_none() && full).then_some(Refusal::TooManyServers)
    }

    /// A process that is no member reports: one that was forgotten while it was silent, or was refused. It says hello
    /// (again) over a new link. One that left by an order is heard no more.
    fn on_stranger(&mut self, now: Time, sender: ProcessId) {
        let left = self.newest().registry.get(&sender.server).and_then(|known| known.left);
        let left = left.is_some_and(|left| sender.incarnation <= left);
        if !left && !self.waits_as_newcomer(sender) && self.left_out.may_try(now, sender) {
            self.out.effects.push(Effect::EndLink { sender });
        }
    }

    /// `address`: where the process listens, if it said so. What is no address is never repeated: it may be anything.
    pub(super) fn refuse(&mut self, now: Time, sender: ProcessId, address: Option<String>, refusal: Refusal) {
        let address = address.filter(|address| address::split(address).is_ok());
        let refusal = match refusal {
            Refusal::Behind { server, own } if !self.is_known(sender.server) => {
                Refusal::NewerStranger { server, own }
            }
            refusal => refusal,
        };
        match &refusal {
            Refusal::Behind { server: view, .. } => {
                let view = *view;
                self.start.behind = self.start.behind.max(Some(Behind { view, server: sender.server }));
            }
            Refusal::NewerStranger { server: view, .. } => {
                self.note_given(*view);
                self.left_out.note(now, sender, address.clone(), refusal.clone());
            }
            // Its server was to leave: it is out by an order. What leaps is no word of the server that it names.
            Refusal::Left | Refusal::IncarnationLeaps { .. } | Refusal::ViewLeaps { .. } => (),
            _ => self.left_out.note(now, sender, address.clone(), refusal.clone()),
        }
        self.out.effects.push(Effect::Refused { sender, address, refusal });
    }

    /// V6: the number of a view that a server has which this ECS does not know. It may have been given by this ECS
    /// before its directory went back, or be false: so not many are left out for it.
    fn note_given(&mut self, view: Epoch) {
        let began = self.start.began_at;
        let is_near = view.version.saturating_sub(began.version) <= NUMBERS_LEFT_OUT_MAX;
        if view.generation == began.generation && is_near {
            self.reports.strangers_view = self.reports.strangers_view.max(view);
        }
    }

    /// Whether it is a member, or was one. The view that any other process claims is no reason to stop making views.
    fn is_known(&self, server: ServerId) -> bool {
        let newest = self.newest();
        // A copy of the directory of before the first server came knows no server.
        newest.registry.is_empty()
            || newest.registry.contains_key(&server)
            || newest.view.servers.contains_key(&server)
    }

    pub(super) fn on_hello(&mut self, now: Time, registration: Registration, view: Epoch, tails: &[LogTail]) {
        let sender = registration.sender;
        let weight = registration.weight.clamp(1, WEIGHT_MAX);
        let same_process = self.reports.peers.get(&sender.server).is_some_and(|peer| peer.sender == sender);
        if !same_process {
            self.reports.peers.insert(sender.server, Peer::new(sender, now));
            self.rebalancing.backed_off.retain(|&(_, server), _| server != sender.server);
        }
        let peer = self.reports.peers.get_mut(&sender.server).expect("inserted above");
        if peer.failed {
            return;
        }
        self.wanted |= peer.hear(now, self.timing.judged_from, &self.config.timers);
        self.suspects.forget(sender.server);
        let is_new = self
            .durable
            .view
            .servers
            .get(&sender.server)
            .is_none_or(|info| (info.store, info.incarnation) != (sender.store, sender.incarnation));
        if is_new {
            self.reports.edges.forget(sender.server);
            self.reports.complaints.forget(sender.server);
        }
        assert_eq!(peer.sender, sender, "the process that said hello is the known one");
        peer.begins_with(view);
        peer.leftovers = tails.iter().map(|tail| (tail.partition, tail.last)).collect();
        self.notice_return(now);
        self.left_out.forget(sender.server);
        self.reports.registrations.retain(|earlier| earlier.sender.server != sender.server);
        self.reports.registrations.push(Registration { weight, ..registration });
        self.out.await_view.insert(sender.server);
        self.wanted = true;
    }

    /// When the first server comes back of a cluster that was wholly down, the others get the quiet time to come back
    /// as well, before in-sync sets shrink to the servers that are there.
    fn notice_return(&mut self, now: Time) {
        let servers = &self.durable.view.servers;
        if !servers.is_empty() && servers.values().all(|info| info.state == ServerState::Down) {
            self.be_quiet(now);
        }
    }

    fn on_heartbeat(&mut self, now: Time, sender: ProcessId, view: Epoch, requests: u64, load: Load) {
        let own = self.durable.view.number;
        if view_leaps(own, view) {
            return self.refuse(now, sender, None, Refusal::ViewLeaps { server: view, own });
        }
        let is_newer = self.start.behind.is_none_or(|behind| view > behind.view);
        if view > own && !self.is_of_before(view) && is_newer {
            let address = self.newest().view.servers.get(&sender.server).map(|info| info.address.clone());
            self.refuse(now, sender, address, Refusal::Behind { server: view, own });
        }
        let peer = self.reports.peers.get_mut(&sender.server).expect("the caller found it");
        peer.on_heartbeat(now, requests, load);
        peer.on_view(now, view, own);
        if view < own && peer.may_push(now) {
            self.out.await_view.insert(sender.server);
        }
    }

    fn on_disk(&mut self, now: Time, server: ServerId, reading: Reading) {
        let known = self.durable.registry.get(&server);
        let gave_up = known.is_some_and(|known| known.gave_up);
        self.wanted |= self.reports.disks.on_reading(server, reading, gave_up, &self.config.timers, now);
    }

    /// Keeps a server's transfers for the status; no decision depends on them.
    fn on_transfers(&mut self, server: ServerId, transfers: Vec<TransferStatus>) {
        if let Some(peer) = self.reports.peers.get_mut(&server) {
            peer.transfers = transfers;
        }
    }

    /// V7: of servers that are members and not down; those are known to be silent.
    fn on_unheard(&mut self, now: Time, from: ServerId, about: &[ServerId]) {
        let (timers, patience) = (self.config.timers, self.patience(now));
        let gone = |server: ServerId| {
            self.reports.peers.get(&server).map_or(timers.dead, |peer| patience.limit(peer.gaps()))
        };
        let ends: Vec<(ServerId, Duration)> =
            about.iter().take(SERVERS_MAX).map(|&server| (server, gone(from).max(gone(server)))).collect();
        for (server, gone) in ends {
            let info = self.durable.view.servers.get(&server);
            // A server without the newest view (its disk may be slow) may not know yet which others it is to ping.
            let number = self.durable.view.number;
            let is_current =
                |server: ServerId| self.reports.peers.get(&server).is_some_and(|peer| peer.view() >= number);
            let judged = server != from && is_current(from) && is_current(server);
            if judged && info.is_some_and(|info| info.state != ServerState::Down) {
                self.wanted |= self.reports.edges.on_unheard(from, server, now, &timers, gone);
            }
        }
    }

    fn on_silent(
        &mut self,
        now: Time,
        sender: ProcessId,
        partition: PartitionId,
        epoch: Epoch,
        member: ServerId,
    ) {
        let Some(assignment) = self.durable.view.assignment(partition) else { return };
        if assignment.epoch != epoch || assignment.coordinator != sender.server {
            self.out.await_view.insert(sender.server);
            return;
        }
        let listed =
            assignment.in_sync_member(member).is_some() || assignment.joining_member(member).is_some();
        if listed && member != sender.server {
            self.reports.complaints.on_silent((partition, member), epoch, now, &self.config.timers);
            self.wanted = true;
        }
    }

    /// Every proposal is answered with a view (J3): the next one if this makes one, else the present one.
    fn on_propose(&mut self, partition: PartitionId, proposal: Proposal) {
        self.out.await_view.insert(proposal.sender.server);
        let newest =
            self.persists.under_way.as_ref().map_or(&self.durable.view, |persisting| &persisting.state.view);
        let Some(assignment) = newest.assignment(partition) else { return };
        let present = assignment.epoch == proposal.epoch && assignment.coordinator == proposal.sender.server;
        if present || self.config.planted(PlantedBug::OldProposalTaken) {
            self.reports.proposals.entry(partition).or_insert(proposal);
            self.wanted = true;
        }
    }

    /// A report of an older epoch is answered with the present view: if the copy still counts there, it comes again.
    fn on_copy_failed(&mut self, sender: ProcessId, partition: PartitionId, epoch: Epoch) {
        let Some(assignment) = self.durable.view.assignment(partition) else { return };
        let member = Member { server: sender.server, store: sender.store };
        let counts = assignment.in_sync.len() > 1 && assignment.in_sync.contains(&member);
        if assignment.epoch == epoch && counts {
            self.wanted |= self.reports.failed_copies.insert((partition, member));
        } else {
            self.out.await_view.insert(sender.server);
        }
    }

    /// The coordinator of the present epoch says something of a partition; if not, it gets the present view.
    fn is_of_coordinator(&mut self, coordinator: ServerId, partition: PartitionId, epoch: Epoch) -> bool {
        let present = |now: &Assignment| now.epoch == epoch && now.coordinator == coordinator;
        let is_present = self.newest().view.assignment(partition).is_some_and(present);
        if !is_present {
            self.out.await_view.insert(coordinator);
        }
        is_present
    }

    /// P1. What cannot be done is answered with the present view.
    fn on_yield(&mut self, sender: ProcessId, partition: PartitionId, epoch: Epoch, to: ServerId) {
        if !self.is_of_coordinator(sender.server, partition, epoch) || to == sender.server {
            return;
        }
        assert_ne!(to, sender.server, "P1: another member has the longer log");
        self.reports.yields.insert(partition, Yield { epoch, from: sender.server, to });
        self.out.await_view.insert(sender.server);
        self.wanted = true;
    }

    /// P5: such a copy is no better than one that says of itself that it has failed.
    fn on_lost_entries(&mut self, sender: ProcessId, partition: PartitionId, epoch: Epoch, member: Member) {
        if !self.is_of_coordinator(sender.server, partition, epoch) || member.server == sender.server {
            return;
        }
        let now = self.newest().view.assignment(partition);
        if now.is_some_and(|now| now.in_sync.contains(&member)) {
            self.reports.failed_copies.insert((partition, member));
            self.wanted |= self.reports.lost_entries.insert((partition, member));
        }
    }

    /// P2: nothing is done by itself.
    fn on_disagree(&mut self, partition: PartitionId, found: Disagreement) {
        if !self.is_of_coordinator(found.coordinator, partition, found.epoch) {
            return;
        }
        if self.reports.disagreements.insert(partition, found) != Some(found) {
            // It goes into the durable state: the coordinator may be gone when this ECS is started again.
            self.wanted = true;
            self.out.effects.push(Effect::CopiesDisagree { partition, found });
        }
    }

    fn on_store_failed(&mut self, server: ServerId) {
        if let Some(peer) = self.reports.peers.get_mut(&server) {
            peer.failed = true;
            self.wanted = true;
        }
    }
}
