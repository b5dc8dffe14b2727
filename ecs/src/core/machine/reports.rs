//! What each report does to the facts. Old processes and other epochs are dropped here, each for a named reason.

use common::ids::{Epoch, PartitionId, ServerId};
use common::limits::SERVERS_MAX;
use common::messages::{LogTail, Sender, ServerReport};
use common::status::TransferStatus;
use common::time::Time;
use common::view::{Member, ServerState};

use super::{Ecs, Effect, Refusal};
use crate::core::mutation::Mutation;
use crate::core::next::{Proposal, Registration};
use crate::core::peers::{Load, Peer};
use crate::core::plan::Part;
use crate::core::planner::WEIGHT_MAX;
use crate::limits::ADDRESS_BYTES_MAX;

impl Ecs {
    pub(super) fn on_report(&mut self, now: Time, sender: Sender, report: ServerReport) {
        if let ServerReport::Hello { address, weight, view, rebuild, tails } = report {
            let refusal = self.refusal_of_foreign(sender, view, rebuild);
            match refusal.or_else(|| self.refusal(sender, &address)) {
                None => {
                    let registration = Registration { sender, address, weight };
                    if !self.hold_back(now, &registration, view, rebuild) {
                        self.on_hello(now, registration, view, &tails);
                    }
                }
                Some(refusal) => self.refuse(sender, refusal),
            }
            return;
        }
        if let ServerReport::Holdings { promised, view, tails } = report {
            return self.on_holdings(now, sender, promised, view, tails);
        }
        if self.awaits(now, sender) {
            return;
        }
        // Reports of an older process, or of one that did not say hello, are dropped; so are those of a failed store.
        let Some(peer) = self.peers.get_mut(&sender.server) else { return };
        if peer.sender != sender || peer.failed {
            return;
        }
        peer.hear(now);
        let info = self.durable.view.servers.get(&sender.server);
        self.wanted |= info.is_some_and(|info| info.state == ServerState::Down);
        self.notice_return(now);
        match report {
            ServerReport::Hello { .. } | ServerReport::Holdings { .. } => unreachable!("taken above"),
            ServerReport::Heartbeat { view, copies, requests, keys, bytes, free_bytes } => {
                for copy in copies.iter().filter(|copy| copy.active) {
                    self.wanted |= self.settling.on_active(copy.partition, copy.epoch);
                }
                let load = Load { keys, bytes, free_bytes, requests_per_second: 0.0 };
                self.on_heartbeat(now, sender, view, requests, load);
            }
            ServerReport::Transfers { transfers } => self.on_transfers(sender.server, transfers),
            ServerReport::Silent { partition, epoch, member } => {
                self.on_silent(now, sender, partition, epoch, member);
            }
            ServerReport::Propose { partition, epoch, member, incarnation } => {
                self.on_propose(partition, Proposal { sender, epoch, member, incarnation });
            }
            ServerReport::CopyFailed { partition, epoch } => self.on_copy_failed(sender, partition, epoch),
            // For people: the shell keeps them.
            ServerReport::Figures { .. } | ServerReport::Unknown => {}
            ServerReport::Leave {} => self.on_part(sender.server, Part::Leave),
            ServerReport::StoreFailed { .. } => self.on_store_failed(sender.server),
        }
    }

    /// A link that ended makes its process suspect; that of an older process means nothing.
    pub(super) fn on_link_ended(&mut self, now: Time, sender: Sender) {
        if let Some(peer) = self.peers.get_mut(&sender.server)
            && peer.sender == sender
        {
            peer.on_link_ended(now);
        }
    }

    pub(super) fn on_part(&mut self, server: ServerId, part: Part) {
        if self.peers.contains_key(&server) {
            self.parts.insert(server, part);
            self.wanted = true;
        }
    }

