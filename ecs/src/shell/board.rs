//! The counters that servers report once a second, and the last ten minutes of them. For people: no decision depends on
//! them, and they are lost at a restart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock;
use common::figures::{Figures, HOT_MAX, HotKey, HotPartition};
use common::histogram::Counted;
use common::ids::ServerId;
use common::limits::SERVERS_MAX;
use common::time::{Time, WallTime};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::limits::{FIGURES_FRESH, SAMPLE_EVERY, SAMPLES_MAX, STREAMS_MAX};

/// Rates and times of a second, over all servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    /// When. It names the sample, as it grows with each.
    pub(super) at: WallTime,
    /// Requests a second that were answered.
    pub(super) reads: f64,
    pub(super) writes: f64,
    /// Requests a second that were answered with a refusal, busy or unknown.
    pub(super) failed: f64,
    /// Microseconds; null if there was nothing to measure.
    pub(super) read_us: Quantiles,
    pub(super) write_us: Quantiles,
    pub(super) sync_us: Quantiles,
}

/// Quantiles of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Quantiles {
    p50: Option<u64>,
    p99: Option<u64>,
    p999: Option<u64>,
}

impl Quantiles {
    fn of(counted: &Counted) -> Self {
        let at = |quantile| counted.quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// The last report of one server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServerLoad {
    pub(super) server: ServerId,
    reads: f64,
    writes: f64,
    failed: f64,
    read_us: Quantiles,
    write_us: Quantiles,
    sync_us: Quantiles,
    open: u64,
    lag: u64,
}

/// The most requested keys and partitions, over all servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct HotSpots {
    pub(super) partitions: Vec<HotPartition>,
    pub(super) keys: Vec<HotKey>,
}

#[derive(Debug, Default)]
struct Notes {
    servers: BTreeMap<ServerId, (Time, Figures)>,
    /// The oldest first.
    samples: VecDeque<Sample>,
}

/// Shared by its clones.
#[derive(Clone, Debug)]
pub(super) struct Board {
    notes: Arc<Mutex<Notes>>,
    /// The time of the newest sample.
    newest: watch::Sender<WallTime>,
    /// Permits for dashboard streams.
    readers: Arc<Semaphore>,
}

impl Default for Board {
    fn default() -> Self {
        let readers = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { notes: Arc::default(), newest: watch::Sender::default(), readers }
    }
}

fn a_second(count: u64, figures: &Figures) -> f64 {
    count as f64 * 1000.0 / figures.over_ms.max(1) as f64
}

impl Notes {
    fn fresh(&self, now: Time) -> impl Iterator<Item = (ServerId, &Figures)> {
        let fresh = self.servers.iter().filter(move |(_, (at, _))| now.since(*at) < FIGURES_FRESH);
        fresh.map(|(server, (_, figures))| (*server, figures))
    }

    fn sample(&self, now: Time, wall: WallTime) -> Sample {
        let mut sample = Sample::default();
        let mut counted = [Counted::default(), Counted::default(), Counted::default()];
        for (_, figures) in self.fresh(now) {
            sample.reads += a_second(figures.reads.count(), figures);
            sample.writes += a_second(figures.writes.count(), figures);
            sample.failed += a_second(figures.failed, figures);
            for (sum, one) in counted.iter_mut().zip([&figures.reads, &figures.writes, &figures.syncs]) {
                sum.add(one);
            }
        }
        // A wall clock that is set back does not take two samples for one.
        let last = self.samples.back().map_or(0, |last| last.at.0 + 1);
        sample.at = WallTime(wall.0.max(last));
        [sample.read_us, sample.write_us, sample.sync_us] = counted.map(|counted| Quantiles::of(&counted));
        sample
    }
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server reports its counters.
    pub(super) fn on_figures(&self, server: ServerId, mut figures: Figures) {
        figures.bound();
        let now = clock::time();
        let mut notes = self.notes();
        if notes.servers.len() >= SERVERS_MAX {
            notes.servers.retain(|_, (at, _)| now.since(*at) < FIGURES_FRESH);
        }
        notes.servers.insert(server, (now, figures));
    }

