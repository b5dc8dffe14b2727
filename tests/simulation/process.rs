//! A running process of a server: its core, and the store's part of the shell.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{PartitionId, Seq};
use common::messages::{Digest, Entry};
use common::operation::{Command, Outcome};
use kvserver_core::testkit::{Store, StoreHost, Tree};
use kvserver_core::{Effect, Input, Later, Node, Token};

use super::disk::Disk;
use super::truth::Truth;

/// Pairs in a chunk of a copy: few, so that copies take several chunks.
const CHUNK_PAIRS: usize = 2;

/// A running process.
pub(crate) struct Process {
    pub(crate) node: Node,
    pub(super) inbox: Vec<Input>,
    pub(super) running: bool,
    pub(super) work: VecDeque<Effect>,
    pub(super) working: bool,
    pub(super) syncing: bool,
    pub(super) store: Store,
    /// A planted bug: results are not looked at when an entry is applied.
    applies_again: bool,
    pub(super) pins: BTreeMap<PartitionId, Seq>,
    pub(super) waiting: BTreeMap<Token, Waiting>,
    pub(super) last_token: u64,
    /// Commit and applied of each partition when it was last looked at.
    pub(super) seen: Vec<(u64, u64)>,
    /// Digests that are being made.
    digesting: VecDeque<Input>,
    /// The start of the ECS that it said hello to.
    pub(crate) linked: Option<u64>,
}

/// A request of a client.
pub(super) struct Waiting {
    pub(super) client: usize,
    pub(super) call: u64,
    pub(super) partition: Option<PartitionId>,
}

impl Process {
    pub(super) fn new(node: Node, trees: BTreeMap<PartitionId, Tree>, applies_again: bool) -> Self {
        Self {
            applies_again,
            node,
            inbox: Vec::new(),
            running: false,
            work: VecDeque::new(),
            working: false,
            syncing: false,
            store: Store::new(trees, CHUNK_PAIRS),
            pins: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_token: 0,
            seen: Vec::new(),
            digesting: VecDeque::new(),
            linked: None,
        }
    }

    /// It keeps parts of its log for copies under way.
    pub(super) fn has_pins(&self) -> bool {
        !self.pins.is_empty()
    }

    /// A digest that was being made is made.
    pub(super) fn finish_digest(&mut self) {
        self.inbox.extend(self.digesting.pop_front());
    }

    /// Does what the core wants of the store. `misreads`: digests come out wrong.
    pub(super) fn execute(
        &mut self,
        disk: &mut Disk,
        truth: &mut Truth,
        work: Effect,
        misreads: bool,
    ) -> Option<Input> {
        let mut host = Host { disk, truth, applies_again: self.applies_again, misreads };
        let Effect::Later(work) = work else { unreachable!("{work:?} is nothing for the store") };
        assert!(!matches!(work, Later::Apply { with_changes: true, .. }), "no client watches here");
        let found = self.store.carry_out(&mut host, work).expect("something for the store");
        let (digests, found): (Vec<Input>, Vec<Input>) =
            found.into_iter().partition(|input| matches!(input, Input::Digested { .. }));
        self.digesting.extend(digests);
        let mut found = found.into_iter().next();
        if let Some(Input::SnapshotOpened { bytes, .. }) = &mut found {
            *bytes = 0;
        }
        found
    }
}

/// The disk below a store, and the truth about the run.
struct Host<'a> {
    disk: &'a mut Disk,
    truth: &'a mut Truth,
    /// A planted bug: results are not looked at when an entry is applied.
    applies_again: bool,
    misreads: bool,
}

impl StoreHost for Host<'_> {
    /// Entries of the log from a place on, a few of them.
    fn read_log(&mut self, partition: PartitionId, from: Seq) -> Option<Vec<Entry>> {
        /// Entries that one read gives: few, so that a longer log takes several.
        const ENTRIES_MAX: usize = 7;
        let log = self.disk.written.logs.get(&partition)?;
        if from <= log.base.seq {
            return None;
        }
        let entries: Vec<_> =
            log.entries.range(from..).take(ENTRIES_MAX).map(|(_, entry)| entry.clone()).collect();
        (!entries.is_empty()).then_some(entries)
    }

    fn keep_staged(&mut self, tree: Tree) -> u32 {
        self.disk.stage(tree)
    }

    fn staged(&mut self, generation: u32) -> Tree {
        self.disk.staged(generation)
    }

    fn body_of(&self, entry: &Entry) -> Bytes {
        if !self.applies_again {
            return entry.body.clone();
        }
        let command = Command::from_wire(entry.body.clone()).expect("an entry as it was ordered");
        Command { origin: None, ..command }.to_wire()
    }

    fn on_applied(&mut self, partition: PartitionId, entry: &Entry, outcome: &Outcome, tree: &Tree) {
        self.truth.on_applied(partition, entry.id, &entry.body, outcome, tree.digest());
    }

    fn on_installed(&mut self, partition: PartitionId, tree: &Tree) {
        self.truth.on_installed(partition, tree.applied, tree.digest());
    }

    fn digest(&mut self, tree: &Tree) -> Digest {
        let mut digest = tree.full_digest();
        digest.records += u64::from(self.misreads);
        digest
    }
}
