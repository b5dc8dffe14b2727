//! What can be asked of the ECS: its newest durable state, and what it knows besides.

use std::sync::Arc;

use common::ids::{LogId, PartitionId, ServerId};
use common::status::ClusterStatus;
use common::time::Time;
use common::view::{ServerState, View};

use super::Ecs;
use crate::config::Config;
use crate::planner::Target;
use crate::state::{Settings, State};
use crate::summary;
use crate::verdict::Known;

impl Ecs {
    /// What it was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The newest durable view.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.durable.view
    }

    /// The newest durable state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.durable
    }

    /// How the cluster does, by the newest durable view.
    #[must_use]
    pub fn status(&self, now: Time) -> ClusterStatus {
        let known = Known {
            state: &self.durable,
            reports: &self.reports,
            config: &self.config,
            comparing: self.comparing_with(now),
            behind: self.start.behind,
            patience: self.patience(now),
            falls: &self.rebalancing.falls,
            stores: self.stores_waiting(now),
            left_out: &self.left_out,
            served: &self.served,
            persisting: self.persists.under_way.as_ref().and(self.persists.began).map(|at| now.since(at)),
            now,
        };
        summary::status(&known, self.rebalancing.planned.target())
    }

    /// Whether nothing of the partition can be read or written: no copy that counts, and is not said to have failed, is
    /// at a server that is up; or the copies disagree (P2); or it waits for a member since a restart (V4a).
    #[must_use]
    pub fn is_offline(&self, partition: PartitionId) -> bool {
        summary::is_offline(&self.durable.view, &self.reports.failed_copies, partition)
            || self.reports.disagreements.contains_key(&partition)
            || !self.awaited_since_restart(partition).is_empty()
    }

    /// R6: whether the partition waits for servers that have not reported to this rebuilt ECS, which leaves it as it
    /// is.
    #[must_use]
    pub fn is_waiting(&self, partition: PartitionId) -> bool {
        self.durable.rebuild.as_ref().is_some_and(|rebuild| rebuild.waiting.contains(&partition))
    }

    /// The servers that are up, by what they have of a partition: the one that has most is the first. `None`: it
    /// reported nothing when it started.
    #[must_use]
    pub fn candidates(&self, partition: PartitionId) -> Vec<(ServerId, Option<LogId>)> {
        let up = self.durable.view.servers.iter().filter(|(_, info)| info.state == ServerState::Up);
        let mut found: Vec<(ServerId, Option<LogId>)> = up
            .map(|(&server, _)| {
                let peer = self.reports.peers.get(&server);
                (server, peer.and_then(|peer| peer.leftovers.get(&partition).copied()))
            })
            .collect();
        // An in-sync member of the newest epoch that is known is a better choice than any leftover.
        let now = self.durable.view.assignment(partition);
        let stray = |server| now.is_none_or(|now| now.in_sync_member(server).is_none());
        found.sort_by_key(|&(server, last)| (stray(server), std::cmp::Reverse(last), server));
        found
    }

    /// The settings in force, or about to be.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let newest = self.persists.under_way.as_ref().map_or(&self.durable, |persisting| &persisting.state);
        self.orders.settings.unwrap_or(newest.settings)
    }

    /// Copies that a write needs to be acknowledged, by the newest view or the one about to come.
    #[must_use]
    pub fn min_copies(&self) -> usize {
        let number = usize::from(self.newest().view.min_copies);
        self.settings().min_copies.unwrap_or(number)
    }

    /// Whether it is the quiet time, in which no server is removed for silence.
    #[must_use]
    pub fn is_quiet(&self, now: Time) -> bool {
        now < self.timing.quiet_until
    }

    /// Where the copies should be, by partition: the coordinator first. Empty before the first server has joined.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.rebalancing.planned.target()
    }
}
