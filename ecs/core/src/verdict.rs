//! The state of the cluster in one verdict: for people, for `/readyz`, for metrics and for exit codes.
//!
//! The cluster is *healthy* when none of the [`Kind`]s of conditions holds: the wanted number of copies is there
//! (`--copies`, however many servers there are), the ECS makes views, no server that runs is left out, no disk is full.
//! A new kind of condition is a variant of [`Kind`] and a function in `find` that finds it; everything else follows:
//! the verdict, the status, the metrics.
//!
//! While the ECS is behind, what it knows of the cluster is old: then no other condition is looked for.

mod find;
mod links;

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::ServerId;
use common::status::{ClusterStatus, Condition, Level, MemberStatus, WaitingStore};
use common::time::Time;
use common::view::ServerState;

use super::backoff::Backoff;
use super::config::Config;
use super::disks::Disks;
use super::left_out::LeftOut;
use super::peers::{Behind, Disagreements, FailedCopies, Peer};
use super::reach::edges::Edges;
use super::served::Served;
use super::silence::Patience;
use super::state::State;

/// A kind of condition: something that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A server has a newer view than the ECS, whose directory is an older copy.
    EcsBehind,
    /// Partitions have no in-sync copy at a server that is up, and servers wait with stores that failed.
    StoresWait,
    /// Partitions have stopped, as their copies disagree (P2).
    CopiesDisagree,
    /// Partitions have no in-sync copy at a server that is up.
    Offline,
    /// Partitions wait for members since a restart: no other copy is known to hold all that was acknowledged (V4a).
    AwaitsMembers,
    /// Partitions have coordinators that are up and not active yet.
    NotActive,
    /// Partitions have fewer copies than a write needs.
    WritesWait,
    /// The ECS was rebuilt, and gathers what the servers hold.
    Gathering,
    /// The ECS was rebuilt, and partitions wait for servers that have not reported.
    Waiting,
    /// No server has joined.
    NoServers,
    /// There are fewer copies than wanted, and fewer servers to hold them.
    TooFewServers,
    /// There are fewer copies than wanted, and enough servers to hold them.
    FewerCopies,
    /// The ECS's disk has been writing a view for too long.
    EcsStalls,
    /// Processes that report as servers were refused and are not members.
    LeftOut,
    /// The ECS was started again, and waits to hear which views the servers have before it makes one (V6).
    Comparing,
    /// Servers have not been heard since the ECS started.
    Unheard,
    /// Partitions went on after a restart without members that may have held more than all others (V4a).
    ResumedWithout,
    /// A server is heard, and does not take the views that are made.
    ViewsNotTaken,
    /// Servers do not hear each other, though the ECS hears them.
    CutLinks,
    /// Servers lost parts as others did not hear them, and nothing shows yet that they are heard again.
    CutOff,
    /// Copies of partitions differ, and it is not known which is right.
    CopiesDiffer,
    /// Servers have no room on their disks, and refuse writes of the partitions that only they can coordinate.
    DiskFull,
    /// The disks of servers are many times slower than the others'.
    SlowDisk,
    /// A server that is to be replaced keeps its copies, as its replacement is not up.
    ReplacementHeld,
    /// An operator has paused copying.
    Paused,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::EcsBehind,
        Self::StoresWait,
        Self::CopiesDisagree,
        Self::Offline,
        Self::AwaitsMembers,
        Self::NotActive,
        Self::WritesWait,
        Self::Gathering,
        Self::Waiting,
        Self::NoServers,
        Self::TooFewServers,
        Self::FewerCopies,
        Self::EcsStalls,
        Self::LeftOut,
        Self::Comparing,
        Self::Unheard,
        Self::ResumedWithout,
        Self::ViewsNotTaken,
        Self::CutLinks,
        Self::CutOff,
        Self::CopiesDiffer,
        Self::DiskFull,
        Self::SlowDisk,
        Self::ReplacementHeld,
        Self::Paused,
    ];

    /// Those in which the ECS makes no views.
    pub const NO_VIEWS: &[Self] = &[Self::EcsBehind, Self::Gathering, Self::EcsStalls];

    /// The condition as the status and the metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EcsBehind => "ecs_behind",
            Self::StoresWait => "stores_wait",
            Self::CopiesDisagree => "copies_disagree",
            Self::Offline => "offline",
            Self::AwaitsMembers => "awaits_members",
            Self::NotActive => "not_active",
            Self::WritesWait => "writes_wait",
            Self::Gathering => "gathering",
            Self::Waiting => "waiting",
            Self::NoServers => "no_servers",
            Self::TooFewServers => "too_few_servers",
            Self::FewerCopies => "fewer_copies",
            Self::EcsStalls => "ecs_stalls",
            Self::LeftOut => "left_out",
            Self::Comparing => "comparing",
            Self::Unheard => "unheard",
            Self::ResumedWithout => "resumed_without",
            Self::ViewsNotTaken => "views_not_taken",
            Self::CutLinks => "cut_links",
            Self::CutOff => "cut_off",
            Self::CopiesDiffer => "copies_differ",
            Self::DiskFull => "disk_full",
            Self::SlowDisk => "slow_disk",
            Self::ReplacementHeld => "replacement_held",
            Self::Paused => "paused",
        }
    }

    /// How serious it is.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::EcsBehind => Level::Behind,
            Self::CopiesDisagree
            | Self::StoresWait
            | Self::Offline
            | Self::AwaitsMembers
            | Self::NotActive
            | Self::WritesWait => Level::Offline,
            Self::Gathering
            | Self::Waiting
            | Self::NoServers
            | Self::TooFewServers
            | Self::FewerCopies
            | Self::EcsStalls
            | Self::LeftOut
            | Self::Comparing
            | Self::Unheard
            | Self::ResumedWithout
            | Self::ViewsNotTaken
            | Self::CutLinks
            | Self::CutOff
            | Self::CopiesDiffer
            | Self::DiskFull
            | Self::SlowDisk => Level::Degraded,
            Self::ReplacementHeld | Self::Paused => Level::Paused,
        }
    }
}

/// What the verdict rests on.
pub(super) struct Known<'a> {
    pub(super) state: &'a State,
    pub(super) peers: &'a BTreeMap<ServerId, Peer>,
    pub(super) failed: &'a FailedCopies,
    pub(super) edges: &'a Edges,
    pub(super) config: &'a Config,
    pub(super) disagreements: &'a Disagreements,
    /// V6: the servers that the ECS waits for.
    pub(super) comparing: Vec<ServerId>,
    pub(super) behind: Option<Behind>,
    pub(super) patience: Patience,
    pub(super) falls: &'a BTreeMap<ServerId, Backoff>,
    pub(super) disks: &'a Disks,
    /// R3: the stores that servers wait with.
    pub(super) stores: Vec<WaitingStore>,
    pub(super) left_out: &'a LeftOut,
    pub(super) served: &'a Served,
    /// For how long a state has been on its way to the disk.
    pub(super) persisting: Option<Duration>,
    pub(super) now: Time,
}

/// What was found of one kind.
#[derive(Debug)]
struct Found {
    servers: Vec<ServerId>,
    what: String,
    next: String,
}

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

/// `1 server`, `3 servers`.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Names that a line has room for.
fn listed(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 4;
    let shown = names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
