//! What is known of the servers' processes and forgotten at a restart: when each was heard, and what it said. Only what
//! they said of copies that disagree is in the durable state.
//!
//! Detection of failures: a server is gone when it has been silent beyond the limit (`silence`), or, if its link ended,
//! for a few heartbeats. The end of a link alone is a suspicion only. Whether a server may be removed at all, the
//! machine decides (the quiet time).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::{Epoch, LogId, PartitionId, Seq, ServerId};
use common::limits::Timers;
use common::messages::ProcessId;
use common::status::{Health, TransferStatus};
use common::time::Time;
use common::view::{Member, View};
use serde::{Deserialize, Serialize};

use super::silence::{Gaps, Patience, Rhythm};
use crate::limits::{HEARTBEATS_AFTER_LINK_END, PUSH_INTERVAL_MIN};

/// A view that is newer than the ECS's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behind {
    pub(super) view: Epoch,
    /// The server that has it.
    pub(super) server: ServerId,
}

/// Why a server counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Silent beyond the limit.
    Silent,
    /// Its link ended and it did not come back.
    LinkEnded,
    /// It said that its store failed.
    StoreFailed,
}

/// Load and health as reported in heartbeats.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) requests_per_second: f64,
    pub(super) health: Health,
}

/// Which views a process has, and gets.
#[derive(Clone, Copy, Debug)]
struct Following {
    /// The one that it reported last.
    view: Epoch,
    /// When it last reported another view than before, or the newest one.
    since: Time,
    /// When it was last sent one.
    pushed: Option<Time>,
}

/// One server's process.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Only what this process says counts.
    pub(super) sender: ProcessId,
    /// When it was last heard, or when waiting for it began.
    heard: Time,
    /// It was heard since this ECS started.
    spoke: bool,
    /// When this process was first heard.
    pub(super) since: Time,
    link_ended: Option<Time>,
    gaps: Gaps,
    /// Its store failed: whatever it still says does not count.
    pub(super) failed: bool,
    /// The views that it follows.
    views: Following,
    pub(super) heartbeat: Option<Time>,
    pub(super) load: Load,
    /// Partitions that its disk holds data of, and the last entry of each log, as it reported at its start.
    pub(super) leftovers: BTreeMap<PartitionId, LogId>,
    /// N1: a later process of its store has said hello, so this one is dead, for all that is known, until it is heard.
    pub(super) doubted: bool,
    /// V4a: partitions of whose in-sync sets it is a member, and is known to hold all that was acknowledged there.
    pub(super) proved: BTreeSet<PartitionId>,
    /// V4a: of the partitions that went on without it, those of which it has nothing any more by its last report.
    pub(super) emptied: BTreeSet<PartitionId>,
    /// Copies that it sends to others by its last report.
    pub(super) transfers: Vec<TransferStatus>,
}

impl Peer {
    /// A process that is expected to be heard, from now on.
    pub(super) fn new(sender: ProcessId, now: Time) -> Self {
        Self {
            sender,
            heard: now,
            spoke: false,
            since: now,
            link_ended: None,
            gaps: Gaps::default(),
            failed: false,
            views: Following { view: Epoch::default(), since: now, pushed: None },
            heartbeat: None,
            load: Load::default(),
            leftovers: BTreeMap::new(),
            doubted: false,
            proved: BTreeSet::new(),
            emptied: BTreeSet::new(),
            transfers: Vec::new(),
        }
    }

    /// It is heard. The time before `judged_from` says nothing of it: the ECS itself was stopped. `true`: its link is a
    /// new one, so that copies that it stays with may count as proved again (V4a).
    pub(super) fn hear(&mut self, now: Time, judged_from: Time, timers: &Timers) -> bool {
        let is_new = !self.spoke || self.link_ended.is_some();
        if self.spoke && self.link_ended.is_none() && self.heard >= judged_from {
            self.gaps.record(now.since(self.heard), timers);
        }
        assert!(self.heard <= now, "time goes on");
        assert!(self.since <= now);
        self.heard = now;
        self.spoke = true;
        self.link_ended = None;
        is_new
    }

    pub(super) fn on_link_ended(&mut self, now: Time) {
        self.link_ended.get_or_insert(now);
    }

