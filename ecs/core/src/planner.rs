//! Where the copies of each partition should be: a pure function of the servers and the present placement.
//!
//! The wanted placement gives every server its share by weight, of copies and of coordinators, both within one of
//! even, three distinct servers for each partition, and moves little. It is made in four steps:
//!
//! 1. **Shares** (`shares`). A server's share of all copies by weight, but never more than one copy of each
//!    partition, is rounded down or up. Those that already have most are rounded up, so that a placement that is even
//!    stays as it is. From here each server has an exact number of copies that it is to hold.
//! 2. **Keep**. Copies stay where they are. Partitions with more copies than wanted (in the middle of an earlier
//!    move) lose those on the servers that are furthest above their share.
//! 3. **Walk** (`copies`). Places that are missing, and then copies of servers above their share, go to the
//!    first server met clockwise from the partition's end over the tokens, where a server that holds its share is
//!    passed over: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing
//!    with Bounded Loads", 2016). With exact shares the last partitions can meet only servers that hold them
//!    already; then the shortest chain of exchanges frees a place (an augmenting path, as in the flow algorithm of
//!    Ford and Fulkerson; Azar, Broder, Karlin, Upfal bound its length for such placements).
//! 4. **Coordinators** (`coordinators`). Chosen among the copies, the present coordinator first, then balanced by the
//!    shortest chains of hand-overs. A hand-over moves no data. Members with a slow or full disk are `relieved`: they
//!    coordinate what no other server can.
//!
//! Every copy that moves in step 3 without a chain goes straight from a server above its share (or gone) to one
//! below, so the number of moved copies is the smallest possible; each exchange in a chain adds one at most.
//! A server that left data behind (`leftovers`) gets the same partitions back where the shares allow, so that it
//! catches up from its log.
//!
//! What it lacks: zones; load other than by weight.

mod coordinators;
mod copies;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{PartitionId, ServerId};
use common::ring::Partitions;

use copies::Placement;

/// Weight of a server, at most: tokens are `TOKENS_PER_SERVER x weight`, and this bounds them.
pub const WEIGHT_MAX: u32 = 100;

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    /// The servers that copies may be on, with their weights (from 1, [`WEIGHT_MAX`] at most).
    pub members: &'a BTreeMap<ServerId, u32>,
    /// Members that hold copies as the others do, and coordinate nothing as long as others can.
    pub relieved: &'a BTreeSet<ServerId>,
    /// The ring.
    pub partitions: Partitions,
    /// Copies of each partition, if there are as many servers.
    pub copies: usize,
    /// By partition, the servers that have a copy now, the coordinator first. May be empty, may name servers that are
    /// no members, may hold more than `copies`.
    pub current: &'a [Vec<ServerId>],
    /// Data that servers still have of partitions that they hold no copy of by the view.
    pub leftovers: &'a BTreeSet<(ServerId, PartitionId)>,
}

/// By partition: the coordinator, replica 1, replica 2; fewer with fewer servers, none without servers.
pub type Target = Vec<Vec<ServerId>>;

/// Plans the placement.
#[must_use]
pub fn plan(problem: &Problem<'_>) -> Target {
    let servers: Vec<ServerId> = problem.members.keys().copied().collect();
    let weights: Vec<u64> =
        problem.members.values().map(|&weight| u64::from(weight.clamp(1, WEIGHT_MAX))).collect();
    let copies = problem.copies.min(servers.len());
    assert!(
        problem.relieved.iter().all(|server| problem.members.contains_key(server)),
        "a relieved server is a member"
    );
    let current = by_index(problem, &servers);
    if copies == 0 {
        return vec![Vec::new(); current.len()];
    }
    let mut placement = Placement::new(problem.partitions, copies, &current, &servers, &weights);
    placement.reuse(&leftovers_by_index(problem, &servers));
    placement.fill();
    placement.shed();
    // Where no other server could coordinate a partition, what is left of the shares is theirs.
    let coordinate: Vec<u64> = servers
        .iter()
        .zip(&weights)
        .map(|(server, &weight)| if problem.relieved.contains(server) { 0 } else { weight })
        .collect();
    let all_are = coordinate.iter().all(|&weight| weight == 0);
    let coordinators =
        coordinators::choose(&placement, &current, if all_are { &weights } else { &coordinate });
    let target: Target = (0..current.len())
        .map(|partition| {
            let coordinator = coordinators[partition];
            let others = placement.holders(partition).iter().copied().filter(|&server| server != coordinator);
            std::iter::once(coordinator).chain(others).map(|server| servers[server]).collect()
        })
        .collect();
    check(problem, &target, copies);
    target
}

/// What every plan must be, whatever it was asked for.
fn check(problem: &Problem<'_>, target: &Target, copies: usize) {
    assert_eq!(target.len(), problem.partitions.count(), "every partition is planned");
    for holders in target {
        assert_eq!(holders.len(), copies, "each partition has the copies that it is to have");
        let distinct: BTreeSet<ServerId> = holders.iter().copied().collect();
        assert_eq!(distinct.len(), holders.len(), "copies of a partition are at different servers");
        assert!(distinct.iter().all(|server| problem.members.contains_key(server)), "copies are at members");
    }
}

/// The present placement by index of the server, without those that are no members and without doubles.
fn by_index(problem: &Problem<'_>, servers: &[ServerId]) -> Vec<Vec<usize>> {
    let mut current = vec![Vec::new(); problem.partitions.count()];
    for (held, holders) in current.iter_mut().zip(problem.current) {
        for server in holders {
            if let Ok(index) = servers.binary_search(server)
                && !held.contains(&index)
            {
                held.push(index);
            }
        }
        assert!(held.len() <= servers.len());
    }
    current
}

fn leftovers_by_index(problem: &Problem<'_>, servers: &[ServerId]) -> Vec<(usize, usize)> {
    let index = |(server, partition): &(ServerId, PartitionId)| {
        let partition = usize::from(partition.0);
        let known = partition < problem.partitions.count();
        servers.binary_search(server).ok().filter(|_| known).map(|server| (server, partition))
    };
    problem.leftovers.iter().filter_map(index).collect()
}
