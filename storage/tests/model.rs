//! Random lives of a whole store against a model in memory.

mod support;

use bytes::Bytes;
use std::{collections::BTreeMap, path::Path};
use storage::{Change, LogId, Opened, Options, Read, Record, Store, Tag, inspect};
use support::seeds;

const PARTITIONS: u16 = 4;

#[derive(Clone, Default)]
struct Model {
    base: LogId,
    /// What the tree had at `base`, from a staging.
    start: BTreeMap<Bytes, Bytes>,
    /// Entries after `base`.
    entries: Vec<(LogId, Change)>,
    synced: u64,
    durable_state: Bytes,
}

impl Model {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |(id, _)| *id)
    }
    fn pairs(&self, until: u64) -> BTreeMap<Bytes, Bytes> {
        let mut pairs = self.start.clone();
        for (_, change) in self.entries.iter().filter(|(id, _)| id.seq <= until) {
            match change.clone() {
                Change::Put { key, value } => drop(pairs.insert(key, value)),
                Change::Remove { key } => drop(pairs.remove(&key)),
                Change::Due { .. } | Change::NotDue { .. } => {}
            }
        }
        pairs
    }
}

struct World {
    random: fastrand::Rng,
    store: Opened,
    models: BTreeMap<u16, Model>,
}

fn options(random: &mut fastrand::Rng) -> Options {
    Options {
        segment_bytes: 64 << 10,
        log_bytes: 256 << 10,
        memtable_bytes: 16 << 10,
        seal_seconds: 5,
        cache_bytes: 1 << 20,
        background: random.u8(0..4) == 0,
        ..Options::default()
    }
}

fn encode(change: &Change) -> Bytes {
    match change {
        Change::Put { key, value } => [&[key.len() as u8][..], key, value].concat().into(),
        Change::Remove { key } => [&[key.len() as u8 | 0x80][..], key].concat().into(),
        Change::Due { .. } | Change::NotDue { .. } => unreachable!("tests/due.rs has these"),
    }
}

fn decode(body: &Bytes) -> Change {
    let end = 1 + usize::from(body[0] & 0x7f);
    let (key, value) = (body.slice(1..end), body.slice(end..));
    if body[0] < 0x80 { Change::Put { key, value } } else { Change::Remove { key } }
}

fn random_change(random: &mut fastrand::Rng) -> Change {
    let key = Bytes::from(format!("k{}", random.u32(0..60)));
    if random.u8(0..5) == 0 {
        return Change::Remove { key };
    }
    let length = if random.u8(0..12) == 0 { random.usize(4_000..9_000) } else { random.usize(0..300) };
    Change::Put { key, value: Bytes::from(vec![random.u8(..); length]) }
}

/// Like `assert_eq`, without the values in the message.
fn same(found: &[(Bytes, Bytes)], expected: &[(Bytes, Bytes)], partition: u16) {
    let different = found.iter().zip(expected).find(|(f, e)| f != e).map(|(f, e)| (&f.0, &e.0));
    let lengths = (found.len(), expected.len());
    assert!(found == expected, "partition {partition}: {lengths:?} found and expected, {different:?}");
}

impl World {
    fn sync(&mut self) {
        self.store.log.sync().unwrap();
        for model in self.models.values_mut() {
            model.synced = model.last().seq;
        }
    }

    fn apply_synced(&mut self, partition: u16) {
        let Some(model) = self.models.get(&partition) else { return };
        let applied = self.store.trees.applied(partition);
        for (id, change) in &model.entries {
            if id.seq > applied.seq && id.seq <= model.synced {
                self.store.trees.apply(partition, std::slice::from_ref(change), *id).unwrap();
            }
        }
    }

    fn seal(&mut self, partition: u16) {
        let applied = self.store.trees.applied(partition);
        self.store.trees.seal(partition, applied.seq.to_string().as_bytes()).unwrap();
    }

    fn step(&mut self) {
        let partition = self.random.u16(0..PARTITIONS);
        match self.random.u8(0..100) {
            0..60 => {
                let model = self.models.entry(partition).or_default();
                let mut batch = Vec::new();
                for _ in 0..self.random.usize(1..6) {
                    let last = model.last();
                    let mut tag = last.tag;
                    if self.random.u8(0..10) == 0 {
                        tag = Tag { generation: 1, version: tag.version + 1 };
                    }
                    let (id, change) = (LogId { tag, seq: last.seq + 1 }, random_change(&mut self.random));
                    batch.push(Record::Entry { partition, id, body: encode(&change) });
                    model.entries.push((id, change));
                }
                self.store.log.append(&batch).unwrap();
            }
            60..72 => self.sync(),
            72..80 => self.apply_synced(partition),
            80..84 => {
                if self.store.trees.applied(partition).seq > 0 {
                    self.seal(partition);
                }
            }
            84..88 => self.store.trees.maintain(),
            88..90 => {
                for due in self.store.trees.due() {
                    self.seal(due);
                }
            }
            90 => {
                let durable_state = Bytes::from(vec![self.random.u8(..); 20]);
                self.models.entry(partition).or_default().durable_state = durable_state.clone();
                self.store.log.append(&[Record::DurableState { partition, durable_state }]).unwrap();
                self.sync();
            }
            91..93 => {
                let Some(model) = self.models.get_mut(&partition) else { return };
                let after = self.random.u64(model.synced.max(model.base.seq)..=model.last().seq);
                model.entries.retain(|(id, _)| id.seq <= after);
                self.store.log.append(&[Record::Cut { partition, after }]).unwrap();
                self.sync();
            }
            93..95 => self.replace(partition),
            95 => {
                self.models.remove(&partition);
                self.store.log.append(&[Record::Drop { partition }]).unwrap();
                self.sync();
                if self.random.bool() {
                    self.store.trees.drop_partition(partition);
                } else {
                    // As after a crash in between.
                    self.models.remove(&partition);
                    self.store.trees.drop_partition(partition);
                }
            }
            96 => self.store.trees.pre_create(partition),
            _ => self.check(partition),
        }
    }

