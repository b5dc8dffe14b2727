//! The state machine: what a command does to a partition's data, decided in log order, the same at every copy.
//!
//! The data are records by key. Besides them a partition has its *log time* (`log_time`; a record whose expiry is not
//! after it does not exist) and the *results* of recent writes by client, from which a retry
//! gets its answer (docs/protocol.md, I7). Log time and results travel with snapshots and are sealed with the
//! records they belong to. No clock is read here: time is in the commands.

use std::collections::BTreeMap;

mod decimal;
mod edit;
mod log_time;
mod outcomes;

use bytes::Bytes;
use common::codec::{Malformed, Wire, wire_enum, wire_struct};
use common::ids::{ClientId, LogId, RequestNumber};
use common::limits::RESULTS_KEPT_FOR;
use common::messages::Digest;
use common::operation::{
    BATCH_BYTES_MAX, Check, Command, Found, Operation, Origin, Outcome, Part, PartOutcome,
};
use common::time::WallTime;

use self::edit::{Change, Moment, decide, holds};
use self::log_time::Fall;
use self::outcomes::Outcomes;

pub use self::log_time::LogTime;

/// Bytes of values in an outcome that is remembered for a retry, at most: the results of all clients are in memory, and
/// in one message of a copy of the state.
const RETURNED_BYTES_KEPT: usize = 1024;

/// Applied commands between two sweeps for clients that have been silent for [`RESULTS_KEPT_FOR`].
const COMMANDS_PER_SWEEP: u64 = 4096;

/// Milliseconds between two commands that count towards the age of results, at most.
const STEP_MS_MAX: u64 = 1000;

/// Outcomes that are remembered for one client. A client with more unanswered writes cannot retry the oldest.
const OUTCOMES_PER_CLIENT_MAX: usize = 4096;

/// The records of a partition: a tree on disk, or a map in a simulation.
pub trait Records {
    /// The error of reading or writing.
    type Error;

    /// The stored bytes of a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;

    /// Stores bytes under a key.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn put(&mut self, key: Bytes, record: Bytes) -> Result<(), Self::Error>;

    /// Removes a key.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn remove(&mut self, key: Bytes) -> Result<(), Self::Error>;
}

/// Why a command could not be applied. The copy cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E> {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] E),
    /// A stored record or a log entry is not what was written.
    #[error("entry {id}: {source}")]
    Malformed {
        /// The entry that was applied.
        id: LogId,
        /// What is wrong with its bytes, or with those of the record that it changes.
        source: Malformed,
    },
}

/// Encodes a value as it is stored: version, expiry (0: never), bytes.
#[must_use]
pub fn encode_record(found: &Found) -> Bytes {
    let mut out = Vec::with_capacity(RECORD_HEADER_BYTES + found.value.len());
    found.version.write(&mut out);
    found.expires.unwrap_or_default().write(&mut out);
    out.extend_from_slice(&found.value);
    out.into()
}

/// Bytes of a stored value before the value itself.
pub const RECORD_HEADER_BYTES: usize = 4 + 8 + 8 + 8;

/// Decodes what [`encode_record`] makes.
///
/// # Errors
/// When the bytes are too short.
pub fn decode_record(mut record: Bytes) -> Result<Found, Malformed> {
    let version = LogId::read(&mut record)?;
    let expires = WallTime::read(&mut record)?;
    Ok(Found { value: record, version, expires: (expires.0 != 0).then_some(expires) })
}

/// Adds a record to a digest, unless it has expired: an expired record may be stored at one copy and removed at
/// another.
///
/// # Errors
/// When the record is too short.
pub fn digest_record(
    digest: &mut Digest,
    log_time: &LogTime,
    key: &[u8],
    record: &Bytes,
) -> Result<(), Malformed> {
    if log_time.is_past(&decode_record(record.clone())?) {
        return Ok(());
    }
    let length = (key.len() as u64).to_le_bytes();
    digest.sum = digest.sum.wrapping_add(hash(&[&length, key, record]));
    digest.records += 1;
    digest.bytes += (key.len() + record.len()) as u64;
    Ok(())
}

fn hash(parts: &[&[u8]]) -> u128 {
    let mut context = md5::Context::new();
    parts.iter().for_each(|part| context.consume(part));
    u128::from_le_bytes(context.finalize().0)
}

/// The results of one client's recent writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ClientResults {
    /// The partition's age at the client's last write.
    age_ms: u64,
    first_unanswered: RequestNumber,
    outcomes: Outcomes,
}

/// A partition's state besides its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    log_time: LogTime,
    /// The stamp of the last command, and the time that has passed over all commands: a jump of a coordinator's wall
    /// clock counts [`STEP_MS_MAX`] at most, so it does not make results too old.
    last_stamp: WallTime,
    age_ms: u64,
    clients: BTreeMap<ClientId, ClientResults>,
    applied_since_sweep: u64,
}

/// One client's results as they are stored and sent.
struct StoredClient {
    client: ClientId,
    age_ms: u64,
    first_unanswered: RequestNumber,
    outcomes: Vec<(RequestNumber, Outcome)>,
}
wire_struct!(StoredClient { client, age_ms, first_unanswered, outcomes });

