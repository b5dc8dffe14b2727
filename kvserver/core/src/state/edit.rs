//! What operations do to one record: values in, a change and an outcome out.

use bytes::{Bytes, BytesMut};
use common::limits::VALUE_BYTES_MAX;
use common::operation::{Condition, Expiry, Found, Operation, Outcome, Version};
use common::time::WallTime;

use super::decimal;

/// The change to a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Found),
    Remove,
}

/// The moment of an operation: its entry, and the log time at that entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) id: Version,
    pub(crate) log_time: WallTime,
}

type Decided = (Option<Change>, Outcome);

/// The change that an operation on one key makes to its record, and the outcome.
pub(crate) fn decide(operation: Operation, current: Option<Found>, at: Moment) -> Decided {
    let version = at.id;
    match operation {
        Operation::Put { value, expires, condition, .. } => {
            if !holds(&condition, current.as_ref()) {
                return (None, refused(current.as_ref()));
            }
            let outcome = Outcome::Written { version, replaced: current.is_some() };
            (Some(Change::Put(Found { value, version, expires })), outcome)
        }
        Operation::Delete { condition, .. } => {
            if !holds(&condition, current.as_ref()) {
                return (None, refused(current.as_ref()));
            }
            match current {
                Some(_) => (Some(Change::Remove), Outcome::Deleted { version }),
                None => (None, Outcome::NotFound {}),
            }
        }
        Operation::Append { value, .. } => append(current, &value, at),
        Operation::Expire { expires, .. } => match current {
            Some(found) => {
                let outcome = Outcome::Written { version, replaced: true };
                (Some(Change::Put(Found { version, expires, ..found })), outcome)
            }
            None => (None, Outcome::NotFound {}),
        },
        Operation::Set { value, expiry, condition, return_old, .. } => {
            set(value, expiry, &condition, return_old, current, at)
        }
        Operation::Take { .. } => match current {
            Some(found) => (Some(Change::Remove), Outcome::Changed { version, old: Some(found.value) }),
            None => (None, Outcome::NotFound {}),
        },
        Operation::Add { by, .. } => add(current, at, |value| {
            let number = decimal::integer(value).ok_or(Outcome::NotANumber {})?;
            let sum = number.checked_add(by).ok_or(Outcome::OutOfRange {})?;
            Ok(Bytes::from(sum.to_string()))
        }),
        Operation::AddDecimal { by, .. } => add(current, at, |value| {
            let (value, by) = (decimal::number(value), decimal::number(&by));
            let (value, by) = value.zip(by).ok_or(Outcome::NotANumber {})?;
            let sum = decimal::add(value, by).ok_or(Outcome::OutOfRange {})?;
            Ok(Bytes::from(sum.to_string()))
        }),
        Operation::Overwrite { offset, value, .. } => overwrite(current, offset, &value, at),
        Operation::Retime { expiry, when, condition, return_old, .. } => {
            let Some(found) = current else { return (None, Outcome::NotFound {}) };
            let expires = expiry.moment(found.expires, at.log_time);
            if !holds(&condition, Some(&found)) || !when.holds(found.expires, expires) {
                let old = return_old.then_some(found.value);
                return (None, Outcome::Kept { old });
            }
            let outcome = Outcome::Changed { version, old: return_old.then(|| found.value.clone()) };
            (Some(put_or_remove(Found { version, expires, ..found }, at)), outcome)
        }
        Operation::Fetch { .. } => (None, Outcome::Fetched { found: current }),
        Operation::Tick {} | Operation::NoOp {} | Operation::Compare { .. } | Operation::Batch { .. } => {
            (None, Outcome::Ticked {})
        }
    }
}

/// Whether a record meets a condition.
pub(crate) fn holds(condition: &Condition, current: Option<&Found>) -> bool {
    match condition {
        Condition::Always {} => true,
        Condition::Absent {} => current.is_none(),
        Condition::Present {} => current.is_some(),
        Condition::Version { version } => current.is_some_and(|found| found.version == *version),
        Condition::Value { value } => current.is_some_and(|found| found.value == *value),
        Condition::NotValue { value } => current.is_none_or(|found| found.value != *value),
    }
}

fn refused(current: Option<&Found>) -> Outcome {
    Outcome::ConditionFailed { current: current.map(|found| found.version) }
}

