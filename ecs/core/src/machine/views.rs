//! One view after another: made of the last one and the facts, given out to be persisted, and published once it is
//! durable (V1).

use common::ids::ServerId;
use common::time::Time;
use common::view::ServerState;

use super::persists::Persisting;
use super::{Ecs, Effect};
use crate::cause::{Cause, Change, Event};
use crate::limits::BACKED_OFF_DEAD_TIMES;
use crate::next::{self, Facts};
use crate::peers::Peer;
use crate::planted::PlantedBug;
use crate::rules;
use crate::silence::FLAPPING;
use crate::state::State;

impl Ecs {
    pub(super) fn on_durable(&mut self, now: Time, ticket: u64) {
        let Some(persisting) = self.persists.under_way.take_if(|persisting| persisting.ticket == ticket)
        else {
            return;
        };
        assert!(persisting.orders >= self.orders.durable, "orders become durable in order");
        assert!(persisting.orders <= self.orders.given, "no order is durable that was not given");
        self.orders.durable = persisting.orders;
        let before = std::mem::replace(&mut self.durable, persisting.state);
        let view = self.durable.view.clone();
        assert!(view.number > before.view.number, "V1: views have ascending numbers");
        assert_eq!(view.cluster, before.view.cluster, "a view is of the same cluster");
        let gone = before.view.servers.iter().filter(|(server, _)| !view.servers.contains_key(server));
        let gone: Vec<(ServerId, String)> =
            gone.map(|(&server, info)| (server, info.address.clone())).collect();
        self.out.effects.push(Effect::Made(Event { view: view.number, causes: persisting.causes }));
        for (to, address) in gone {
            // It learns that it is out, and may go. A later process of it may have said hello already.
            if !self.reports.registrations.iter().any(|registration| registration.sender.server == to) {
                self.reports.peers.remove(&to);
            }
            self.out.effects.push(Effect::Publish { to, address, view: view.clone() });
        }
        self.out.await_view.extend(view.servers.keys());
        for (&server, info) in &view.servers {
            // Named by what others reported to an ECS that is being rebuilt.
            let sender = info.process(server);
            self.reports.peers.entry(server).or_insert_with(|| Peer::new(sender, now));
        }
        self.note_proved(&before.view);
        self.served.on_view(now, &before.view, &view);
        let down = view.servers.iter().filter(|(_, info)| info.state == ServerState::Down);
        down.for_each(|(&server, _)| self.reports.edges.forget(server));
        self.reports.edges.sift(now, &self.config.timers);
        self.reports.complaints.retain(|partition, epoch| {
            view.assignment(partition).is_some_and(|assignment| assignment.epoch == epoch)
        });
        self.reports.failed_copies.retain(|(partition, member)| {
            let now = view.assignment(*partition);
            now.is_some_and(|now| now.in_sync.contains(member) && now.in_sync.len() > 1)
        });
        self.reports.disks.retain(&view);
        self.reports.lost_entries.retain(|failed| self.reports.failed_copies.contains(failed));
        self.reports.disagreements.retain(|&partition, found| !found.is_decided(&view, partition));
        self.rebalancing.backed_off.retain(|_, until| *until > now);
        self.rebalancing.settling.sift(now);
        self.sift_suspects(now);
        self.wanted = true;
    }

