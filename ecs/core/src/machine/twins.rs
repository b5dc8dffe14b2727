//! N1: two processes of one store, as a copied directory makes them.
//!
//! A hello of another process of a store is not taken at once while the known process's link lives: if that process is
//! heard on, two run with one store, and the newcomer is refused. A process that was killed is not heard on: its link
//! ends, and its successor is taken at that moment; or it is silent, and its successor is taken when no promise of it
//! can run any more. So it is when the ECS itself was started again: no process has said hello to it, and a copy that
//! comes first waits for as long as the known process may need to come back. This is a help for people: it sees no copy
//! that was made within the life of one process, and nothing else rests on it.

use std::time::Duration;

use common::ids::ServerId;
use common::limits::Timers;
use common::messages::ProcessId;
use common::time::Time;
use common::view::ServerState;

use super::Ecs;
use super::newcomers::{Arrival, Newcomer};
use crate::limits::HEARTBEATS_OF_A_TWIN;
use crate::planted::PlantedBug;
use crate::refusal::Refusal;
use crate::reports::Registration;

/// What a killed process had said may be read a little after the hello of its successor, but not for long.
fn lives_after(timers: &Timers) -> Duration {
    timers.heartbeat * HEARTBEATS_OF_A_TWIN
}

impl Ecs {
    /// Accepts a hello that is not refused, or lets it wait.
    pub(super) fn on_arrival(&mut self, now: Time, arrival: Arrival) {
        let sender = arrival.registration.sender;
        if self.has_living_twin(sender) && !self.config.planted(PlantedBug::TwinTaken) {
            // One that says hello again has waited since it came first.
            let known = self
                .newcomers
                .get(&sender.server)
                .filter(|newcomer| newcomer.arrival.registration.sender == sender);
            let at = known.map_or(now, |newcomer| newcomer.at);
            assert!(at <= now, "it has waited since it came first");
            self.newcomers.insert(sender.server, Newcomer { arrival, at });
            self.doubt(sender.server, true);
            return;
        }
        self.forget_newcomer(sender);
        self.take(now, &arrival);
        if self.reports.peers.get(&sender.server).is_some_and(|peer| peer.sender == sender) {
            self.on_known_heard(now, sender);
        }
    }

    /// Whether this process waits until it is known whether an earlier one of its store lives.
    pub(super) fn waits_as_newcomer(&self, sender: ProcessId) -> bool {
        self.newcomers
            .get(&sender.server)
            .is_some_and(|newcomer| newcomer.arrival.registration.sender == sender)
    }

    /// A process no longer waits: it is gone, or was accepted.
    pub(super) fn forget_newcomer(&mut self, sender: ProcessId) {
        if self.waits_as_newcomer(sender) {
            self.newcomers.remove(&sender.server);
            self.doubt(sender.server, false);
        }
    }

    /// Whether the known process of a server may be dead, as another one of its store has come. Once it is known to
    /// live, its copies count as proved again, for which a change may have waited.
    fn doubt(&mut self, server: ServerId, doubted: bool) {
        if let Some(peer) = self.reports.peers.get_mut(&server) {
            self.wanted |= peer.doubted && !doubted;
            peer.doubted = doubted;
        }
    }

    fn take(&mut self, now: Time, arrival: &Arrival) {
        let Arrival { registration, view, rebuild, tails } = arrival;
        self.on_compared(registration.sender.server);
        if !self.hold_back(now, registration, *view, *rebuild) {
            self.on_hello(now, registration.clone(), *view, tails);
        }
    }

    /// Whether another process of the store is known whose link is open, or may be about to connect again to this ECS.
    pub(super) fn has_living_twin(&self, sender: ProcessId) -> bool {
        self.reports.peers.get(&sender.server).is_some_and(|known| {
            let twin = known.sender.store == sender.store && known.sender != sender;
            twin && known.may_live() && !self.is_down(sender.server)
        })
    }

    /// Whether a server is known to be silent, or is not a member.
    pub(super) fn is_down(&self, server: ServerId) -> bool {
        let info = self.newest().view.servers.get(&server);
        info.is_none_or(|info| info.state == ServerState::Down)
    }

    /// The known process of a server was heard: a process that came with its store in the meantime is a second one and
    /// is refused.
    pub(super) fn on_known_heard(&mut self, now: Time, known: ProcessId) {
        let after = lives_after(&self.config.timers);
        let Some(newcomer) = self.newcomers.get(&known.server).filter(|newcomer| now >= newcomer.at + after)
        else {
            return;
        };
        let Registration { sender, address, .. } = newcomer.arrival.registration.clone();
        self.forget_newcomer(sender);
        let info = self.newest().view.servers.get(&known.server);
        let living = info.map(|info| info.address.clone()).unwrap_or_default();
        let refusal = Refusal::Twin { known: living, newcomer: address.clone() };
        self.refuse(now, sender, Some(address), refusal);
    }

    /// Accepts the newcomers whose twin is dead.
    pub(super) fn judge_newcomers(&mut self, now: Time) {
        let promise = self.config.timers.promise;
        let due = |(&server, newcomer): (&ServerId, &Newcomer)| {
            let alone = !self.has_living_twin(newcomer.arrival.registration.sender);
            (alone || now >= newcomer.at + promise).then_some(server)
        };
        let due: Vec<ServerId> = self.newcomers.iter().filter_map(due).collect();
        for server in due {
            let Some(newcomer) = self.newcomers.remove(&server) else { continue };
            self.doubt(server, false);
            let arrival = newcomer.arrival;
            let Registration { sender, address, .. } = &arrival.registration;
            match self.refusal(*sender, address, true) {
                Some(refusal) => self.refuse(now, *sender, Some(address.clone()), refusal),
                None => self.take(now, &arrival),
            }
        }
    }

    /// When the next newcomer is taken at the latest.
    pub(super) fn newcomers_until(&self) -> Option<Time> {
        self.newcomers.values().map(|newcomer| newcomer.at + self.config.timers.promise).min()
    }
}
