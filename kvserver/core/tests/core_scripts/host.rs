//! A core with a disk and a store, both as simple as can be: what is written is in a list until the script says that it
//! is on disk, and the store does at once what it is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{ClientId, Incarnation, LogId, Nonce, PartitionId, Seq, ServerId, StoreId};
use common::limits::Timers;
use common::messages::{Digest, Entry, PeerMessage, Promised, Run, Sender};
use common::operation::{Found, Outcome};
use common::time::{Now, Time, WallTime};
use common::view::View;
use kvserver_core::{
    Answer, COPY_FROM, Config, Effect, First, Input, Later, LogRecord, Mark, Node, PlantedBug, Query, Reads,
    Records, RecoveredCopy, State, Ticket, changes_of, decode_record, digest_record, encode_record,
};

/// The only partition.
pub(crate) const P: PartitionId = PartitionId(0);

#[derive(Clone, Debug, Default)]
struct Map(BTreeMap<Bytes, Bytes>);

/// A map, with what one entry writes to it.
struct Noting<'a> {
    map: &'a mut Map,
    written: Vec<(Bytes, Option<Bytes>)>,
}

impl Records for Noting<'_> {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        self.map.get(key)
    }

    fn put(&mut self, key: Bytes, record: Bytes) -> Result<(), Infallible> {
        self.written.push((key.clone(), Some(record.clone())));
        self.map.put(key, record)
    }

    fn remove(&mut self, key: Bytes) -> Result<(), Infallible> {
        self.written.push((key.clone(), None));
        self.map.remove(key)
    }
}

impl Records for Map {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: Bytes, record: Bytes) -> Result<(), Infallible> {
        self.0.insert(key, record);
        Ok(())
    }

    fn remove(&mut self, key: Bytes) -> Result<(), Infallible> {
        self.0.remove(&key);
        Ok(())
    }
}

#[derive(Clone, Debug, Default)]
struct Tree {
    map: Map,
    state: State,
    applied: Seq,
}

/// What a list of writes makes.
#[derive(Clone, Debug, Default)]
struct Content {
    view: Option<Arc<View>>,
    base: LogId,
    entries: BTreeMap<Seq, Entry>,
    mark: Bytes,
}

impl Content {
    fn take(&mut self, record: &LogRecord) {
        match record {
            LogRecord::Entry { entry, .. } => {
                self.entries.insert(entry.id.seq, entry.clone());
            }
            LogRecord::Cut { after, .. } => {
                self.entries.split_off(&after.next());
            }
            LogRecord::Mark { mark, .. } => self.mark = mark.clone(),
            LogRecord::Install { base, .. } => {
                self.base = *base;
                self.entries.clear();
            }
            LogRecord::Drop { .. } => *self = Self { view: self.view.clone(), ..Self::default() },
        }
    }

    fn recover(&self, applied: Seq) -> RecoveredCopy {
        let mut runs: Vec<Run> = Vec::new();
        for (&first, entry) in &self.entries {
            if runs.last().is_none_or(|run| run.tag != entry.id.tag) {
                runs.push(Run { tag: entry.id.tag, first });
            }
        }
        let last = self.entries.last_key_value().map_or(self.base.seq, |(&seq, _)| seq);
        let mark = Mark::decode(self.mark.clone()).expect("a mark as it was written");
        RecoveredCopy { base: self.base, runs, last, applied, mark }
    }
}

enum Write {
    Records(Vec<LogRecord>),
    View(Arc<View>),
    Promise(Option<Promised>),
}

/// See the module's text.
pub(crate) struct Host {
    id: ServerId,
    incarnation: u64,
    pub(crate) node: Option<Node>,
    /// Bytes a second, for the next start.
    pub(crate) transfer_rate: u64,
    pub(crate) copy_from: u64,
    /// Bytes that may wait, ordered or parked, from the next start on.
    pub(crate) waiting_bytes_max: usize,
    durable: Content,
    /// On disk: the promise to an ECS that is being rebuilt.
    promised: Option<Promised>,
    pub(crate) bug: Option<PlantedBug>,
    written: Content,
    waiting: VecDeque<(Ticket, Write)>,
    flushed: Tree,
    tree: Tree,
    staged: BTreeMap<Bytes, Bytes>,
    whole: Option<Tree>,
    /// What was staged and is not told yet, if that is wanted.
    pub(crate) held: Option<VecDeque<Input>>,
    picture: Option<Tree>,
    /// Keys whose records do not check.
    pub(crate) bad: BTreeSet<Bytes>,
    /// The next digest comes out wrong.
    pub(crate) misreads: bool,
    /// By receiver: messages that wait to be delivered.
    pub(crate) outgoing: BTreeMap<ServerId, VecDeque<PeerMessage>>,
}