    /// Makes the next view, if there is reason to and none is on its way.
    pub(super) fn advance(&mut self, now: Time) {
        let too_soon = self.persists.began.is_some_and(|at| now < at + self.config.view_interval);
        if self.persists.under_way.is_some() || !self.wanted || too_soon || !self.makes_views(now) {
            return;
        }
        if !self.has_gathered(now) {
            self.wanted = false;
            return;
        }
        assert!(self.persists.under_way.is_none(), "V1: one persist is under way at a time");
        assert!(self.start.behind.is_none(), "V6: an ECS that is behind makes no view");
        let mut planned = std::mem::take(&mut self.rebalancing.planned);
        let outcome = next::make(&self.durable, self.facts(now), &mut planned);
        self.rebalancing.planned = planned;
        self.wanted = false;
        self.reports.registrations.clear();
        self.orders.states.clear();
        self.asking.holdings.clear();
        self.orders.recoveries.clear();
        self.orders.settings = None;
        self.reports.proposals.clear();
        self.reports.yields.clear();
        self.timing.wake = outcome.wake;
        let until = now + self.config.timers.dead * BACKED_OFF_DEAD_TIMES;
        self.rebalancing.backed_off.extend(outcome.back_off.into_iter().map(|key| (key, until)));
        for server in outcome.lost {
            self.reports.edges.on_lost(server, now, &self.config.timers);
        }
        if let Some(next) = outcome.next {
            self.note_falls(now, &next.causes);
            let until = now + self.config.timers.promise;
            for partition in next.handed_over {
                self.rebalancing.handed_over_at = Some(now);
                self.rebalancing.settling.begin(partition, next.state.view.number, until);
            }
            self.persist(now, next.state, next.causes);
        } else {
            // All is as it was ordered already.
            self.orders.durable = self.orders.given;
        }
    }

    /// What became known since the last view.
    pub(super) fn facts(&self, now: Time) -> Facts<'_> {
        Facts {
            config: &self.config,
            now,
            quiet: now < self.timing.quiet_until,
            patience: self.patience(now),
            reports: &self.reports,
            rebalancing: &self.rebalancing,
            requested_states: &self.orders.states,
            holdings: &self.asking.holdings,
            recoveries: &self.orders.recoveries,
            settings: self.settings(),
            hand_over_from: self
                .rebalancing
                .handed_over_at
                .map_or(now, |at| at + self.config.timers.heartbeat),
        }
    }

    fn persist(&mut self, now: Time, state: State, causes: Vec<Cause>) {
        self.check_rules(&state);
        if self.config.planted(PlantedBug::PublishedBeforeFsync) {
            for (&to, info) in &state.view.servers {
                let (address, view) = (info.address.clone(), state.view.clone());
                self.out.effects.push(Effect::Publish { to, address, view });
            }
        }
        assert!(self.persists.began.is_none_or(|began| began <= now), "time goes on");
        self.persists.ticket += 1;
        let ticket = self.persists.ticket;
        self.out.effects.push(Effect::Persist { ticket, state: state.clone() });
        self.persists.under_way = Some(Persisting { ticket, orders: self.orders.given, state, causes });
        self.persists.began = Some(now);
    }

    /// Publishes the durable view to the servers that await it, unless a newer one is about to be durable.
    pub(super) fn publish_pending(&mut self, now: Time) {
        if self.persists.under_way.is_some()
            || (self.wanted && self.makes_views(now) && !self.reports.proposals.is_empty())
        {
            return;
        }
        for to in std::mem::take(&mut self.out.await_view) {
            let Some(info) = self.durable.view.servers.get(&to) else { continue };
            assert!(
                self.persists.under_way.is_none(),
                "V1: the newest view is durable before it is published"
            );
            if let Some(peer) = self.reports.peers.get_mut(&to) {
                peer.on_pushed(now);
            }
            let view = self.durable.view.clone();
            self.out.effects.push(Effect::Publish { to, address: info.address.clone(), view });
        }
    }

    /// Counts the servers that the next view removes only because they were not heard.
    fn note_falls(&mut self, now: Time, causes: &[Cause]) {
        self.rebalancing.falls.retain(|_, falls| !falls.is_forgotten(&FLAPPING, now));
        let fell = |cause: &&Cause| matches!(cause.change, Change::Silent | Change::LinkEnded);
        for cause in causes.iter().filter(fell) {
            self.rebalancing.falls.entry(cause.server).or_default().on_failure(&FLAPPING, now);
        }
    }

    pub(super) fn check_rules(&self, state: &State) {
        if let Err(broken) = rules::check_states(&self.durable, state, &self.reports.failed_copies) {
            panic!("view {} after {}: {broken}", state.view.number, self.durable.view.number);
        }
    }
}
