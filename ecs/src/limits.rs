//! Limits and defaults of the ECS around its core, each with its unit and its reason.

use std::time::Duration;

/// The shortest time between two refusals that are sent to the same process.
pub const REFUSE_AGAIN: Duration = Duration::from_secs(1);

/// Refused processes that are remembered, at most. Beyond that, processes are refused without an answer for a while.
pub const REFUSED_REMEMBERED_MAX: usize = 100;

/// Bytes of a reason reported by a server that are kept; the rest is cut off.
pub const REASON_BYTES_MAX: usize = 200;

/// Connections that are open at the same time, at most: half of them for the reports of the largest cluster, the rest
/// for people and programs. When all are taken, idle ones are closed to make room.
pub const CONNECTIONS_MAX: usize = 4096;

/// File descriptors that are kept free of incoming connections, where the system allows few: for the ECS's state,
/// without which it stops, and for one link to each server.
pub const FILES_OF_ITS_OWN: usize = 128;

/// The pause after a failed `accept`.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a new connection may take to send its first bytes, which say what it is.
pub const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);

/// Silence after which a report link is taken for dead; servers send heartbeats several times a second.
pub const REPORT_LINK_IDLE_MAX: Duration = Duration::from_secs(30);

/// Stores that one server has set aside and that the ECS remembers, at most: people remove them.
pub const ASIDE_STORES_MAX: usize = 16;

/// Silence after which a client's link is closed.
pub const CLIENT_LINK_IDLE_MAX: Duration = Duration::from_secs(300);

/// Bytes read from a socket at a time, when it has that many.
pub const READ_BYTES: usize = 64 << 10;

/// The size of a connection's first read buffer, in bytes: most connections send little, and each keeps this much
/// memory while it is idle.
pub const FIRST_READ_BYTES: usize = 4 << 10;

/// Bytes of a frame on a client's link, at most: requests for the status and the view.
pub const CLIENT_FRAME_BYTES_MAX: usize = 64 << 10;

/// Bytes of a frame that any link may send at any time; larger ones share [`LARGE_REPORTS_BYTES_MAX`]. Heartbeats are
/// smaller; a server's report of its copies may be larger.
pub const SMALL_FRAME_BYTES: usize = 64 << 10;

/// Bytes of incomplete frames larger than [`SMALL_FRAME_BYTES`], over all links, at most.
pub const LARGE_REPORTS_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(LARGE_REPORTS_BYTES_MAX >= common::limits::FRAME_BYTES_MAX, "a frame fits");

/// How long a frame larger than [`SMALL_FRAME_BYTES`] may take to arrive once there is room for it.
pub const LARGE_REPORT_WITHIN: Duration = Duration::from_secs(30);

/// Inputs and questions that wait for the driver, at most. Beyond that, links are read more slowly.
pub const COMMANDS_MAX: usize = 4096;

/// Commands that the driver takes in one turn before it carries out the effects.
pub const COMMANDS_PER_TURN_MAX: usize = 256;

/// View changes kept for the list of events.
pub const EVENTS_MAX: usize = 1000;

/// How long connecting to a server may take.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long a server may take to accept a view that is being sent.
pub const SEND_WITHIN: Duration = Duration::from_secs(10);

/// The pause before the second try to reach a server; doubled after each further one, up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_millis(50);

/// The longest pause between two tries to reach a server.
pub const RETRY_MAX: Duration = Duration::from_secs(2);

/// How many times the ECS tries to inform a server that it has left.
pub const FAREWELL_TRIES_MAX: u32 = 5;

/// How long a question may wait for the driver before the caller gets an error.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The largest value of `--copies`, the copies of each partition.
pub const COPIES_MAX: usize = 7;

/// The time between two samples of all servers' rates and latencies. Servers report them as often.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Open dashboard event streams, at most.
pub const STREAMS_MAX: usize = 64;

/// The shortest time between two batches that new views add to a dashboard stream.
pub const BATCH_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// How long a browser waits before it reconnects an ended stream.
pub const RETRY_STREAM_AFTER: Duration = Duration::from_secs(1);

/// How many unknown kinds of reports the ECS logs for one link.
pub const UNKNOWN_REPORTS_TOLD_MAX: usize = 8;

/// Samples that are kept for the dashboard and the API: ten minutes of them.
pub const SAMPLES_MAX: usize = 600;

/// How long a server's reported rates count after they were reported.
pub const FIGURES_FRESH: Duration = Duration::from_secs(3);