    /// Takes samples for ever.
    pub(super) async fn run(&self) {
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let at = self.take_sample();
            self.newest.send_replace(at);
        }
    }

    fn take_sample(&self) -> WallTime {
        let mut notes = self.notes();
        let sample = notes.sample(clock::time(), clock::wall());
        let at = sample.at;
        if notes.samples.len() >= SAMPLES_MAX {
            notes.samples.pop_front();
        }
        notes.samples.push_back(sample);
        at
    }

    /// Changes with each sample.
    pub(super) fn watch(&self) -> watch::Receiver<WallTime> {
        self.newest.subscribe()
    }

    /// A permit for a dashboard stream; `None` if [`STREAMS_MAX`] are open.
    pub(super) fn reader(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.readers).try_acquire_owned().ok()
    }

    /// The samples that are later, the oldest first.
    pub(super) fn samples_after(&self, at: WallTime) -> Vec<Sample> {
        let notes = self.notes();
        let from = notes.samples.partition_point(|sample| sample.at <= at);
        notes.samples.range(from..).cloned().collect()
    }

    /// The last report of each server, if it is not older than [`FIGURES_FRESH`].
    pub(super) fn load(&self) -> Vec<ServerLoad> {
        let load = |(server, figures): (ServerId, &Figures)| ServerLoad {
            server,
            reads: a_second(figures.reads.count(), figures),
            writes: a_second(figures.writes.count(), figures),
            failed: a_second(figures.failed, figures),
            read_us: Quantiles::of(&figures.reads),
            write_us: Quantiles::of(&figures.writes),
            sync_us: Quantiles::of(&figures.syncs),
            open: figures.open,
            lag: figures.lag,
        };
        self.notes().fresh(clock::time()).map(load).collect()
    }

    /// The keys and partitions that clients request most.
    pub(super) fn hot(&self) -> HotSpots {
        let notes = self.notes();
        let mut partitions: BTreeMap<u16, u64> = BTreeMap::new();
        let mut keys: BTreeMap<(&str, u16), u64> = BTreeMap::new();
        for (_, figures) in notes.fresh(clock::time()) {
            for hot in &figures.partitions {
                let sum = partitions.entry(hot.partition).or_default();
                *sum = sum.saturating_add(hot.per_second);
            }
            for hot in &figures.keys {
                let sum = keys.entry((&hot.key, hot.partition)).or_default();
                *sum = sum.saturating_add(hot.per_second);
            }
        }
        let partition = |(partition, per_second)| HotPartition { partition, per_second };
        let mut partitions: Vec<_> = partitions.into_iter().map(partition).collect();
        let key = |((key, partition), per_second): ((&str, u16), u64)| HotKey {
            key: key.to_owned(),
            partition,
            per_second,
        };
        let mut keys: Vec<_> = keys.into_iter().map(key).collect();
        partitions.sort_by_key(|hot| std::cmp::Reverse(hot.per_second));
        keys.sort_by_key(|hot| std::cmp::Reverse(hot.per_second));
        partitions.truncate(HOT_MAX);
        keys.truncate(HOT_MAX);
        HotSpots { partitions, keys }
    }
}

// Three reports may be missed before a server's figures are left out.
const _: () = assert!(Duration::as_millis(&FIGURES_FRESH) >= 3 * Duration::as_millis(&SAMPLE_EVERY));

#[cfg(test)]
mod tests {
    use super::*;
    use common::histogram::Histogram;

    fn figures(reads: usize) -> Figures {
        let (empty, mut histogram) = (Histogram::durations(), Histogram::durations());
        (0..reads).for_each(|_| histogram.record(200));
        Figures {
            over_ms: 1000,
            reads: histogram.since(&empty),
            partitions: vec![HotPartition { partition: 3, per_second: 5 }],
            keys: vec![HotKey { key: "k".into(), partition: 3, per_second: 5 }; 20],
            ..Figures::default()
        }
    }

    #[test]
    fn samples_are_of_all_servers_that_told_lately() {
        let mut notes = Notes::default();
        notes.servers.insert(ServerId(1), (Time(0), figures(10)));
        notes.servers.insert(ServerId(2), (Time(9_000_000), figures(5)));
        let sample = notes.sample(Time(9_500_000), WallTime(7));
        assert_eq!((sample.reads, sample.writes, sample.at), (5.0, 0.0, WallTime(7)));
        assert!(sample.read_us.p99.is_some() && sample.write_us.p99.is_none());
        notes.samples.push_back(sample);
        assert_eq!(notes.sample(Time(0), WallTime(3)).at, WallTime(8), "whatever the wall clock says");
    }

    #[test]
    fn what_is_hot_at_several_servers_is_added_up_and_bounded() {
        let board = Board::default();
        board.on_figures(ServerId(1), figures(1));
        board.on_figures(ServerId(2), figures(1));
        let hot = board.hot();
        assert_eq!(hot.partitions, [HotPartition { partition: 3, per_second: 10 }]);
        assert_eq!(hot.keys.len(), 1);
        assert_eq!(hot.keys[0].per_second, 2 * 5 * HOT_MAX as u64, "no more than the bound of each server");
        assert_eq!(board.load().len(), 2);
    }
}
