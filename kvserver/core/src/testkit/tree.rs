//! The applied records of one partition: a map in memory in place of a tree on disk.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use common::ids::LogId;
use common::messages::{Change, Digest};
use common::operation::{Found, Outcome, Pair};
use common::time::WallTime;

use super::super::state::{Records, State, decode_record, digest_record, encode_record};
use super::super::watch::changes_of;

/// Entries between two that the hash of a tree includes results and log time of.
const STATE_HASHED_EVERY: u64 = 8;

/// Records, and the sum of their hashes: so that a hash of all of them is at hand after each change.
#[derive(Clone, Debug, Default)]
pub struct Map {
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

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    map: Map,
    state: State,
    /// The last entry applied.
    pub applied: LogId,
    /// Which of the partition's trees on this server it is.
    pub life: u64,
}

impl Tree {
    /// A copy of another server's records.
    #[must_use]
    pub fn staged(pairs: BTreeMap<Bytes, Bytes>, state: Bytes, base: LogId) -> Self {
        let state = State::decode(state).expect("a state as it was sent");
        let sum = pairs.iter().fold(0, |sum: u64, (key, record)| sum.wrapping_add(hash(key, record)));
        Self { map: Map { records: pairs, sum }, state, applied: base, life: 0 }
    }

    /// As the partition's tree number `life` on a server.
    #[must_use]
    pub fn in_life(self, life: u64) -> Self {
        Self { life, ..self }
    }

    /// Applies the next entry. With `with_changes` also returns its changes, if there are any.
    pub fn apply(&mut self, id: LogId, body: Bytes, with_changes: bool) -> (Outcome, Option<Vec<Change>>) {
        assert_eq!(id.seq, self.applied.seq.next(), "entries are applied one after the other");
        self.applied = id;
        if !with_changes {
            let outcome = self.state.apply(&mut self.map, id, body).expect("an entry as it was ordered");
            self.state.invariants();
            return (outcome, None);
        }
        let mut records = Noting { map: &mut self.map, written: Vec::new() };
        let outcome = self.state.apply(&mut records, id, body.clone()).expect("an entry as it was ordered");
        self.state.invariants();
        let written = records.written;
        let has_written = !written.is_empty();
        let changes =
            has_written.then(|| changes_of(id, &body, written.into_iter()).expect("as it was written"));
        (outcome, changes)
    }

    /// Makes a record another one, and its checksum with it.
    pub fn rot(&mut self, key: &Bytes, value: Bytes) {
        if let Some(record) = self.map.records.get_mut(key) {
            let found = decode_record(record.clone()).expect("a record as it was stored");
            *record = encode_record(&Found { value, ..found });
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Found> {
        self.state.read(&self.map, key).expect("a record as it was stored")
    }

    /// When the first of what is visible expires.
    #[must_use]
    pub fn first_expiry(&self) -> Option<WallTime> {
        self.scan().iter().filter_map(|pair| pair.found.expires).min()
    }

    /// All that is visible.
    #[must_use]
    pub fn scan(&self) -> Vec<Pair> {
        let found = |record: &Bytes| self.state.visible(record.clone()).expect("a record as it was stored");
        let pairs = self.map.records.iter();
        pairs.filter_map(|(key, record)| Some(Pair { key: key.clone(), found: found(record)? })).collect()
    }

    /// The state besides the records.
    #[must_use]
    pub fn encoded_state(&self) -> Bytes {
        self.state.encode()
    }

    /// All records, in the order of their keys.
    #[must_use]
    pub fn pairs(&self) -> Vec<(Bytes, Bytes)> {
        self.map.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    /// Bytes of all records.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.map.records.iter().map(|(key, record)| (key.len() + record.len()) as u64).sum()
    }

    /// What copies are compared by.
    #[must_use]
    pub fn full_digest(&self) -> Digest {
        let mut digest = self.state.digest();
        for (key, record) in &self.map.records {
            digest_record(&mut digest, self.state.log_time(), key, record)
                .expect("a record as it was stored");
        }
        digest
    }

    /// A hash of the records, and at some places of all else but the life.
    #[must_use]
    pub fn digest(&self) -> u64 {
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
