//! A running process of a server: its core, and the store's part of the shell.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use common::ids::{PartitionId, Seq};
use common::messages::Entry;
use common::operation::Outcome;
use kvserver_core::{Answer, Effect, Input, Later, Node, Query, Token};

use super::disk::Disk;
use super::tree::Tree;
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
    pub(super) trees: BTreeMap<PartitionId, Tree>,
    pictures: BTreeMap<(PartitionId, u64), Tree>,
    staging: BTreeMap<PartitionId, BTreeMap<Bytes, Bytes>>,
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
            trees,
            pictures: BTreeMap::new(),
            staging: BTreeMap::new(),
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
        match work {
            Effect::Later(Later::Apply { partition, entries, tell }) => {
                assert!(!tell, "nobody watches here");
                let tree = self.trees.entry(partition).or_default();
                let applies_again = self.applies_again;
                let outcomes = entries.into_iter().map(|entry| {
                    let outcome = tree.apply(entry.id, entry.body.clone(), applies_again);
                    truth.on_applied(partition, entry.id, &entry.body, &outcome, tree.digest());
                    if let Outcome::Compared { at } = outcome {
                        let mut digest = tree.full_digest();
                        digest.records += u64::from(misreads);
                        self.digesting.push_back(Input::Digested { partition, at, digest: Some(digest) });
                    }
                    outcome
                });
                let (outcomes, changes) = (outcomes.collect(), Vec::new());
                Some(Input::Applied { partition, outcomes, changes })
            }
            Effect::Later(Later::Read { read, partition, query }) => {
                let answer = match query {
                    Query::Get { key, bytes_max } => {
                        let found = self.trees.get(&partition).and_then(|tree| tree.get(&key));
                        Answer::to_get(&key, bytes_max, found)
                    }
                    Query::Scan { .. } => {
                        let pairs = self.trees.get(&partition).map(Tree::scan).unwrap_or_default();
                        Answer::Page { pairs, more: false }
                    }
                    Query::Keys { .. } | Query::Count { .. } => {
                        Answer::Page { pairs: Vec::new(), more: false }
                    }
                    Query::Nothing => Answer::Nothing,
                };
                Some(Input::Answered { read, answer })
            }
            Effect::Later(Later::ReadLog { partition, reader, from, .. }) => {
                Some(Input::LogRead { partition, reader, entries: read_log(disk, partition, from) })
            }
            Effect::Later(Later::OpenSnapshot { partition, transfer }) => {
                let tree = self.trees.entry(partition).or_default().clone();
                let state = tree.encoded_state();
                self.pictures.insert((partition, transfer), tree);
                Some(Input::SnapshotOpened { partition, transfer, state, bytes: 0 })
            }
            Effect::Later(Later::ReadSnapshot { partition, transfer, index }) => {
                let pairs = self.pictures.get(&(partition, transfer))?.pairs();
                let first = usize::try_from(index).expect("few chunks") * CHUNK_PAIRS;
                let done = first + CHUNK_PAIRS >= pairs.len();
                let pairs = pairs.into_iter().skip(first).take(CHUNK_PAIRS).collect();
                Some(Input::SnapshotRead { partition, transfer, index, pairs, done })
            }
            Effect::Later(Later::CloseSnapshot { partition, transfer }) => {
                self.pictures.remove(&(partition, transfer));
                None
            }
            Effect::Later(Later::Stage { partition, staging, index, pairs, done }) => {
                if index == 0 {
                    self.staging.remove(&partition);
                }
                let staged = self.staging.entry(partition).or_default();
                staged.extend(pairs);
                let generation =
                    done.map(|(base, state)| disk.stage(Tree::staged(staged.clone(), state, base)));
                Some(Input::Staged { partition, staging, index, generation })
            }
            Effect::Later(Later::Install { partition, generation, .. }) => {
                let life = self.trees.get(&partition).map_or(0, |tree| tree.life) + 1;
                let tree = disk.staged(generation).in_life(life);
                truth.on_installed(partition, tree.applied, tree.digest());
                self.trees.insert(partition, tree);
                None
            }
            Effect::Later(Later::Drop { partition }) => {
                let life = self.trees.get(&partition).map_or(0, |tree| tree.life) + 1;
                self.trees.insert(partition, Tree::default().in_life(life));
                None
            }
            other => unreachable!("{other:?} is nothing for the store"),
        }
    }
}

/// Entries of the log from a place on, a few of them.
fn read_log(disk: &Disk, partition: PartitionId, from: Seq) -> Option<Vec<Entry>> {
    /// Entries that one read gives: few, so that a longer log takes several.
    const ENTRIES_MAX: usize = 7;
    let log = disk.written.logs.get(&partition)?;
    if from <= log.base.seq {
        return None;
    }
    let entries: Vec<_> =
        log.entries.range(from..).take(ENTRIES_MAX).map(|(_, entry)| entry.clone()).collect();
    (!entries.is_empty()).then_some(entries)
}
