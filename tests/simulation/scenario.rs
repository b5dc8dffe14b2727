//! What kinds of clusters and faults a run has. The seed chooses within them.

use common::limits::Timers;
use kvserver::core::{Mutation, Reads};

use super::net::Weather;
use super::timeline::{MS, Micros, SECOND};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A server dies and comes back at once: before it is missed.
    CrashShort,
    /// A server dies and comes back late.
    CrashLong,
    /// All servers die and come back.
    CrashAll,
    /// A coordinator dies and comes back at once.
    CrashCoordinator,
    /// A process stops for a while and goes on without knowing.
    Pause,
    /// Two servers do not reach each other, in one or both directions.
    CutPair,
    /// A server reaches no other server.
    Isolate,
    /// Two servers, a coordinator among them, reach each other and clients, and nobody else.
    Split,
    /// A server and the ECS do not reach each other, in one or both directions; all other links are well.
    CutEcs,
    /// Some servers do not reach the others and the ECS.
    Halves,
    /// A coordinator reaches neither the ECS nor one of its members.
    CutEcsAndOne,
    /// Clients do not reach a server.
    CutClients,
    /// Messages are lost, doubled and late.
    Storm,
    /// The ECS dies and comes back.
    EcsCrash,
    /// A server that is not a member starts.
    Join,
    /// A server leaves as planned.
    Leave,
    /// What is under way with servers is taken back.
    TakeBack,
    /// A server that stands by is to serve.
    Add,
    /// A server that stands by is to serve, and another one is to leave.
    Replace,
    /// No copy is begun or moved for a while.
    Hold,
    /// A server is cut off from the ECS; when it is given up, another one that has promised it dies and comes back.
    CutEcsThenCrash,
    /// A coordinator is cut off from the ECS, and all that servers say to it comes late; it still reaches them.
    CutEcsAndSlow,
    /// A server and its disk are lost for good; once in a run, and not where it has the last copy that runs.
    Lose,
    /// The ECS dies for a while, and in that time a coordinator dies and comes back.
    EcsCrashThenCrash,
    /// A server loses its disk and comes back with an empty one.
    Wipe,
    /// A disk is full: the process stops, and comes back when there is room.
    DiskFull,
    /// A sync fails: the store is not used again.
    SyncFails,
    /// A bit on a disk is not what it was, and is read.
    Rot,
    /// The digests that a server makes of its copies come out wrong for a while: the others find them different, and its
    /// copies are made anew.
    Misread,
    /// All servers and the ECS lose power at once.
    PowerLoss,
    /// The process of the ECS stops for a while and goes on without knowing.
    EcsPause,
    /// A coordinator that brings up a joining copy dies.
    CrashSource,
    /// A server with a joining copy dies.
    CrashJoiner,
    /// A server that brings up a joining copy, or has one, is to leave.
    LeaveInTransfer,
    /// The next coordinators that propose a member die, or lose the ECS, before they have an answer.
    StrikeProposers,
    /// A second server dies when the first is given up, and a third while copies of the second are made again.
    ThreeInARow,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Servers at the beginning, at least and at most.
    pub(crate) servers: (usize, usize),
    /// Servers that may join.
    pub(crate) spares: usize,
    pub(crate) partitions: u32,
    pub(crate) clients: usize,
    pub(crate) keys: usize,
    /// Bytes of a value at most, or 0 for short ones.
    pub(crate) value_bytes_max: usize,
    /// Longest pause of a client between two operations.
    pub(crate) thinks: Micros,
    pub(crate) faults: &'static [Fault],
    /// Shortest and longest time between two faults.
    pub(crate) fault_every: (Micros, Micros),
    /// When all faults end.
    pub(crate) heal_at: Micros,
    pub(crate) weather: Weather,
    /// Some values expire, on a key of their own.
    pub(crate) expires: bool,
    /// Share of disk syncs and store works that are slow.
    pub(crate) slow: f64,
    /// Share of the looks after a tree with which its copies are compared.
    pub(crate) compares: f64,
    /// Logs are trimmed as soon as they may be: members that come back need copies of the state.
    pub(crate) trims: bool,
    pub(crate) timers: Timers,
    pub(crate) reads: Reads,
    /// Parts per million that a clock may be fast or slow.
    pub(crate) drift_max: u64,
    /// Share of reads that go to any server.
    pub(crate) reads_anywhere: f64,
    /// An in-sync set is not made smaller than this.
    pub(crate) min_in_sync: usize,
    /// New servers stand by until they are added.
    pub(crate) stand_by: bool,
    /// Nothing happens for which a server may be taken for dead.
    pub(crate) nobody_fails: bool,
    /// A run takes many times longer than one of the others.
    pub(crate) is_long: bool,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) ecs_mutation: Option<ecs::core::Mutation>,
}

