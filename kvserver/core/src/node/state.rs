//! What a server's core keeps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use common::ids::{ClusterId, Epoch, PartitionId, RebuildId, ServerId};
use common::messages::{CopyState, ProcessId, Promised};
use common::ring::Partitions;
use common::time::{Now, Time};
use common::view::View;

use super::forwards::Forwards;
use super::future_epochs::FutureEpochs;
use super::unheard::Unheard;

use super::super::compare::Turns;
use super::super::config::Config;
use super::super::context::first_number;
use super::super::coordinator::state::Coordinator;
use super::super::env::Env;
use super::super::limits::{READ_LEASE_QUESTIONS, STALLED};
use super::super::partition::Partition;
use super::super::partition::recovered::RecoveredCopy;
use super::super::partition_set::PartitionSet;
use super::super::process::Processes;

/// The newest view that is known, though perhaps not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Newest {
    pub(super) number: Epoch,
    /// The rebuild of the ECS that it comes from.
    pub(super) rebuild: Option<RebuildId>,
}

/// When something is done next.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) ping: Time,
    pub(super) heartbeat: Time,
    pub(super) watch_look: Time,
}

/// What the last heartbeats and reports said.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// The state of each copy as the last heartbeats reported it.
    pub(super) copies: BTreeMap<PartitionId, CopyState>,
    /// Copies that changed since.
    pub(super) changed: PartitionSet,
    /// Whether the last report of transfers named any.
    pub(super) transfers: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Node {
    pub(super) env: Env,
    pub(super) copies: Vec<Partition>,
    /// Copies found on disk, before a view has said how many partitions there are.
    pub(super) recovered: BTreeMap<PartitionId, RecoveredCopy>,
    pub(super) processes: Processes,
    pub(super) newest: Newest,
    /// Messages of epochs that no view has named yet.
    pub(super) future_epochs: FutureEpochs,
    pub(super) unheard: Unheard,
    pub(super) forwards: Forwards,
    /// When a newer view was last asked for, by server.
    pub(super) wanted: BTreeMap<ServerId, Time>,
    /// Questions for read leases: their numbers, and when they left.
    pub(super) read_questions: VecDeque<(u64, Time)>,
    pub(super) next: Next,
    /// Copies that the passing of time alone may give something to do.
    pub(super) busy: PartitionSet,
    pub(super) reported: Reported,
    /// Copies that are being settled; empty between batches.
    pub(super) settling: PartitionSet,
    pub(super) turns: Turns,
}

/// Facts of a copy, for checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFacts {
    /// The epoch that the copy is in.
    pub epoch: Epoch,
    /// It coordinates and may acknowledge.
    pub active: bool,
    /// It coordinates and may read at the time asked for.
    pub may_read: bool,
    /// The last log entry.
    pub last: u64,
    /// The last log entry on disk.
    pub durable: u64,
    /// The last log entry known to be committed.
    pub commit: u64,
    /// The last log entry applied.
    pub applied: u64,
    /// It is a replica with a read lease at the time asked for.
    pub has_read_lease: bool,
}

impl Node {
    /// A core with the copies that were found on disk.
    #[must_use]
    pub fn new(
        config: Config,
        me: ProcessId,
        view: Option<Arc<View>>,
        recovered: BTreeMap<PartitionId, RecoveredCopy>,
        now: Now,
    ) -> Self {
        let none = Arc::new(View::new(ClusterId(0), Epoch::default(), Partitions::default()));
        let mut node = Self {
            env: Env::new(config, me, none, now),
            copies: Vec::new(),
            recovered,
            processes: Processes::default(),
            newest: Newest::default(),
            future_epochs: FutureEpochs::default(),
            unheard: Unheard::default(),
            forwards: Forwards::after(first_number(me)),
            wanted: BTreeMap::new(),
            read_questions: VecDeque::new(),
            next: Next { ping: now.time, heartbeat: now.time, watch_look: now.time },
            busy: PartitionSet::default(),
            reported: Reported::default(),
            settling: PartitionSet::default(),
            turns: Turns::default(),
        };
        if let Some(view) = view {
            node.newest = Newest { number: view.number, rebuild: view.rebuild };
            node.use_view(view);
        }
        node
    }

