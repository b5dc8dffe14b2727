//! The kinds of conditions: their names, and how serious they are.

use common::status::Level;

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