    /// Stages another server's content, and goes a random part of the way to installing it.
    fn replace(&mut self, partition: u16) {
        let mut staging = self.store.trees.stage(partition);
        let generation = staging.generation();
        let count = self.random.usize(0..80);
        let pairs: BTreeMap<_, _> = (0..count)
            .map(|i| (Bytes::from(format!("k{i}")), Bytes::from(vec![i as u8; self.random.usize(0..500)])))
            .collect();
        let list: Vec<_> = pairs.clone().into_iter().collect();
        for chunk in list.chunks(10) {
            staging.put(chunk).unwrap();
        }
        if self.random.u8(0..4) == 0 {
            return;
        }
        let last = self.models.get(&partition).map(Model::last).unwrap_or_default();
        let base = LogId { tag: last.tag, seq: last.seq + self.random.u64(0..50) };
        let state = base.seq.to_string();
        staging.finish(base, state.as_bytes()).unwrap();
        if self.random.u8(0..4) == 0 {
            return;
        }
        self.store.log.append(&[Record::Install { partition, generation, base }]).unwrap();
        self.sync();
        let model = self.models.entry(partition).or_default();
        *model = Model {
            base,
            start: pairs,
            synced: base.seq,
            durable_state: model.durable_state.clone(),
            entries: Vec::new(),
        };
        self.store.trees.install(staging);
    }

    fn check(&mut self, partition: u16) {
        let model = self.models.get(&partition).cloned().unwrap_or_default();
        let applied = self.store.trees.applied(partition);
        let expected: Vec<_> = model.pairs(applied.seq).into_iter().collect();
        let mut found = Vec::new();
        loop {
            let after = found.last().map(|(key, _): &(Bytes, Bytes)| key.clone());
            let page = self.store.trees.scan(partition, after.as_deref(), b"k", 7, 10_000).unwrap();
            found.extend(page.pairs);
            if !page.more {
                break;
            }
        }
        same(&found, &expected, partition);
        for i in 0..60 {
            let key = Bytes::from(format!("k{i}"));
            let value = expected.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone());
            assert_eq!(self.store.trees.get(partition, &key).unwrap(), value);
        }
        let mut snapshot = self.store.trees.snapshot(partition).unwrap();
        assert_eq!(snapshot.id(), applied);
        let mut pairs = Vec::new();
        loop {
            let chunk = snapshot.chunk(1_000).unwrap();
            pairs.extend(chunk.pairs);
            if chunk.done {
                break;
            }
        }
        same(&pairs, &expected, partition);
    }

    /// What a server does at its start: checks what was found and replays the log.
    fn recover(&mut self) {
        let recovered = std::mem::take(&mut self.store.recovered);
        let names = |m: &BTreeMap<u16, Model>| m.keys().copied().collect::<Vec<_>>();
        for (partition, found) in &recovered {
            let model = self.models.get_mut(partition).unwrap_or_else(|| panic!("{partition} is too much"));
            assert!(
                found.last >= model.synced && found.last <= model.last().seq,
                "{partition}: {found:?}, synced {} of {:?}, base {:?}",
                model.synced,
                model.last(),
                model.base
            );
            assert_eq!(found.durable_state, model.durable_state);
            model.entries.retain(|(id, _)| id.seq <= found.last);
            model.synced = found.last;
            let state = if found.applied.seq == 0 && found.state.is_empty() {
                "0".into()
            } else {
                found.state.clone()
            };
            assert_eq!(state, found.applied.seq.to_string());
            assert!(found.applied >= found.base && found.base.seq >= model.base.seq);
            assert_eq!(self.store.trees.applied(*partition), found.applied);
            self.check(*partition);
            let mut from = found.applied.seq + 1;
            while let Read::Entries(entries) = self.store.reader.read(*partition, from, 5_000).unwrap() {
                if entries.is_empty() {
                    break;
                }
                for (id, body) in entries {
                    self.store.trees.apply(*partition, &[decode(&body)], id).unwrap();
                    from = id.seq + 1;
                }
            }
            assert_eq!(from, found.last + 1);
            self.check(*partition);
        }
        self.models.retain(|p, m| recovered.contains_key(p) || m.synced > 0 || m.base.seq > 0);
        assert_eq!(names(&self.models), recovered.keys().copied().collect::<Vec<_>>());
    }
}

fn live(dir: &Path, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let store = Store::open(dir, &options(&mut random)).unwrap();
    let mut world = World { random, store, models: BTreeMap::new() };
    for _ in 0..4 {
        for _ in 0..world.random.usize(0..400) {
            world.step();
        }
        let World { mut random, store, models } = world;
        drop(store);
        if random.bool() {
            let inspection = inspect(dir).unwrap();
            assert!(inspection.partitions.len() <= models.len());
        }
        let store = Store::open(dir, &options(&mut random)).unwrap();
        world = World { random, store, models };
        world.recover();
    }
}

#[test]
fn a_store_is_what_the_model_says_through_random_lives() {
    for seed in seeds(30) {
        let dir = support::directory();
        let path = dir.path().to_path_buf();
        if let Err(panic) = std::panic::catch_unwind(|| live(&path, seed)) {
            eprintln!("replay with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
