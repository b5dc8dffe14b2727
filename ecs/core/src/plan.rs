//! What operators want of servers, and what it would move: shown before it is done.
//!
//! An [`Order`] requests another state of servers ([`RequestedState`]). Its [`Plan`] is what the planner makes of the
//! present view with those states, so it is what happens when the order is given while that view is the newest one: the
//! plan contains the view's number, and applying the order requires it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::ids::{Epoch, PartitionId, ServerId};
use common::view::View;
use serde::Serialize;

use super::planner::Target;

/// What a server is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestedState {
    /// Hold its share of the partitions.
    Serve,
    /// Hold none, until it is ordered to serve.
    StandBy,
    /// Hand everything over, and be no member.
    Leave,
    /// As [`RequestedState::Leave`], while another server takes its place. As long as that one is not up, it keeps its
    /// copies.
    Replaced {
        /// The server that takes its place.
        by: ServerId,
    },
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A server that stands by is to serve.
    Add(ServerId),
    /// A server is to leave.
    Drain(ServerId),
    /// A server that stands by is to serve, and another one is to leave.
    Replace {
        /// The server that leaves.
        old: ServerId,
        /// The server that serves instead.
        new: ServerId,
    },
}

/// Why an order is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no such server.
    #[error("there is no such server")]
    Unknown(ServerId),
    /// Only a server that stands by can be added.
    #[error("server {} does not stand by: it has its share of the partitions, or gets it", .0.short())]
    Serves(ServerId),
    /// It leaves already.
    #[error("server {} is leaving already", .0.short())]
    Leaves(ServerId),
    /// It does not answer, so it can hand nothing over.
    #[error("server {} is down", .0.short())]
    Down(ServerId),
    /// No other server would be left to take the copies.
    #[error("no other server that serves is up: the copies could go nowhere")]
    Last,
    /// Another server is leaving and needs this one for its copies.
    #[error("server {} is needed for the copies of one that leaves", .0.short())]
    Needed(ServerId),
    /// Nothing is under way that could be taken back.
    #[error("server {} neither leaves nor is being added", .0.short())]
    Settled(ServerId),
}

/// What an order moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The number of the view that it was made for.
    pub epoch: Epoch,
    /// Copies that are made at servers that have none of the partition.
    pub copies: u32,
    /// The fewest copies that have to be made for every server to have the number that the plan gives it.
    pub copies_least: u32,
    /// Partitions whose coordinator is another one afterwards.
    pub coordinators: u32,
    /// Partitions that have fewer copies afterwards than now.
    pub fewer: u32,
    /// The partitions that it changes, in ring order.
    pub partitions: Vec<Move>,
}

/// What changes in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The partition of which a copy or the coordinator moves.
    pub partition: PartitionId,
    /// The coordinator now, and afterwards.
    pub coordinator: Change,
    /// Copies that are made or dropped.
    pub copies: Vec<CopyMove>,
}

/// One thing before and afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Now.
    pub from: ServerId,
    /// Afterwards.
    pub to: ServerId,
}

/// A copy that is made, dropped, or both: moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CopyMove {
    /// The server that drops its copy afterwards; `None`: the copy is an additional one.
    pub from: Option<ServerId>,
    /// The server that gets one; `None`: the copy is only dropped.
    pub to: Option<ServerId>,
}

impl Order {
    /// The states that it requests.
    #[must_use]
    pub fn states(self) -> Vec<(ServerId, RequestedState)> {
        match self {
            Self::Add(server) => vec![(server, RequestedState::Serve)],
            Self::Drain(server) => vec![(server, RequestedState::Leave)],
            Self::Replace { old, new } => {
                vec![(new, RequestedState::Serve), (old, RequestedState::Replaced { by: new })]
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(server) => write!(f, "add {}", server.short()),
            Self::Drain(server) => write!(f, "drain {}", server.short()),
            Self::Replace { old, new } => write!(f, "replace {} {}", old.short(), new.short()),
        }
    }
}

impl Plan {
    /// What is to be done from a view to a target.
    pub(super) fn new(view: &View, target: &Target) -> Self {
        let mut plan = Self {
            epoch: view.number,
            copies: 0,
            copies_least: 0,
            coordinators: 0,
            fewer: 0,
            partitions: Vec::new(),
        };
        let mut counts: BTreeMap<ServerId, i64> = BTreeMap::new();
        for ((partition, now), target) in view.iter().zip(target) {
            let Some(&to) = target.first() else { continue };
            let held: BTreeSet<ServerId> = now.in_sync.iter().map(|member| member.server).collect();
            let wanted: BTreeSet<ServerId> = target.iter().copied().collect();
            let (made, dropped): (Vec<_>, Vec<_>) =
                (wanted.difference(&held).collect(), held.difference(&wanted).collect());
            made.iter().for_each(|server| *counts.entry(**server).or_default() += 1);
            dropped.iter().for_each(|server| *counts.entry(**server).or_default() -= 1);
            let coordinator = Change { from: now.coordinator, to };
            let moves = coordinator.from != coordinator.to;
            if made.is_empty() && dropped.is_empty() && !moves {
                continue;
            }
            plan.copies += u32::try_from(made.len()).unwrap_or(u32::MAX);
            plan.coordinators += u32::from(moves);
            plan.fewer += u32::from(dropped.len() > made.len());
            let copy = |index: usize| CopyMove {
                from: dropped.get(index).map(|server| **server),
                to: made.get(index).map(|server| **server),
            };
            let copies = (0..made.len().max(dropped.len())).map(copy).collect();
            let copies: Vec<CopyMove> = copies;
            assert!(
                copies.iter().all(|copy| copy.from.is_some() || copy.to.is_some()),
                "a move moves something"
            );
            plan.partitions.push(Move { partition, coordinator, copies });
        }
        let least: i64 = counts.values().filter(|&&count| count > 0).sum();
        plan.copies_least = u32::try_from(least).unwrap_or(u32::MAX);
        assert!(plan.copies_least <= plan.copies, "no plan does with fewer copies than the least");
        assert!(plan.partitions.is_sorted_by_key(|moved| moved.partition), "in ring order");
        assert!(plan.coordinators as usize <= plan.partitions.len());
        plan
    }
}
