//! The classic bugs of such protocols, planted one at a time in tests to show that the checkers find them.
//! Without the feature `planted-bugs` there are none, and the compiler removes every trace.

/// A mistake that a test has the core make, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlantedBug {
    /// A member acknowledges before its write is on disk.
    AckBeforeFsync,
    /// The coordinator counts its own copy before it is on disk.
    OwnCopyBeforeFsync,
    /// A write is acknowledged without one of the in-sync replicas.
    AckWithoutOneReplica,
    /// A coordinator reads without leases.
    ReadWithoutLease,
    /// A lease is counted from the receipt of its answer instead of the ping's sending.
    LeaseFromReceipt,
    /// A lease is not looked at again after the read.
    LeaseNotRechecked,
    /// Messages of an older epoch are acted on.
    OldEpochAccepted,
    /// A promise is given although a newer view is known.
    PromiseToOldView,
    /// A new coordinator does not wait for promises that it gave.
    PromiseNotAwaited,
    /// A restarted server forgets that it may have promised.
    RestartForgetsPromises,
    /// A new coordinator serves before its members have its log.
    ServesBeforeSync,
    /// A new coordinator drops what it does not know to be committed.
    NewCoordinatorCutsToCommit,
    /// A member cuts its log to its commit on a new epoch, before it has heard the coordinator (KIP-101).
    MemberCutsToCommit,
    /// A later append of the same epoch shortens a log.
    LateAppendCuts,
    /// A restarted coordinator resumes its role in its old epoch.
    RestartResumesRole,
    /// A joiner is proposed before it has caught up.
    ProposedBeforeCaughtUp,
    /// A proposed joiner's acknowledgement is not awaited.
    JoinerNotAwaited,
    /// A proposed joiner is dropped after a while without an answer.
    ProposalDropped,
    /// A snapshot leaves out the results of recent writes.
    ResultsMissingFromSnapshot,
    /// A read lease runs longer than the coordinator's own.
    ReadLeaseUnbounded,
    /// A read lease is given to a member that is not in sync.
    ReadLeaseToJoiner,
    /// A coordinator commits without a removed member whose read lease may run.
    ReadGrantIgnored,
    /// A former coordinator acknowledges as clean though its read leases may run.
    CleanDespiteReadGrants,
    /// A replica answers alone though an entry that is not applied changes the key.
    PendingKeyRead,
    /// A restarted replica ignores the entries that it has not applied.
    RestartForgetsPending,
    /// A coordinator without leases sends replicas its commit.
    IndexWithoutLease,
    /// A coordinator that is not active yet sends replicas its commit.
    IndexWhileInactive,
    /// A read without leases does not wait for the members' confirmation.
    BarrierNotAwaited,
    /// A server reports its copies to an ECS that is being rebuilt without the promise to refuse older views.
    RebuildNoPromise,
    /// The sync mark is not written with the cut that belongs to it.
    SyncMarkNotDurable,
    /// A view is used before it is on disk.
    ViewUsedBeforeFsync,
    /// Leases of most members are enough.
    LeaseOfMajority,
    /// The lease of a proposed joiner is not needed.
    LeaseIgnoresJoiner,
    /// A member keeps what its coordinator's log does not have.
    LogNotCut,
    /// Each ping of the former coordinator prolongs the wait of a new one.
    PromiseRenewed,
    /// A write that may be in a log is answered as not done.
    IndeterminateRefused,
    /// A copy that is given up leaves the log pinned.
    PinNotReleased,
    /// A coordinator that is not active yet sends clients away, to itself.
    MovedInCircles,
    /// A coordinator that is not active proposes a joiner while its promise to the former one still binds it.
    ProposedWhileBound,
    /// A failed copy is dropped while it counts.
    FailedDroppedEarly,
    /// Acknowledgements of an older epoch count.
    OldAckCounted,
    /// P1: the coordinator's own log is the log of its epoch.
    OwnLogAuthoritative,
    /// P1: the log with the most entries is that of the epoch, whatever their tags.
    LargestBySeqAlone,
    /// P1: answers of a majority of the in-sync set are enough.
    SyncOfMajority,
    /// P1: the answer of a joining member counts like that of an in-sync one.
    LearnerAnswersSync,
    /// P1: an answer of an older epoch counts.
    StaleSyncCounted,
    /// P1: what was fetched is acted on before it is on disk.
    FetchedNotDurable,
    /// P1: an epoch begins without its no-op.
    NoOpLeftOut,
    /// P3: promises that members name are not awaited.
    OnlyOwnPromises,
    /// V4a: a copy counts as left out by its mark alone, though it has coordinated since.
    CoordinatorLeftOut,
    /// S2: a restart ends the read leases of the former process.
    RestartEndsReadLease,
    /// S3: a process takes itself for the one that the view names by the incarnation alone.
    RoleByTable,
    /// S4: a process acts before the ECS has answered its hello.
    ActsBeforeHello,
    /// 7.1: a read lease is given to a process that has not acknowledged all that is committed.
    ReadLeaseToShorter,
    /// Entries are stamped with this server's wall clock, whatever the others' say.
    StampsFromWallClock,
    /// Writes are acknowledged with fewer copies in sync than the view asks for.
    MinimumIgnored,
    /// Remembered results are ignored when entries are applied, so that a retry is applied again; planted by the
    /// simulated store.
    RetryAppliedAgain,
    /// A server whose disk was lost comes back with the same store id; planted by the simulated server.
    WipedKeepsIdentity,
}
