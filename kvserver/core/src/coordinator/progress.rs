//! What the coordinator knows of one member, and how far it has brought it.

use std::collections::VecDeque;
use std::time::Duration;

use common::ids::{Incarnation, LogId, Nonce, Seq};
use common::messages::{ProcessId, Run};
use common::time::Time;
use common::view::Member;

use super::super::limits::{RESEND, RESEND_MAX, STREAM_WINDOW_BYTES};
use super::super::transfer::sender::Sending;

/// The log that a member says it has.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(super) base: LogId,
    pub(super) last: LogId,
    pub(super) runs: Vec<Run>,
}

/// The stage of a member at its coordinator, as in etcd's raft.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is asked what its log has.
    Probe {
        /// When it was last asked.
        asked: Option<Time>,
    },
    /// Entries are sent to it.
    Stream(Stream),
    /// It gets a copy of the state.
    Snapshot(Box<Sending>),
}

/// The log on its way to a member.
#[derive(Debug)]
pub(super) struct Stream {
    /// The common point of both logs when it was probed.
    pub(super) common: LogId,
    /// The next entry to send.
    pub(super) next: Seq,
    /// By append in flight: last entry and bytes.
    pub(super) in_flight: VecDeque<(Seq, usize)>,
    /// Entries for it are being read back.
    pub(super) reading: bool,
    /// The commit that it was last sent.
    pub(super) sent_commit: Seq,
    /// It has acknowledged nothing since it was probed: the coordinator asks for an acknowledgement, even without new
    /// entries.
    pub(super) fresh: bool,
}

impl Stream {
    /// Begins after the common point.
    pub(super) fn after(common: LogId) -> Self {
        let (next, in_flight) = (common.seq.next(), VecDeque::new());
        Self { common, next, in_flight, reading: false, sent_commit: Seq::default(), fresh: true }
    }

    fn invariants(&self, last: Seq, commit: Seq) {
        assert!(self.sent_commit <= commit, "it was sent a commit to come");
        assert!(!self.fresh || self.in_flight.len() <= 1, "the first append of an epoch travels alone (P2)");
        let before_last = self.in_flight.len().saturating_sub(1);
        let window: usize = self.in_flight.iter().take(before_last).map(|(_, bytes)| *bytes).sum();
        assert!(window < STREAM_WINDOW_BYTES, "bytes in flight are bounded");
        assert!(self.common.seq < self.next && self.next <= last.next(), "sent from the common point on");
        let sent = || self.in_flight.iter().map(|(sent, _)| *sent);
        assert!(sent().zip(sent().skip(1)).all(|(one, next)| one <= next), "appends leave in order");
        assert!(sent().all(|sent| sent < self.next), "what is in flight was sent");
    }
}

/// What the coordinator knows of one member.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) member: Member,
    /// Its process, once that has said what its log has; acknowledgements of another process do not count (S2).
    pub(super) process: Option<ProcessId>,
    /// What it said about its log.
    pub(super) claim: Option<Claim>,
    pub(super) stage: Stage,
    /// The last entry that it acknowledged in this epoch; `None`: none yet. With the no-op of the epoch it is in step.
    pub(super) acked: Option<Seq>,
    /// P5: the last entry that any process of the member has acknowledged in this epoch.
    pub(super) acked_by_any: Option<Seq>,
    /// P4: its last acknowledgement was clean: no read lease that it gave may still run.
    pub(super) clean: bool,
    /// When it last made progress, and the present time-out.
    pub(super) moved: Time,
    pub(super) patience: Duration,
    /// The first entry that the log is to keep for it: it has what comes before, or gets it with a copy. `None` when
    /// the entries that it lacks cannot be applied, and so trimmed, without its acknowledgement, or when it is silent.
    pub(super) retained: Option<Seq>,
    /// Since when an answer is awaited of it, as [`Context::watched`](crate::context::Context::watched) counts; for
    /// reports of silence.
    pub(super) awaited: Option<Time>,
}

impl Progress {
    pub(super) fn new(member: Member, now: Time) -> Self {
        Self {
            member,
            process: None,
            claim: None,
            stage: Stage::Probe { asked: None },
            acked: None,
            acked_by_any: None,
            clean: false,
            moved: now,
            patience: RESEND,
            retained: None,
            awaited: None,
        }
    }

    /// The incarnation of its process.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.process.map(|process| process.incarnation).unwrap_or_default()
    }

    /// The process that the next append brings in step; `None` when it has acknowledged since it was probed.
    pub(super) fn asks_to_sync(&self) -> Option<Nonce> {
        let is_fresh = matches!(&self.stage, Stage::Stream(stream) if stream.fresh);
        let process = self.process.map(|process| process.nonce).unwrap_or_default();
        (self.acked.is_none() || is_fresh).then_some(process)
    }

    /// Asks again what its log has.
    pub(super) fn probe_again(&mut self) {
        self.claim = None;
        self.stage = Stage::Probe { asked: None };
    }

    pub(super) fn on_moved(&mut self, now: Time) {
        self.moved = now;
        self.patience = RESEND;
        self.awaited = None;
    }

    /// Sends again from what was acknowledged, or asks again what its log has.
    pub(super) fn rewind(&mut self, now: Time) {
        self.moved = now;
        match &mut self.stage {
            Stage::Probe { asked } => *asked = None,
            Stage::Stream(stream) => {
                let common = stream.common.seq;
                stream.next = self.acked.unwrap_or(common).max(common).next();
                stream.in_flight.clear();
                stream.sent_commit = Seq::default();
            }
            Stage::Snapshot(sending) => sending.rewind(),
        }
    }

    pub(super) fn has_open_snapshot(&self) -> bool {
        matches!(&self.stage, Stage::Snapshot(sending) if sending.is_open())
    }

    /// Whether something was sent that is not answered.
    pub(super) fn waits(&self, last: Seq) -> bool {
        match &self.stage {
            Stage::Stream(stream) => stream.fresh || self.acked.is_none_or(|acked| acked < last),
            // After its answer the member waits for the log of the epoch.
            Stage::Probe { .. } => self.claim.is_none(),
            Stage::Snapshot(_) => true,
        }
    }

    /// Asserts what must be true after every step. `last`: the end of the log.
    pub(super) fn invariants(&self, last: Seq, commit: Seq, latest: Time) {
        let is_of_member =
            |process: ProcessId| (process.server, process.store) == (self.member.server, self.member.store);
        assert!(self.process.is_none_or(is_of_member), "a process of another member counts");
        assert!(self.process.is_some() || self.claim.is_none(), "no process has said what its log has");
        assert!(self.process.is_some() || self.acked.is_none(), "no process has acknowledged");
        assert!(self.acked.is_some() || !self.clean, "it is clean and has acknowledged nothing (P4)");
        assert!((RESEND..=RESEND_MAX).contains(&self.patience), "the time-out is within its limits");
        assert!(self.moved <= latest, "it made progress in the future");
        assert!(self.acked.is_none_or(|acked| acked <= last), "acknowledged what was never sent");
        assert!(self.acked <= self.acked_by_any, "an acknowledgement is forgotten");
        assert!(self.retained.is_none_or(|first| first <= last.next()), "the log is kept beyond its end");
        match &self.stage {
            Stage::Probe { .. } => {}
            Stage::Stream(stream) => {
                assert!(self.process.is_some() && self.claim.is_some(), "sent to before it has answered");
                stream.invariants(last, commit);
            }
            Stage::Snapshot(sending) => sending.invariants(),
        }
    }
}
