//! How the cluster does, for people and programs.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{PartitionId, ServerId};
use common::status::{ClusterStatus, MemberStatus};
use common::time::Time;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};

use super::machine::Config;
use super::peers::{FailedCopies, Peer};
use super::planner::Target;
use super::state::State;

/// The state of the cluster.
pub(super) fn status(
    state: &State,
    target: &Target,
    peers: &BTreeMap<ServerId, Peer>,
    failed: &FailedCopies,
    config: &Config,
    now: Time,
) -> ClusterStatus {
    let view = &*state.view;
    let mut servers: BTreeMap<ServerId, MemberStatus> = view
        .servers
        .iter()
        .map(|(&server, info)| (server, member(server, info, peers.get(&server), now)))
        .collect();
    for (server, status) in &mut servers {
        status.stands_by = stands_by(state, *server);
    }
    for assignment in &view.assignments {
        count(assignment, &mut servers);
    }
    let joining: usize = view.assignments.iter().map(|assignment| assignment.joining.len()).sum();
    // As many copies as servers, where there are fewer; one that is down is still missed.
    let serves = |(server, info): &(&ServerId, &ServerInfo)| {
        info.state != ServerState::Leaving && !stands_by(state, **server)
    };
    let members = view.servers.iter().filter(serves).count();
    let wanted = config.copies.min(members);
    let living = |(partition, assignment)| living(view, failed, partition, assignment);
    let under = view.iter().filter(|&now| living(now) < wanted);
    let offline = view.iter().filter(|&now| living(now) == 0);
    ClusterStatus {
        cluster: view.cluster,
        view: view.number,
        partitions: view.partitions.into(),
        under_replicated: u32_of(under.count()),
        offline: u32_of(offline.count()),
        survives: u32_of(survives(state, failed)),
        paused: state.settings.paused,
        gathering: state.rebuild.as_ref().is_some_and(|rebuild| rebuild.generation == 0),
        awaited: awaited(state),
        waiting: u32_of(state.rebuild.as_ref().map_or(0, |rebuild| rebuild.waiting.len())),
        joining: u32_of(joining),
        misplaced: u32_of(
            view.assignments.iter().zip(target).filter(|(now, to)| !is_placed(now, to)).count(),
        ),
        servers: servers.into_values().collect(),
        transfers: peers
            .values()
            .filter(|peer| peer.gone(now, &config.timers).is_none())
            .flat_map(|peer| peer.transfers.clone())
            .collect(),
    }
}

/// The coordinator and the copies are those of the plan, and no others.
fn is_placed(now: &Assignment, target: &[ServerId]) -> bool {
    let held: BTreeSet<ServerId> = now.in_sync.iter().map(|member| member.server).collect();
    target.first() == Some(&now.coordinator) && held == target.iter().copied().collect()
}

/// The server holds nothing until it is ordered to serve.
fn stands_by(state: &State, server: ServerId) -> bool {
    state.registry.get(&server).is_some_and(|known| known.stands_by)
}

/// So many servers may fail at once, whichever they are, and no partition waits: it is served while as many of its in-sync
/// copies are left as an in-sync set must have.
fn survives(state: &State, failed: &FailedCopies) -> usize {
    let least = state.view.iter().map(|(partition, now)| living(&state.view, failed, partition, now)).min();
    least.unwrap_or(0).saturating_sub(state.settings.min_copies.max(1))
}

/// R6: who must report before the partitions that wait are resumed.
fn awaited(state: &State) -> Vec<ServerId> {
    let Some(rebuild) = &state.rebuild else { return Vec::new() };
    let waiting = state.view.iter().filter(|(partition, _)| rebuild.waiting.contains(partition));
    let missing = waiting.flat_map(|(partition, now)| rebuild.missing(partition, now, None));
    missing.map(|member| member.server).collect::<BTreeSet<_>>().into_iter().collect()
}

/// No living server has a copy that counts and has not failed.
pub(super) fn is_offline(view: &View, failed: &FailedCopies, partition: PartitionId) -> bool {
    view.assignment(partition).is_some_and(|assignment| living(view, failed, partition, assignment) == 0)
}

/// In-sync copies at servers that are heard, have the store that was counted, and do not say that it has failed there.
fn living(view: &View, failed: &FailedCopies, partition: PartitionId, assignment: &Assignment) -> usize {
    let is_living = |member: &&Member| {
        let info = view.servers.get(&member.server);
        info.is_some_and(|info| info.store == member.store && info.state != ServerState::Down)
            && !failed.contains(&(partition, **member))
    };
    assignment.in_sync.iter().filter(is_living).count()
}

fn member(server: ServerId, info: &ServerInfo, peer: Option<&Peer>, now: Time) -> MemberStatus {
    let load = peer.map(|peer| peer.load).unwrap_or_default();
    let age = peer.and_then(|peer| peer.heartbeat).map(|at| now.since(at).as_millis());
    MemberStatus {
        server,
        address: info.address.clone(),
        state: info.state,
        stands_by: false,
        view: peer.map(|peer| peer.view).unwrap_or_default(),
        coordinator: 0,
        replica: 0,
        joining: 0,
        keys: load.keys,
        bytes: load.bytes,
        free_bytes: load.free_bytes,
        requests_per_second: load.requests_per_second,
        heartbeat_age_ms: age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
    }
}

fn count(assignment: &Assignment, servers: &mut BTreeMap<ServerId, MemberStatus>) {
    let mut add = |server: ServerId, role: fn(&mut MemberStatus) -> &mut u32| {
        if let Some(status) = servers.get_mut(&server) {
            *role(status) += 1;
        }
    };
    add(assignment.coordinator, |status| &mut status.coordinator);
    assignment.replicas().for_each(|member| add(member.server, |status| &mut status.replica));
    assignment.joining.iter().for_each(|member| add(member.server, |status| &mut status.joining));
}

fn u32_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
