//! What is known of the servers' processes and forgotten at a restart: who was heard when, and what they said.
//!
//! Detection of failures: a server is gone when it has been silent for `dead`, or, if its link ended, for a few
//! heartbeats. The end of a link alone is a suspicion only. Whether anybody may be removed at all, the machine
//! decides (the quiet time).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::{Epoch, LogId, PartitionId, ServerId};
use common::limits::Timers;
use common::messages::Sender;
use common::status::TransferStatus;
use common::time::Time;
use common::view::Member;

use crate::limits::{HEARTBEATS_AFTER_LINK_END, PUSH_INTERVAL_MIN};

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

/// Load as told in heartbeats.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) requests_per_second: f64,
}

/// One server's process.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Only what this process says counts.
    pub(super) sender: Sender,
    /// When it was last heard, or when waiting for it began.
    heard: Time,
    /// It was heard since this ECS started.
    spoke: bool,
    /// When this process was first heard.
    pub(super) since: Time,
    link_ended: Option<Time>,
    /// Its store failed: whatever it still says does not count.
    pub(super) failed: bool,
    /// The view that it said it has.
    pub(super) view: Epoch,
    pushed: Option<Time>,
    pub(super) heartbeat: Option<Time>,
    pub(super) load: Load,
    /// Partitions that its disk holds data of, and the last entry of each log, as told at its start.
    pub(super) leftovers: BTreeMap<PartitionId, LogId>,
    /// Copies that it sends to others, as it told last.
    pub(super) transfers: Vec<TransferStatus>,
}

impl Peer {
    /// A process that is expected to be heard, from now on.
    pub(super) fn new(sender: Sender, now: Time) -> Self {
        Self {
            sender,
            heard: now,
            spoke: false,
            since: now,
            link_ended: None,
            failed: false,
            view: Epoch::default(),
            pushed: None,
            heartbeat: None,
            load: Load::default(),
            leftovers: BTreeMap::new(),
            transfers: Vec::new(),
        }
    }

    pub(super) fn hear(&mut self, now: Time) {
        self.heard = now;
        self.spoke = true;
        self.link_ended = None;
    }

    pub(super) fn on_link_ended(&mut self, now: Time) {
        self.link_ended.get_or_insert(now);
    }

    /// Why it counts as gone, if it does.
    pub(super) fn gone(&self, now: Time, timers: &Timers) -> Option<Gone> {
        let after_link_end = timers.heartbeat * HEARTBEATS_AFTER_LINK_END;
        if self.failed {
            Some(Gone::StoreFailed)
        } else if now.since(self.heard) >= timers.dead {
            Some(Gone::Silent)
        } else if self.link_ended.is_some_and(|ended| now.since(ended) >= after_link_end) {
            Some(Gone::LinkEnded)
        } else {
            None
        }
    }

    /// It was really heard, and lately: a server that was down is back.
    pub(super) fn back(&self, now: Time, timers: &Timers) -> bool {
        self.spoke && self.gone(now, timers).is_none()
    }

    /// Silent for a few heartbeats: no proof, but it supports what others say.
    pub(super) fn doubtful(&self, now: Time, timers: &Timers) -> bool {
        now.since(self.heard) >= timers.heartbeat * HEARTBEATS_AFTER_LINK_END
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
        let due = self.pushed.is_none_or(|before| now.since(before) >= PUSH_INTERVAL_MIN);
        if due {
            self.pushed = Some(now);
        }
        due
    }

    pub(super) fn on_pushed(&mut self, now: Time) {
        self.pushed = Some(now);
    }
}

/// Copies that count, and of which their servers say that they are not what they should be.
pub(super) type FailedCopies = BTreeSet<(PartitionId, Member)>;

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
        complaint.last = now;
    }

    /// Whether there is a complaint of this epoch about a member, and whether it has lasted for long.
    pub(super) fn of(
        &self,
        key: (PartitionId, ServerId),
        epoch: Epoch,
        now: Time,
        timers: &Timers,
    ) -> Option<bool> {
        let complaint = self.0.get(&key).filter(|complaint| complaint.epoch == epoch)?;
        let lasting = complaint.last.since(complaint.first) >= timers.dead;
        (now.since(complaint.last) < timers.dead + timers.report).then_some(lasting)
    }

    /// Forgets complaints of epochs that are over.
    pub(super) fn retain(&mut self, is_present: impl Fn(PartitionId, Epoch) -> bool) {
        self.0.retain(|&(partition, _), complaint| is_present(partition, complaint.epoch));
    }
}