impl Scenario {
    const BASE: Self = Self {
        name: "base",
        servers: (3, 4),
        spares: 1,
        partitions: 2,
        clients: 3,
        keys: 4,
        value_bytes_max: 0,
        thinks: 80 * MS,
        faults: &[],
        fault_every: (100 * MS, 900 * MS),
        heal_at: 4 * SECOND,
        weather: Weather::CALM,
        expires: true,
        slow: 0.02,
        compares: 0.3,
        trims: true,
        timers: Timers::FAST,
        reads: Reads::Lease,
        // PROTOCOL.md allows 10 % between two servers.
        drift_max: 47_000,
        reads_anywhere: 0.5,
        min_in_sync: 1,
        stand_by: false,
        nobody_fails: false,
        is_long: false,
        mutation: None,
        ecs_mutation: None,
    };

    /// Nothing fails; servers come and go as planned.
    pub(crate) const CALM: Self = Self {
        name: "calm",
        servers: (1, 4),
        spares: 2,
        faults: &[Fault::Join, Fault::Leave, Fault::Join],
        ..Self::BASE
    };

    /// Servers, and the ECS, die and come back.
    pub(crate) const CRASHES: Self = Self {
        name: "crashes",
        faults: &[
            Fault::CrashShort,
            Fault::CrashShort,
            Fault::CrashLong,
            Fault::CrashCoordinator,
            Fault::CrashAll,
            Fault::EcsCrash,
            Fault::Join,
            Fault::Lose,
        ],
        ..Self::BASE
    };

    /// The network fails.
    pub(crate) const NETWORK: Self = Self {
        name: "network",
        faults: &[
            Fault::CutPair,
            Fault::Isolate,
            Fault::CutEcs,
            Fault::CutEcs,
            Fault::Halves,
            Fault::Pause,
            Fault::Storm,
            Fault::CutClients,
            Fault::Join,
        ],
        weather: Weather::ROUGH,
        ..Self::BASE
    };

    /// Everything at once.
    pub(crate) const EVERYTHING: Self = Self {
        name: "everything",
        servers: (3, 5),
        faults: &[
            Fault::CrashShort,
            Fault::CrashLong,
            Fault::CrashCoordinator,
            Fault::CrashAll,
            Fault::Pause,
            Fault::CutPair,
            Fault::Isolate,
            Fault::CutEcs,
            Fault::Halves,
            Fault::CutEcsAndOne,
            Fault::CutEcsThenCrash,
            Fault::CutEcsAndSlow,
            Fault::EcsCrashThenCrash,
            Fault::Storm,
            Fault::EcsCrash,
            Fault::Join,
            Fault::Leave,
            Fault::Lose,
            Fault::Wipe,
            Fault::DiskFull,
            Fault::SyncFails,
            Fault::Rot,
            Fault::Misread,
            Fault::PowerLoss,
            Fault::EcsPause,
            Fault::CrashSource,
            Fault::CrashJoiner,
            Fault::LeaveInTransfer,
            Fault::StrikeProposers,
            Fault::ThreeInARow,
        ],
        fault_every: (50 * MS, 700 * MS),
        weather: Weather::ROUGH,
        slow: 0.05,
        ..Self::BASE
    };

    /// Everything at once, for longer and with more of everything.
    pub(crate) const LONG: Self = Self {
        name: "long",
        servers: (3, 5),
        spares: 3,
        partitions: 8,
        clients: 4,
        keys: 12,
        thinks: 40 * MS,
        fault_every: (50 * MS, 1_500 * MS),
        heal_at: 15 * SECOND,
        is_long: true,
        ..Self::EVERYTHING
    };

