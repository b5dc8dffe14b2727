//! Heartbeats of a server whose disk stands still.
//!
//! Heartbeats come from the core's thread, and that may be blocked in a write. A disk that stands still for a second
//! (its host is busy, or it cleans itself) does not make a server dead: while the core waits for it, heartbeats go on
//! without the core. When it has stood still for [`DISK_STALL_SILENCES`] times the silence after which the ECS removes
//! a server, the link is closed, and others take over until the disk takes writes again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::clock;
use common::limits::Timers;
use common::messages::ServerReport;
use common::time::Time;

use crate::limits::DISK_STALL_SILENCES;

/// Which thread waits for the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Writer {
    Core,
    Log,
}

/// The start times of the writes under way, one for each thread.
#[derive(Debug, Default)]
pub(crate) struct DiskStallMonitor {
    /// The start times by [`Writer`], in microseconds of the clock; 0: no write is under way.
    since: [AtomicU64; 2],
}

impl DiskStallMonitor {
    /// Runs a write, and keeps its start time meanwhile.
    pub(crate) fn over<T>(&self, writer: Writer, write: impl FnOnce() -> T) -> T {
        let since = &self.since[writer as usize];
        since.store(clock::time().0.max(1), Ordering::Relaxed);
        let done = write();
        since.store(0, Ordering::Relaxed);
        done
    }

    /// For how long the disk has taken no write: the age of the oldest one under way, if there is one.
    pub(crate) fn stalled_for(&self, now: Time) -> Option<Duration> {
        let under_way =
            self.since.iter().map(|since| since.load(Ordering::Relaxed)).filter(|since| *since > 0);
        under_way.min().map(|since| now.since(Time(since)))
    }
}

/// What to do when the core has reported nothing for a while.
#[derive(Debug, PartialEq)]
pub(crate) enum Beat {
    /// Wait for it.
    Wait,
    /// Send this report in its place.
    Send(ServerReport),
    /// Close the link: the disk stands still for too long.
    Close,
}

/// Decides which heartbeat leaves when the core reports none, because its thread waits for the disk.
#[derive(Debug)]
pub(crate) struct HeartbeatKeeper {
    timers: Timers,
    /// The last heartbeat, without its changes.
    last: Option<ServerReport>,
    reported: Time,
}

impl HeartbeatKeeper {
    pub(crate) fn new(timers: Timers, now: Time) -> Self {
        Self { timers, last: None, reported: now }
    }

    /// How long a disk may stand still.
    pub(crate) fn stall_max(&self) -> Duration {
        self.timers.dead * DISK_STALL_SILENCES
    }

    /// How often [`Self::beat`] is to be asked.
    pub(crate) fn every(&self) -> Duration {
        self.timers.heartbeat
    }

    /// Notes a report of the core, which leaves now.
    pub(crate) fn on_report(&mut self, report: &ServerReport, now: Time) {
        if let ServerReport::Heartbeat { view, keys, bytes, free_bytes, health, .. } = *report {
            let (copies, requests) = (Vec::new(), 0);
            self.last =
                Some(ServerReport::Heartbeat { view, copies, requests, keys, bytes, free_bytes, health });
            self.reported = now;
        }
    }

    /// What to do now. `stalled_for`: for how long a write has been under way.
    pub(crate) fn beat(&mut self, now: Time, stalled_for: Option<Duration>) -> Beat {
        let Some(stalled_for) = stalled_for else { return Beat::Wait };
        if stalled_for >= self.stall_max() {
            return Beat::Close;
        }
        match &self.last {
            Some(last) if now.since(self.reported) >= self.timers.heartbeat * 2 => {
                self.reported = now;
                Beat::Send(last.clone())
            }
            _ => Beat::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, PartitionId};
    use common::messages::CopyState;

    fn heartbeat(copies: Vec<CopyState>, requests: u64) -> ServerReport {
        let view = Epoch { generation: 0, version: 4 };
        ServerReport::Heartbeat {
            view,
            copies,
            requests,
            keys: 1,
            bytes: 2,
            free_bytes: 3,
            health: Default::default(),
        }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn heartbeats_go_on_while_the_disk_rests_and_not_for_ever() {
        let begin = Time(1_000_000);
        let mut keeper = HeartbeatKeeper::new(Timers::FAST, begin);
        assert_eq!(
            keeper.beat(begin + ms(500), Some(ms(500))),
            Beat::Wait,
            "no report was sent that could be repeated"
        );
        let partition = PartitionId(1);
        let moved = CopyState {
            partition,
            epoch: Epoch::default(),
            active: true,
            last: 2,
            applied: 1,
            proved: false,
        };
        keeper.on_report(&heartbeat(vec![moved], 9), begin);
        assert_eq!(keeper.beat(begin + ms(100), Some(ms(90))), Beat::Wait);
        assert_eq!(
            keeper.beat(begin + ms(200), Some(ms(190))),
            Beat::Send(heartbeat(vec![], 0)),
            "what moved was reported"
        );
        assert_eq!(keeper.beat(begin + ms(300), Some(ms(290))), Beat::Wait);
        assert_eq!(keeper.beat(begin + ms(400), Some(ms(390))), Beat::Send(heartbeat(vec![], 0)));
        assert_eq!(keeper.beat(begin + ms(2500), Some(ms(2400))), Beat::Close);
    }

    #[test]
    fn a_core_that_is_silent_for_another_reason_is_silent() {
        let begin = Time(1_000_000);
        let mut keeper = HeartbeatKeeper::new(Timers::FAST, begin);
        keeper.on_report(&heartbeat(vec![], 9), begin);
        assert_eq!(keeper.beat(begin + ms(5000), None), Beat::Wait);
    }

    #[test]
    fn a_watch_tells_of_the_write_under_way() {
        let watch = DiskStallMonitor::default();
        assert_eq!(watch.stalled_for(clock::time()), None);
        watch.over(Writer::Log, || {
            watch.over(Writer::Core, || assert!(watch.stalled_for(clock::time()).is_some()));
            assert!(watch.stalled_for(clock::time()).is_some(), "the log's goes on");
        });
        assert_eq!(watch.stalled_for(clock::time()), None);
    }
}
