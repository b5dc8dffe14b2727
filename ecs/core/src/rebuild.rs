//! R6: the ECS has lost its disk. What it is to know comes from the servers, each of which promises first to take no
//! view but those of this rebuild: what it reports stays true.
//!
//! The newest view that was reported is taken as it is. Each of its partitions *waits*: it is left in its old epoch,
//! and served there as far as its members can, until it may be *resumed*: all members of its in-sync set have reported,
//! and all that its coordinator had proposed in that epoch. Only then no server can have acknowledged writes in a newer
//! epoch that the ECS does not know of. Resumed means a new epoch with the same in-sync set. What waits for servers
//! that are lost for good, an operator may force (R7).
//!
//! All views of a rebuild have one generation, and every server that is counted has promised it: above all that it had
//! seen or promised before. So two rebuilds, of which one may not know of the other (its disk was lost too, or it still
//! runs), are ordered by the generations that a server has promised to both, and a partition can be resumed by two of
//! them only in that order, as each needs the promises of the same in-sync set. A server that has not reported refuses
//! the views, as they name the members that are counted ([`View::counted`]); so what only it knows is not lost with its
//! old view.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{Epoch, PartitionId, RebuildId, ServerId, StoreId};
use common::messages::LogTail;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};
use serde::{Deserialize, Serialize};

use super::planted::PlantedBug;

/// What is durable of a rebuild. It stays when nothing waits any more: servers may come that never reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// Which one.
    pub id: RebuildId,
    /// The generation of the views that are made; 0 before the first.
    pub generation: u32,
    /// The reports, by store.
    pub reports: BTreeMap<StoreId, Report>,
    /// Partitions that are not resumed.
    pub waiting: BTreeSet<PartitionId>,
}

/// What a server has reported, as far as it is not in the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The server that has the store.
    pub server: ServerId,
    /// What it has proposed as coordinator.
    pub proposed: Vec<Proposed>,
}

/// Members that a coordinator had proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The partition that it coordinates.
    pub partition: PartitionId,
    /// The epoch in which it proposed them.
    pub epoch: Epoch,
    /// Members that it proposed in that epoch.
    pub members: Vec<Member>,
}

impl Report {
    pub(super) fn new(server: ServerId, tails: &[LogTail]) -> Self {
        let proposing = tails.iter().filter(|tail| !tail.proposed.is_empty());
        let proposed = proposing.map(|tail| Proposed {
            partition: tail.partition,
            epoch: tail.epoch,
            members: tail.proposed.clone(),
        });
        Self { server, proposed: proposed.collect() }
    }
}

impl Rebuild {
    pub(super) fn new(id: RebuildId) -> Self {
        Self { id, generation: 0, reports: BTreeMap::new(), waiting: BTreeSet::new() }
    }

    /// Takes a store's report. Proposals of its earlier reports are kept: its disk may have gone back since.
    pub(super) fn note(&mut self, store: StoreId, report: Report) {
        let known = self.reports.remove(&store).filter(|known| known.server == report.server);
        let mut proposed = known.map(|known| known.proposed).unwrap_or_default();
        let new = report.proposed.into_iter().filter(|new| !proposed.contains(new)).collect::<Vec<_>>();
        proposed.extend(new);
        assert!(proposed.iter().all(|of| !of.members.is_empty()), "what proposes nothing is no proposal");
        self.reports.insert(store, Report { server: report.server, proposed });
    }

    /// Whether a member has reported.
    pub(super) fn has(&self, member: Member) -> bool {
        self.reports.get(&member.store).is_some_and(|report| report.server == member.server)
    }

    /// The members, in sync or proposed, that must report before a partition may be resumed; empty: none.
    pub(super) fn missing(
        &self,
        partition: PartitionId,
        now: &Assignment,
        bug: Option<PlantedBug>,
    ) -> Vec<Member> {
        let mut missing: Vec<Member> =
            now.in_sync.iter().copied().filter(|&member| !self.has(member)).collect();
        if bug == Some(PlantedBug::RebuildMajority) && missing.len() * 2 < now.in_sync.len() {
            missing.clear();
        }
        let coordinator = now.in_sync_member(now.coordinator);
        let report = coordinator.and_then(|member| self.reports.get(&member.store));
        let proposed = report.into_iter().flat_map(|report| &report.proposed);
        let of_epoch = proposed.filter(|of| of.partition == partition && of.epoch == now.epoch);
        if bug != Some(PlantedBug::RebuildIgnoresProposals) {
            missing.extend(of_epoch.flat_map(|of| &of.members).copied().filter(|&member| !self.has(member)));
        }
        missing
    }

    /// Takes what is newer in a reported view.
    pub(super) fn take(&mut self, view: &mut View, reported: &View) {
        if view.assignments.is_empty() && !reported.assignments.is_empty() {
            view.partitions = reported.partitions;
            view.assignments.clone_from(&reported.assignments);
            view.servers.clone_from(&reported.servers);
            view.forced.clone_from(&reported.forced);
            view.resumed.clone_from(&reported.resumed);
            assert!(self.waiting.is_empty(), "nothing was known before");
            self.waiting = view.iter().map(|(partition, _)| partition).collect();
            for info in view.servers.values_mut() {
                // Until it says hello.
                info.state = ServerState::Down;
            }
            return;
        }
        for (partition, newer) in reported.iter() {
            let now = &mut view.assignments[usize::from(partition.0)];
            if newer.epoch <= now.epoch || !self.waiting.contains(&partition) {
                continue;
            }
            assert!(newer.in_sync_member(newer.coordinator).is_some(), "the view was checked");
            *now = newer.clone();
            for member in newer.in_sync.iter().chain(&newer.joining) {
                let Some(info) = reported.servers.get(&member.server) else { continue };
                let down = || ServerInfo { state: ServerState::Down, ..info.clone() };
                view.servers.entry(member.server).or_insert_with(down);
            }
            if let Some(&forced) = reported.forced.get(&partition) {
                view.forced.insert(partition, forced);
            }
            if let Some(&resumed) = reported.resumed.get(&partition) {
                view.resumed.insert(partition, resumed);
            }
        }
    }
}
