//! How the cluster does, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::{PartitionId, ServerId};
use common::status::{ClusterStatus, DiskState, MemberStatus};
use common::view::{Assignment, ServerInfo, ServerState, View};

use super::peers::{FailedCopies, Peer};
use super::planner::Target;
use super::proof;
use super::reports::Reports;
use super::silence::{FLAPPING, Gaps};
use super::state::State;
use super::verdict::{self, Known, living};

/// The state of the cluster, with its verdict.
pub(super) fn status(known: &Known<'_>, target: &Target) -> ClusterStatus {
    let mut status = figures(known, target);
    verdict::judge(known, &mut status);
    assert!(!status.verdict.is_empty(), "there is always a verdict");
    status
}

/// The state of the cluster in figures.
fn figures(known: &Known<'_>, target: &Target) -> ClusterStatus {
    let &Known { state, reports, config, now, patience, .. } = known;
    let Reports { peers, failed_copies: failed, disagreements, .. } = reports;
    let view = &*state.view;
    let mut servers: BTreeMap<ServerId, MemberStatus> = view
        .servers
        .iter()
        .map(|(&server, info)| (server, member(server, info, peers.get(&server), known)))
        .collect();
    for (server, status) in &mut servers {
        let known = state.registry.get(server);
        status.stands_by = stands_by(state, *server);
        status.disk = known.map(|known| known.disk).unwrap_or_default();
        status.gave_up = known.is_some_and(|known| known.gave_up);
    }
    for assignment in &view.assignments {
        count(assignment, &mut servers);
    }
    let counted: u32 = servers.values().map(|status| status.coordinator).sum();
    assert!(counted as usize <= view.assignments.len(), "a partition has one coordinator");
    let joining: usize = view.assignments.iter().map(|assignment| assignment.joining.len()).sum();
    let living = |(partition, assignment)| living(view, failed, partition, assignment);
    let under = view.iter().filter(|&now| living(now) < config.copies);
    let proof = proof::Known { view, peers, failed };
    let offline = view.iter().filter(|&(partition, now)| {
        let stopped = disagreements.contains_key(&partition) || !proof.awaited(partition, now).is_empty();
        living((partition, now)) == 0 || stopped
    });
    let least = view.iter().map(living).min().unwrap_or(0);
    ClusterStatus {
        cluster: view.cluster,
        view: view.number,
        partitions: view.partitions.into(),
        under_replicated: u32_of(under.count()),
        offline: u32_of(offline.count()),
        copies: u32_of(config.copies),
        // Nothing waits while as many copies of each partition are left as a write needs.
        survives: u32_of(least.saturating_sub(usize::from(view.min_copies))),
        min_copies: u32::from(view.min_copies),
        cut_links: known.cut_links(),
        data_survives: u32_of(least.saturating_sub(1)),
        paused: state.settings.paused,
        gathering: state.rebuild.as_ref().is_some_and(|rebuild| rebuild.generation == 0),
        awaited: awaited(state),
        waiting: u32_of(state.rebuild.as_ref().map_or(0, |rebuild| rebuild.waiting.len())),
        stores_waiting: known.stores.clone(),
        joining: u32_of(joining),
        misplaced: u32_of(
            view.assignments.iter().zip(target).filter(|(now, to)| !is_placed(now, to)).count(),
        ),
        servers: servers.into_values().collect(),
        transfers: peers
            .values()
            .filter(|peer| peer.gone(now, &patience).is_none())
            .flat_map(|peer| peer.transfers.clone())
            .collect(),
        ..ClusterStatus::default()
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

/// R6: the servers that must report before the partitions that wait are resumed.
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

fn member(
    server: ServerId,
    info: &ServerInfo,
    peer: Option<&Peer>,
    &Known { now, patience, falls, reports, .. }: &Known<'_>,
) -> MemberStatus {
    let is_down = info.state == ServerState::Down;
    let until = if is_down {
        falls.get(&server).and_then(|falls| falls.until(&FLAPPING))
    } else {
        reports.edges.pause(server, now)
    };
    let pause = until.map(|until| until.since(now)).filter(|pause| !pause.is_zero());
    let health = reports.disks.reading(server).health;
    let limit = patience.limit(peer.map(Peer::gaps).unwrap_or(&Gaps::default()));
    let load = peer.map(|peer| peer.load).unwrap_or_default();
    let age = peer.and_then(|peer| peer.heartbeat).map(|at| milliseconds(now.since(at)));
    MemberStatus {
        server,
        address: info.address.clone(),
        state: info.state,
        stands_by: false,
        view: peer.map(Peer::view).unwrap_or_default(),
        coordinator: 0,
        replica: 0,
        joining: 0,
        keys: load.keys,
        bytes: load.bytes,
        free_bytes: load.free_bytes,
        reserve_bytes: health.reserve_bytes,
        sync_median_us: health.sync_us,
        disk: DiskState::Well,
        gave_up: false,
        requests_per_second: load.requests_per_second,
        heartbeat_age_ms: age,
        silence_limit_ms: milliseconds(limit),
        pause_ms: pause.map(milliseconds),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
