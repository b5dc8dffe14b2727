//! One view after another: made of the last one and the facts, given out to be persisted, and published once it is
//! durable (V1).

use common::ids::ServerId;
use common::time::Time;
use common::view::ServerState;

use super::{Ecs, Effect};
use crate::cause::{Cause, Change, Event};
use crate::limits::BACKED_OFF_DEAD_TIMES;
use crate::next::{self, Facts};
use crate::peers::Peer;
use crate::planted::PlantedBug;
use crate::rules;
use crate::silence::FLAPPING;
use crate::state::State;

/// A state that is being persisted.
#[derive(Debug)]
pub(super) struct Persisting {
    pub(super) ticket: u64,
    /// Orders that it contains, counted from the beginning.
    pub(super) orders: u64,
    pub(super) state: State,
    pub(super) causes: Vec<Cause>,
}

impl Ecs {
    pub(super) fn on_durable(&mut self, now: Time, ticket: u64) {
        let Some(persisting) = self.persisting.take_if(|persisting| persisting.ticket == ticket) else {
            return;
        };
        self.orders_durable = persisting.orders;
        let before = std::mem::replace(&mut self.durable, persisting.state);
        let view = self.durable.view.clone();
        let gone = before.view.servers.iter().filter(|(server, _)| !view.servers.contains_key(server));
        let gone: Vec<(ServerId, String)> =
            gone.map(|(&server, info)| (server, info.address.clone())).collect();
        self.effects.push(Effect::Made(Event { view: view.number, causes: persisting.causes }));
        for (to, address) in gone {
            // It learns that it is out, and may go. A later process of it may have said hello already.
            if !self.registrations.iter().any(|registration| registration.sender.server == to) {
                self.peers.remove(&to);
            }
            self.effects.push(Effect::Publish { to, address, view: view.clone() });
        }
        self.await_view.extend(view.servers.keys());
        for (&server, info) in &view.servers {
            // Named by what others reported to an ECS that is being rebuilt.
            let sender = info.process(server);
            self.peers.entry(server).or_insert_with(|| Peer::new(sender, now));
        }
        self.note_proved(&before.view);
        self.served.on_view(now, &before.view, &view);
        let down = view.servers.iter().filter(|(_, info)| info.state == ServerState::Down);
        down.for_each(|(&server, _)| self.edges.forget(server));
        self.edges.sift(now, &self.config.timers);
        self.complaints.retain(|partition, epoch| {
            view.assignment(partition).is_some_and(|assignment| assignment.epoch == epoch)
        });
        self.failed_copies.retain(|(partition, member)| {
            let now = view.assignment(*partition);
            now.is_some_and(|now| now.in_sync.contains(member) && now.in_sync.len() > 1)
        });
        self.disks.retain(&view);
        self.lost_entries.retain(|failed| self.failed_copies.contains(failed));
        self.disagreements.retain(|&partition, found| !found.is_decided(&view, partition));
        self.backed_off.retain(|_, until| *until > now);
        self.settling.sift(now);
        self.sift_suspects(now);
        self.wanted = true;
    }

    /// Makes the next view, if there is reason to and none is on its way.
    pub(super) fn advance(&mut self, now: Time) {
        let too_soon = self.persisting_since.is_some_and(|at| now < at + self.config.view_interval);
        if self.persisting.is_some() || !self.wanted || too_soon || !self.makes_views(now) {
            return;
        }
        if !self.has_gathered(now) {
            self.wanted = false;
            return;
        }
        let mut planned = std::mem::take(&mut self.planned);
        let outcome = next::make(&self.durable, self.facts(now), &mut planned);
        self.planned = planned;
        self.wanted = false;
        self.registrations.clear();
        self.requested_states.clear();
        self.asking.holdings.clear();
        self.recoveries.clear();
        self.requested_settings = None;
        self.proposals.clear();
        self.yields.clear();
        self.wake = outcome.wake;
        let until = now + self.config.timers.dead * BACKED_OFF_DEAD_TIMES;
        self.backed_off.extend(outcome.back_off.into_iter().map(|key| (key, until)));
        for server in outcome.lost {
            self.edges.on_lost(server, now, &self.config.timers);
        }
        if let Some(next) = outcome.next {
            self.note_falls(now, &next.causes);
            let until = now + self.config.timers.promise;
            for partition in next.handed_over {
                self.handed_over_at = Some(now);
                self.settling.begin(partition, next.state.view.number, until);
            }
            self.persist(now, next.state, next.causes);
        } else {
            // All is as it was ordered already.
            self.orders_durable = self.orders;
        }
    }

    /// What became known since the last view.
    pub(super) fn facts(&self, now: Time) -> Facts<'_> {
        Facts {
            config: &self.config,
            now,
            quiet: now < self.quiet_until,
            patience: self.patience(now),
            falls: &self.falls,
            peers: &self.peers,
            disks: &self.disks,
            registrations: &self.registrations,
            requested_states: &self.requested_states,
            holdings: &self.asking.holdings,
            recoveries: &self.recoveries,
            settings: self.settings(),
            proposals: &self.proposals,
            complaints: &self.complaints,
            edges: &self.edges,
            failed_copies: &self.failed_copies,
            lost_entries: &self.lost_entries,
            yields: &self.yields,
            disagreements: &self.disagreements,
            backed_off: &self.backed_off,
            settling: &self.settling,
            strangers_view: self.strangers_view,
            hand_over_from: self.handed_over_at.map_or(now, |at| at + self.config.timers.heartbeat),
        }
    }

    fn persist(&mut self, now: Time, state: State, causes: Vec<Cause>) {
        self.check_rules(&state);
        if self.config.planted(PlantedBug::PublishedBeforeFsync) {
            for (&to, info) in &state.view.servers {
                let (address, view) = (info.address.clone(), state.view.clone());
                self.effects.push(Effect::Publish { to, address, view });
            }
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.effects.push(Effect::Persist { ticket, state: state.clone() });
        self.persisting = Some(Persisting { ticket, orders: self.orders, state, causes });
        self.persisting_since = Some(now);
    }

    /// Publishes the durable view to the servers that await it, unless a newer one is about to be durable.
    pub(super) fn publish_pending(&mut self, now: Time) {
        if self.persisting.is_some() || (self.wanted && self.makes_views(now) && !self.proposals.is_empty()) {
            return;
        }
        for to in std::mem::take(&mut self.await_view) {
            let Some(info) = self.durable.view.servers.get(&to) else { continue };
            if let Some(peer) = self.peers.get_mut(&to) {
                peer.on_pushed(now);
            }
            let view = self.durable.view.clone();
            self.effects.push(Effect::Publish { to, address: info.address.clone(), view });
        }
    }

    /// Counts the servers that the next view removes only because they were not heard.
    fn note_falls(&mut self, now: Time, causes: &[Cause]) {
        self.falls.retain(|_, falls| !falls.is_forgotten(&FLAPPING, now));
        let fell = |cause: &&Cause| matches!(cause.change, Change::Silent | Change::LinkEnded);
        for cause in causes.iter().filter(fell) {
            self.falls.entry(cause.server).or_default().on_failure(&FLAPPING, now);
        }
    }

    pub(super) fn check_rules(&self, state: &State) {
        if let Err(broken) = rules::check_states(&self.durable, state, &self.failed_copies) {
            panic!("view {} after {}: {broken}", state.view.number, self.durable.view.number);
        }
    }
}
