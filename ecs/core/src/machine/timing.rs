//! Time: silence, the quiet time, pauses of this process itself, and when the next step is due.

use std::time::Duration;

use common::ids::ServerId;
use common::time::Time;
use common::view::ServerState;

use super::ecs::Ecs;
use crate::limits::LOOKS_PER_HEARTBEAT;
use crate::next;
use crate::planted::PlantedBug;
use crate::silence::Patience;

impl Ecs {
    /// A step that comes long after it was wanted: this process was stopped, and the servers' heartbeats wait in
    /// its sockets. Judging them by the clock now would remove them all.
    pub(super) fn notice_own_pause(&mut self, now: Time) {
        let pause_max = self.config.timers.dead / 2;
        let ignores = self.config.planted(PlantedBug::OwnPauseIgnored);
        let late = self.timing.expected.map_or(Duration::ZERO, |expected| now.since(expected));
        if !ignores && late > pause_max {
            self.be_quiet(now);
            // What the known processes said meanwhile is not heard yet.
            self.newcomers.values_mut().for_each(|newcomer| newcomer.at = now);
        }
        if late > self.config.timers.dead_max {
            self.timing.judged_from = now;
        }
    }

    /// For how long servers may be silent.
    pub(super) fn patience(&self, now: Time) -> Patience {
        let servers = self.durable.view.servers.iter();
        let watched = servers.filter(|(_, info)| info.state != ServerState::Down);
        let peers = watched.filter_map(|(server, _)| self.reports.peers.get(server));
        Patience::new(self.config.timers, peers.map(|peer| peer.rhythm(now, &self.config.timers)))
    }

    pub(super) fn be_quiet(&mut self, now: Time) {
        self.timing.quiet_until = self.timing.quiet_until.max(now + self.config.timers.quiet);
        assert!(self.timing.quiet_until > now, "the quiet time is ahead");
    }

    /// Finds out whether time alone gives a reason for a view.
    pub(super) fn notice_changes(&mut self, now: Time) {
        if self.timing.wake.is_some_and(|wake| wake <= now) {
            (self.timing.wake, self.wanted) = (None, true);
        }
        let quiet = now < self.timing.quiet_until;
        self.wanted |= self.timing.was_quiet && !quiet;
        self.timing.was_quiet = quiet;
        if now < self.timing.look_at {
            return;
        }
        assert!(self.timing.judged_from <= now, "time goes on");
        self.timing.look_at = now + self.config.timers.heartbeat / LOOKS_PER_HEARTBEAT;
        let patience = self.patience(now);
        let newest = self.persists.under_way.as_ref().map_or(&self.durable, |persisting| &persisting.state);
        let changed = newest.view.servers.iter().any(|(server, info)| {
            let Some(peer) = self.reports.peers.get(server) else { return false };
            if info.state == ServerState::Down {
                return peer.back(now, &patience) && !self.is_paused(*server, now);
            }
            peer.failed || (!quiet && peer.gone(now, &patience).is_some())
        });
        self.wanted |= changed;
    }

    /// Whether a server may not come back yet because it was removed several times recently.
    pub(super) fn is_paused(&self, server: ServerId, now: Time) -> bool {
        let newest = self.persists.under_way.as_ref().map_or(&self.durable, |persisting| &persisting.state);
        next::paused_until(&newest.view, &self.rebalancing.falls, server, now).is_some()
    }

    /// Heartbeats come at least this often, and so do ticks: a pause of our own is seen as one.
    pub(super) fn next_deadline(&self, now: Time) -> Option<Time> {
        let watch = (!self.reports.peers.is_empty()).then(|| now + self.config.timers.heartbeat);
        let can_make = self.wanted && self.persists.under_way.is_none() && self.makes_views(now);
        let make = can_make.then(|| self.persists.began.map_or(now, |at| at + self.config.view_interval));
        let compared = self.start.comparing.until().filter(|&until| until > now);
        [watch, make, self.timing.wake, compared, self.newcomers_until()].into_iter().flatten().min()
    }
}
