//! Limits and defaults of the ECS, each with its unit and its reason.

use std::time::Duration;

/// Copies that are being brought up to date at once, for each server that gives and each that receives. More would
/// share the same disks and links; fewer would leave them idle between two views.
pub const JOINING_PER_SERVER_MAX: usize = 16;

/// Of [`JOINING_PER_SERVER_MAX`], as many may be copies that only move, for balance or before a leave: when a server
/// is lost, what it held is made again at once and not behind them.
pub const MOVING_PER_SERVER_MAX: usize = 8;

/// Copies of one partition that are being brought up to date at once: each counts in the coordinator's
/// acknowledgements near its end, and two would make writes wait for the slower.
pub const JOINING_PER_PARTITION_MAX: usize = 1;

/// Coordinators that one planned view moves. Each waits two round trips, and so do the requests behind it.
pub const HANDOVERS_PER_VIEW_MAX: usize = 32;

/// Between two views, at least: what becomes known meanwhile goes into one.
pub const VIEW_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Until a server that was asked for what it holds, and is heard, is asked again.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// For servers to report to an ECS that is being rebuilt, before it makes its first view of what it has heard by then:
/// more than a server takes to try again at an ECS that was of another cluster. Reads and writes go on meanwhile.
pub const GATHER_FOR: Duration = Duration::from_secs(6);

/// Between two pushes of the same view to a server that reports an older one, at least.
pub const PUSH_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Heartbeats that a server may miss after its link ended: a process that was killed is noticed early, one that
/// connects anew is not removed.
pub const HEARTBEATS_AFTER_LINK_END: u32 = 3;

/// Looks at all servers' silence in one heartbeat time. Each look costs a little for each server, and reports come
/// from all of them.
pub const LOOKS_PER_HEARTBEAT: u32 = 10;

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

/// Connections at once: reports of the largest cluster, and as many again and more for people and programs.
pub const CONNECTIONS_MAX: usize = 4096;

/// Files that connections leave to the rest where the system allows few: without a file for its state the ECS
/// stops. As many links to servers are open as there are servers.
pub const FILES_OF_ITS_OWN: usize = 128;

/// After the system could give no connection, until it is asked for the next.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Until a new connection has said what it is.
pub const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);

/// Silence after which a report link is taken for dead; servers send heartbeats several times a second.
pub const REPORT_LINK_IDLE_MAX: Duration = Duration::from_secs(30);

/// Silence after which a client's link is closed.
pub const CLIENT_LINK_IDLE_MAX: Duration = Duration::from_secs(300);

/// Bytes of the first frame of a link: ids and an address.
pub const HELLO_BYTES_MAX: usize = 64 << 10;

/// Bytes taken from a socket at once.
pub const READ_BYTES: usize = 16 << 10;

/// Inputs and questions that wait for the driver; beyond that links are read more slowly.
pub const COMMANDS_MAX: usize = 4096;

/// Commands taken at once before effects are carried out.
pub const COMMANDS_PER_TURN_MAX: usize = 256;

/// View changes that are remembered for people.
pub const EVENTS_MAX: usize = 1000;

/// Until a link to a server is there.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Until a server has taken a view.
pub const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Between the first two tries to reach a server; doubled each time.
pub const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Between two tries to reach a server, at most.
pub const RETRY_MAX: Duration = Duration::from_secs(2);

/// Tries to tell a server that it has left.
pub const FAREWELL_TRIES_MAX: u32 = 5;

/// Until the driver answers a question, before the asker is told that it does not.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Copies of each partition, at most, for `--copies`.
pub const COPIES_MAX: usize = 7;

/// Between two samples of all servers' rates and times; servers tell them as often.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Streams of the dashboard that are read at once.
pub const STREAMS_MAX: usize = 64;

/// Between two batches of a stream that new views cause, at least.
pub const BATCH_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Until a browser whose stream has ended tries again.
pub const RETRY_STREAM_AFTER: Duration = Duration::from_secs(1);

/// Kinds of reports that the ECS does not know and tells of, of one link.
pub const UNKNOWN_REPORTS_TOLD_MAX: usize = 8;

/// Samples that are kept for people: ten minutes.
pub const SAMPLES_MAX: usize = 600;

/// What a server has told of its rates is not counted any more after this.
pub const FIGURES_FRESH: Duration = Duration::from_secs(3);
