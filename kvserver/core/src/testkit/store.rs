//! A store in memory: the trees of a server, its open snapshots, and the copies that are being staged.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{PartitionId, Seq};
use common::messages::{Digest, Entry};
use common::operation::Outcome;

use super::super::ask::{Answer, Query};
use super::super::io::{Input, Later};
use super::tree::Tree;

/// What a store in memory leaves to the test around it: the disk, and what is checked.
pub trait StoreHost {
    /// Entries of the log from a position on, one at least; `None` if the log begins later.
    fn read_log(&mut self, partition: PartitionId, from: Seq) -> Option<Vec<Entry>>;

    /// Keeps a staged copy that is whole, and names it.
    fn keep_staged(&mut self, tree: Tree) -> u32;

    /// A copy that was kept.
    fn staged(&mut self, generation: u32) -> Tree;

    /// The body of an entry as it is to be applied.
    fn body_of(&self, entry: &Entry) -> Bytes {
        entry.body.clone()
    }

    /// An entry was applied.
    fn on_applied(&mut self, _: PartitionId, _: &Entry, _: &Outcome, _: &Tree) {}

    /// A staged copy has taken the place of a partition's records.
    fn on_installed(&mut self, _: PartitionId, _: &Tree) {}

    /// The digest of a tree as it is read.
    fn digest(&mut self, tree: &Tree) -> Digest {
        tree.full_digest()
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Store {
    /// The records of each partition.
    pub trees: BTreeMap<PartitionId, Tree>,
    snapshots: BTreeMap<(PartitionId, u64), Tree>,
    staging: BTreeMap<PartitionId, BTreeMap<Bytes, Bytes>>,
    /// Pairs in a chunk of a copy: few, so that copies take several chunks.
    chunk_pairs: usize,
}

impl Store {
    /// A store with these records.
    #[must_use]
    pub fn new(trees: BTreeMap<PartitionId, Tree>, chunk_pairs: usize) -> Self {
        Self { trees, snapshots: BTreeMap::new(), staging: BTreeMap::new(), chunk_pairs }
    }

    /// Carries out what the core wants of its store. Returns what comes in for it; the digests of copies are last, as
    /// they take longer. `None`: the effect is not for a store.
    pub fn carry_out(&mut self, host: &mut impl StoreHost, work: Later) -> Option<Vec<Input>> {
        Some(match work {
            Later::Apply { partition, entries, with_changes } => {
                self.apply(host, partition, entries, with_changes)
            }
            Later::Read { read, partition, query } => {
                vec![Input::Answered { read, answer: self.read(partition, query) }]
            }
            Later::ReadLog { partition, reader, from, .. } => {
                vec![Input::LogRead { partition, reader, entries: host.read_log(partition, from) }]
            }
            Later::OpenSnapshot { partition, transfer } => {
                let tree = self.trees.entry(partition).or_default().clone();
                let (state, bytes) = (tree.encoded_state(), tree.bytes());
                self.snapshots.insert((partition, transfer), tree);
                vec![Input::SnapshotOpened { partition, transfer, state, bytes }]
            }
            Later::ReadSnapshot { partition, transfer, index } => {
                let read = self.read_snapshot(partition, transfer, index);
                read.into_iter().collect()
            }
            Later::CloseSnapshot { partition, transfer } => {
                self.snapshots.remove(&(partition, transfer));
                Vec::new()
            }
            Later::Stage { partition, staging, index, pairs, done } => {
                if index == 0 {
                    self.staging.remove(&partition);
                }
                let staged = self.staging.entry(partition).or_default();
                staged.extend(pairs);
                let whole = done.map(|(base, state)| Tree::staged(staged.clone(), state, base));
                let generation = whole.map(|tree| host.keep_staged(tree));
                vec![Input::Staged { partition, staging, index, generation }]
            }
            Later::Install { partition, generation, .. } => {
                let tree = host.staged(generation).in_life(self.next_life(partition));
                host.on_installed(partition, &tree);
                self.trees.insert(partition, tree);
                Vec::new()
            }
            Later::Drop { partition } => {
                self.trees.insert(partition, Tree::default().in_life(self.next_life(partition)));
                Vec::new()
            }
            _ => return None,
        })
    }

    fn next_life(&self, partition: PartitionId) -> u64 {
        self.trees.get(&partition).map_or(0, |tree| tree.life) + 1
    }

    fn apply(
        &mut self,
        host: &mut impl StoreHost,
        partition: PartitionId,
        entries: Vec<Entry>,
        with_changes: bool,
    ) -> Vec<Input> {
        let tree = self.trees.entry(partition).or_default();
        let (mut outcomes, mut changes, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let (outcome, changed) = tree.apply(entry.id, host.body_of(&entry), with_changes);
            changes.extend(changed.map(|changed| (entry.id, changed)));
            host.on_applied(partition, &entry, &outcome, tree);
            if let Outcome::Compared { at } = outcome {
                digests.push(Input::Digested { partition, at, digest: Some(host.digest(tree)) });
            }
            outcomes.push(outcome);
        }
        let mut inputs = vec![Input::Applied { partition, outcomes, changes }];
        inputs.append(&mut digests);
        inputs
    }

    fn read(&self, partition: PartitionId, query: Query) -> Answer {
        let tree = self.trees.get(&partition);
        match query {
            Query::Get { key, bytes_max } => {
                let found = tree.and_then(|tree| tree.get(&key));
                Answer::to_get(&key, bytes_max, found)
            }
            Query::Scan { .. } => {
                Answer::Page { pairs: tree.map(Tree::scan).unwrap_or_default(), more: false }
            }
            Query::Keys { .. } | Query::Count { .. } => Answer::Page { pairs: Vec::new(), more: false },
            Query::Nothing => Answer::Nothing,
        }
    }

    fn read_snapshot(&self, partition: PartitionId, transfer: u64, index: u64) -> Option<Input> {
        let pairs = self.snapshots.get(&(partition, transfer))?.pairs();
        let first = usize::try_from(index).expect("few chunks") * self.chunk_pairs;
        let done = first + self.chunk_pairs >= pairs.len();
        let pairs = pairs.into_iter().skip(first).take(self.chunk_pairs).collect();
        Some(Input::SnapshotRead { partition, transfer, index, pairs, done })
    }
}