impl Host {
    pub(crate) fn new(id: ServerId) -> Self {
        Self {
            id,
            incarnation: 0,
            node: None,
            transfer_rate: 0,
            copy_from: COPY_FROM,
            waiting_bytes_max: usize::MAX,
            durable: Content::default(),
            promised: None,
            bug: None,
            written: Content::default(),
            waiting: VecDeque::new(),
            flushed: Tree::default(),
            tree: Tree::default(),
            staged: BTreeMap::new(),
            whole: None,
            held: None,
            picture: None,
            bad: BTreeSet::new(),
            misreads: false,
            outgoing: BTreeMap::new(),
        }
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender {
            server: self.id,
            store: StoreId(self.id.0),
            incarnation: Incarnation(self.incarnation),
            nonce: Nonce(self.incarnation),
        }
    }

    pub(crate) fn start(&mut self, now: Time, reads: Reads) {
        self.incarnation += 1;
        let config = Config {
            timers: Timers::FAST,
            park: Duration::from_secs(2),
            reads,
            value_bytes_max: 1000,
            pending_bytes_max: self.waiting_bytes_max,
            parked_bytes_max: self.waiting_bytes_max,
            session: ClientId(self.id.0 << 64 | u128::from(self.incarnation)),
            transfer_rate: self.transfer_rate,
            copy_from: self.copy_from,
            bug: self.bug,
        };
        let copies = BTreeMap::from([(P, self.durable.recover(self.flushed.applied))]);
        let view = self.durable.view.clone();
        self.tree = self.flushed.clone();
        self.node = Some(Node::new(config, self.sender(), view, copies, at(now)).promised(self.promised));
    }

    pub(crate) fn crash(&mut self) {
        self.node = None;
        self.waiting.clear();
        self.outgoing.clear();
        self.written = self.durable.clone();
    }

    /// The file of the view is gone from the disk.
    pub(crate) fn lose_view(&mut self) {
        for content in [&mut self.written, &mut self.durable] {
            content.view = None;
        }
    }

    pub(crate) fn flush(&mut self) {
        self.flushed = self.tree.clone();
    }

    /// The commit log loses the entries up to a place.
    pub(crate) fn trim(&mut self, seq: Seq) -> Input {
        let base = self.written.entries.get(&seq).expect("an entry of the log").id;
        for content in [&mut self.written, &mut self.durable] {
            content.entries = content.entries.split_off(&seq.next());
            content.base = base;
        }
        Input::Trimmed { partition: P, seq }
    }

    /// All that was written is on disk.
    pub(crate) fn sync(&mut self) -> Option<Input> {
        let mut last = None;
        for (ticket, write) in std::mem::take(&mut self.waiting) {
            match write {
                Write::Records(records) => records.iter().for_each(|record| self.durable.take(record)),
                Write::View(view) => self.durable.view = Some(view),
                Write::Promise(promised) => self.promised = promised,
            }
            last = Some(Input::Durable { ticket });
        }
        last
    }

