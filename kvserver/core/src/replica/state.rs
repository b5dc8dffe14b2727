//! What a replica knows in its epoch: how far it is with its coordinator, and the reads that wait.

use common::ids::{LogId, Seq, ServerId};
use common::time::Time;

use super::super::env::Env;
use super::super::io::ReadId;
use super::super::partition::state::PartitionState;
use super::super::requests::ReadKind;
use super::super::transfer::receiver::Receiving;
use super::pending_keys::LocalReads;

/// Reads that wait for the coordinator's commit, and then for this copy to reach it.
#[derive(Debug, Default)]
pub(super) struct IndexReads {
    /// Reads that came after the present question; they need the next one.
    pub(super) queued: Vec<ReadId>,
    /// The question under way: its number, when it was last asked, and the reads that it is for.
    pub(super) asked: Option<(u64, Time, Vec<ReadId>)>,
    /// Reads that wait until the commit that the coordinator named is applied.
    pub(super) ready: Vec<(Seq, ReadId)>,
}

impl IndexReads {
    /// Takes those of the reads out that wait for the coordinator's commit and match.
    pub(super) fn take_waiting(&mut self, matches: impl Fn(&ReadId) -> bool) -> Vec<ReadId> {
        let mut taken: Vec<ReadId> = self.queued.extract_if(.., |id| matches(id)).collect();
        if let Some((_, _, reads)) = &mut self.asked {
            taken.extend(reads.extract_if(.., |id| matches(id)));
            if reads.is_empty() {
                self.asked = None;
            }
        }
        taken
    }

    /// Asserts what must be true after every step.
    fn invariants(&self, applied: Seq, env: &Env) {
        let requests = &env.requests;
        if let Some((n, at, reads)) = &self.asked {
            assert!(*n <= requests.last_question, "a question that was never asked");
            assert!(*at <= env.cx.latest(), "asked in the future");
            assert!(!reads.is_empty(), "a question for no read");
        }
        assert!(self.ready.iter().all(|(seq, _)| *seq > applied), "a read waits for no entry");
        let asked = self.asked.iter().flat_map(|(_, _, reads)| reads);
        let all = asked.chain(&self.queued).chain(self.ready.iter().map(|(_, id)| id));
        let mut reads = all.filter_map(|id| requests.reads.get(id));
        assert!(reads.all(|read| matches!(read.kind, ReadKind::ByIndex)), "a read that needs no index waits");
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(super) coordinator: ServerId,
    /// An acknowledgement is to be sent as soon as the disk allows.
    pub(super) ack_due: bool,
    /// The last entry that was acknowledged.
    pub(super) acknowledged: Option<Seq>,
    pub(super) receiving: Option<Receiving>,
    pub(super) index: IndexReads,
    pub(super) alone: LocalReads,
    /// The last acknowledgement said `clean: false` (P4).
    pub(super) is_bound: bool,
    /// The log is a prefix of the coordinator's: it was cut to the common point in this epoch, by this process, or it
    /// was in step before. Not on disk: a restarted process is asked again, and may be cut again.
    pub(super) follows: bool,
    /// The commit when the coordinator first sent entries to this process.
    pub(super) probed_at: Option<Seq>,
    /// P1: the entry after which the coordinator asked for entries, while they are read back.
    pub(super) fetched: Option<LogId>,
    /// S4: the coordinator has asked what the log has, and the answer waits until this process may speak.
    pub(super) asked_to_sync: bool,
}

impl Replica {
    /// `last`: the end of the log.
    pub(crate) fn new(coordinator: ServerId, receiving: Option<Receiving>, last: Seq) -> Self {
        Self {
            coordinator,
            ack_due: false,
            acknowledged: None,
            receiving,
            index: IndexReads::default(),
            alone: LocalReads::new(last),
            is_bound: false,
            follows: false,
            probed_at: None,
            fetched: None,
            asked_to_sync: false,
        }
    }

    /// Keeps a copy that is being received, if the coordinator of the new epoch is the same.
    pub(crate) fn keep_receiving(self, coordinator: ServerId) -> Option<Receiving> {
        self.receiving.filter(|receiving| receiving.coordinator == coordinator)
    }

    pub(crate) fn coordinator(&self) -> ServerId {
        self.coordinator
    }

    pub(crate) fn take_reads(&mut self) -> Vec<ReadId> {
        let IndexReads { queued, asked, ready, .. } = std::mem::take(&mut self.index);
        let asked = asked.into_iter().flat_map(|(_, _, reads)| reads);
        asked.chain(queued).chain(ready.into_iter().map(|(_, read)| read)).collect()
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.index.queued.is_empty()
            || self.index.asked.is_some()
            || !self.index.ready.is_empty()
            || self.ack_due
            || self.is_bound
    }

    /// More of the log is on disk: an acknowledgement is to be sent as soon as all else allows.
    pub(crate) fn owe_ack(&mut self) {
        self.ack_due = true;
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, p: &PartitionState, env: &Env) {
        let last = p.log().last();
        assert!(!env.cx.is_me(self.coordinator), "a server follows itself");
        assert!(self.acknowledged.is_none_or(|acked| acked <= last), "what was acknowledged is never cut");
        let durable = p.log().durable();
        assert!(self.acknowledged.is_none_or(|acked| acked <= durable), "acknowledged before it was on disk");
        self.alone.invariants(last, env.cx.latest() + env.cx.config.timers.lease * 2);
        self.index.invariants(p.applied(), env);
        if let Some(receiving) = &self.receiving {
            receiving.invariants();
            assert_eq!(receiving.coordinator, self.coordinator, "a copy of a former coordinator is received");
            assert!(receiving.staging <= env.transfers.last_staging, "a number that was not given out");
        }
    }
}
