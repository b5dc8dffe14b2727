//! Views: which server coordinates which partition, which have its copies, and where the servers are.
//!
//! A view is immutable and numbered. Only the ECS makes views; servers and clients adopt a newer one whole or keep the
//! old one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::address;
use crate::ids::{
    ClusterId, Epoch, Incarnation, Nonce, PartitionId, ProcessId, RebuildId, ServerId, StoreId,
};
use crate::ring::{Partitions, Position};

/// One copy of a partition: a server, and the store that it had when it was counted. A server that comes
/// back with another store is another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The id of the server, which may have had other addresses.
    pub server: ServerId,
    /// The content of the storage directory that was counted.
    pub store: StoreId,
}

/// The copies of one partition, and their roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The number of the view in which the coordinator or the in-sync set last changed.
    pub epoch: Epoch,
    /// The server that orders and acknowledges writes. Always in `in_sync`.
    pub coordinator: ServerId,
    /// Copies that must have a write on disk before it is acknowledged; the coordinator's is one of them.
    /// Never empty. In the order of the placement.
    pub in_sync: Vec<Member>,
    /// Copies that are being brought up to date. They count for nothing; listing one changes no epoch.
    pub joining: Vec<Member>,
}

impl Assignment {
    /// The in-sync member of a server, if it is one.
    #[must_use]
    pub fn in_sync_member(&self, server: ServerId) -> Option<Member> {
        self.in_sync.iter().copied().find(|member| member.server == server)
    }

    /// The joining member of a server, if it is one.
    #[must_use]
    pub fn joining_member(&self, server: ServerId) -> Option<Member> {
        self.joining.iter().copied().find(|member| member.server == server)
    }

    /// The in-sync copies other than the coordinator's: replica 1, replica 2.
    pub fn replicas(&self) -> impl Iterator<Item = Member> + '_ {
        self.in_sync.iter().copied().filter(|member| member.server != self.coordinator)
    }
}

/// Whether a server is up, as the ECS knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Heartbeats arrive.
    Up,
    /// Asked to leave; its copies are being moved away.
    Leaving,
    /// Silent beyond the limit.
    Down,
}

/// A server, as the view describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its present store.
    pub store: StoreId,
    /// The incarnation of its present process.
    pub incarnation: Incarnation,
    /// The nonce of its present process. No other process of the server coordinates by this view (S3).
    #[serde(default)]
    pub nonce: Nonce,
    /// `host:port` that clients and peers connect to.
    pub address: String,
    /// Its share of the ring relative to others', from 1.
    pub weight: u32,
    /// Up, leaving or down.
    pub state: ServerState,
}

impl ServerInfo {
    /// The process that the view names.
    #[must_use]
    pub fn process(&self, server: ServerId) -> ProcessId {
        ProcessId { server, store: self.store, incarnation: self.incarnation, nonce: self.nonce }
    }
}

/// The whole table of one view number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The cluster of the view: servers follow the views of no other one.
    pub cluster: ClusterId,
    /// This view's number.
    pub number: Epoch,
    /// How many partitions the ring has.
    pub partitions: Partitions,
    /// By partition number: `partitions` of them, or none before the first server has joined.
    pub assignments: Vec<Assignment>,
    /// All servers that are members, by id.
    pub servers: BTreeMap<ServerId, ServerInfo>,
    /// Partitions that an operator brought back from one copy though others may have held more, and the epoch in
    /// which each began anew. A copy that was last in step in an older epoch may hold entries that no other copy has:
    /// it is dropped before it joins again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forced: BTreeMap<PartitionId, Epoch>,
    /// V4a: partitions that went on without a member that was not heard since a restart, though no other member was
    /// known to hold all that it had acknowledged, and the newest epoch in which one did. A copy that was last in step
    /// in an older epoch may hold entries that no other copy has. Dropped when all such members are filled again or
    /// gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resumed: BTreeMap<PartitionId, Epoch>,
    /// An operator has paused all copying.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Copies that must be in sync for a write of a partition to be acknowledged, 1 at least: where fewer are, writes
    /// wait and reads go on. A view without the number is of a cluster that asks for one copy.
    #[serde(default = "one_copy", skip_serializing_if = "is_one_copy")]
    pub min_copies: u8,
    /// Which rebuild of the ECS without its disk this view comes of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildId>,
    /// The stores whose holdings that rebuild has counted. A server that has promised takes only a view that counts its
    /// store: what it alone knows would be lost with its view.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub counted: BTreeSet<StoreId>,
}

