//! The shapes of answers that are no type of `common`.

use common::ids::{Epoch, Incarnation, PartitionId, ServerId, StoreId};
use common::status::{MemberStatus, Role};
use common::view::{Assignment, View};
use serde::Serialize;

use crate::shell::driver::Placement;

/// One server: what the list says of it, and more.
#[derive(Debug, Serialize)]
pub(super) struct ServerAnswer {
    #[serde(flatten)]
    member: MemberStatus,
    /// Or about to.
    leaving: bool,
    store: StoreId,
    incarnation: Incarnation,
    weight: u32,
    partitions: Vec<RoleAnswer>,
}

/// A server's part in one partition.
#[derive(Debug, Serialize)]
struct RoleAnswer {
    partition: u16,
    role: Role,
    epoch: Epoch,
}

impl ServerAnswer {
    pub(super) fn new(member: MemberStatus, leaving: bool, view: &View) -> Self {
        let server = member.server;
        let parts = view.iter().filter_map(|(partition, assignment)| {
            let role = role(assignment, server)?;
            Some(RoleAnswer { partition: partition.0, role, epoch: assignment.epoch })
        });
        let info = view.servers.get(&server);
        Self {
            store: info.map(|info| info.store).unwrap_or_default(),
            incarnation: info.map(|info| info.incarnation).unwrap_or_default(),
            weight: info.map_or(0, |info| info.weight),
            partitions: parts.collect(),
            leaving,
            member,
        }
    }
}

fn role(assignment: &Assignment, server: ServerId) -> Option<Role> {
    if assignment.coordinator == server {
        Some(Role::Coordinator)
    } else if assignment.in_sync_member(server).is_some() {
        Some(Role::Replica)
    } else {
        assignment.joining_member(server).map(|_| Role::Joining)
    }
}

/// One partition: its range of positions, the servers that have it, where it is wanted.
#[derive(Debug, Serialize)]
pub(super) struct PartitionAnswer {
    partition: u16,
    first: String,
    last: String,
    state: &'static str,
    epoch: Epoch,
    coordinator: ServerId,
    in_sync: Vec<ServerId>,
    joining: Vec<ServerId>,
    target: Vec<ServerId>,
}

impl PartitionAnswer {
    pub(super) fn all(placement: &Placement) -> Vec<Self> {
        let Placement { view, target, .. } = placement;
        let servers = |members: &[common::view::Member]| members.iter().map(|member| member.server).collect();
        let answer = |(partition, now): (PartitionId, &Assignment)| Self {
            partition: partition.0,
            first: view.partitions.first(partition).to_string(),
            last: view.partitions.last(partition).to_string(),
            state: placement.state(partition),
            epoch: now.epoch,
            coordinator: now.coordinator,
            in_sync: servers(&now.in_sync),
            joining: servers(&now.joining),
            target: target.get(usize::from(partition.0)).cloned().unwrap_or_default(),
        };
        view.iter().map(answer).collect()
    }
}