    /// Messages come late and twice, servers die and are back before they are missed.
    pub(crate) const LATE: Self = Self {
        name: "late",
        servers: (3, 3),
        spares: 0,
        partitions: 4,
        faults: &[Fault::CrashShort, Fault::CrashShort, Fault::CrashCoordinator],
        fault_every: (50 * MS, 500 * MS),
        weather: Weather {
            loss: 0.05,
            duplicates: 0.5,
            late: 0.4,
            late_min: 0,
            late_max: 2 * SECOND,
            in_order: false,
        },
        trims: false,
        ..Self::BASE
    };

    /// Acknowledgements come late, and coordinators die before their own disk has what the others have.
    pub(crate) const LATE_ACKS: Self = Self {
        name: "late_acks",
        servers: (2, 2),
        partitions: 2,
        thinks: 15 * MS,
        faults: &[Fault::CrashShort],
        fault_every: (500 * MS, 1_000 * MS),
        weather: Weather {
            loss: 0.0,
            duplicates: 0.8,
            late: 0.1,
            late_min: 500 * MS,
            late_max: 1_600 * MS,
            in_order: false,
        },
        slow: 0.8,
        // Each comparison is an entry, and this is about gaps between a few.
        compares: 0.0,
        ..Self::LATE
    };

    /// Disks are lost, full, fail to sync, or rot.
    pub(crate) const DISKS: Self = Self {
        name: "disks",
        servers: (3, 5),
        spares: 1,
        faults: &[
            Fault::Wipe,
            Fault::DiskFull,
            Fault::SyncFails,
            Fault::Rot,
            Fault::Misread,
            Fault::Misread,
            Fault::CrashShort,
            Fault::CrashLong,
            Fault::PowerLoss,
        ],
        fault_every: (300 * MS, 1_500 * MS),
        slow: 0.1,
        ..Self::BASE
    };

    /// Servers are lost while copies are made again, and coordinators between a proposal and its answer.
    pub(crate) const RECOVERY: Self = Self {
        name: "recovery",
        servers: (4, 6),
        spares: 2,
        faults: &[
            Fault::ThreeInARow,
            Fault::CrashLong,
            Fault::CrashSource,
            Fault::CrashJoiner,
            Fault::LeaveInTransfer,
            Fault::StrikeProposers,
            Fault::StrikeProposers,
            Fault::Lose,
            Fault::EcsCrash,
            Fault::Join,
            Fault::Wipe,
            Fault::Storm,
        ],
        fault_every: (200 * MS, 1_000 * MS),
        weather: Weather::ROUGH,
        slow: 0.1,
        ..Self::BASE
    };

    /// Copies seem to differ, and are made anew, while servers die and are cut off.
    pub(crate) const COMPARES: Self = Self {
        name: "compares",
        faults: &[
            Fault::Misread,
            Fault::Misread,
            Fault::Misread,
            Fault::CrashCoordinator,
            Fault::CrashLong,
            Fault::EcsCrash,
            Fault::CutEcs,
            Fault::Join,
            Fault::Leave,
        ],
        fault_every: (400 * MS, 1_500 * MS),
        heal_at: 10 * SECOND,
        ..Self::BASE
    };

    /// The process of the ECS stops and goes on; nothing else fails.
    pub(crate) const ECS_PAUSED: Self = Self {
        name: "ecs_paused",
        spares: 0,
        thinks: 200 * MS,
        faults: &[Fault::EcsPause],
        nobody_fails: true,
        fault_every: (500 * MS, 2_500 * MS),
        ..Self::BASE
    };

    /// An in-sync set is not made smaller than two: writes wait instead.
    pub(crate) const TWO_AT_LEAST: Self = Self {
        name: "two_at_least",
        min_in_sync: 2,
        faults: &[
            Fault::CrashShort,
            Fault::CrashLong,
            Fault::CrashAll,
            Fault::CutPair,
            Fault::CutEcs,
            Fault::Isolate,
            Fault::Join,
            Fault::Leave,
        ],
        weather: Weather::ROUGH,
        ..Self::BASE
    };

    /// The ECS is away when coordinators die.
    pub(crate) const ECS_AWAY: Self = Self {
        name: "ecs_away",
        spares: 0,
        thinks: 20 * MS,
        faults: &[Fault::EcsCrashThenCrash],
        fault_every: (1_500 * MS, 3_000 * MS),
        heal_at: 6 * SECOND,
        slow: 0.3,
        ..Self::BASE
    };

