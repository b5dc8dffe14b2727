//! The kinds of faults.

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
    /// Each server does not reach the next one of a ring.
    Ring,
    /// The links between a server and others come and go.
    Flap,
    /// Two servers, a coordinator among them, reach each other and clients, and no one else.
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
    /// A server's wall clock jumps far, and is set right after a while.
    ClockJump,
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
    /// The digests that a server makes of its copies come out wrong for a while: the others find them different, and
    /// its copies are made anew.
    Misread,
    /// A server's heartbeats report slow syncs for a while.
    SlowDisk,
    /// A server's heartbeats report that its disk is below its reserve for a while.
    NoRoom,
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
    /// A server dies and comes back with an older state of its disk.
    GoBack,
    /// A copy of a server's directory is started beside the original.
    Twin,
    /// All servers die, the ECS too at times; some disks go back; they come back in any order.
    GoBackAll,
    /// Servers die, and the last batches of some logs do not check when they come back.
    LastBatch,
    /// No disk of any server syncs for a while.
    AllDisksFail,
    /// The ECS dies and comes back with an older state of its directory, until an operator puts the newest one back.
    EcsGoesBack,
    /// A second server dies when the first is given up, and a third while copies of the second are made again.
    ThreeInARow,
}
