//! A core with a disk and a store, both as simple as can be: what is written is in a list until the script says that it
//! is on disk, and the store does at once what it is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{ClientId, Incarnation, Nonce, PartitionId, Seq, ServerId, StoreId};
use common::messages::{Digest, Entry, PeerMessage, ProcessId, Promised};
use common::time::{Now, Time, WallTime};
use common::view::View;
use kvserver_core::testkit::{PartitionLog, Store, StoreHost, Tree};
use kvserver_core::{
    Answer, COPY_FROM, Config, Effect, First, Input, Later, LogRecord, Node, PlantedBug, Query, Reads, Ticket,
};

/// The only partition.
pub(crate) const P: PartitionId = PartitionId(0);

/// What a list of writes makes.
#[derive(Clone, Debug, Default)]
struct Content {
    view: Option<Arc<View>>,
    log: PartitionLog,
}

impl Content {
    fn take(&mut self, records: &[LogRecord]) {
        records.iter().for_each(|record| _ = self.log.take(record));
    }
}

/// A log and staged copies, for the store.
struct Disk<'a> {
    log: &'a PartitionLog,
    whole: &'a mut Option<Tree>,
    misreads: &'a mut bool,
}

impl StoreHost for Disk<'_> {
    fn read_log(&mut self, _: PartitionId, from: Seq) -> Option<Vec<Entry>> {
        let entries = self.log.entries.range(from..).map(|(_, entry)| entry.clone()).collect();
        (from > self.log.base.seq).then_some(entries)
    }

    fn keep_staged(&mut self, tree: Tree) -> u32 {
        *self.whole = Some(tree);
        1
    }

    fn staged(&mut self, _: u32) -> Tree {
        self.whole.take().expect("a whole copy")
    }

    fn digest(&mut self, tree: &Tree) -> Digest {
        let mut digest = tree.full_digest();
        digest.sum = digest.sum.wrapping_add(u128::from(std::mem::take(self.misreads)));
        digest
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
    store: Store,
    whole: Option<Tree>,
    /// What was staged and is not told yet, if that is wanted.
    pub(crate) held: Option<VecDeque<Input>>,
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
            store: store(Tree::default()),
            whole: None,
            held: None,
            bad: BTreeSet::new(),
            misreads: false,
            outgoing: BTreeMap::new(),
        }
    }

    pub(crate) fn sender(&self) -> ProcessId {
        ProcessId {
            server: self.id,
            store: StoreId(self.id.0),
            incarnation: Incarnation(self.incarnation),
            nonce: Nonce(self.incarnation),
        }
    }

    pub(crate) fn start(&mut self, now: Time, reads: Reads) {
        self.incarnation += 1;
        let config = Config {
            reads,
            value_bytes_max: 1000,
            pending_bytes_max: self.waiting_bytes_max,
            parked_bytes_max: self.waiting_bytes_max,
            session: ClientId(self.id.0 << 64 | u128::from(self.incarnation)),
            transfer_rate: self.transfer_rate,
            copy_from: self.copy_from,
            bug: self.bug,
            ..Config::for_tests()
        };
        let copies = BTreeMap::from([(P, self.durable.log.recover(self.flushed.applied.seq))]);
        let view = self.durable.view.clone();
        self.store = store(self.flushed.clone());
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
        self.flushed = self.store.trees[&P].clone();
    }

    /// The commit log loses the entries up to a place.
    pub(crate) fn trim(&mut self, seq: Seq) -> Input {
        let base = self.written.log.id_at(seq).expect("an entry of the log");
        for content in [&mut self.written, &mut self.durable] {
            content.log.trim(base);
        }
        Input::Trimmed { partition: P, seq }
    }

    /// All that was written is on disk.
    pub(crate) fn sync(&mut self) -> Option<Input> {
        let mut last = None;
        for (ticket, write) in std::mem::take(&mut self.waiting) {
            match write {
                Write::Records(records) => self.durable.take(&records),
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
        let tree = self.store.trees.get_mut(&P).expect("the records of the partition");
        tree.rot(&key, value.clone());
        self.flushed.rot(&key, value);
    }

    /// Does what the core wants of disk and store; what comes in then, if it comes at once.
    pub(crate) fn carry_out(&mut self, effect: Effect) -> Vec<Input> {
        match effect {
            Effect::First(First::Persist { ticket, records }) => {
                self.written.take(&records);
                self.waiting.push_back((ticket, Write::Records(records)));
                Vec::new()
            }
            Effect::First(First::PersistView { ticket, view }) => {
                self.waiting.push_back((ticket, Write::View(view)));
                Vec::new()
            }
            Effect::First(First::PersistPromise { ticket, promised }) => {
                self.waiting.push_back((ticket, Write::Promise(promised)));
                Vec::new()
            }
            // All clocks of a script are right.
            Effect::First(First::Send { message: PeerMessage::Clock { .. }, .. }) => Vec::new(),
            Effect::First(First::Send { to, message }) => {
                self.outgoing.entry(to).or_default().push_back(message);
                Vec::new()
            }
            Effect::First(First::Trace { .. }) => Vec::new(),
            Effect::Later(Later::Read { read, query: Query::Get { key, .. }, .. })
                if self.bad.contains(&key) =>
            {
                let answer = Answer::Damaged("file 7 is damaged at byte 9".to_owned());
                vec![Input::Answered { read, answer }]
            }
            Effect::Later(work) => self.carry_out_in_store(work),
        }
    }

    fn carry_out_in_store(&mut self, work: Later) -> Vec<Input> {
        let replaces = matches!(work, Later::Install { .. } | Later::Drop { .. });
        let mut disk = Disk { log: &self.written.log, whole: &mut self.whole, misreads: &mut self.misreads };
        let mut inputs = self.store.carry_out(&mut disk, work).unwrap_or_default();
        if replaces {
            self.flush();
        }
        if let Some(held) = &mut self.held {
            held.extend(inputs.extract_if(.., |input| matches!(input, Input::Staged { .. })));
        }
        inputs
    }
}

/// A store with the records of the partition. One pair in each chunk of a copy.
fn store(tree: Tree) -> Store {
    Store::new(BTreeMap::from([(P, tree)]), 1)
}

fn at(time: Time) -> Now {
    Now { time, wall: WallTime(1_000_000 + time.0 / 1000) }
}