    /// Coordinators are cut off from the ECS, and from no one else.
    pub(crate) const ECS_CUT: Self = Self {
        name: "ecs_cut",
        spares: 0,
        faults: &[
            Fault::CutEcs,
            Fault::CutEcsAndSlow,
            Fault::CutEcsThenCrash,
            Fault::Halves,
            Fault::CutEcsAndOne,
        ],
        fault_every: (700 * MS, 2_000 * MS),
        heal_at: 5 * SECOND,
        ..Self::BASE
    };

    /// Servers join and leave while disks are slow, that of the ECS too.
    pub(crate) const JOINS: Self = Self {
        name: "joins",
        servers: (2, 3),
        spares: 3,
        thinks: 20 * MS,
        faults: &[Fault::Join, Fault::Leave, Fault::CrashLong, Fault::Pause],
        fault_every: (100 * MS, 600 * MS),
        slow: 0.4,
        ..Self::BASE
    };

    /// Operators order this and that, and take it back, while servers fail.
    pub(crate) const ORDERS: Self = Self {
        name: "orders",
        servers: (3, 4),
        spares: 2,
        stand_by: true,
        faults: &[
            Fault::Join,
            Fault::Join,
            Fault::Add,
            Fault::Add,
            Fault::Replace,
            Fault::Leave,
            Fault::TakeBack,
            Fault::TakeBack,
            Fault::Hold,
            Fault::Hold,
            Fault::CrashLong,
            Fault::CrashCoordinator,
            Fault::EcsCrash,
        ],
        fault_every: (50 * MS, 600 * MS),
        slow: 0.1,
        ..Self::BASE
    };

    /// Values so large that appends, windows and memory reach their limits.
    pub(crate) const LARGE: Self = Self {
        name: "large",
        clients: 3,
        keys: 3,
        value_bytes_max: 600_000,
        expires: false,
        is_long: true,
        thinks: 300 * MS,
        faults: &[Fault::CrashShort, Fault::CrashLong, Fault::CutPair, Fault::Storm, Fault::Join],
        weather: Weather::ROUGH,
        trims: false,
        ..Self::BASE
    };

    /// Servers are away so long that their copies are taken over, and dropped when they come back.
    pub(crate) const DROPS: Self = Self {
        name: "drops",
        servers: (4, 5),
        spares: 1,
        clients: 2,
        thinks: SECOND,
        faults: &[Fault::CrashLong, Fault::Join, Fault::Isolate],
        fault_every: (2 * SECOND, 30 * SECOND),
        heal_at: 200 * SECOND,
        is_long: true,
        ..Self::BASE
    };

    /// Clients read at all servers, and fast; members are cut off from the ECS, removed and added.
    pub(crate) const READERS: Self = Self {
        name: "readers",
        servers: (3, 4),
        thinks: 5 * MS,
        faults: &[
            Fault::CutEcs,
            Fault::Split,
            Fault::Split,
            Fault::CutEcsAndSlow,
            Fault::CutEcsThenCrash,
            Fault::CrashShort,
            Fault::CutPair,
            Fault::Join,
            Fault::Leave,
        ],
        fault_every: (100 * MS, 1_500 * MS),
        reads_anywhere: 0.8,
        weather: Weather::ROUGH,
        ..Self::BASE
    };

    /// Reads without leases, while clocks run at half to one and a half times the true rate.
    pub(crate) const BARRIER: Self = Self {
        name: "barrier",
        reads: Reads::Barrier,
        drift_max: 500_000,
        fault_every: (100 * MS, 1_500 * MS),
        ..Self::EVERYTHING
    };

    /// The same where coordinators are cut off from the ECS.
    pub(crate) const BARRIER_CUT: Self =
        Self { name: "barrier_cut", reads: Reads::Barrier, drift_max: 500_000, ..Self::ECS_CUT };

    /// All kinds of runs.
    pub(crate) const ALL: [Self; 21] = [
        Self::CALM,
        Self::CRASHES,
        Self::NETWORK,
        Self::EVERYTHING,
        Self::LONG,
        Self::LATE,
        Self::LATE_ACKS,
        Self::DISKS,
        Self::COMPARES,
        Self::RECOVERY,
        Self::ECS_PAUSED,
        Self::TWO_AT_LEAST,
        Self::ECS_AWAY,
        Self::ECS_CUT,
        Self::JOINS,
        Self::ORDERS,
        Self::LARGE,
        Self::DROPS,
        Self::READERS,
        Self::BARRIER,
        Self::BARRIER_CUT,
    ];
}
