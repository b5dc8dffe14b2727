//! The state of the cluster in one verdict: for people, for `/readyz`, for metrics and for exit codes.
//!
//! The cluster is *healthy* when none of the [`Kind`]s of conditions holds: the wanted number of copies is there
//! (`--copies`, however many servers there are), the ECS makes views, no server that runs is left out, no disk is full.
//! A new kind of condition is a variant of [`Kind`] and a function in `find` that finds it; everything else follows:
//! the verdict, the status, the metrics.
//!
//! While the ECS is behind, what it knows of the cluster is old: then no other condition is looked for.

mod find;
mod kind;
mod known;
mod links;

use common::status::{ClusterStatus, Condition, MemberStatus};
use common::view::ServerState;

use known::{Found, counted, listed};

pub use kind::Kind;
pub(super) use known::{Known, living};

/// Gives a status, whose figures are there, its verdict.
pub(super) fn judge(known: &Known<'_>, status: &mut ClusterStatus) {
    let conditions = conditions(known, status);
    let facts = facts(status);
    let verdict = match conditions.first() {
        Some(worst) => format!("{}: {}", worst.level.word(), sentence(worst)),
        None => healthy(status, &facts),
    };
    *status = ClusterStatus {
        healthy: conditions.is_empty(),
        verdict,
        facts,
        conditions,
        ..std::mem::take(status)
    };
}

/// All that is not as it should be, the worst first.
fn conditions(known: &Known<'_>, status: &ClusterStatus) -> Vec<Condition> {
    let kinds = if known.behind.is_some() { &[Kind::EcsBehind] } else { Kind::ALL };
    let mut conditions: Vec<Condition> = Vec::new();
    for &kind in kinds {
        conditions.extend(find::find(kind, known, status).into_iter().map(|found| {
            let Found { servers, what, next } = found;
            Condition { name: kind.name().to_owned(), level: kind.level(), servers, what, next }
        }));
    }
    conditions.sort_by_key(|condition| std::cmp::Reverse(condition.level));
    let says = |condition: &Condition| !condition.what.is_empty() && !condition.next.is_empty();
    assert!(conditions.iter().all(says), "each condition says what is wrong and what to do");
    conditions
}

/// What is so, and what to do.
fn sentence(condition: &Condition) -> String {
    format!("{}; {}", condition.what, condition.next)
}

/// The verdict of a cluster to which nothing is wrong.
fn healthy(status: &ClusterStatus, facts: &str) -> String {
    let down: Vec<&str> = in_state(status, ServerState::Down).map(|server| &*server.address).collect();
    match down.len() {
        0 => format!("healthy, {facts}"),
        1 => format!("healthy, 1 server is down ({}), {facts}", down[0]),
        many => format!("healthy, {many} servers are down ({}), {facts}", listed(&down)),
    }
}

/// The figures that people want to see beside the verdict.
fn facts(status: &ClusterStatus) -> String {
    let (down, all) = (in_state(status, ServerState::Down).count(), status.servers.len());
    assert!(down <= all);
    let mut facts = vec![format!("epoch {}", status.view)];
    facts.push(match down {
        0 => counted(all, "server", "servers"),
        down => format!("{} of {} up", all - down, counted(all, "server", "servers")),
    });
    facts.push(counted(status.partitions as usize, "partition", "partitions"));
    facts.push(match status.under_replicated {
        0 => counted(status.copies as usize, "copy", "copies"),
        fewer => format!("{fewer} with fewer than {}", counted(status.copies as usize, "copy", "copies")),
    });
    facts.push(match (status.data_survives, status.survives) {
        (data, writes) if data == writes => {
            format!("survives {}", counted(data as usize, "more failure", "more failures"))
        }
        (data, writes) => {
            let data = counted(data as usize, "more failure", "more failures");
            format!("data survives {data}, writes {writes}")
        }
    });
    let stand_by = status.servers.iter().filter(|server| server.stands_by).count();
    let leaving = in_state(status, ServerState::Leaving).count();
    for (count, one, many) in [
        (status.joining as usize, "copy being made", "copies being made"),
        (status.misplaced as usize, "partition not in its place yet", "partitions not in their place yet"),
        (leaving, "leaving", "leaving"),
        (stand_by, "standing by", "standing by"),
    ] {
        if count > 0 {
            facts.push(counted(count, one, many));
        }
    }
    facts.join(", ")
}

fn in_state(status: &ClusterStatus, state: ServerState) -> impl Iterator<Item = &MemberStatus> {
    status.servers.iter().filter(move |server| server.state == state)
}