fn one_copy() -> u8 {
    1
}

fn is_one_copy(min_copies: &u8) -> bool {
    *min_copies == one_copy()
}

/// A view that contradicts itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("view {number} is invalid: {what}")]
pub struct InvalidView {
    number: Epoch,
    what: String,
}

/// A run of positions, both ends included, that belongs to one server. It may wrap around the circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first position.
    pub first: Position,
    /// The last position; smaller than `first` when the range wraps.
    pub last: Position,
    /// The server that the range is listed for.
    pub server: ServerId,
}

impl View {
    /// The empty first view of a new cluster.
    #[must_use]
    pub fn new(cluster: ClusterId, number: Epoch, partitions: Partitions) -> Self {
        let (assignments, servers, forced, resumed) = Default::default();
        let (paused, rebuild, counted) = Default::default();
        let min_copies = one_copy();
        Self {
            cluster,
            number,
            partitions,
            assignments,
            servers,
            forced,
            resumed,
            paused,
            min_copies,
            rebuild,
            counted,
        }
    }

    /// The copies of a partition; `None` before the first server has joined.
    #[must_use]
    pub fn assignment(&self, partition: PartitionId) -> Option<&Assignment> {
        self.assignments.get(usize::from(partition.0))
    }

    /// All partitions with their assignments, in ring order.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, &Assignment)> {
        self.partitions.all().zip(&self.assignments)
    }

    /// Checks what every view must satisfy, for views that come from outside.
    ///
    /// # Errors
    /// When an assignment names an unknown server, lists one twice, lacks its coordinator, or is newer than
    /// the view, or a server's address is not valid.
    pub fn check(&self) -> Result<(), InvalidView> {
        let invalid = |what: String| Err(InvalidView { number: self.number, what });
        if self.min_copies == 0 {
            return invalid("writes are acknowledged with no copy in sync".to_owned());
        }
        if !self.assignments.is_empty() && self.assignments.len() != self.partitions.count() {
            return invalid(format!("{} assignments", self.assignments.len()));
        }
        for (server, info) in &self.servers {
            if let Err(error) = address::split(&info.address) {
                return invalid(format!("server {server} has no address: {error}"));
            }
        }
        for (partition, assignment) in self.iter() {
            if assignment.epoch > self.number {
                return invalid(format!("partition {partition} has the later epoch {}", assignment.epoch));
            }
            if assignment.in_sync_member(assignment.coordinator).is_none() {
                return invalid(format!("the coordinator of partition {partition} is not in sync"));
            }
            let mut servers: Vec<_> =
                assignment.in_sync.iter().chain(&assignment.joining).map(|member| member.server).collect();
            servers.sort_unstable();
            if servers.windows(2).any(|pair| pair[0] == pair[1]) {
                return invalid(format!("partition {partition} lists a server twice"));
            }
            if let Some(unknown) = servers.iter().find(|server| !self.servers.contains_key(server)) {
                return invalid(format!("partition {partition} names the unknown server {unknown}"));
            }
        }
        Ok(())
    }

    /// The ranges by coordinator: neighbours with the same server are one range, and the circle is covered
    /// exactly once. Empty before the first server has joined.
    #[must_use]
    pub fn ranges(&self) -> Vec<KeyRange> {
        self.merged(|assignment, server| assignment.coordinator == server)
    }

    /// The ranges by server that may answer reads, coordinators and in-sync replicas: the circle is covered
    /// once per copy.
    #[must_use]
    pub fn read_ranges(&self) -> Vec<KeyRange> {
        self.merged(|assignment, server| assignment.in_sync_member(server).is_some())
    }

    fn merged(&self, holds: impl Fn(&Assignment, ServerId) -> bool) -> Vec<KeyRange> {
        let mut ranges: Vec<KeyRange> = Vec::new();
        for server in self.servers.keys().copied() {
            let mut own: Vec<KeyRange> = Vec::new();
            for (partition, assignment) in self.iter().filter(|(_, assignment)| holds(assignment, server)) {
                let _ = assignment;
                let (first, last) = (self.partitions.first(partition), self.partitions.last(partition));
                match own.last_mut() {
                    Some(range) if range.last.0.checked_add(1) == Some(first.0) => range.last = last,
                    _ => own.push(KeyRange { first, last, server }),
                }
            }
            // The last range and the first are one where they meet at the top of the circle.
            if own.len() > 1 && own[0].first.0 == 0 && own[own.len() - 1].last.0 == u128::MAX {
                let top = own.pop().expect("there are two at least");
                own[0].first = top.first;
            }
            ranges.append(&mut own);
        }
        ranges.sort_by_key(|range| (range.last, range.server));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(coordinators: &[u128]) -> View {
        let partitions = Partitions::try_from(u32::try_from(coordinators.len()).unwrap()).unwrap();
        let number = Epoch { generation: 0, version: 1 };
        let mut view = View::new(ClusterId(1), number, partitions);
        for &id in coordinators {
            let (server, store) = (ServerId(id), StoreId(id));
            let info = ServerInfo {
                store,
                incarnation: Incarnation(1),
                nonce: Nonce(1),
                address: format!("127.0.0.1:{id}"),
                weight: 1,
                state: ServerState::Up,
            };
            view.servers.insert(server, info);
            view.assignments.push(Assignment {
                epoch: number,
                coordinator: server,
                in_sync: vec![Member { server, store }],
                joining: Vec::new(),
            });
        }
        view
    }

    #[test]
    fn one_server_has_the_whole_circle() {
        let ranges = view(&[1, 1, 1, 1]).ranges();
        assert_eq!(ranges.len(), 1);
        assert_eq!((ranges[0].first.0, ranges[0].last.0), (0, u128::MAX));
    }

    #[test]
    fn neighbours_merge_also_over_the_top() {
        let ranges = view(&[1, 2, 2, 1]).ranges();
        assert_eq!(ranges.len(), 2);
        let wrapping = ranges.iter().find(|range| range.server == ServerId(1)).unwrap();
        assert!(wrapping.first > wrapping.last, "{wrapping:?}");
        assert_eq!(wrapping.first.0, 3 << 126);
    }

    #[test]
    fn a_view_without_a_minimum_asks_for_one_copy() {
        let mut two = view(&[1, 2]);
        let text = serde_json::to_string(&two).unwrap();
        assert!(!text.contains("min_copies"), "{text}");
        assert_eq!(serde_json::from_str::<View>(&text).unwrap().min_copies, 1);
        two.min_copies = 2;
        let text = serde_json::to_string(&two).unwrap();
        assert_eq!(serde_json::from_str::<View>(&text).unwrap().min_copies, 2);
        two.min_copies = 0;
        assert!(two.check().is_err());
    }

    #[test]
    fn contradictions_are_found() {
        assert_eq!(view(&[1, 2]).check(), Ok(()));
        let mut broken = view(&[1, 2]);
        broken.assignments[0].coordinator = ServerId(2);
        assert!(broken.check().unwrap_err().to_string().contains("not in sync"));
        let mut unknown = view(&[1, 2]);
        unknown.servers.remove(&ServerId(2));
        assert!(unknown.check().is_err());
        let mut hostile = view(&[1, 2]);
        let info = hostile.servers.get_mut(&ServerId(1)).unwrap();
        info.address = "127.0.0.1:1\u{1b}[2J".to_owned();
        assert!(hostile.check().unwrap_err().to_string().contains("has no address"));
        let mut double = view(&[1, 2]);
        let member = double.assignments[0].in_sync[0];
        double.assignments[0].joining.push(member);
        assert!(double.check().unwrap_err().to_string().contains("twice"));
    }
}
