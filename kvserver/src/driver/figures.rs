//! What the server reports of itself: heartbeats' load, the status, the metrics of its counters.

use std::sync::Arc;

use common::messages::ServerReport;
use common::status::{Role, ServerStatus};
use common::time::Time;
use common::view::ServerState;

use super::state::{Driver, Parts};
use crate::metrics::{MetricsReport, Roles};

impl Driver {
    /// The core knows the protocol's part of a heartbeat; the load figures are added here.
    pub(super) fn report(&mut self, mut report: ServerReport) {
        if let ServerReport::Heartbeat { requests, keys, bytes, free_bytes, health, .. } = &mut report {
            *requests = std::mem::take(&mut self.requests);
            (*keys, *bytes) = (self.sizes.keys, self.sizes.trees + self.sizes.log);
            *free_bytes = self.free_bytes;
            health.disk_full = !self.has_room;
            let undecided = self.parts.node.compared().undecided();
            health.copies_differ = u32::try_from(undecided).unwrap_or(u32::MAX);
            (health.sync_us, health.reserve_bytes) =
                (self.parts.log.sync_time(), Some(self.parts.reserve_bytes));
        }
        // Without a link to the ECS the reports are dropped.
        let _gone = self.parts.reports.send(report);
    }

    pub(super) fn status(&self) -> ServerStatus {
        let Parts { me, address, ecs, node, machine, .. } = &self.parts;
        let sizes = machine.sizes();
        ServerStatus {
            server: me.server,
            store: me.store,
            incarnation: me.incarnation,
            address: address.clone(),
            ecs: ecs.clone(),
            view: node.view().number,
            copies: node.status(),
            keys: sizes.keys,
            expiring: sizes.expiring,
            bytes: sizes.trees + sizes.log,
            free_bytes: self.free_bytes,
            transfers: node.transfers(),
            caught_up: node.caught_up(),
            scrub: self.parts.scrub.status(),
            compared: node.compared(),
        }
    }

    /// Once a second: publishes a report of the counters and reports figures to the ECS. `waiting`: events that were
    /// not taken yet.
    pub(super) fn report_figures(&mut self, now: Time, waiting: usize) {
        if !self.meter.is_due(now) {
            return;
        }
        self.sizes = self.parts.machine.sizes();
        let Parts { node, log, scrub, .. } = &self.parts;
        let roles = self.roles(now);
        let report = MetricsReport {
            at: now,
            requests: self.meter.requests().clone(),
            log: log.figures(),
            view: node.view().number,
            roles,
            sizes: self.sizes,
            free_bytes: self.free_bytes,
            has_room: self.has_room,
            open: self.open.len() as u64,
            waiting: waiting as u64,
            transfers: node.transfers(),
            caught_up: node.caught_up(),
            scrub: scrub.status(),
            compared: node.compared(),
            wall_ahead: node.wall_ahead(),
            not_ready: self.not_ready(&roles),
        };
        let figures = self.meter.figures(&report);
        self.parts.metrics_reports.send_replace(Some(Arc::new(report)));
        self.report(ServerReport::Figures { figures });
    }

    fn roles(&self, now: Time) -> Roles {
        let node = &self.parts.node;
        let mut roles = Roles::default();
        for copy in node.status() {
            let Some(facts) = node.facts(common::ids::PartitionId(copy.partition), now) else { continue };
            roles.unapplied += facts.commit.saturating_sub(facts.applied);
            match copy.role {
                Role::Coordinator => {
                    let lag = facts.last.saturating_sub(facts.commit);
                    roles.coordinator += 1;
                    roles.active += u64::from(facts.active);
                    roles.readable += u64::from(facts.may_read);
                    roles.lag = roles.lag.max(lag);
                    roles.lag_all += lag;
                }
                Role::Replica => {
                    roles.replica += 1;
                    roles.read_leases += u64::from(facts.has_read_lease);
                }
                Role::Joining => roles.joining += 1,
                Role::None => {}
            }
        }
        roles
    }

    /// Why no requests should be sent to this server; `None` if they may.
    fn not_ready(&self, roles: &Roles) -> Option<String> {
        let view = self.parts.node.view();
        match view.servers.get(&self.parts.me.server) {
            None => {
                Some("this server is no member of the cluster: it waits for the ECS, or has left".to_owned())
            }
            Some(info) if info.state == ServerState::Leaving => Some("this server is leaving".to_owned()),
            Some(_) if roles.active < roles.coordinator => {
                let waiting = roles.coordinator - roles.active;
                Some(format!("{waiting} partitions that this server coordinates are not active yet"))
            }
            Some(_) => None,
        }
    }
}
