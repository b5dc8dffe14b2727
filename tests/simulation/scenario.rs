//! What kinds of clusters and faults a run has. The seed chooses within them.

mod disks;
mod fault;
mod links;

use common::limits::Timers;
use kvserver_core::{PlantedBug, Reads};

use super::net::Weather;
use super::timeline::{MS, Micros, SECOND};

pub(crate) use fault::Fault;

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
    /// Share of syncs at which a disk is remembered, to go back to.
    pub(crate) saves: f64,
    /// Share of the ECS's persists at which its directory is remembered, to go back to.
    pub(crate) ecs_saves: f64,
    /// The last batches of a log that a disk may lose.
    pub(crate) batches_kept: usize,
    /// Servers wait with stores that failed until the ECS, or an operator, has decided (R3); else such a store is lost.
    pub(crate) stores_wait: bool,
    /// Views that the ECS makes in a minute at most, or 0.
    pub(crate) views_a_minute_max: u64,
    /// How long the ECS waits for a server that it has not heard since a restart, of its own or of the servers.
    pub(crate) restart_wait: Micros,
    /// Logs are trimmed as soon as they may be: members that come back need copies of the state.
    pub(crate) trims: bool,
    pub(crate) timers: Timers,
    pub(crate) reads: Reads,
    /// Parts per million that a clock may be fast or slow.
    pub(crate) drift_max: u64,
    /// Share of reads that go to any server.
    pub(crate) reads_anywhere: f64,
    /// Copies that a write needs to be acknowledged; 0: by the number of servers.
    pub(crate) min_in_sync: usize,
    /// New servers stand by until they are added.
    pub(crate) stand_by: bool,
    /// Nothing happens for which a server may be taken for dead.
    pub(crate) no_server_fails: bool,
    /// A run takes many times longer than one of the others.
    pub(crate) is_long: bool,
    pub(crate) bug: Option<PlantedBug>,
    pub(crate) ecs_bug: Option<ecs_core::PlantedBug>,
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
        saves: 0.0,
        ecs_saves: 0.0,
        batches_kept: 0,
        stores_wait: false,
        views_a_minute_max: 0,
        restart_wait: 3 * SECOND,
        trims: true,
        timers: Timers::FAST,
        reads: Reads::Lease,
        // docs/protocol.md allows 10 % between two servers.
        drift_max: 47_000,
        reads_anywhere: 0.5,
        min_in_sync: 1,
        stand_by: false,
        no_server_fails: false,
        is_long: false,
        bug: None,
        ecs_bug: None,
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
            Fault::ClockJump,
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

    /// The process of the ECS stops and goes on; nothing else fails.
    pub(crate) const ECS_PAUSED: Self = Self {
        name: "ecs_paused",
        spares: 0,
        thinks: 200 * MS,
        faults: &[Fault::EcsPause],
        no_server_fails: true,
        fault_every: (500 * MS, 2_500 * MS),
        ..Self::BASE
    };

    /// No write is acknowledged on one disk: it waits instead.
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

    /// Wall clocks jump.
    pub(crate) const CLOCKS: Self = Self {
        name: "clocks",
        servers: (3, 4),
        faults: &[
            Fault::ClockJump,
            Fault::ClockJump,
            Fault::ClockJump,
            Fault::CrashCoordinator,
            Fault::CutPair,
            Fault::Pause,
            Fault::Leave,
        ],
        heal_at: 8 * SECOND,
        ..Self::BASE
    };

    /// All kinds of runs.
    pub(crate) const ALL: [Self; 31] = [
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
        Self::CUT_LINKS,
        Self::ECS_AWAY,
        Self::ECS_CUT,
        Self::JOINS,
        Self::ORDERS,
        Self::LARGE,
        Self::DROPS,
        Self::READERS,
        Self::BARRIER,
        Self::BARRIER_CUT,
        Self::GRAY,
        Self::GOES_BACK,
        Self::GOES_BACK_FAR,
        Self::TWINS,
        Self::CLOCKS,
        Self::LAST_BATCH,
        Self::ALL_DISKS,
        Self::ECS_GOES_BACK,
        Self::FLAPS,
    ];
}
