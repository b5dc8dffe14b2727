//! Limits and defaults of the decisions, each with its unit and its reason.

use std::time::Duration;

/// Copies that are being brought up to date at once, for each server that gives and each that receives. More would
/// share the same disks and links; fewer would leave them idle between two views.
pub const JOINING_PER_SERVER_MAX: usize = 16;

/// How many of [`JOINING_PER_SERVER_MAX`] may be copies that only move, for balance or before a leave. The rest is kept
/// for repair: when a server is lost, its copies are made again at once and not after the moves.
pub const MOVING_PER_SERVER_MAX: usize = 8;

/// Copies of one partition that are being brought up to date at once: each counts in the coordinator's
/// acknowledgements near its end, and two would make writes wait for the slower.
pub const JOINING_PER_PARTITION_MAX: usize = 1;

/// Coordinators that one planned view moves, at most. A hand-over takes two round trips, and the requests for its
/// partition wait for it.
pub const HANDOVERS_PER_VIEW_MAX: usize = 32;

/// How long after a restart the ECS waits for a server whose copies may be the only ones with all acknowledged writes,
/// unless `--restart-wait` says otherwise. Machines that lost power together come back within this time.
pub const RESTART_WAIT: Duration = Duration::from_secs(30);

/// The shortest time between two views. What becomes known in between goes into the same view.
pub const VIEW_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How long the ECS waits for a server's answer to the question which copies it has, before it asks again.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long an ECS that is being rebuilt waits for reports before it makes its first view of those that have come.
/// Longer than the pause after which a server tries again at an ECS that was of another cluster. Reads and writes go on
/// meanwhile.
pub const GATHER_FOR: Duration = Duration::from_secs(6);

/// The shortest time between two pushes of the same view to a server that reports an older one.
pub const PUSH_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Heartbeats that a server may miss after its link ended: a process that was killed is noticed early, one that
/// connects anew is not removed.
pub const HEARTBEATS_AFTER_LINK_END: u32 = 3;

/// N1: when another process of the same store says hello, the known process counts as alive only if it is heard this
/// many heartbeat times later. By then the last messages of a killed process, and the end of its link, have been read.
pub const HEARTBEATS_OF_A_TWIN: u32 = 2;

/// How many times in one heartbeat time the ECS checks all servers for silence. A check costs a little for each server;
/// without this bound there would be one for each report.
pub const LOOKS_PER_HEARTBEAT: u32 = 10;

/// Numbers of views that an ECS leaves out in one life, at most, as servers that it does not know say that they were
/// given. Any process may say so; each number that is left out is one less that a view may leap.
pub const NUMBERS_LEFT_OUT_MAX: u64 = 100_000;

/// Stores of one server whose incarnations are remembered, to distinguish a late message from a disk that came back.
pub const STORES_REMEMBERED_MAX: usize = 8;

/// Servers that left and are remembered, so that they do not join again by a late message.
pub const LEFT_REMEMBERED_MAX: usize = 1000;

/// A copy that its coordinator reported silent, though its server is heard, is not tried again for this many times
/// `dead`: it would make writes wait once more.
pub const BACKED_OFF_DEAD_TIMES: u32 = 4;

/// Refused processes that the status names, at most: any process on the network may try to join.
pub const LEFT_OUT_MAX: usize = 64;

/// How long a refused process may go on reporting before its link is closed, so that it says hello again: the reason
/// for the refusal may be gone.
pub const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long the status names a refused process after its last try: longer than the pause between two tries.
pub const LEFT_OUT_FOR: Duration = Duration::from_secs(20);

/// How long the ECS's disk may take to write a state before the status reports that no views are made because of it.
pub const PERSISTED_WITHIN: Duration = Duration::from_secs(5);

/// How long a new coordinator may take to become active, in addition to the promises that it may have to wait for,
/// before the status reports its partitions as not served.
pub const ACTIVE_WITHIN: Duration = Duration::from_secs(1);

/// How long a server that is heard may take to accept a new view before the status reports that it does not. The ECS
/// tries to reach it at least every two seconds.
pub const VIEWS_TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Two servers count as not hearing each other until this many report times have passed without a complaint from
/// either.
pub const EDGE_REPORTS: u32 = 10;

/// A server that was taken off partitions because others did not hear it gets copies again after this long without a
/// complaint. Doubled each time that it happens within [`FLAPS_WITHIN`] of the last, up to [`PAUSE_MAX`].
pub const PAUSE_FIRST: Duration = Duration::from_secs(10);

/// The longest pause that the doubling of [`PAUSE_FIRST`] leads to.
pub const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// A loss within this time of the end of the last pause counts as the same trouble: its pause ([`PAUSE_FIRST`]) is
/// doubled.
pub const FLAPS_WITHIN: Duration = Duration::from_secs(5 * 60);

/// How long a store whose server was waiting counts as still there after the server was last heard: an operator stops
/// the server to take the store back.
pub const WAITING_STORE_REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// The default of `min-copies`, the copies that a write needs to be acknowledged: the loss of any one disk loses no
/// write. It applies from [`MIN_COPIES_FROM`] servers on.
pub const MIN_COPIES: usize = 2;

/// The number of servers from which on the default is [`MIN_COPIES`]; with fewer it is 1.
pub const MIN_COPIES_FROM: usize = 3;
