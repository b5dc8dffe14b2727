//! What a partition's log does, implemented a second time and independently of the server: one map, one operation after
//! the other. Keeps every state that a key ever had, so that a read can be placed in the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::ids::{ClientId, LogId, RequestNumber, Seq};
use common::operation::{Check, Command, Condition, Found, Operation, Outcome, Part, PartOutcome};
use common::time::WallTime;

/// A stamp that is farther behind log time takes it back.
const FALLS_MS: u64 = 5_000;

/// A value and the entry that wrote it.
pub(crate) type Stored = Option<(LogId, Bytes)>;

/// A state of a key: since when, what, and when it expires.
type Kept = (Seq, Stored, Option<WallTime>);

#[derive(Debug, Default)]
struct Seen {
    first_unanswered: RequestNumber,
    outcomes: BTreeMap<RequestNumber, Outcome>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Model {
    clients: BTreeMap<ClientId, Seen>,
    /// By key: each state with the entry that made it.
    states: BTreeMap<Bytes, Vec<Kept>>,
    /// By entry: the log time after it. Values whose expiry is not later are gone.
    log_times: Vec<WallTime>,
    /// Entries at which log time fell back, and where it was before: what was gone then stays gone.
    falls: Vec<(Seq, WallTime)>,
    /// Where each write with an origin took effect.
    effects: BTreeMap<(ClientId, RequestNumber), (Seq, Outcome)>,
    /// Values that were ever put or appended with effect.
    tokens: BTreeMap<Bytes, Seq>,
}

impl Model {
    /// Carries out the next entry.
    pub(crate) fn apply(&mut self, id: LogId, command: &Command) -> Outcome {
        let (before, stamp) = (self.log_time(), command.stamp);
        let falls = stamp.0 > 0 && stamp.0 + FALLS_MS < before.0;
        if falls {
            self.falls.push((id.seq, before));
        }
        let log_time = if falls { stamp } else { before.max(stamp) };
        // Entries that a test leaves out change nothing.
        let before = usize::try_from(id.seq.0 - 1).expect("few entries");
        self.log_times.resize(before, self.log_time());
        self.log_times.push(log_time);
        let Some(origin) = command.origin else { return self.execute(id, &command.operation) };
        let seen = self.clients.entry(origin.client).or_default();
        if origin.number < seen.first_unanswered {
            return Outcome::Superseded {};
        }
        if let Some(known) = seen.outcomes.get(&origin.number) {
            return known.clone();
        }
        let outcome = self.execute(id, &command.operation);
        let seen = self.clients.entry(origin.client).or_default();
        seen.first_unanswered = seen.first_unanswered.max(origin.first_unanswered);
        let first_unanswered = seen.first_unanswered;
        seen.outcomes.retain(|&number, _| number >= first_unanswered);
        seen.outcomes.insert(origin.number, outcome.clone());
        let twice = self.effects.insert((origin.client, origin.number), (id.seq, outcome.clone()));
        assert!(twice.is_none(), "I7: {origin:?} took effect twice, at {twice:?} and {id}");
        outcome
    }

    fn log_time(&self) -> WallTime {
        self.log_times.last().copied().unwrap_or_default()
    }

