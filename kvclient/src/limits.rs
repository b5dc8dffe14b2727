//! Limits and defaults of the client library, each with its unit and its reason.

use std::time::Duration;

/// Requests that may wait for the writer of one link; more callers wait for a place.
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

/// For a TCP connection to come about. A server that is there answers within a round trip.
pub(crate) const CONNECT_FOR: Duration = Duration::from_secs(1);

/// For a server to answer a question that it can answer at once (view, status).
pub(crate) const ASK_FOR: Duration = Duration::from_secs(2);

/// A request without an answer for this long makes the client look whether the coordinator is still the same:
/// about the time of a fail-over.
pub(crate) const TRY_FOR: Duration = Duration::from_secs(1);

/// A link on which nothing arrives for this long, although a view was asked for on it, is closed.
pub(crate) const LINK_SILENT_FOR: Duration = Duration::from_secs(5);

/// A server that has not told its view for this long is not waited for: the next one is asked beside it.
pub(crate) const REFRESH_STAGGER: Duration = Duration::from_millis(150);

/// Servers without a newer view after which a refresh ends that was asked for in so many words.
pub(crate) const REFRESH_ANSWERS_THOROUGH: usize = 3;

/// Servers without a newer view after which a refresh ends when a coordinator is silent: it and another one.
pub(crate) const REFRESH_ANSWERS_SILENCE: usize = 2;

/// After a refresh between two tries, no other one is begun for this long; twice as long after each that brought
/// nothing new.
pub(crate) const REFRESH_PAUSE_FIRST: Duration = Duration::from_millis(20);

/// The longest such time. It is what a client may lose after a fail-over.
pub(crate) const REFRESH_PAUSE_MAX: Duration = Duration::from_millis(160);

/// The wait before the second try, before jitter; it doubles with each further one.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(2);

/// The longest wait between tries: short against a fail-over, long enough for thousands of clients.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// How long [`Client::connect`](crate::Client::connect) looks for a server, by default.
pub(crate) const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Pairs that a scan asks for at a time.
pub(crate) const SCAN_PAGE_PAIRS: u32 = 1000;

/// Partitions that a scan fetches ahead of the one that it returns.
pub(crate) const SCAN_PARTITIONS_AHEAD: usize = 8;

/// Until the ECS has answered an operator's request.
pub(crate) const ECS_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of such an answer: a plan for as many partitions as there may be has about 4 MB.
pub(crate) const ECS_ANSWER_BYTES_MAX: usize = 64 << 20;

/// Between two looks at a drain.
pub(crate) const DRAIN_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Keys that completion offers at most: more than a person reads.
pub(crate) const COMPLETION_KEYS_MAX: usize = 100;

/// Until completion offers what it has found: a person who pressed Tab waits.
pub(crate) const COMPLETION_WITHIN: Duration = Duration::from_millis(500);

/// Partitions that completion looks into at once. Each page of values may have 1 MiB.
pub(crate) const COMPLETION_PARTITIONS_AT_ONCE: usize = 32;

/// Changes of the cluster that `events` shows unless told otherwise: a screen full.
pub(crate) const EVENTS_SHOWN: usize = 20;

/// Between two runs of a command that is watched, unless told otherwise.
pub(crate) const WATCH_EVERY: Duration = Duration::from_secs(2);

/// The least such time: what a person can read, and no load on a cluster.
pub(crate) const WATCH_EVERY_LEAST: Duration = Duration::from_millis(100);

/// Lines of `stat` come so often unless told otherwise: servers tell their figures once a second.
pub(crate) const STAT_EVERY: Duration = Duration::from_secs(1);

/// `latency` asks for so long unless told otherwise.
pub(crate) const LATENCY_FOR: Duration = Duration::from_secs(5);

/// Between two gets of `latency` at one server: a hundredth of what a server answers from one connection.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(10);

/// Keys that are tried to find one that a server coordinates: one in a thousand servers is found for certain.
pub(crate) const PROBE_KEYS_TRIED: u32 = 100_000;

/// Values that `big` lists unless told otherwise.
pub(crate) const BIG_SHOWN: usize = 10;

/// Requests that a benchmark keeps in flight, at most: each has a task of its own.
pub(crate) const BENCH_IN_FLIGHT_MAX: usize = 1_000_000;

/// Requests a second of an open loop, at most: they are due at whole microseconds.
pub(crate) const BENCH_RATE_MAX: u64 = 1_000_000;

/// The longest latency that a benchmark tells apart: over the library's patience.
pub(crate) const BENCH_LATENCY_MAX: Duration = Duration::from_secs(120);

/// Puts in flight while a benchmark puts its keys first.
pub(crate) const BENCH_PRELOAD_IN_FLIGHT: usize = 256;

/// Keys that a scan of a benchmark asks for, at most; the number of YCSB's workload E.
pub(crate) const BENCH_SCAN_KEYS_MAX: u32 = 100;

/// Between two looks at a benchmark that a terminal shows.
pub(crate) const BENCH_PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// For how long a server is let hold a question for changes: a coordinator that others have left is noticed then.
pub(crate) const WATCH_HOLD: Duration = Duration::from_secs(5);

/// The same where a watch has more partitions than it may have questions held: they take turns.
pub(crate) const WATCH_HOLD_MANY: Duration = Duration::from_millis(250);

/// Questions of one watch that servers hold at a time, one for each partition: a quarter of what a server takes from
/// one connection.
pub(crate) const WATCH_HELD_MAX: usize = 1024;

/// Bytes of changes that a held question may bring: little, since servers keep room for the answers of all that they
/// hold. One small change is told at once; what is larger, or more, is fetched.
pub(crate) const WATCH_BYTES_HELD: u32 = 512;

/// Bytes of changes that are fetched at a time.
pub(crate) const WATCH_FETCH_BYTES: u32 = 1 << 20;

/// Partitions of a watch that are fetched at a time: with [`WATCH_FETCH_BYTES`] what a slow reader holds in memory.
pub(crate) const WATCH_FETCHES: usize = 8;

/// Answers of partitions that wait for the reader of a watch.
pub(crate) const WATCH_PAGES_AHEAD: usize = 16;

/// Between two looks for a newer view while something is watched.
pub(crate) const WATCH_VIEW_EVERY: Duration = Duration::from_secs(5);
