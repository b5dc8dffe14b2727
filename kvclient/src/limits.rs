//! Limits and defaults of the client library, each with its unit and its reason.

use std::time::Duration;

/// Requests that may wait for the writer of one link; more callers wait for a slot.
pub(crate) const LINK_QUEUE_LEN: usize = 4096;

/// Requests that are encoded for one write to a socket, at most.
pub(crate) const BATCH_REQUESTS_MAX: usize = 1024;

/// Payload bytes after which a frame is closed and the next one begun. With one more message of the largest
/// size a frame stays far below [`common::limits::FRAME_BYTES_MAX`].
pub(crate) const FRAME_BYTES_FULL: usize = 1 << 20;

/// Bytes of an encoding buffer that are kept for the next batch; larger ones are given back.
pub(crate) const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Bytes that one read of a link asks for.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// How long a TCP connection may take to open. A server that is there answers within a round trip.
pub(crate) const CONNECT_FOR: Duration = Duration::from_secs(1);

/// How long a server may take for a question that it can answer at once (view, status).
pub(crate) const ASK_FOR: Duration = Duration::from_secs(2);

/// A request without an answer for this long makes the client look whether the coordinator is still the same:
/// about the time of a fail-over.
pub(crate) const TRY_FOR: Duration = Duration::from_secs(1);

/// A link on which nothing arrives for this long, although a view was asked for on it, is closed.
pub(crate) const LINK_SILENT_FOR: Duration = Duration::from_secs(5);

/// How long a server may take to answer with its view before the next one is asked beside it.
pub(crate) const REFRESH_STAGGER: Duration = Duration::from_millis(150);

/// Servers without a newer view after which a refresh ends that the caller asked for.
pub(crate) const REFRESH_ANSWERS_THOROUGH: usize = 3;

/// Servers without a newer view after which a refresh ends when a coordinator is silent: it and another one.
pub(crate) const REFRESH_ANSWERS_SILENCE: usize = 2;

/// After a refresh between two tries, no other one is begun for this long; twice as long after each that brought
/// nothing new.
pub(crate) const REFRESH_PAUSE_FIRST: Duration = Duration::from_millis(20);

/// The longest pause after a refresh. A client may lose so much time after a fail-over.
pub(crate) const REFRESH_PAUSE_MAX: Duration = Duration::from_millis(160);

/// The wait before the second try, before jitter; it doubles with each further one.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(2);

/// The longest wait between tries: short against a fail-over, long enough for thousands of clients.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// How long [`Client::connect`](crate::Client::connect) looks for a server, by default.
pub(crate) const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Pairs that a scan asks for at a time.
pub(crate) const SCAN_PAGE_PAIRS: u32 = 1000;

/// Requests of one `get_many` or `put_many` that are on their way at a time.
pub(crate) const MANY_IN_FLIGHT: usize = 256;

/// The shortest lease of a lock: about the time of a fail-over, so that one does not lose it.
pub(crate) const LOCK_LEASE_LEAST: Duration = Duration::from_secs(1);

/// Between two looks at a lock that is waited for. A release is heard at once; this finds leases that are over.
pub(crate) const LOCK_LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Partitions that a scan fetches ahead of the one that it returns.
pub(crate) const SCAN_PARTITIONS_AHEAD: usize = 8;

/// How long a server may keep a question for changes waiting: after it, a coordinator that is no longer one is noticed.
pub(crate) const WATCH_WAIT: Duration = Duration::from_secs(5);

/// How long a server may keep a question for changes waiting, where a watch has more partitions than it may have such
/// questions: they take turns.
pub(crate) const WATCH_WAIT_MANY: Duration = Duration::from_millis(250);

/// Questions of one watch that wait at servers at a time, one for each partition: a quarter of what a server takes from
/// one connection.
pub(crate) const WATCHES_WAITING_MAX: usize = 1024;

/// Bytes of changes that the answer to a waiting question may have: few, since servers keep room for the answers to all
/// of them. One small change comes at once; larger ones, or more, are fetched.
pub(crate) const WATCHES_WAITING_BYTES: u32 = 512;

/// Bytes of changes that are fetched at a time.
pub(crate) const WATCH_FETCH_BYTES: u32 = 1 << 20;

/// Partitions of a watch that are fetched at a time: with [`WATCH_FETCH_BYTES`] the memory that a slow reader takes.
pub(crate) const WATCH_FETCHES: usize = 8;

/// Answers of partitions that wait for the reader of a watch.
pub(crate) const WATCH_PAGES_AHEAD: usize = 16;

/// The time between two looks for a newer view during a watch.
pub(crate) const WATCH_VIEW_EVERY: Duration = Duration::from_secs(5);