    fn execute(&mut self, id: LogId, operation: &Operation) -> Outcome {
        if let Operation::Compare { .. } = operation {
            return Outcome::Compared { at: id };
        }
        if let Operation::Batch { checks, parts } = operation {
            let kept = |Check { key, condition }: &Check| holds(condition, &self.current(key).0);
            if !checks.iter().all(kept) {
                return Outcome::Aborted {};
            }
            let results = parts.iter().map(|Part(part)| PartOutcome(self.execute(id, part)));
            return Outcome::All { results: results.collect() };
        }
        let Some(key) = operation.key() else { return Outcome::Ticked {} };
        let (current, old_expires) = self.current(key);
        let old = current.as_ref().map(|(_, value)| value.clone());
        let mut new_expires = None;
        let (stored, outcome) = match operation {
            Operation::Put { value, condition, expires, .. } if holds(condition, &current) => {
                new_expires = *expires;
                self.tokens.insert(value.clone(), id.seq);
                let outcome = Outcome::Written { version: id, replaced: current.is_some() };
                (Some((id, value.clone())), outcome)
            }
            Operation::Append { value, .. } => {
                self.tokens.insert(value.clone(), id.seq);
                new_expires = old_expires;
                let old = current.map(|(_, old)| old).unwrap_or_default();
                let whole = Bytes::from([&old[..], &value[..]].concat());
                (Some((id, whole)), Outcome::Appended { version: id, offset: old.len() as u64 })
            }
            Operation::Delete { condition, .. } if holds(condition, &current) => {
                if current.is_none() {
                    return Outcome::NotFound {};
                }
                (None, Outcome::Deleted { version: id })
            }
            Operation::Set { value, condition, return_old, .. } if holds(condition, &current) => {
                self.tokens.insert(value.clone(), id.seq);
                let written = Outcome::Written { version: id, replaced: current.is_some() };
                let outcome = if *return_old { Outcome::Changed { version: id, old } } else { written };
                (Some((id, value.clone())), outcome)
            }
            Operation::Set { return_old: true, .. } => return Outcome::Kept { old },
            Operation::Put { .. } | Operation::Delete { .. } | Operation::Set { .. } => {
                return Outcome::ConditionFailed { current: current.map(|(version, _)| version) };
            }
            Operation::Take { .. } if current.is_none() => return Outcome::NotFound {},
            Operation::Take { .. } => (None, Outcome::Changed { version: id, old }),
            Operation::Add { by, .. } => {
                let old = old.map_or(0, |old| std::str::from_utf8(&old).unwrap().parse::<i64>().unwrap());
                new_expires = old_expires;
                let value = Bytes::from((old + by).to_string());
                (Some((id, value.clone())), Outcome::Sum { version: id, value })
            }
            Operation::Fetch { .. } => {
                let expires = old_expires.filter(|_| current.is_some());
                let found = current.map(|(version, value)| Found { value, version, expires });
                return Outcome::Fetched { found };
            }
            Operation::Expire { expires, .. } => {
                let Some((_, value)) = current else { return Outcome::NotFound {} };
                new_expires = *expires;
                (Some((id, value)), Outcome::Written { version: id, replaced: true })
            }
            _ => unreachable!("the simulated clients ask for nothing else"),
        };
        self.states.entry(key.clone()).or_default().push((id.seq, stored, new_expires));
        outcome
    }

    /// What a key holds now, and when that expires.
    fn current(&self, key: &Bytes) -> (Stored, Option<WallTime>) {
        let last = self.states.get(key).and_then(|states| states.last());
        let last =
            last.filter(|(seq, _, expires)| expires.is_none_or(|expires| !self.is_gone(*seq, expires)));
        last.map_or((None, None), |(_, stored, expires)| (stored.clone(), *expires))
    }

    /// Whether a value that was written at an entry and expires then is gone now.
    fn is_gone(&self, written: Seq, expires: WallTime) -> bool {
        expires <= self.log_time() || self.falls.iter().any(|(at, from)| written < *at && expires <= *from)
    }

    /// The first entry, from the one that wrote a value on, at which it was gone.
    fn gone_at(&self, written: Seq, expires: WallTime) -> u64 {
        if self.falls.is_empty() {
            return self.log_times.partition_point(|&time| time < expires) as u64 + 1;
        }
        let first = usize::try_from(written.0 - 1).expect("few entries");
        let later = self.log_times.iter().skip(first).position(|time| *time >= expires);
        later.map_or(u64::MAX, |later| written.0 + later as u64)
    }

    /// Where and how a write took effect.
    pub(crate) fn effect(&self, client: ClientId, number: RequestNumber) -> Option<(Seq, &Outcome)> {
        self.effects.get(&(client, number)).map(|(seq, outcome)| (*seq, outcome))
    }