    /// It was heard since this ECS started, and its link has not ended.
    pub(super) fn is_linked(&self) -> bool {
        self.spoke && self.link_ended.is_none() && !self.failed
    }

    /// It was heard since this ECS started, and said that it has neither a view nor data, nor a store that failed.
    pub(super) fn took_no_view(&self) -> bool {
        self.spoke && !self.failed && self.views.view == Epoch::default() && self.leftovers.is_empty()
    }

    /// N1: nothing says that it is dead: its link has not ended, and if it was not heard, then not since this ECS
    /// started, to which it is to say hello anew.
    pub(super) fn may_live(&self) -> bool {
        self.link_ended.is_none() && !self.failed
    }

    /// Why it counts as gone, if it does.
    pub(super) fn gone(&self, now: Time, patience: &Patience) -> Option<Gone> {
        let after_link_end = patience.timers().heartbeat * HEARTBEATS_AFTER_LINK_END;
        if self.failed {
            Some(Gone::StoreFailed)
        } else if now.since(self.heard) >= patience.limit(&self.gaps) {
            Some(Gone::Silent)
        } else if self.link_ended.is_some_and(|ended| now.since(ended) >= after_link_end) {
            Some(Gone::LinkEnded)
        } else {
            None
        }
    }

    /// It was heard since this ECS started.
    pub(super) fn spoke(&self) -> bool {
        self.spoke
    }

    /// The view that it reported last.
    pub(super) fn view(&self) -> Epoch {
        self.views.view
    }

    /// It says in its hello which view it has.
    pub(super) fn begins_with(&mut self, view: Epoch) {
        self.views.view = view;
    }

    /// It reports a view in its heartbeat, while `own` is the newest one.
    pub(super) fn on_view(&mut self, now: Time, view: Epoch, own: Epoch) {
        if view != self.views.view || view >= own {
            self.views.since = now;
        }
        self.views.view = view;
    }

    /// For how long it has reported a view that is older than `own`.
    pub(super) fn lags_behind(&self, own: Epoch, now: Time) -> Duration {
        if self.views.view < own && self.heartbeat.is_some() {
            now.since(self.views.since)
        } else {
            Duration::ZERO
        }
    }

    /// Whether it was heard since this ECS started, and recently: a server that was down is back.
    pub(super) fn back(&self, now: Time, patience: &Patience) -> bool {
        self.spoke && self.gone(now, patience).is_none()
    }

    /// Whether it is heard, on an open link.
    pub(super) fn lives(&self, now: Time, patience: &Patience) -> bool {
        self.spoke && !self.failed && self.link_ended.is_none() && !self.doubtful(now, patience)
    }

    /// Whether it has been silent for a few heartbeats: no proof, but it supports what other servers report.
    pub(super) fn doubtful(&self, now: Time, patience: &Patience) -> bool {
        now.since(self.heard) >= patience.doubt(&self.gaps)
    }

    /// It was heard, is silent for this long, and nothing else is wrong with it.
    fn is_only_silent(&self, now: Time, at_least: Duration) -> bool {
        self.spoke && !self.failed && self.link_ended.is_none() && now.since(self.heard) >= at_least
    }

    pub(super) fn rhythm(&self, now: Time, timers: &Timers) -> Rhythm<'_> {
        let is_silent = self.is_only_silent(now, timers.heartbeat * HEARTBEATS_AFTER_LINK_END);
        Rhythm { gaps: &self.gaps, is_silent }
    }

    /// Asserts what must be true between steps.
    pub(super) fn invariants(&self, server: ServerId) {
        assert_eq!(self.sender.server, server, "a process is kept by its server");
        assert!(self.spoke || self.heartbeat.is_none(), "what was never heard has sent no heartbeat");
        assert!(self.heartbeat.is_none_or(|at| at <= self.heard), "a heartbeat is heard");
    }

    pub(super) fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    pub(super) fn on_heartbeat(&mut self, now: Time, requests: u64, load: Load) {
        let since = self.heartbeat.map_or(Duration::ZERO, |before| now.since(before));
        let rate = if since.is_zero() { 0.0 } else { requests as f64 / since.as_secs_f64() };
        // Smoothed over about ten heartbeats: a single interval is too short for a steady figure.
        let before = self.load.requests_per_second;
        self.load = Load { requests_per_second: before + (rate - before) / 10.0, ..load };
        self.heartbeat = Some(now);
    }

    /// Notes a push; `false` when the last one was only just.
    pub(super) fn may_push(&mut self, now: Time) -> bool {
        let due = self.views.pushed.is_none_or(|before| now.since(before) >= PUSH_INTERVAL_MIN);
        if due {
            self.views.pushed = Some(now);
        }
        due
    }

    pub(super) fn on_pushed(&mut self, now: Time) {
        self.views.pushed = Some(now);
    }
}