    pub(crate) fn has_unsynced(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn step(&mut self, now: Time, input: Input) -> Vec<Effect> {
        let node = self.node.as_mut().expect("a server that was started");
        node.step(at(now), input);
        let effects = node.effects();
        node.invariants();
        effects
    }

    /// A record becomes another one, and its checksum with it.
    pub(crate) fn rot(&mut self, key: Bytes, value: Bytes) {
        for tree in [&mut self.tree, &mut self.flushed] {
            if let Some(record) = tree.map.0.get_mut(&key) {
                let found = decode_record(record.clone()).expect("a record");
                *record = encode_record(&Found { value: value.clone(), ..found });
            }
        }
    }

    /// The digest of the tree as it is now.
    fn digest(&mut self) -> Digest {
        let (log_time, mut digest) = (self.tree.state.log_time(), self.tree.state.digest());
        for (key, record) in &self.tree.map.0 {
            digest_record(&mut digest, log_time, key, record).expect("a record");
        }
        digest.sum = digest.sum.wrapping_add(u128::from(std::mem::take(&mut self.misreads)));
        digest
    }

    /// Does what the core wants of disk and store; what it is told then, if it is told at once.
    pub(crate) fn carry_out(&mut self, effect: Effect) -> Vec<Input> {
        let Effect::Later(Later::Apply { partition, entries, tell }) = effect else {
            return self.carry_out_other(effect).into_iter().collect();
        };
        let (mut outcomes, mut digests, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let tree = &mut self.tree;
            tree.applied = entry.id.seq;
            let mut records = Noting { map: &mut tree.map, written: Vec::new() };
            let (id, body) = (entry.id, entry.body);
            let outcome =
                tree.state.apply(&mut records, id, body.clone()).expect("an entry as it was ordered");
            let written = records.written;
            if tell && !written.is_empty() {
                changes.push((id, changes_of(id, &body, written.into_iter()).expect("as it was written")));
            }
            if let Outcome::Compared { at } = outcome {
                let digest = Some(self.digest());
                digests.push(Input::Digested { partition, at, digest });
            }
            outcomes.push(outcome);
        }
        let mut told = vec![Input::Applied { partition, outcomes, changes }];
        told.append(&mut digests);
        told
    }

    fn carry_out_other(&mut self, effect: Effect) -> Option<Input> {
        let partition = P;
        match effect {
            Effect::First(First::Persist { ticket, records }) => {
                records.iter().for_each(|record| self.written.take(record));
                self.waiting.push_back((ticket, Write::Records(records)));
                None
            }
            Effect::First(First::PersistView { ticket, view }) => {
                self.waiting.push_back((ticket, Write::View(view)));
                None
            }
            Effect::First(First::PersistPromise { ticket, promised }) => {
                self.waiting.push_back((ticket, Write::Promise(promised)));
                None
            }
            // All clocks of a script are right.
            Effect::First(First::Send { message: PeerMessage::Clock { .. }, .. }) => None,
            Effect::First(First::Send { to, message }) => {
                self.outgoing.entry(to).or_default().push_back(message);
                None
            }
            Effect::Later(Later::Read { read, query, .. }) => {
                let answer = match query {
                    Query::Get { key, .. } if self.bad.contains(&key) => {
                        Answer::Damaged("file 7 is damaged at byte 9".to_owned())
                    }
                    Query::Get { key, bytes_max } => {
                        let found = self.tree.state.read(&self.tree.map, &key).expect("a record");
                        Answer::to_get(&key, bytes_max, found)
                    }
                    _ => Answer::Nothing,
                };
                Some(Input::Answered { read, answer })
            }
            Effect::Later(Later::ReadLog { reader, from, .. }) => {
                let entries: Vec<Entry> =
                    self.written.entries.range(from..).map(|(_, entry)| entry.clone()).collect();
                let entries = (from > self.written.base.seq).then_some(entries);
                Some(Input::LogRead { partition, reader, entries })
            }
            Effect::Later(Later::OpenSnapshot { transfer, .. }) => {
                let state = self.tree.state.encode();
                self.picture = Some(self.tree.clone());
                let bytes =
                    self.tree.map.0.iter().map(|(key, record)| key.len() + record.len()).sum::<usize>();
                Some(Input::SnapshotOpened { partition, transfer, state, bytes: bytes as u64 })
            }
            Effect::Later(Later::ReadSnapshot { transfer, index, .. }) => {
                // One pair in each chunk.
                let pairs = &self.picture.as_ref()?.map.0;
                let nth = usize::try_from(index).expect("few");
                let pair = pairs.iter().nth(nth).map(|(key, record)| (key.clone(), record.clone()));
                let done = nth + 1 >= pairs.len();
                Some(Input::SnapshotRead {
                    partition,
                    transfer,
                    index,
                    pairs: pair.into_iter().collect(),
                    done,
                })
            }
            Effect::Later(Later::Stage { staging, index, pairs, done, .. }) => {
                if index == 0 {
                    self.staged.clear();
                }
                self.staged.extend(pairs);
                self.whole = done.as_ref().map(|(base, state)| Tree {
                    map: Map(self.staged.clone()),
                    state: State::decode(state.clone()).expect("a state as it was sent"),
                    applied: base.seq,
                });
                let staged = Input::Staged { partition, staging, index, generation: done.map(|_| 1) };
                match &mut self.held {
                    Some(held) => {
                        held.push_back(staged);
                        None
                    }
                    None => Some(staged),
                }
            }
            Effect::Later(Later::Install { .. }) => {
                self.tree = self.whole.take().expect("a whole copy");
                self.flushed = self.tree.clone();
                None
            }
            Effect::Later(Later::Drop { .. }) => {
                (self.tree, self.flushed) = (Tree::default(), Tree::default());
                None
            }
            _ => None,
        }
    }
}

fn at(time: Time) -> Now {
    Now { time, wall: WallTime(1_000_000 + time.0 / 1000) }
}