    /// Where a value was put or appended.
    pub(crate) fn token(&self, value: &Bytes) -> Option<Seq> {
        self.tokens.get(value).copied()
    }

    /// The states that a key had, with the entry from which on it had each.
    fn history(&self, key: &Bytes) -> Vec<(Seq, Stored)> {
        let mut history = vec![(Seq(0), None)];
        let states = self.states.get(key).map(Vec::as_slice).unwrap_or_default();
        let ends = states.iter().skip(1).map(|(seq, _, _)| seq.0).chain([u64::MAX]);
        for ((begin, stored, expires), end) in states.iter().zip(ends) {
            history.push((*begin, stored.clone()));
            let gone = expires.map(|expires| self.gone_at(*begin, expires));
            if let Some(gone) = gone.filter(|&gone| gone < end && gone <= self.log_times.len() as u64) {
                history.push((Seq(gone.max(begin.0)), None));
            }
        }
        history
    }

    /// The first place in the log, `floor` or later, at which the key was as it was read; with the reason if there is
    /// none.
    pub(crate) fn place_read(&self, key: &Bytes, read: &Stored, floor: Seq) -> Result<Seq, String> {
        let history = self.history(key);
        let ends = history.iter().skip(1).map(|(seq, _)| Some(*seq)).chain([None]);
        let mut seen = false;
        for ((begin, stored), end) in history.iter().zip(ends) {
            if stored == read {
                seen = true;
                let place = floor.max(*begin);
                if end.is_none_or(|end| place < end) {
                    return Ok(place);
                }
            }
        }
        let what = if seen { "was no longer so" } else { "was never so" };
        Err(format!("key {key:?} was read as {read:?}, but at entry {floor}, committed before, it {what}"))
    }

