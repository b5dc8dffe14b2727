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
    /// A server is cut off from the ECS; when it is given up, another one that has promised it dies and comes back.
    CutEcsThenCrash,
    /// A coordinator is cut off from the ECS, and all that servers say to it comes late; it still reaches them.
    CutEcsAndSlow,
    /// A server and its disk are lost for good; once in a run, and not where it has the last copy that runs.
    Lose,
    /// The ECS dies for a while, and in that time a coordinator dies and comes back.
    EcsCrashThenCrash,
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
    /// Share of disk syncs and store works that are slow.
    pub(crate) slow: f64,
    /// Logs are trimmed as soon as they may be: members that come back need copies of the state.
    pub(crate) trims: bool,
    pub(crate) timers: Timers,
    pub(crate) reads: Reads,
    /// Parts per million that a clock may be fast or slow.
    pub(crate) drift_max: u64,
    /// Share of reads that go to any server.
    pub(crate) reads_anywhere: f64,
    pub(crate) mutation: Option<Mutation>,
}

impl Scenario {
    const BASE: Self = Self {
        name: "base",
        servers: (3, 4),
        spares: 1,
        partitions: 4,
        clients: 4,
        keys: 6,
        value_bytes_max: 0,
        thinks: 40 * MS,
        faults: &[],
        fault_every: (200 * MS, 1_500 * MS),
        heal_at: 7 * SECOND,
        weather: Weather::CALM,
        slow: 0.02,
        trims: true,
        timers: Timers::FAST,
        reads: Reads::Lease,
        // PROTOCOL.md allows 10 % between two servers.
        drift_max: 40_000,
        reads_anywhere: 0.5,
        mutation: None,
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
            Fault::CutEcsThenCrash,
            Fault::CutEcsAndSlow,
            Fault::EcsCrashThenCrash,
            Fault::Storm,
            Fault::EcsCrash,
            Fault::Join,
            Fault::Leave,
            Fault::Lose,
        ],
        fault_every: (50 * MS, 900 * MS),
        weather: Weather::ROUGH,
        slow: 0.05,
        ..Self::BASE
    };

    /// Messages come late and twice, servers die and are back before they are missed.
    pub(crate) const LATE: Self = Self {
        name: "late",
        servers: (3, 3),
        spares: 0,
        partitions: 8,
        faults: &[Fault::CrashShort, Fault::CrashShort, Fault::CrashCoordinator],
        fault_every: (50 * MS, 500 * MS),
        weather: Weather { loss: 0.05, duplicates: 0.5, late: 0.4, late_max: 2 * SECOND, in_order: false },
        trims: false,
        ..Self::BASE
    };

    /// The ECS is away when coordinators die.
    pub(crate) const ECS_AWAY: Self = Self {
        name: "ecs_away",
        spares: 0,
        thinks: 10 * MS,
        faults: &[Fault::EcsCrashThenCrash],
        fault_every: (1_500 * MS, 3_000 * MS),
        heal_at: 12 * SECOND,
        slow: 0.3,
        ..Self::BASE
    };

    /// Coordinators are cut off from the ECS, and from no one else.
    pub(crate) const ECS_CUT: Self = Self {
        name: "ecs_cut",
        spares: 0,
        faults: &[Fault::CutEcs, Fault::CutEcsAndSlow, Fault::CutEcsThenCrash],
        fault_every: (1_000 * MS, 3_000 * MS),
        heal_at: 10 * SECOND,
        ..Self::BASE
    };

    /// Servers join and leave while disks are slow, that of the ECS too.
    pub(crate) const JOINS: Self = Self {
        name: "joins",
        servers: (2, 3),
        spares: 3,
        thinks: 10 * MS,
        faults: &[Fault::Join, Fault::Leave, Fault::CrashLong, Fault::Pause],
        fault_every: (100 * MS, 600 * MS),
        slow: 0.4,
        ..Self::BASE
    };

    /// Values so large that appends, windows and memory reach their limits.
    pub(crate) const LARGE: Self = Self {
        name: "large",
        clients: 3,
        keys: 3,
        value_bytes_max: 600_000,
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
    pub(crate) const ALL: [Self; 13] = [
        Self::CALM,
        Self::CRASHES,
        Self::NETWORK,
        Self::EVERYTHING,
        Self::LATE,
        Self::ECS_AWAY,
        Self::ECS_CUT,
        Self::JOINS,
        Self::LARGE,
        Self::DROPS,
        Self::READERS,
        Self::BARRIER,
        Self::BARRIER_CUT,
    ];
}
