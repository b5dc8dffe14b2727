//! Limits and defaults that more than one program knows, each with its unit and its reason.

use std::time::Duration;

/// Bytes of a key, at most: one read finds it in an index block.
pub const KEY_BYTES_MAX: usize = 1024;

/// Bytes of a value, at most, unless `--max-value` says less.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// Bytes of a frame on a binary link, at most: a value and its key, or a batch of smaller messages, or a view.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// Bytes of the first frame of a link, at most: ids and an address.
pub const HELLO_BYTES_MAX: usize = 64 << 10;

/// How long a server keeps a request for changes ([`Request::Watch`]) waiting for the first change, at most.
///
/// [`Request::Watch`]: crate::messages::Request::Watch
pub const WATCH_HOLD_MAX: Duration = Duration::from_secs(10);

/// Bytes of changes in one answer to a request for changes, at most; and of the changes of one log entry, which are
/// sent together or not at all.
pub const WATCH_ANSWER_BYTES_MAX: usize = 10 << 20;

/// Copies of each partition: a coordinator and two replicas.
pub const COPIES: usize = 3;

/// Servers of a cluster, at most.
pub const SERVERS_MAX: usize = 1000;

/// Connections of clients to one server, at most, unless `--max-connections` says otherwise.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Tokens of a server of weight 1 on the ring.
pub const TOKENS_PER_SERVER: u32 = 64;

/// How long a client library retries a write before it reports the outcome as unknown.
pub const CLIENT_RETRY_FOR: Duration = Duration::from_secs(60);

/// How long the result of a write is remembered for its retries, in log time. Larger than
/// [`CLIENT_RETRY_FOR`] by a wide margin, so that no retry outlives the memory of its first try.
pub const RESULTS_KEPT_FOR: Duration = Duration::from_secs(15 * 60);

/// The timers of docs/protocol.md (L1). `lease * (1 + rho) <= promise * (1 - rho)` must hold for the largest
/// difference `rho` of two machines' clock rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between heartbeats of a server to the ECS.
    pub heartbeat: Duration,
    /// Between pings of a coordinator to each replica.
    pub ping: Duration,
    /// L: how long a lease counts at its holder, from the sending of the ping that was answered.
    pub lease: Duration,
    /// G: how long a promise binds its granter, from the receipt of the ping.
    pub promise: Duration,
    /// Silence after which the ECS takes a server for dead, where nothing ever stalls.
    pub dead: Duration,
    /// The largest such silence: where heartbeats come late, the ECS's limit grows from `dead` up to this with their
    /// jitter. Equal to `dead` where the limit does not adapt.
    pub dead_max: Duration,
    /// Silence after which a coordinator reports an in-sync replica that acknowledges nothing.
    pub report: Duration,
    /// After its own start the ECS removes no server for this long.
    pub quiet: Duration,
}

impl Timers {
    /// For loaded or distant machines: a fail-over takes about 3.3 s.
    pub const STEADY: Self = Self {
        heartbeat: Duration::from_millis(250),
        ping: Duration::from_millis(250),
        lease: Duration::from_millis(2000),
        promise: Duration::from_millis(2500),
        dead: Duration::from_millis(3000),
        dead_max: Duration::from_millis(3000),
        report: Duration::from_millis(1500),
        quiet: Duration::from_millis(5000),
    };

    /// For machines that never stall: a fail-over takes about 1 s.
    pub const FAST: Self = Self {
        heartbeat: Duration::from_millis(100),
        ping: Duration::from_millis(100),
        lease: Duration::from_millis(400),
        promise: Duration::from_millis(550),
        dead: Duration::from_millis(800),
        dead_max: Duration::from_millis(800),
        report: Duration::from_millis(400),
        quiet: Duration::from_millis(2000),
    };

    /// The default: as [`Self::FAST`], and the ECS waits longer for servers whose heartbeats come late. Leases do not
    /// adapt: one that runs out too early costs a read that waits for the next ping, and no fail-over; and their rule,
    /// `lease` against `promise`, must hold between servers that would adapt at different times.
    pub const ADAPTIVE: Self = Self { dead_max: Duration::from_millis(5000), ..Self::FAST };

    /// The largest relative difference of two clocks' rates that the leases stand.
    #[must_use]
    pub fn clock_rate_margin(&self) -> f64 {
        let (lease, promise) = (self.lease.as_secs_f64(), self.promise.as_secs_f64());
        (promise - lease) / (promise + lease)
    }
}

/// Spans that may wait for the collector; more are dropped. About half a megabyte.
#[cfg(feature = "otel")]
pub const SPANS_WAITING_MAX: usize = 2048;

/// How long one request to the collector may take, and how long the end of a process waits for it.
#[cfg(feature = "otel")]
pub const SPANS_EXPORT_FOR: Duration = Duration::from_secs(5);

/// Bytes of a collector's answer that are read.
#[cfg(feature = "otel")]
pub const COLLECTOR_ANSWER_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_stand_clocks_that_differ_by_ten_per_cent() {
        assert!(Timers::STEADY.clock_rate_margin() > 0.10);
        assert!(Timers::FAST.clock_rate_margin() > 0.10);
        assert!(Timers::ADAPTIVE.clock_rate_margin() > 0.10);
    }
}
