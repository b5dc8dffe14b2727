//! The applied records of one partition: a map in memory instead of a tree on disk.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use common::codec::Wire;
use common::ids::LogId;
use common::messages::Digest;
use common::operation::{Command, Found, Outcome, Pair};
use common::time::WallTime;
use kvserver_core::{Records, State, digest_record};

/// Entries between two that the hash of a tree includes results and log time of.
const STATE_HASHED_EVERY: u64 = 8;

/// Records, and the sum of their hashes: so that a hash of all of them is at hand after each change.
#[derive(Clone, Debug, Default)]
struct Map {
    records: BTreeMap<Bytes, Bytes>,
    sum: u64,
}

impl Records for Map {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        Ok(self.records.get(key).cloned())
    }

    fn put(&mut self, key: Bytes, record: Bytes) -> Result<(), Infallible> {
        self.sum = self.sum.wrapping_add(hash(&key, &record));
        if let Some(old) = self.records.insert(key.clone(), record) {
            self.sum = self.sum.wrapping_sub(hash(&key, &old));
        }
        Ok(())
    }

    fn remove(&mut self, key: Bytes) -> Result<(), Infallible> {
        if let Some(old) = self.records.remove(&key) {
            self.sum = self.sum.wrapping_sub(hash(&key, &old));
        }
        Ok(())
    }
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    map: Map,
    state: State,
    /// The last entry applied.
    pub(crate) applied: LogId,
    /// Which of the partition's trees on this server it is.
    pub(crate) life: u64,
}

impl Tree {
    /// A copy of another server's records.
    pub(crate) fn staged(pairs: BTreeMap<Bytes, Bytes>, state: Bytes, base: LogId) -> Self {
        let state = State::decode(state).expect("a state as it was sent");
        let sum = pairs.iter().fold(0, |sum: u64, (key, record)| sum.wrapping_add(hash(key, record)));
        Self { map: Map { records: pairs, sum }, state, applied: base, life: 0 }
    }

    /// As the partition's tree number `life` on a server.
    pub(crate) fn in_life(self, life: u64) -> Self {
        Self { life, ..self }
    }

    /// `again`: a planted bug, a retry is applied like a first try.
    pub(crate) fn apply(&mut self, id: LogId, mut body: Bytes, again: bool) -> Outcome {
        assert_eq!(id.seq, self.applied.seq.next(), "entries are applied one after the other");
        self.applied = id;
        if again {
            let command = Command::from_wire(body).expect("an entry as it was ordered");
            body = Command { origin: None, ..command }.to_wire();
        }
        self.state.apply(&mut self.map, id, body).expect("an entry as it was ordered")
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Found> {
        self.state.read(&self.map, key).expect("a record as it was stored")
    }

    /// When the first of what is visible expires.
    pub(crate) fn first_expiry(&self) -> Option<WallTime> {
        self.scan().iter().filter_map(|pair| pair.found.expires).min()
    }

    /// All that is visible.
    pub(crate) fn scan(&self) -> Vec<Pair> {
        let found = |record: &Bytes| self.state.visible(record.clone()).expect("a record as it was stored");
        let pairs = self.map.records.iter();
        pairs.filter_map(|(key, record)| Some(Pair { key: key.clone(), found: found(record)? })).collect()
    }

    pub(crate) fn encoded_state(&self) -> Bytes {
        self.state.encode()
    }

    pub(crate) fn pairs(&self) -> Vec<(Bytes, Bytes)> {
        self.map.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    /// What copies are compared by.
    pub(crate) fn full_digest(&self) -> Digest {
        let mut digest = self.state.digest();
        for (key, record) in &self.map.records {
            digest_record(&mut digest, self.state.log_time(), key, record)
                .expect("a record as it was stored");
        }
        digest
    }

    /// A hash of the records, and at some places of all else but the life.
    pub(crate) fn digest(&self) -> u64 {
        let state = self.applied.seq.0.is_multiple_of(STATE_HASHED_EVERY);
        if state { self.map.sum ^ hash(&self.encoded_state(), &[]) } else { self.map.sum }
    }
}

/// A hash of two texts, eight bytes at a time.
fn hash(key: &[u8], record: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    for bytes in [key, record] {
        mix(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
        rest.iter().for_each(|&byte| mix(u64::from(byte)));
    }
    hash
}
