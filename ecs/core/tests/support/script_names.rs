//! Names of servers, stores and views in scripts, and how an assignment is printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use common::ids::{ClusterId, Epoch, Incarnation, Nonce, PartitionId, ServerId, StoreId};
use common::ring::Partitions;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};

pub(super) fn id(name: char) -> ServerId {
    ServerId(u128::from(u32::from(name)))
}

pub(super) fn name(server: ServerId) -> char {
    u32::try_from(server.0).ok().and_then(char::from_u32).unwrap_or('?')
}

pub(super) fn store(name: char, number: u128) -> StoreId {
    StoreId(u128::from(u32::from(name)) << 8 | number)
}

/// `VERSION` or `GENERATION/VERSION`.
pub(super) fn epoch(text: &str) -> Epoch {
    let (generation, version) = text.split_once('/').unwrap_or(("0", text));
    Epoch { generation: generation.parse().unwrap(), version: version.parse().unwrap() }
}

/// A view of one partition, as a server may hold it.
pub(super) fn held(number: &str, coordinator: &str, in_sync: &str, named: &BTreeMap<&str, &str>) -> View {
    let partitions = named.get("partitions").map_or(Ok(1), |number| number.parse::<u32>());
    let ring = Partitions::try_from(partitions.clone().unwrap_or(1)).unwrap();
    let mut view = View::new(ClusterId(1), epoch(number), ring);
    let members = |names: &str| names.chars().map(the_member).collect::<Vec<_>>();
    let joining = named.get("join").map_or("", |names| *names);
    for member in members(in_sync).into_iter().chain(members(joining)) {
        let info = ServerInfo {
            store: member.store,
            incarnation: Incarnation(1),
            nonce: Nonce(1),
            address: format!("{}:1", name(member.server)),
            weight: 1,
            state: ServerState::Up,
        };
        view.servers.insert(member.server, info);
    }
    view.forced.extend(named.get("forced").map(|text| (PartitionId(0), epoch(text))));
    let assignment = Assignment {
        epoch: named.get("epoch").map_or(view.number, |text| epoch(text)),
        coordinator: id(coordinator.chars().next().unwrap()),
        in_sync: members(in_sync),
        joining: members(joining),
    };
    view.assignments = vec![assignment; partitions.map_or(0, |_| view.partitions.count())];
    view
}

pub(super) fn the_member(name: char) -> Member {
    Member { server: id(name), store: store(name, 1) }
}

pub(super) fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap_or_else(|_| panic!("`{text}` milliseconds")))
}

/// `epoch coordinator* replicas +joining`.
pub(super) fn text(assignment: &Assignment) -> String {
    let mut text = format!("e{}", assignment.epoch);
    for member in &assignment.in_sync {
        let mark = if member.server == assignment.coordinator { "*" } else { "" };
        let _ = write!(text, " {}{mark}", name(member.server));
    }
    for member in &assignment.joining {
        let _ = write!(text, " +{}", name(member.server));
    }
    text
}
