//! Scenarios of networks that fail.

use kvserver_core::Reads;

use super::super::net::Weather;
use super::super::timeline::{MS, SECOND};
use super::{Fault, Scenario};

impl Scenario {
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

    /// Servers do not reach each other, in pairs, rings and directions, while the ECS reaches them all.
    pub(crate) const CUT_LINKS: Self = Self {
        name: "cut_links",
        servers: (3, 5),
        partitions: 4,
        min_in_sync: 0,
        faults: &[
            Fault::CutPair,
            Fault::CutPair,
            Fault::Isolate,
            Fault::Isolate,
            Fault::Ring,
            Fault::Flap,
            Fault::CutClients,
            Fault::CrashShort,
            Fault::CrashLong,
            Fault::Join,
        ],
        fault_every: (200 * MS, 1_500 * MS),
        heal_at: 6 * SECOND,
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

    /// Reads without leases and with such clocks, while coordinators are cut off from the ECS.
    pub(crate) const BARRIER_CUT: Self =
        Self { name: "barrier_cut", reads: Reads::Barrier, drift_max: 500_000, ..Self::ECS_CUT };

    /// Links come and go for a minute.
    pub(crate) const FLAPS: Self = Self {
        name: "flaps",
        spares: 0,
        thinks: 500 * MS,
        faults: &[Fault::Flap],
        fault_every: (SECOND, 4 * SECOND),
        heal_at: 60 * SECOND,
        views_a_minute_max: 60,
        is_long: true,
        ..Self::CUT_LINKS
    };
}