    /// The first place in the log, `floor` or later, at which all keys together were as a scan found them.
    pub(crate) fn place_scan(
        &self,
        found: &BTreeMap<Bytes, (LogId, Bytes)>,
        floor: Seq,
    ) -> Result<Seq, String> {
        if let Some(key) = found.keys().find(|key| !self.states.contains_key(*key)) {
            return Err(format!("a scan found {key:?}, which was never written"));
        }
        let histories: Vec<_> = self.states.keys().map(|key| (found.get(key), self.history(key))).collect();
        let changes = histories.iter().flat_map(|(_, history)| history.iter().map(|(seq, _)| *seq));
        let places: BTreeSet<Seq> = changes.filter(|&seq| seq > floor).chain([floor]).collect();
        let fits = |place: &&Seq| {
            histories.iter().all(|(found, history)| {
                let (_, stored) = history.iter().rev().find(|(begin, _)| begin <= *place).expect("from 0 on");
                stored.as_ref() == *found
            })
        };
        let place = places.iter().find(fits);
        place
            .copied()
            .ok_or_else(|| format!("a scan found what was never so from entry {floor} on: {found:?}"))
    }
}

fn holds(condition: &Condition, current: &Stored) -> bool {
    match condition {
        Condition::Always {} => true,
        Condition::Absent {} => current.is_none(),
        Condition::Present {} => current.is_some(),
        Condition::Version { version } => current.as_ref().is_some_and(|(known, _)| known == version),
        Condition::Value { value } => current.as_ref().is_some_and(|(_, known)| known == value),
        Condition::NotValue { value } => current.as_ref().is_none_or(|(_, known)| known != value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Epoch;

    fn at(seq: u64) -> LogId {
        LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
    }

    fn model() -> Model {
        let mut model = Model::default();
        for (seq, value) in [(1, "a"), (3, "b")] {
            let operation = Operation::put("k", value);
            let _ = model.apply(at(seq), &Command { origin: None, stamp: Default::default(), operation });
        }
        model
    }

    #[test]
    fn a_read_is_placed_at_the_earliest_moment_that_fits() {
        let (model, key) = (model(), Bytes::from("k"));
        let a = Some((at(1), Bytes::from("a")));
        assert_eq!(model.place_read(&key, &None, Seq(0)), Ok(Seq(0)));
        assert_eq!(model.place_read(&key, &a, Seq(0)), Ok(Seq(1)));
        assert_eq!(model.place_read(&key, &a, Seq(2)), Ok(Seq(2)));
        assert_eq!(model.place_read(&key, &Some((at(3), Bytes::from("b"))), Seq(9)), Ok(Seq(9)));
    }

    #[test]
    fn what_was_gone_before_log_time_fell_back_stays_gone() {
        let mut model = Model::default();
        for (seq, stamp, expires) in
            [(1, 10_000, 12_000), (2, 90_000, 0), (3, 11_000, 0), (4, 11_000, 12_000)]
        {
            let key = if seq == 4 {
                "late"
            } else if seq == 1 {
                "early"
            } else {
                "other"
            };
            let operation = Operation::Put {
                key: key.into(),
                value: "v".into(),
                expires: (expires > 0).then_some(WallTime(expires)),
                condition: Condition::Always {},
            };
            let _ = model.apply(at(seq), &Command { origin: None, stamp: WallTime(stamp), operation });
        }
        assert_eq!(model.current(&"early".into()).0, None);
        assert!(model.current(&"late".into()).0.is_some());
        let early = (at(1), Bytes::from("v"));
        assert_eq!(model.place_read(&"early".into(), &Some(early.clone()), Seq(1)), Ok(Seq(1)));
        assert!(model.place_read(&"early".into(), &Some(early), Seq(2)).is_err());
    }

    #[test]
    fn a_value_is_gone_from_the_entry_on_whose_stamp_is_its_expiry() {
        let mut model = Model::default();
        for (seq, stamp) in [(1, 10), (2, 15), (3, 20), (4, 30)] {
            let expires = (seq == 1).then_some(WallTime(20));
            let key = if seq == 1 { "k" } else { "other" };
            let condition = Condition::Always {};
            let operation = Operation::Put { key: key.into(), value: "a".into(), expires, condition };
            let command = Command { origin: None, stamp: WallTime(stamp), operation };
            let _ = model.apply(at(seq), &command);
        }
        let (key, a) = (Bytes::from("k"), Some((at(1), Bytes::from("a"))));
        assert_eq!(model.place_read(&key, &a, Seq(2)), Ok(Seq(2)));
        assert!(model.place_read(&key, &a, Seq(3)).unwrap_err().contains("no longer"));
        assert_eq!(model.place_read(&key, &None, Seq(1)), Ok(Seq(3)));
    }

    #[test]
    fn a_scan_must_show_one_moment() {
        let mut model = model();
        let operation = Operation::put("other", "c");
        let _ = model.apply(at(4), &Command { origin: None, stamp: Default::default(), operation });
        let found = |pairs: &[(&'static str, u64, &'static str)]| {
            pairs.iter().map(|&(key, seq, value)| (key.into(), (at(seq), value.into()))).collect()
        };
        assert_eq!(model.place_scan(&found(&[("k", 1, "a")]), Seq(0)), Ok(Seq(1)));
        assert_eq!(model.place_scan(&found(&[("k", 3, "b"), ("other", 4, "c")]), Seq(0)), Ok(Seq(4)));
        assert!(
            model.place_scan(&found(&[("k", 1, "a"), ("other", 4, "c")]), Seq(0)).is_err(),
            "never together"
        );
        assert!(model.place_scan(&found(&[("k", 1, "a")]), Seq(4)).is_err(), "of the past");
    }

    #[test]
    fn a_read_of_the_past_or_of_nothing_written_is_found() {
        let (model, key) = (model(), Bytes::from("k"));
        let a = Some((at(1), Bytes::from("a")));
        assert!(model.place_read(&key, &a, Seq(3)).unwrap_err().contains("no longer"));
        assert!(model.place_read(&key, &None, Seq(1)).unwrap_err().contains("no longer"));
        assert!(
            model.place_read(&key, &Some((at(2), Bytes::from("x"))), Seq(0)).unwrap_err().contains("never")
        );
    }
}