    fn refusal(&self, sender: Sender, address: &str) -> Option<Refusal> {
        if address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
            return Some(Refusal::Address);
        }
        let newest = self.sealed.as_ref().map_or(&self.durable, |sealed| &sealed.state);
        let known = newest.registry.get(&sender.server);
        let of_store = known.and_then(|known| known.stores.get(&sender.store).copied());
        let peer = self.peers.get(&sender.server);
        let other_store = peer.is_some_and(|peer| peer.sender.store != sender.store);
        let of_process = peer.filter(|_| !other_store).map(|peer| peer.sender.incarnation);
        // A store that was replaced comes back only with a later process than its last.
        let replaced = other_store && of_store.is_some_and(|last| sender.incarnation <= last);
        if replaced || of_store.max(of_process).is_some_and(|last| sender.incarnation < last) {
            return Some(Refusal::OldProcess);
        }
        if known.is_some_and(|known| {
            known.left.is_some_and(|left| of_store.is_some() && sender.incarnation <= left)
        }) {
            return Some(Refusal::Left);
        }
        let full = self.peers.len() >= SERVERS_MAX;
        (peer.is_none() && full).then_some(Refusal::TooManyServers)
    }

    pub(super) fn refuse(&mut self, sender: Sender, refusal: Refusal) {
        if let Refusal::Behind { server, .. } = refusal {
            self.behind = self.behind.max(Some(server));
        }
        self.effects.push(Effect::Refused { sender, refusal });
    }

    pub(super) fn on_hello(&mut self, now: Time, registration: Registration, view: Epoch, tails: &[LogTail]) {
        let sender = registration.sender;
        let weight = registration.weight.clamp(1, WEIGHT_MAX);
        let same_process = self.peers.get(&sender.server).is_some_and(|peer| peer.sender == sender);
        if !same_process {
            self.peers.insert(sender.server, Peer::new(sender, now));
            self.barred.retain(|&(_, server), _| server != sender.server);
        }
        let peer = self.peers.get_mut(&sender.server).expect("inserted above");
        if peer.failed {
            return;
        }
        peer.hear(now);
        peer.view = view;
        peer.leftovers = tails.iter().map(|tail| (tail.partition, tail.last)).collect();
        self.notice_return(now);
        self.registrations.retain(|earlier| earlier.sender.server != sender.server);
        self.registrations.push(Registration { weight, ..registration });
        self.owed.insert(sender.server);
        self.wanted = true;
    }

    /// The first server of a cluster that was wholly down: the others get the quiet time to come back as well, before
    /// in-sync sets shrink to what is there.
    fn notice_return(&mut self, now: Time) {
        let servers = &self.durable.view.servers;
        if !servers.is_empty() && servers.values().all(|info| info.state == ServerState::Down) {
            self.be_quiet(now);
        }
    }

    fn on_heartbeat(&mut self, now: Time, sender: Sender, view: Epoch, requests: u64, load: Load) {
        let own = self.durable.view.number;
        if view > own && !self.is_of_before(view) && self.behind.is_none_or(|known| view > known) {
            self.refuse(sender, Refusal::Behind { server: view, own });
        }
        let peer = self.peers.get_mut(&sender.server).expect("the caller found it");
        peer.on_heartbeat(now, requests, load);
        peer.view = view;
        if view < own && peer.may_push(now) {
            self.owed.insert(sender.server);
        }
    }

    /// For the status alone: nothing is decided by it.
    fn on_transfers(&mut self, server: ServerId, transfers: Vec<TransferStatus>) {
        if let Some(peer) = self.peers.get_mut(&server) {
            peer.transfers = transfers;
        }
    }

    fn on_silent(
        &mut self,
        now: Time,
        sender: Sender,
        partition: PartitionId,
        epoch: Epoch,
        member: ServerId,
    ) {
        let Some(assignment) = self.durable.view.assignment(partition) else { return };
        if assignment.epoch != epoch || assignment.coordinator != sender.server {
            self.owed.insert(sender.server);
            return;
        }
        let listed =
            assignment.in_sync_member(member).is_some() || assignment.joining_member(member).is_some();
        if listed && member != sender.server {
            self.complaints.on_silent((partition, member), epoch, now, &self.config.timers);
            self.wanted = true;
        }
    }

    /// Every proposal is answered with a view (J3): the next one if this makes one, else the present one.
    fn on_propose(&mut self, partition: PartitionId, proposal: Proposal) {
        self.owed.insert(proposal.sender.server);
        let newest = self.sealed.as_ref().map_or(&self.durable.view, |sealed| &sealed.state.view);
        let Some(assignment) = newest.assignment(partition) else { return };
        let present = assignment.epoch == proposal.epoch && assignment.coordinator == proposal.sender.server;
        if present || self.config.mutated(Mutation::OldProposalTaken) {
            self.proposals.entry(partition).or_insert(proposal);
            self.wanted = true;
        }
    }

    /// A report of an older epoch is answered with the present view: if the copy still counts there, it comes again.
    fn on_copy_failed(&mut self, sender: Sender, partition: PartitionId, epoch: Epoch) {
        let Some(assignment) = self.durable.view.assignment(partition) else { return };
        let member = Member { server: sender.server, store: sender.store };
        let counts = assignment.in_sync.len() > 1 && assignment.in_sync.contains(&member);
        if assignment.epoch == epoch && counts {
            self.wanted |= self.failed_copies.insert((partition, member));
        } else {
            self.owed.insert(sender.server);
        }
    }

    fn on_store_failed(&mut self, server: ServerId) {
        if let Some(peer) = self.peers.get_mut(&server) {
            peer.failed = true;
            self.wanted = true;
        }
    }
}