/// Copies that count, and of which their servers say that they are not what they should be.
pub(super) type FailedCopies = BTreeSet<(PartitionId, Member)>;

/// P5: those of them that lack entries which they had acknowledged, as their coordinators say.
pub(super) type LostEntries = BTreeSet<(PartitionId, Member)>;

/// P1: coordinators that want another member to coordinate, as its log is too far ahead of their own.
pub(super) type Yields = BTreeMap<PartitionId, Yield>;

/// See [`Yields`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Yield {
    /// The partition's epoch at the coordinator.
    pub(super) epoch: Epoch,
    /// The coordinator.
    pub(super) from: ServerId,
    /// The member with the longest log.
    pub(super) to: ServerId,
}

/// P2: partitions whose coordinators have stopped, as a member holds committed entries that the coordinator's log
/// lacks.
pub type Disagreements = BTreeMap<PartitionId, Disagreement>;

/// See [`Disagreements`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The epoch in which it was found.
    pub epoch: Epoch,
    /// The coordinator, whose log lacks them.
    pub coordinator: ServerId,
    /// The member that has them.
    pub member: ServerId,
    /// They are committed up to here, as that member knows.
    pub commit: Seq,
}

impl Disagreement {
    /// R7: an operator has said from which copy the partition goes on.
    pub(super) fn is_decided(&self, view: &View, partition: PartitionId) -> bool {
        view.forced.get(&partition).is_some_and(|forced| *forced > self.epoch)
    }
}

/// A coordinator's complaint about a silent member.
#[derive(Clone, Copy, Debug)]
struct Complaint {
    /// The partition's epoch at the coordinator.
    epoch: Epoch,
    first: Time,
    last: Time,
}

/// The complaints, by partition and silent member.
#[derive(Clone, Debug, Default)]
pub(super) struct Complaints(BTreeMap<(PartitionId, ServerId), Complaint>);

impl Complaints {
    /// Notes a complaint. It goes on from an earlier one of the same epoch if that is not long ago.
    pub(super) fn on_silent(
        &mut self,
        key: (PartitionId, ServerId),
        epoch: Epoch,
        now: Time,
        timers: &Timers,
    ) {
        let new = Complaint { epoch, first: now, last: now };
        let complaint = self.0.entry(key).or_insert(new);
        if complaint.epoch != epoch || now.since(complaint.last) >= timers.dead + timers.report {
            *complaint = new;
        }
        assert!(complaint.first <= now, "time goes on");
        complaint.last = now;
        assert_eq!(complaint.epoch, epoch, "a complaint is about one epoch");
    }

    /// The complaint of this epoch about a member, if it goes on: since when, and whether it has lasted for `limit`.
    pub(super) fn of(
        &self,
        key: (PartitionId, ServerId),
        epoch: Epoch,
        now: Time,
        limit: Duration,
        timers: &Timers,
    ) -> Option<(Time, bool)> {
        let complaint = self.0.get(&key).filter(|complaint| complaint.epoch == epoch)?;
        let lasting = complaint.last.since(complaint.first) >= limit;
        (now.since(complaint.last) < timers.dead + timers.report).then_some((complaint.first, lasting))
    }

    /// Asserts what must be true between steps.
    pub(super) fn invariants(&self) {
        assert!(self.0.values().all(|complaint| complaint.first <= complaint.last));
    }

    /// A member is a new process: what was said of the former one is over.
    pub(super) fn forget(&mut self, member: ServerId) {
        self.0.retain(|&(_, server), _| server != member);
    }

    /// Forgets complaints of epochs that are over.
    pub(super) fn retain(&mut self, is_present: impl Fn(PartitionId, Epoch) -> bool) {
        self.0.retain(|&(partition, _), complaint| is_present(partition, complaint.epoch));
    }
}
