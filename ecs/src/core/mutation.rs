//! Bugs that tests plant in the ECS, one at a time, to show that the checkers find them. Without the feature `mutations`
//! there are none.

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
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
    /// R6: a partition is resumed when a majority of its in-sync set has reported.
    RebuildMajority,
    /// R6: what a coordinator had proposed is not waited for.
    RebuildIgnoresProposals,
}
