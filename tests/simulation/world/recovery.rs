//! The end of all faults, and whether the cluster is whole again within a bound of virtual time (I8).

use common::ids::ServerId;
use common::limits::COPIES;
use common::view::ServerState;

use super::super::client::Client;
use super::super::net::Weather;
use super::super::server::Server;
use super::super::timeline::{Event, MS, Micros, SECOND};
use super::{Phase, World};

/// After the faults have ended, the cluster is whole again within this time: a server that others did not hear gets no
/// part for a while, which doubles when it happens again, and then states are copied one after the other.
const RECOVERY_MAX: Micros = 60 * SECOND;

/// And then all operations are answered within this time.
const ANSWERS_MAX: Micros = 10 * SECOND;

/// Between two looks at the recovery.
const LOOK_EVERY: Micros = 100 * MS;

impl World {
    /// All faults end.
    pub(super) fn heal(&mut self) {
        self.phase = Phase::Recovery(self.line.now);
        self.check_views();
        self.line.net.mend_all();
        self.line.net.weather = Weather::CALM;
        self.ecs.restore(&mut self.line, &mut self.truth);
        if self.ecs.core.is_none() {
            self.ecs.start(&mut self.line, &mut self.truth);
        }
        self.ecs.resume(&mut self.line);
        self.end_orders();
        self.ecs.slow = 0.0;
        self.strikes = 0;
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            server.slow = 0.0;
            server.disk_fault = None;
            server.gray = Default::default();
            server.fails_until = 0;
            if server.paused {
                server.resume(&mut self.line);
            }
            if server.process.is_none() && !server.waits && server.life > 0 && !server.gone {
                server.start(&mut self.line);
            }
        }
        self.clients.iter_mut().for_each(Client::slow_down);
        self.line.after(LOOK_EVERY, Event::Look);
    }

    /// However links flap, the ECS makes so many views and no more.
    fn check_views(&mut self) {
        let views = self.truth.views_made();
        self.truth.counts.views = views;
        let most = self.scenario.views_a_minute_max * self.line.now / (60 * SECOND);
        let is_bound = self.scenario.views_a_minute_max > 0;
        assert!(!is_bound || views <= most, "{views} views in {} s", self.line.now / SECOND);
    }

    /// I8: how far is it?
    pub(super) fn look(&mut self) {
        self.line.after(LOOK_EVERY, Event::Look);
        let now = self.line.now;
        if self.is_lost() {
            self.phase = Phase::Over;
        }
        if let Phase::Recovery(_) = self.phase {
            // A server that came back after that stands by again.
            self.all_serve();
        }
        match self.phase {
            Phase::Recovery(since) => match self.missing() {
                None => {
                    self.phase = Phase::Answers(now);
                    self.clients.iter_mut().for_each(|client| client.stopped = true);
                    self.clients[0].probe(&mut self.line);
                }
                Some(missing) => {
                    assert!(now - since < RECOVERY_MAX, "I8: the cluster has not recovered: {missing}");
                }
            },
            Phase::Answers(since) => {
                if self.clients.iter().all(Client::is_idle) {
                    self.phase = Phase::Over;
                }
                assert!(now - since < ANSWERS_MAX, "I8: operations are not answered: {:?}", self.clients[0]);
            }
            Phase::Faults | Phase::Over => {}
        }
    }

    /// The last in-sync copy of a partition is lost with its disk (R7), as others were removed before: none can
    /// bring it back.
    pub(super) fn is_lost(&self) -> bool {
        let Some(view) = self.truth.newest() else { return false };
        self.truth.is_beyond || view.iter().any(|(partition, _)| self.in_sync(partition).is_empty())
    }

    /// What is not yet as it should be.
    fn missing(&self) -> Option<String> {
        let Some(view) = self.truth.newest() else { return Some("a view".to_owned()) };
        if view.assignments.is_empty() {
            return Some("a server".to_owned());
        }
        let up = view.servers.values().filter(|info| info.state == ServerState::Up).count();
        // One that left and was taken in again by what it had said before stays as down, and holds nothing.
        let gone = |server: &&Server| server.gone && view.servers.contains_key(&server.id);
        let gone: Vec<ServerId> = self.servers.iter().filter(gone).map(|server| server.id).collect();
        if up + gone.len() < view.servers.len() {
            return Some(format!("servers that are up, in view {}: {:?}", view.number, view.servers));
        }
        for server in
            self.servers.iter().filter(|server| view.servers.contains_key(&server.id) && !server.gone)
        {
            let used = server.process.as_ref().map(|process| process.node.view().number);
            if used != Some(view.number) {
                return Some(format!("view {} at server {}, it has {used:?}", view.number, server.index));
            }
        }
        for (partition, assignment) in view.iter() {
            if assignment.in_sync.len() != up.min(COPIES) || !assignment.joining.is_empty() {
                return Some(format!("copies of partition {partition}: {assignment:?}"));
            }
            let coordinator = self.index_of(assignment.coordinator);
            let facts = self.servers[coordinator].facts(partition, self.line.now);
            if facts.is_none_or(|facts| !facts.active) {
                return Some(format!("activity of partition {partition} at server {coordinator}: {facts:?}"));
            }
        }
        let pinned = |server: &&Server| server.process.as_ref().is_some_and(|process| process.has_pins());
        self.servers
            .iter()
            .find(pinned)
            .map(|server| format!("release of the log of server {}", server.index))
    }
}