    /// Sets the promise to a rebuilt ECS that was found on disk.
    #[must_use]
    pub fn promised(mut self, promised: Option<Promised>) -> Self {
        self.env.cx.promised = promised;
        self
    }

    /// The view in use; number 0 before the first.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.env.cx.view
    }

    /// Asserts what must be true after every step; for tests and simulations.
    pub fn invariants(&self) {
        self.env.invariants();
        self.batch_invariants();
        self.copy_invariants();
        self.count_invariants();
        self.watch_invariants();
        self.question_invariants();
        self.forwards.invariants(&self.env.cx);
        self.future_epochs.invariants();
        self.unheard.invariants(self.env.cx.me.server, self.env.cx.watched() + STALLED);
        self.turns.invariants();
    }

    /// Asserts that the batch has ended, and that the view in use is a known one.
    fn batch_invariants(&self) {
        assert!(self.settling.is_empty() && self.env.touched.is_empty(), "all that was touched is settled");
        assert!(self.env.requests.unrouted.is_empty(), "each request is on its way");
        assert!(self.env.promises.to_confirm.is_empty(), "the pings that reads wait for have left");
        let (used, known) = (&self.env.cx.view, &self.newest);
        assert!(used.number <= known.number, "a view is used that is not known");
        assert!(used.number != known.number || used.rebuild == known.rebuild, "one number, two views");
    }

    fn copy_invariants(&self) {
        for (index, copy) in self.copies.iter().enumerate() {
            let id = copy.id();
            assert_eq!(usize::from(id.0), index, "copies are in the order of their partitions");
            assert!(!self.recovered.contains_key(&id), "partition {id}: a copy is found once");
            assert!(self.busy.contains(id) || !copy.is_busy(), "partition {id}: no tick moves it on");
            copy.invariants(&self.env);
        }
        let exists = |id: PartitionId| usize::from(id.0) < self.copies.len();
        assert!(self.busy.iter().all(exists), "a copy is busy that does not exist");
        assert!(self.reported.copies.keys().copied().all(exists), "a copy is reported that does not exist");
        let mut reads = self.env.requests.reads.values().map(|read| read.partition);
        assert!(reads.all(exists), "a read of a copy that does not exist");
    }

    /// Asserts that what is counted for all copies is what they have.
    fn count_invariants(&self) {
        let (mut pending, mut parked, mut open) = (0, 0, 0);
        for copy in &self.copies {
            let (of_pending, of_parked) = copy.state().waiting.bytes();
            pending += of_pending;
            parked += of_parked;
            open += copy.coordinator().map_or(0, Coordinator::open_snapshots);
        }
        assert_eq!((pending, parked), (self.env.budgets.pending.bytes(), self.env.budgets.parked.bytes()));
        assert_eq!(open, self.env.transfers.open, "the snapshots that are counted are open");
    }

    fn question_invariants(&self) {
        let numbers = || self.read_questions.iter().map(|(n, _)| *n);
        assert!(
            numbers().zip(numbers().skip(1)).all(|(one, next)| one < next),
            "questions are numbered upwards"
        );
        let last = self.env.requests.last_question;
        assert!(numbers().all(|n| n <= last), "a question that was never asked");
        assert!(self.read_questions.len() <= READ_LEASE_QUESTIONS, "questions are bounded");
        assert!(!self.wanted.contains_key(&self.env.cx.me.server), "a server asks itself for a view");
    }

    pub(super) fn with(&mut self, partition: PartitionId, act: impl FnOnce(&mut Partition, &mut Env)) {
        if let Some(copy) = self.copies.get_mut(usize::from(partition.0)) {
            act(copy, &mut self.env);
            self.env.touched.insert(partition);
        }
    }
}
