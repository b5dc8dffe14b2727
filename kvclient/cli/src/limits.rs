//! Limits and defaults of the program, each with its unit and its reason.

use std::time::Duration;

/// Pairs that `scan` asks for at a time, at most.
pub(crate) const SCAN_PAGE_PAIRS: u32 = 1000;

/// How long the ECS may take to answer an operator's request.
pub(crate) const ECS_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of such an answer, at most: a plan for as many partitions as there may be has about 4 MB.
pub(crate) const ECS_ANSWER_BYTES_MAX: usize = 64 << 20;

/// The pause between two looks at a cluster that is waited for.
pub(crate) const WAIT_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// The pause between two looks at a drain.
pub(crate) const DRAIN_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Keys that completion offers at most: more than a person reads.
pub(crate) const COMPLETION_KEYS_MAX: usize = 100;

/// How long completion looks for keys: a person who pressed Tab waits.
pub(crate) const COMPLETION_WITHIN: Duration = Duration::from_millis(500);

/// Partitions that completion looks into at once. Each page of values may have 1 MiB.
pub(crate) const COMPLETION_PARTITIONS_AT_ONCE: usize = 32;

/// Changes of the cluster that `events` shows, unless another number is given: a screen full.
pub(crate) const EVENTS_SHOWN: usize = 20;

/// The pause between two runs of a command by `:watch`, unless another one is given.
pub(crate) const WATCH_EVERY: Duration = Duration::from_secs(2);

/// The least pause of `:watch`: enough for a person to read, and no load on a cluster.
pub(crate) const WATCH_EVERY_LEAST: Duration = Duration::from_millis(100);

/// The time between two lines of `stat`, unless another one is given: servers report their figures once a second.
pub(crate) const STAT_EVERY: Duration = Duration::from_secs(1);

/// How long `latency` asks, unless another time is given.
pub(crate) const LATENCY_FOR: Duration = Duration::from_secs(5);

/// The pause between two gets of `latency` at one server: a hundredth of the load that a server answers from one
/// connection.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(10);

/// Keys that are tried to find one that a server coordinates: one in a thousand servers is found for certain.
pub(crate) const PROBE_KEYS_TRIED: u32 = 100_000;

/// Values that `big` lists, unless another number is given.
pub(crate) const LARGEST_SHOWN: usize = 10;

/// Requests that a benchmark keeps in flight, at most: each has a task of its own.
pub(crate) const BENCH_IN_FLIGHT_MAX: usize = 1_000_000;

/// Requests a second of an open loop, at most: they are due at whole microseconds.
pub(crate) const BENCH_RATE_MAX: u64 = 1_000_000;

/// The longest latency that a benchmark measures: beyond the library's time-out.
pub(crate) const BENCH_LATENCY_MAX: Duration = Duration::from_secs(120);

/// Puts in flight while a benchmark puts its keys first.
pub(crate) const BENCH_PRELOAD_IN_FLIGHT: usize = 256;

/// Keys that a scan of a benchmark asks for, at most; the number of YCSB's workload E.
pub(crate) const BENCH_SCAN_KEYS_MAX: u32 = 100;

/// The time between two updates of a benchmark's progress on a terminal.
pub(crate) const BENCH_PROGRESS_EVERY: Duration = Duration::from_millis(200);