/// Stores a value, or removes the record if the value has expired already.
fn put_or_remove(found: Found, at: Moment) -> Change {
    if found.expires.is_some_and(|expires| expires <= at.log_time) {
        Change::Remove
    } else {
        Change::Put(found)
    }
}

fn set(
    value: Bytes,
    expiry: Expiry,
    condition: &Condition,
    return_old: bool,
    current: Option<Found>,
    at: Moment,
) -> Decided {
    if !holds(condition, current.as_ref()) {
        let outcome = if return_old {
            Outcome::Kept { old: current.map(|found| found.value) }
        } else {
            refused(current.as_ref())
        };
        return (None, outcome);
    }
    let expires = expiry.moment(current.as_ref().and_then(|found| found.expires), at.log_time);
    let change = put_or_remove(Found { value, version: at.id, expires }, at);
    let outcome = if return_old {
        Outcome::Changed { version: at.id, old: current.map(|found| found.value) }
    } else {
        Outcome::Written { version: at.id, replaced: current.is_some() }
    };
    (Some(change), outcome)
}

fn split(current: Option<Found>) -> (Bytes, Option<WallTime>) {
    current.map_or((Bytes::new(), None), |found| (found.value, found.expires))
}

fn append(current: Option<Found>, added: &[u8], at: Moment) -> Decided {
    let (old, expires) = split(current);
    let bytes = old.len() + added.len();
    if bytes > VALUE_BYTES_MAX {
        return (None, Outcome::TooLarge { bytes: bytes as u64 });
    }
    let mut value = BytesMut::with_capacity(bytes);
    value.extend_from_slice(&old);
    value.extend_from_slice(added);
    assert_eq!(value.len(), bytes, "a value has what was there and what was added");
    let found = Found { value: value.freeze(), version: at.id, expires };
    (Some(Change::Put(found)), Outcome::Appended { version: at.id, offset: old.len() as u64 })
}

fn overwrite(current: Option<Found>, offset: u64, added: &[u8], at: Moment) -> Decided {
    if added.is_empty() {
        let (version, bytes) =
            current.map_or_else(Default::default, |found| (found.version, found.value.len()));
        return (None, Outcome::Length { version, bytes: bytes as u64 });
    }
    let (old, expires) = split(current);
    let end = offset.saturating_add(added.len() as u64);
    let limit = usize::try_from(end).ok().filter(|&end| end <= VALUE_BYTES_MAX);
    let Some(end) = limit else { return (None, Outcome::TooLarge { bytes: end }) };
    assert!(end >= added.len(), "what is written ends behind its beginning");
    let mut value = BytesMut::zeroed(end.max(old.len()));
    value[..old.len()].copy_from_slice(&old);
    value[end - added.len()..end].copy_from_slice(added);
    let outcome = Outcome::Length { version: at.id, bytes: value.len() as u64 };
    (Some(Change::Put(Found { value: value.freeze(), version: at.id, expires })), outcome)
}

