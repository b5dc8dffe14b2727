//! Which member coordinates and which stay in sync where servers reach the ECS and not each other: a pure function of
//! the members of one partition and of the pairs that do not hear each other.
//!
//! Heartbeats do not show a cut between two servers: both are heard here. Only the servers can see it, and one side
//! alone proves nothing: a server that has lost its links to all others complains of each of them, as loudly as each of
//! them of it. So a complaint is not held against the one that it names. It makes an *edge* between two servers,
//! whichever of the two complains, and what counts is how many edges a server has:
//!
//! 1. **Only where it matters.** A partition whose members all hear each other keeps them and its coordinator, whatever
//!    edges they have to other servers.
//! 2. **The coordinator first.** The member with the fewest edges to other members coordinates. Of several, the one
//!    with the fewest edges in the whole cluster; then the present one, so that nothing moves in vain; then the one
//!    with the lowest id. A coordinator that has lost its members has an edge to each of them, and they have one each:
//!    it loses its office before a member is taken out on its word. Edges that do not count yet are included: those of
//!    a server that is cut off begin to count one after the other, and the first alone does not show which of its two
//!    ends that server is.
//! 3. **Then the members.** Those with an edge to that coordinator leave the in-sync set, as writes would wait for
//!    them; those with most edges first, and never so many that fewer stay than a write needs. Members that only do not
//!    hear each other stay: replicas have nothing to say to each other.
//!
//! So one cut link costs no copy where a third member reaches both ends. Where links are cut in a ring, a copy goes
//! only where it has an edge to each of the others, and no server loses all of its copies. A half that is cut off keeps
//! what it needs to acknowledge writes, or none of it: a set is not split below the minimum, and then it waits.
//!
//! Taking out the server of which most complain does harm where this does not: in a ring all are equal, and one after
//! the other would go; between halves the larger one would take out servers that can still serve each other's
//! partitions.
//!
//! When a complaint counts, when it is over, and for how long a server that was taken out gets no new part (`edges`)
//! is kept apart from this choice. A member that is heard and does not acknowledge is another matter: its coordinator
//! reports it for one partition (`ServerReport::Silent`).
//!
//! What it lacks: it knows no edge between servers that have nothing to say to each other. So it may choose a
//! coordinator that turns out not to reach a member, and chooses again when that is known.

pub(super) mod edges;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use common::ids::ServerId;

pub use edges::{Edge, edge};

/// The edges between the servers that live.
#[derive(Debug, Default)]
pub(crate) struct EdgeSets {
    /// Those that count.
    pub(crate) counting: BTreeSet<Edge>,
    /// All that are there, whether they count or not.
    pub(crate) reported: BTreeSet<Edge>,
}

/// What is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// In-sync members that live and whose copies are well; one at least.
    pub members: &'a [ServerId],
    /// The present coordinator, one of them.
    pub coordinator: ServerId,
    /// The edges that count, between servers that live.
    pub edges: &'a BTreeSet<Edge>,
    /// All edges that are there between servers that live, whether they count or not.
    pub reported: &'a BTreeSet<Edge>,
    /// Members that stay, if there are as many.
    pub minimum: usize,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The member that is to coordinate.
    pub coordinator: ServerId,
    /// Members that are to leave the in-sync set.
    pub leave: Vec<ServerId>,
}

/// Chooses; see the module's text. Nothing is to be changed where the coordinator is the present one and no member
/// leaves.
#[must_use]
pub fn choose(problem: &Problem<'_>) -> Choice {
    let Problem { members, edges, reported, minimum, .. } = *problem;
    assert!(members.contains(&problem.coordinator), "the coordinator is a member");
    assert!(edges.is_subset(reported), "an edge that counts is there");
    let reaches = |one: ServerId, other: ServerId| !edges.contains(&edge(one, other));
    let all_reached = |&member: &ServerId| members.iter().all(|&other| reaches(member, other));
    if members.iter().all(all_reached) {
        return Choice { coordinator: problem.coordinator, leave: Vec::new() };
    }
    let is_reported = |one: ServerId, other: ServerId| reported.contains(&edge(one, other));
    let inside = |member: ServerId| members.iter().filter(|&&other| is_reported(member, other)).count();
    let rank =
        |&member: &ServerId| (inside(member), count(reported, member), member != problem.coordinator, member);
    let coordinator = members.iter().copied().min_by_key(rank).unwrap_or(problem.coordinator);
    let mut leave: Vec<ServerId> =
        members.iter().copied().filter(|&member| !reaches(coordinator, member)).collect();
    leave.sort_by_key(|&member| (std::cmp::Reverse((inside(member), count(reported, member))), member));
    leave.truncate(members.len().saturating_sub(minimum));
    assert!(!leave.contains(&coordinator), "a coordinator reaches itself");
    assert!(members.len() - leave.len() >= minimum.min(members.len()), "never below the minimum");
    Choice { coordinator, leave }
}

/// Edges of one server.
#[must_use]
pub fn count(edges: &BTreeSet<Edge>, server: ServerId) -> usize {
    edges.iter().filter(|(one, other)| *one == server || *other == server).count()
}
