//! What a partition's log does, told a second time and independently of the server: one map, one operation after the
//! other. Keeps every state that a key ever had, so that a read can be placed in the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{ClientId, LogId, RequestNumber, Seq};
use common::operation::{Command, Condition, Operation, Outcome};

/// A value and the entry that wrote it.
pub(crate) type Stored = Option<(LogId, Bytes)>;

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
    states: BTreeMap<Bytes, Vec<(Seq, Stored)>>,
    /// Where each write with an origin took effect.
    effects: BTreeMap<(ClientId, RequestNumber), (Seq, Outcome)>,
    /// Values that were ever put or appended with effect.
    tokens: BTreeMap<Bytes, Seq>,
}

impl Model {
    /// Carries out the next entry.
    pub(crate) fn apply(&mut self, id: LogId, command: &Command) -> Outcome {
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

    fn execute(&mut self, id: LogId, operation: &Operation) -> Outcome {
        let Some(key) = operation.key() else { return Outcome::Ticked {} };
        let current =
            self.states.get(key).and_then(|states| states.last()).and_then(|(_, stored)| stored.clone());
        let (stored, outcome) = match operation {
            Operation::Put { value, condition, .. } if holds(condition, &current) => {
                self.tokens.insert(value.clone(), id.seq);
                let outcome = Outcome::Written { version: id, replaced: current.is_some() };
                (Some((id, value.clone())), outcome)
            }
            Operation::Append { value, .. } => {
                self.tokens.insert(value.clone(), id.seq);
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
            Operation::Put { .. } | Operation::Delete { .. } => {
                return Outcome::ConditionFailed { current: current.map(|(version, _)| version) };
            }
            _ => {
                unreachable!("the simulated clients ask for nothing else")
            }
        };
        self.states.entry(key.clone()).or_default().push((id.seq, stored));
        outcome
    }

    /// Where and how a write took effect.
    pub(crate) fn effect(&self, client: ClientId, number: RequestNumber) -> Option<(Seq, &Outcome)> {
        self.effects.get(&(client, number)).map(|(seq, outcome)| (*seq, outcome))
    }

    /// Where a value was put or appended.
    pub(crate) fn token(&self, value: &Bytes) -> Option<Seq> {
        self.tokens.get(value).copied()
    }

    /// The first place in the log, `floor` or later, at which the key was as it was read; with the reason if there is none.
    pub(crate) fn place_read(&self, key: &Bytes, read: &Stored, floor: Seq) -> Result<Seq, String> {
        let none = Vec::new();
        let states = self.states.get(key).unwrap_or(&none);
        let before = (Seq(0), None);
        let begins = std::iter::once(&before).chain(states);
        let ends = states.iter().map(|(seq, _)| Some(*seq)).chain(std::iter::once(None));
        let mut seen = false;
        for ((begin, stored), end) in begins.zip(ends) {
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
            model.apply(at(seq), &Command { origin: None, stamp: Default::default(), operation });
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