fn add(current: Option<Found>, at: Moment, sum: impl FnOnce(&[u8]) -> Result<Bytes, Outcome>) -> Decided {
    let (old, expires) =
        current.map_or((Bytes::from_static(b"0"), None), |found| (found.value, found.expires));
    match sum(&old) {
        Ok(value) => {
            let outcome = Outcome::Sum { version: at.id, value: value.clone() };
            (Some(Change::Put(Found { value, version: at.id, expires })), outcome)
        }
        Err(outcome) => (None, outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, LogId, Seq};
    use common::operation::ExpiryCondition;

    const NOW: WallTime = WallTime(1000);

    fn at(seq: u64) -> Moment {
        let tag = Epoch { generation: 0, version: 1 };
        Moment { id: LogId { tag, seq: Seq(seq) }, log_time: NOW }
    }

    fn found(value: &'static str, expires: Option<u64>) -> Option<Found> {
        Some(Found { value: value.into(), version: at(1).id, expires: expires.map(WallTime) })
    }

    fn set(expiry: Expiry, condition: Condition, return_old: bool) -> Operation {
        Operation::Set { key: "k".into(), value: "new".into(), expiry, condition, return_old }
    }

    #[test]
    fn a_set_keeps_or_replaces_the_expiry() {
        let expires =
            |expiry| match decide(set(expiry, Condition::Always {}, false), found("v", Some(2000)), at(2)) {
                (Some(Change::Put(found)), Outcome::Written { replaced: true, .. }) => {
                    found.expires.map(|at| at.0)
                }
                other => panic!("{other:?}"),
            };
        assert_eq!(expires(Expiry::Keep {}), Some(2000));
        assert_eq!(expires(Expiry::Never {}), None);
        assert_eq!(expires(Expiry::In { ms: 5 }), Some(1005));
        let past = set(Expiry::At { at: WallTime(999) }, Condition::Always {}, false);
        assert_eq!(decide(past, None, at(2)).0, Some(Change::Remove));
    }

    #[test]
    fn a_set_tells_the_former_value_whether_it_is_done_or_not() {
        let done = decide(
            set(Expiry::Never {}, Condition::Value { value: "v".into() }, true),
            found("v", None),
            at(2),
        );
        assert_eq!(done.1, Outcome::Changed { version: at(2).id, old: Some("v".into()) });
        let kept = decide(
            set(Expiry::Never {}, Condition::NotValue { value: "v".into() }, true),
            found("v", None),
            at(2),
        );
        assert_eq!(kept, (None, Outcome::Kept { old: Some("v".into()) }));
        let absent =
            decide(set(Expiry::Never {}, Condition::NotValue { value: "v".into() }, true), None, at(2));
        assert!(matches!(absent, (Some(_), Outcome::Changed { old: None, .. })));
    }

    #[test]
    fn numbers_are_added_to_or_refused() {
        let add = |by, value| decide(Operation::Add { key: "k".into(), by }, value, at(2)).1;
        assert_eq!(add(-3, None), Outcome::Sum { version: at(2).id, value: "-3".into() });
        assert_eq!(add(1, found("41", None)), Outcome::Sum { version: at(2).id, value: "42".into() });
        assert_eq!(add(1, found("x", None)), Outcome::NotANumber {});
        assert_eq!(add(1, found("9223372036854775807", None)), Outcome::OutOfRange {});
        let (change, _) = decide(Operation::Add { key: "k".into(), by: 1 }, found("1", Some(3000)), at(2));
        assert!(matches!(change, Some(Change::Put(found)) if found.expires == Some(WallTime(3000))));
    }

    #[test]
    fn overwriting_fills_with_zeros_and_stays_in_its_limits() {
        let write = |offset, value: &'static str, current| {
            decide(Operation::Overwrite { key: "k".into(), offset, value: value.into() }, current, at(2))
        };
        let value = |decided: Decided| match decided.0 {
            Some(Change::Put(found)) => found.value,
            other => panic!("{other:?}"),
        };
        assert_eq!(value(write(3, "x", found("a", None))), "a\0\0x");
        assert_eq!(value(write(1, "X", found("abc", None))), "aXc");
        assert_eq!(write(5, "", None), (None, Outcome::Length { version: LogId::default(), bytes: 0 }));
        assert!(matches!(write(VALUE_BYTES_MAX as u64, "x", None), (None, Outcome::TooLarge { .. })));
        assert!(matches!(write(u64::MAX, "x", None), (None, Outcome::TooLarge { .. })));
    }

    #[test]
    fn an_expiry_changes_under_conditions() {
        let retime = |expiry, when, condition, current| {
            decide(
                Operation::Retime { key: "k".into(), expiry, when, condition, return_old: false },
                current,
                at(2),
            )
        };
        let always = || Condition::Always {};
        let (change, _) =
            retime(Expiry::In { ms: 9 }, ExpiryCondition::Always {}, always(), found("v", None));
        assert!(matches!(change, Some(Change::Put(found)) if found.expires == Some(WallTime(1009))));
        let kept = retime(Expiry::In { ms: 9 }, ExpiryCondition::Earlier {}, always(), found("v", None));
        assert_eq!(kept, (None, Outcome::Kept { old: None }));
        let past =
            retime(Expiry::At { at: WallTime(5) }, ExpiryCondition::Always {}, always(), found("v", None));
        assert_eq!(past.0, Some(Change::Remove));
        let token = Condition::Value { value: "w".into() };
        assert_eq!(
            retime(Expiry::Later { ms: 1 }, ExpiryCondition::Some {}, token, found("v", Some(2000))).0,
            None
        );
        assert_eq!(
            retime(Expiry::Never {}, ExpiryCondition::Some {}, always(), None).1,
            Outcome::NotFound {}
        );
    }
}
