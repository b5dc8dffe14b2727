//! The applied records of one partition: a map in memory instead of a tree on disk.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use common::ids::LogId;
use common::operation::{Found, Outcome};
use kvserver::core::{Records, State};

#[derive(Clone, Debug, Default)]
struct Map(BTreeMap<Bytes, Bytes>);

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
        Self { map: Map(pairs), state, applied: base, life: 0 }
    }

    /// As the partition's tree number `life` on a server.
    pub(crate) fn in_life(self, life: u64) -> Self {
        Self { life, ..self }
    }

    pub(crate) fn apply(&mut self, id: LogId, body: Bytes) -> Outcome {
        assert_eq!(id.seq, self.applied.seq.next(), "entries are applied one after the other");
        self.applied = id;
        self.state.apply(&mut self.map, id, body).expect("an entry as it was ordered")
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Found> {
        self.state.read(&self.map, key).expect("a record as it was stored")
    }

    pub(crate) fn encoded_state(&self) -> Bytes {
        self.state.encode()
    }

    pub(crate) fn pairs(&self) -> Vec<(Bytes, Bytes)> {
        self.map.0.iter().map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    /// A hash of all of it but the life.
    pub(crate) fn digest(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |bytes: &[u8]| {
            for &byte in bytes.iter().chain(&[0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        mix(&self.encoded_state());
        for (key, record) in &self.map.0 {
            mix(key);
            mix(record);
        }
        hash
    }
}
