//! Limits and defaults of the ECS, each with its unit and its reason.

use std::time::Duration;

/// Copies that are being brought up to date at once, for each server that gives and each that receives. More would
/// share the same disks and links; fewer would leave them idle between two views.
pub const JOINING_PER_SERVER_MAX: usize = 16;

/// Copies of one partition that are being brought up to date at once: each counts in the coordinator's
/// acknowledgements near its end, and two would make writes wait for the slower.
pub const JOINING_PER_PARTITION_MAX: usize = 1;

/// Coordinators that one planned view moves. Each waits two round trips, and so do the requests behind it.
pub const HANDOVERS_PER_VIEW_MAX: usize = 32;

/// Between two views, at least: what becomes known meanwhile goes into one.
pub const VIEW_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Between two pushes of the same view to a server that reports an older one, at least.
pub const PUSH_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Heartbeats that a server may miss after its link ended: a process that was killed is noticed early, one that
/// connects anew is not removed.
pub const HEARTBEATS_AFTER_LINK_END: u32 = 3;

/// Stores of one server whose incarnations are remembered, to tell a late message from a disk that came back.
pub const STORES_REMEMBERED_MAX: usize = 8;

/// Servers that left and are remembered, so that they do not join again by a late message.
pub const LEFT_REMEMBERED_MAX: usize = 1000;

/// Bytes of a server's address, at most: a host name of 253, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 259;

/// Bytes of a reason told by a server that are kept.
pub const REASON_BYTES_MAX: usize = 200;

/// Times of `dead` for which a copy that was reported silent, though its server is heard, is not tried again: it
/// would make writes wait once more.
pub const BARRED_DEAD_TIMES: u32 = 4;
