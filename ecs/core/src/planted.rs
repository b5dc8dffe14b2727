//! Bugs that tests plant in the ECS, one at a time, to show that the checkers find them. Without the feature
//! `planted-bugs` there are none.

/// A mistake that a test builds in, to show that a check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlantedBug {
    /// A proposal of an older epoch is taken (V1).
    OldProposalTaken,
    /// A joining copy may become coordinator (V2).
    JoinerPromoted,
    /// A view is published before it is on disk.
    PublishedBeforeFsync,
    /// After a pause of its own the ECS judges the servers by the clock.
    OwnPauseIgnored,
    /// A restarted coordinator gets no new epoch (V5).
    RestartKeepsEpoch,
    /// A joining copy that is given up, or whose proposal is refused, gets its coordinator no new epoch (J3).
    ForgottenWithoutEpoch,
    /// The last in-sync member is removed when it is dead (V4).
    LastMemberRemoved,
    /// A silent member is removed though no proved one remains (V4a).
    NoProvedRule,
    /// A member that is heard is removed for a cut link when those that stay have waited, though none is proved (V4a).
    HeardMemberWaitedOut,
    /// An ECS that was started again makes views before it has compared its table with the servers' (V6).
    ActsBeforeCompared,
    /// The number of a view that a server has is given again, as the ECS does not know that server (V6).
    NumberGivenAgain,
    /// A second process of a store is taken while the first one lives (N1).
    TwinTaken,
    /// A coordinator that yields may name a joining copy (V2).
    YieldToJoiner,
    /// R3: a store that failed is set aside at once, whatever others hold.
    SetAsideAtOnce,
    /// R3: a store is set aside when no view counts it any more, though no server serves its partitions.
    SetAsideUnserved,
    /// R3: which partitions a store counts for is taken from the last view that its server has seen.
    SuspicionBelieved,
    /// V7: a server that flaps gets new parts as soon as it is heard.
    FlapsForgotten,
    /// R6: a partition is resumed when a majority of its in-sync set has reported.
    RebuildMajority,
    /// R6: what a coordinator had proposed is not waited for.
    RebuildIgnoresProposals,
}