/// The stored form of a state, with its version.
enum Stored {
    V1 {
        log_time: WallTime,
        last_stamp: WallTime,
        age_ms: u64,
        applied_since_sweep: u64,
        clients: Vec<StoredClient>,
    },
    /// The form with falls of log time, where there are any.
    V2 {
        log_time: WallTime,
        falls: Vec<Fall>,
        last_stamp: WallTime,
        age_ms: u64,
        applied_since_sweep: u64,
        clients: Vec<StoredClient>,
    },
}
wire_enum!(Stored {
    1 => V1 { log_time, last_stamp, age_ms, applied_since_sweep, clients },
    2 => V2 { log_time, falls, last_stamp, age_ms, applied_since_sweep, clients },
});

impl State {
    /// The log time, which decides which records have expired.
    #[must_use]
    pub fn log_time(&self) -> &LogTime {
        &self.log_time
    }

    /// The bytes that are sealed with the records and sent with snapshots.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let clients = self.clients.iter().map(|(&client, results)| StoredClient {
            client,
            age_ms: results.age_ms,
            first_unanswered: results.first_unanswered,
            outcomes: results.outcomes.iter().cloned().collect(),
        });
        let clients = clients.collect();
        let &Self { last_stamp, age_ms, applied_since_sweep, .. } = self;
        let LogTime { now: log_time, falls } = self.log_time.clone();
        let stored = if falls.is_empty() {
            Stored::V1 { log_time, last_stamp, age_ms, applied_since_sweep, clients }
        } else {
            Stored::V2 { log_time, falls, last_stamp, age_ms, applied_since_sweep, clients }
        };
        stored.to_wire()
    }

    /// Reads what `encode` makes; no bytes are the state of an empty partition.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (now, falls, last_stamp, age_ms, applied_since_sweep, clients) = match Stored::from_wire(bytes)? {
            Stored::V1 { log_time, last_stamp, age_ms, applied_since_sweep, clients } => {
                (log_time, Vec::new(), last_stamp, age_ms, applied_since_sweep, clients)
            }
            Stored::V2 { log_time, falls, last_stamp, age_ms, applied_since_sweep, clients } => {
                (log_time, falls, last_stamp, age_ms, applied_since_sweep, clients)
            }
        };
        let log_time = LogTime { now, falls };
        let clients = clients.into_iter().map(|stored| {
            let results = ClientResults {
                age_ms: stored.age_ms,
                first_unanswered: stored.first_unanswered,
                outcomes: Outcomes::from_stored(stored.outcomes),
            };
            (stored.client, results)
        });
        Ok(Self { log_time, last_stamp, age_ms, applied_since_sweep, clients: clients.collect() })
    }

    /// Applies the entry `id` with the encoded command `body`.
    ///
    /// # Errors
    /// When store or bytes are damaged; the copy cannot go on then.
    pub fn apply<R: Records>(
        &mut self,
        records: &mut R,
        id: LogId,
        body: Bytes,
    ) -> Result<Outcome, ApplyError<R::Error>> {
        let command = Command::from_wire(body).map_err(|source| ApplyError::Malformed { id, source })?;
        self.log_time.on_stamp(id, command.stamp);
        if command.stamp.0 > 0 {
            self.age_ms += command.stamp.0.saturating_sub(self.last_stamp.0).min(STEP_MS_MAX);
            self.last_stamp = command.stamp;
        }
        if let Some(known) = command.origin.and_then(|origin| self.known_result(origin)) {
            return Ok(known);
        }
        let outcome = self.execute(records, id, command.operation)?;
        if let Some(origin) = command.origin {
            self.remember(origin, memory_of(&outcome));
        }
        self.sweep();
        Ok(outcome)
    }

    /// The record of a key as it is now, if it exists at the log time.
    ///
    /// # Errors
    /// When store or record are damaged.
    pub fn read<R: Records>(&self, records: &R, key: &[u8]) -> Result<Option<Found>, ApplyError<R::Error>> {
        let Some(record) = records.get(key)? else { return Ok(None) };
        self.visible(record).map_err(|source| ApplyError::Malformed { id: LogId::default(), source })
    }

    /// Decodes a stored record; `None` if it has expired at the log time.
    ///
    /// # Errors
    /// When the record is too short.
    pub fn visible(&self, record: Bytes) -> Result<Option<Found>, Malformed> {
        let found = decode_record(record)?;
        Ok((!self.log_time.is_past(&found)).then_some(found))
    }

    /// What this state and the records in it add to a copy's digest: begin with it, then [`digest_record`] each record.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { sum: hash(&[b"state", &self.encode()]), records: 0, bytes: 0 }
    }

    fn known_result(&self, origin: Origin) -> Option<Outcome> {
        let results = self.clients.get(&origin.client)?;
        if origin.number < results.first_unanswered {
            return Some(Outcome::Superseded {});
        }
        results.outcomes.get(origin.number).cloned()
    }

    fn remember(&mut self, origin: Origin, outcome: Outcome) {
        let results = self.clients.entry(origin.client).or_default();
        results.age_ms = self.age_ms;
        if origin.first_unanswered > results.first_unanswered {
            results.first_unanswered = origin.first_unanswered;
            results.outcomes.forget_below(origin.first_unanswered);
        }
        results.outcomes.insert(origin.number, outcome);
        while results.outcomes.len() > OUTCOMES_PER_CLIENT_MAX
            && let Some(oldest) = results.outcomes.pop_first()
        {
            results.first_unanswered = RequestNumber(oldest.0 + 1);
        }
        assert!(results.outcomes.len() <= OUTCOMES_PER_CLIENT_MAX, "outcomes of a client are bounded");
    }

    /// Drops the results of clients that have been silent for long. Counted in commands and measured by their stamps,
    /// so that every copy does it at the same entry.
    fn sweep(&mut self) {
        self.applied_since_sweep += 1;
        if self.applied_since_sweep >= COMMANDS_PER_SWEEP {
            self.applied_since_sweep = 0;
            let kept_ms = u64::try_from(RESULTS_KEPT_FOR.as_millis()).expect("minutes");
            let age_ms = self.age_ms;
            self.clients.retain(|_, results| results.age_ms + kept_ms > age_ms);
        }
        assert!(self.applied_since_sweep < COMMANDS_PER_SWEEP, "results are swept in time");
    }

    /// Asserts what must be true after every command; for tests and simulations.
    pub fn invariants(&self) {
        self.log_time.invariants();
        assert!(self.applied_since_sweep < COMMANDS_PER_SWEEP, "results are swept in time");
        for results in self.clients.values() {
            assert!(results.age_ms <= self.age_ms, "a client has written in the future");
            assert!(results.outcomes.len() <= OUTCOMES_PER_CLIENT_MAX, "outcomes of a client are bounded");
            results.outcomes.invariants();
        }
    }

    fn execute<R: Records>(
        &self,
        records: &mut R,
        id: LogId,
        operation: Operation,
    ) -> Result<Outcome, ApplyError<R::Error>> {
        if let Operation::Compare { .. } = operation {
            return Ok(Outcome::Compared { at: id });
        }
        if let Operation::Batch { checks, parts } = operation {
            return self.execute_batch(records, id, checks, parts);
        }
        let Some(key) = operation.key().cloned() else { return Ok(Outcome::Ticked {}) };
        let current = self.current(records, id, &key)?;
        let (change, outcome) = decide(operation, current, self.moment(id));
        store(records, key, change)?;
        Ok(outcome)
    }

    fn moment(&self, id: LogId) -> Moment {
        Moment { id, log_time: self.log_time.now() }
    }

    fn current<R: Records>(
        &self,
        records: &R,
        id: LogId,
        key: &[u8],
    ) -> Result<Option<Found>, ApplyError<R::Error>> {
        let Some(record) = records.get(key)? else { return Ok(None) };
        self.visible(record).map_err(|source| ApplyError::Malformed { id, source })
    }

    /// Executes all parts of a batch or none. The store sees the changes at the end, so parts see each other's changes
    /// here.
    fn execute_batch<R: Records>(
        &self,
        records: &mut R,
        id: LogId,
        checks: Vec<Check>,
        parts: Vec<Part>,
    ) -> Result<Outcome, ApplyError<R::Error>> {
        for Check { key, condition } in &checks {
            if !holds(condition, self.current(records, id, key)?.as_ref()) {
                return Ok(Outcome::Aborted {});
            }
        }
        let mut changes: BTreeMap<Bytes, Change> = BTreeMap::new();
        let mut results = Vec::with_capacity(parts.len());
        let mut returned_bytes = 0;
        for Part(operation) in parts {
            let Some(key) = operation.key().cloned() else { continue };
            let current = match changes.get(&key) {
                Some(Change::Put(found)) => Some(found.clone()),
                Some(Change::Remove) => None,
                None => self.current(records, id, &key)?,
            };
            let (change, outcome) = decide(operation, current, self.moment(id));
            changes.extend(change.map(|change| (key, change)));
            returned_bytes += outcome.returned_bytes();
            let fits = returned_bytes <= BATCH_BYTES_MAX;
            results.push(PartOutcome(if fits { outcome } else { Outcome::Forgotten {} }));
        }
        for (key, change) in changes {
            store(records, key, Some(change))?;
        }
        Ok(Outcome::All { results })
    }
}

fn store<R: Records>(records: &mut R, key: Bytes, change: Option<Change>) -> Result<(), R::Error> {
    match change {
        Some(Change::Put(found)) => records.put(key, encode_record(&found)),
        Some(Change::Remove) => records.remove(key),
        None => Ok(()),
    }
}

/// The part of an outcome that is kept for retries: long values are returned only once.
fn memory_of(outcome: &Outcome) -> Outcome {
    if outcome.returned_bytes() > RETURNED_BYTES_KEPT { Outcome::Forgotten {} } else { outcome.clone() }
}

#[cfg(test)]
#[allow(unused_must_use, reason = "many tests look at the records instead of the outcome")]
mod tests;
