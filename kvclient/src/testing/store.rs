//! A server's data in memory, as simple as can be.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{Epoch, LogId, Seq};
use common::messages::{Reply, Request};
use common::operation::{Condition, Found, Operation, Outcome, Pair, Part, PartOutcome};
use common::ring::Partitions;
use common::time::WallTime;

use super::action::Action;

/// Keys and values; every write gets the next version.
#[derive(Debug, Default)]
pub struct Store {
    values: BTreeMap<Bytes, Found>,
    writes: u64,
}

impl Store {
    /// A handler for [`Fake`](super::Fake).
    pub fn handle(&mut self, request: &Request) -> Action {
        Action::Reply(match request {
            Request::Get { key } => Reply::Value { found: self.values.get(key).cloned() },
            Request::Write { operation, .. } => Reply::Outcome { outcome: self.apply(operation) },
            Request::Scan { partition, after, prefix, limit } => {
                let partitions = Partitions::try_from(4).unwrap();
                let wanted = |key: &&Bytes| {
                    partitions.of_key(key) == *partition
                        && after.as_ref().is_none_or(|after| *key > after)
                        && key.starts_with(prefix)
                };
                let mut keys = self.values.keys().filter(wanted);
                // Fewer than asked for, so that pages end before partitions do.
                let pairs: Vec<Pair> = keys
                    .by_ref()
                    .take((*limit).min(3) as usize)
                    .map(|key| Pair { key: key.clone(), found: self.values[key].clone() })
                    .collect();
                Reply::Page { more: keys.next().is_some(), pairs }
            }
            Request::GetUpTo { .. }
            | Request::Keys { .. }
            | Request::Count { .. }
            | Request::View {}
            | Request::Status {}
            | Request::Digest { .. }
            | Request::Watch { .. }
            | Request::Trace { .. } => return Action::Silence,
        })
    }

    fn apply(&mut self, operation: &Operation) -> Outcome {
        self.writes += 1;
        let version = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(self.writes) };
        let key = operation.key().unwrap().clone();
        let current = self.values.get(&key).cloned();
        match operation {
            Operation::Put { value, expires, condition, .. } => {
                if !holds(condition, current.as_ref()) {
                    return Outcome::ConditionFailed { current: current.map(|found| found.version) };
                }
                self.values.insert(key, Found { value: value.clone(), version, expires: *expires });
                Outcome::Written { version, replaced: current.is_some() }
            }
            Operation::Set { value, condition, .. } => {
                let (value, condition) = (value.clone(), condition.clone());
                self.apply(&Operation::Put { key, value, expires: None, condition })
            }
            Operation::Delete { condition, .. }
                if current.is_some() && !holds(condition, current.as_ref()) =>
            {
                Outcome::ConditionFailed { current: current.map(|found| found.version) }
            }
            Operation::Delete { .. } => match self.values.remove(&key) {
                Some(_) => Outcome::Deleted { version },
                None => Outcome::NotFound {},
            },
            Operation::Add { by, .. } => {
                let digits = current.map_or_else(|| "0".to_owned(), |found| text(&found.value));
                let Ok(number) = digits.parse::<i64>() else { return Outcome::NotANumber {} };
                let Some(sum) = number.checked_add(*by) else { return Outcome::OutOfRange {} };
                let value = Bytes::from(sum.to_string());
                self.values.insert(key, Found { value: value.clone(), version, expires: None });
                Outcome::Sum { version, value }
            }
            Operation::Retime { expiry, condition, .. } => match self.values.get_mut(&key) {
                Some(found) if holds(condition, Some(found)) => {
                    let expires = expiry.moment(found.expires, WallTime(0));
                    *found = Found { version, expires, ..found.clone() };
                    Outcome::Changed { version, old: None }
                }
                Some(_) => Outcome::Kept { old: None },
                None => Outcome::NotFound {},
            },
            Operation::Fetch { .. } => Outcome::Fetched { found: current },
            Operation::Batch { checks, parts } => {
                if !checks.iter().all(|check| holds(&check.condition, self.values.get(&check.key))) {
                    return Outcome::Aborted {};
                }
                let results = parts.iter().map(|Part(part)| PartOutcome(self.apply(part))).collect();
                Outcome::All { results }
            }
            Operation::Append { value, .. } => {
                let mut whole = current.map(|found| found.value.to_vec()).unwrap_or_default();
                let offset = whole.len() as u64;
                whole.extend_from_slice(value);
                self.values.insert(key, Found { value: whole.into(), version, expires: None });
                Outcome::Appended { version, offset }
            }
            Operation::Expire { expires, .. } => match self.values.get_mut(&key) {
                Some(found) => {
                    *found = Found { version, expires: *expires, ..found.clone() };
                    Outcome::Written { version, replaced: true }
                }
                None => Outcome::NotFound {},
            },
            Operation::Compare { .. } => Outcome::Compared { at: version },
            _ => Outcome::Ticked {},
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn holds(condition: &Condition, current: Option<&Found>) -> bool {
    match condition {
        Condition::Always {} => true,
        Condition::Absent {} => current.is_none(),
        Condition::Present {} => current.is_some(),
        Condition::Version { version } => current.is_some_and(|found| found.version == *version),
        Condition::Value { value } => current.is_some_and(|found| found.value == *value),
        Condition::NotValue { value } => current.is_none_or(|found| found.value != *value),
    }
}
