//! The counters of a server.
//!
//! The core's thread owns a [`Meter`]: plain integers, no locks and no atomics for a request. Once a second it is
//! copied into a [`MetricsReport`], which the HTTP port ([`page`]) shows and of which a part is reported to the ECS.

mod hot;
mod kind;
mod page;
mod report;
mod slow;

use std::time::Duration;

use bytes::Bytes;
use common::figures::Figures;
use common::histogram::{BATCHES, Histogram};
use common::messages::Reply;
use common::ring::Partitions;
use common::time::Time;

use hot::Hot;
pub(crate) use kind::Kind;
use kind::{Class, KINDS, Outcome};
use kvserver_core::{Ask, Query};
pub(crate) use page::page;
pub(crate) use report::{Connections, LogFigures, MetricsReport, Requests, Roles, Sizes};
pub(crate) use slow::SlowLog;

/// The time between two reports.
pub(crate) const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// A report that is older than this means that the core does not run: it blocks on something, or has ended.
pub(crate) const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// A request that is not answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    kind: Kind,
    at: Time,
    /// The key, for the slow log. It is a slice of the request, whose memory is kept as long.
    key: Option<Bytes>,
}

/// The counters of this server since its process began. The core's thread owns it.
#[derive(Debug)]
pub(crate) struct Meter {
    requests: Requests,
    hot: Hot,
    slow: SlowLog,
    next: Time,
    /// The counts that were last reported to the ECS, and when.
    reported: (Time, Requests, LogFigures),
}

impl Meter {
    pub(crate) fn new(now: Time, slow: SlowLog) -> Self {
        let requests = Requests {
            answered: [[0; Outcome::COUNT]; KINDS.len()],
            reads: Histogram::durations(),
            writes: Histogram::durations(),
            scans: Histogram::durations(),
            batches: Histogram::new(BATCHES),
        };
        let reported = (now, requests.clone(), LogFigures::default());
        Self { requests, hot: Hot::default(), slow, next: now, reported }
    }

    /// Notes that a client asks.
    pub(crate) fn on_ask(&mut self, now: Time, ask: &Ask, partitions: Partitions) -> Asked {
        self.hot.on_ask(ask, partitions);
        let key = match ask {
            Ask::Write { operation, .. } => operation.key().cloned(),
            Ask::Read(Query::Get { key, .. }) => Some(key.clone()),
            Ask::Read(_) | Ask::Watch(_) => None,
        };
        Asked { kind: Kind::of(ask), at: now, key }
    }

    /// Counts an answer.
    pub(crate) fn on_reply(&mut self, now: Time, asked: &Asked, reply: &Reply) {
        let took = now.since(asked.at);
        let outcome = Outcome::of(reply);
        self.requests.answered[asked.kind as usize][outcome as usize] += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match asked.kind.class() {
            Some(Class::Read) => self.requests.reads.record(micros),
            Some(Class::Write) => self.requests.writes.record(micros),
            Some(Class::Scan) => self.requests.scans.record(micros),
            None => return,
        }
        self.slow.on_reply(took, asked.kind, asked.key.as_deref(), outcome);
    }

    /// Counts a batch of so many events.
    pub(crate) fn on_batch(&mut self, events: u64) {
        self.requests.batches.record(events);
    }

    /// Whether a report is due; if so the next one is due later.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + FIGURES_EVERY;
            self.hot.on_second();
            self.slow.on_second();
        }
        due
    }

    /// All counts.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The figures for the ECS: what has been counted since the last report.
    pub(crate) fn figures(&mut self, now: &MetricsReport) -> Figures {
        let reported = (now.at, now.requests.clone(), now.log.clone());
        let (at, requests, log) = std::mem::replace(&mut self.reported, reported);
        Figures {
            over_ms: u64::try_from(now.at.since(at).as_millis()).unwrap_or(u64::MAX),
            reads: now.requests.reads.since(&requests.reads),
            writes: now.requests.writes.since(&requests.writes),
            syncs: now.log.syncs.since(&log.syncs),
            failed: now.requests.failed() - requests.failed(),
            open: now.open,
            lag: now.roles.lag,
            partitions: self.hot.partitions(),
            keys: self.hot.keys(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_outcome() {
        let mut meter = Meter::new(Time(0), SlowLog::new(0));
        let get = Ask::Read(Query::get(Bytes::from_static(b"key")));
        let asked = meter.on_ask(Time(100), &get, Partitions::default());
        meter.on_reply(Time(300), &asked, &Reply::Value { found: None });
        let asked = meter.on_ask(Time(400), &get, Partitions::default());
        meter.on_reply(Time(500), &asked, &Reply::Busy { reason: String::new() });
        let outcomes = meter.requests.answered[Kind::Get as usize];
        assert_eq!((outcomes[Outcome::Absent as usize], outcomes[Outcome::Busy as usize]), (1, 1));
        assert_eq!((meter.requests.reads.sum(), meter.requests.failed()), (300, 1));
    }

    #[test]
    fn a_snapshot_is_due_once_a_second() {
        let mut meter = Meter::new(Time(0), SlowLog::new(0));
        assert!(meter.is_due(Time(0)) && !meter.is_due(Time(999_999)) && meter.is_due(Time(1_000_000)));
    }
}
