//! Scenarios of disks that fail, are slow, or go back to what they held earlier.

use common::limits::Timers;

use super::super::net::Weather;
use super::super::timeline::{MS, SECOND};
use super::{Fault, Scenario};

impl Scenario {
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

    /// Disks go back to an earlier state of their own while servers restart; one member of each in-sync set keeps all.
    pub(crate) const GOES_BACK: Self = Self {
        name: "goes_back",
        servers: (3, 4),
        spares: 0,
        thinks: 40 * MS,
        faults: &[
            Fault::GoBack,
            Fault::GoBackAll,
            Fault::GoBackAll,
            Fault::CrashShort,
            Fault::CrashCoordinator,
            Fault::CrashAll,
            Fault::EcsCrash,
        ],
        fault_every: (300 * MS, 2_500 * MS),
        heal_at: 10 * SECOND,
        saves: 0.15,
        compares: 0.0,
        ..Self::BASE
    };

    /// Disks go back where logs differ much: disks are slow, many writes are under way, and messages come late.
    pub(crate) const GOES_BACK_FAR: Self = Self {
        name: "goes_back_far",
        partitions: 1,
        clients: 6,
        thinks: 5 * MS,
        weather: Weather::ROUGH,
        slow: 0.4,
        saves: 0.3,
        reads_anywhere: 0.8,
        ..Self::GOES_BACK
    };

    /// Copies of directories are started beside their originals.
    pub(crate) const TWINS: Self = Self {
        name: "twins",
        faults: &[
            Fault::Twin,
            Fault::Twin,
            Fault::CrashShort,
            Fault::CrashCoordinator,
            Fault::Pause,
            Fault::EcsCrash,
        ],
        ..Self::GOES_BACK
    };

    /// Servers are slow, without room or stopped for a while, and the ECS adapts.
    pub(crate) const GRAY: Self = Self {
        name: "gray",
        servers: (4, 5),
        faults: &[
            Fault::SlowDisk,
            Fault::SlowDisk,
            Fault::NoRoom,
            Fault::Pause,
            Fault::Pause,
            Fault::CutEcs,
            Fault::CrashShort,
            Fault::CrashLong,
            Fault::EcsCrash,
            Fault::Join,
            Fault::Leave,
        ],
        fault_every: (300 * MS, 3_000 * MS),
        heal_at: 30 * SECOND,
        timers: Timers::ADAPTIVE,
        is_long: true,
        ..Self::BASE
    };

    /// Logs lose their last batches, or do not check there, while servers restart; one member of each in-sync set keeps
    /// all.
    pub(crate) const LAST_BATCH: Self = Self {
        name: "last_batch",
        faults: &[
            Fault::LastBatch,
            Fault::LastBatch,
            Fault::LastBatch,
            Fault::CrashShort,
            Fault::CrashCoordinator,
            Fault::EcsCrash,
        ],
        saves: 0.0,
        batches_kept: 4,
        stores_wait: true,
        ..Self::GOES_BACK
    };

    /// No disk syncs for a while, at all servers at once; some logs lose their last batches besides.
    pub(crate) const ALL_DISKS: Self = Self {
        name: "all_disks",
        faults: &[
            Fault::AllDisksFail,
            Fault::AllDisksFail,
            Fault::SyncFails,
            Fault::LastBatch,
            Fault::CrashShort,
            Fault::EcsCrash,
        ],
        ..Self::LAST_BATCH
    };

    /// The directory of the ECS goes back, while servers restart.
    pub(crate) const ECS_GOES_BACK: Self = Self {
        name: "ecs_goes_back",
        faults: &[
            Fault::EcsGoesBack,
            Fault::EcsGoesBack,
            Fault::CrashShort,
            Fault::CrashCoordinator,
            Fault::CrashAll,
            Fault::EcsCrash,
        ],
        fault_every: (100 * MS, 1_500 * MS),
        saves: 0.0,
        ecs_saves: 0.3,
        ..Self::GOES_BACK
    };
}
