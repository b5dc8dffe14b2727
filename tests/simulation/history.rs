//! What the clients requested and observed, and the check that some sequential order explains it.
//!
//! The check by versions is linear in time: each write took effect at its place in the log, each read is put at the
//! first place that fits, and no operation may have an earlier place than one that had ended before it began.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{ClientId, RequestNumber, Seq};
use common::operation::{Found, Operation, Outcome, Pair};

use super::model::{Model, Stored};
use super::timeline::Micros;

/// What a client requested.
#[derive(Clone, Debug)]
pub(crate) enum Invocation {
    /// The value.
    Get,
    /// All values of the key's partition.
    Scan,
    /// A change; with the number that makes its retries harmless, if there is one.
    Write { origin: Option<(ClientId, RequestNumber)>, operation: Operation },
}

/// What a client observed as the outcome of a request.
#[derive(Clone, Debug)]
pub(crate) enum Observed {
    /// The client gave up without an answer: it may have happened, or may yet.
    Unknown,
    /// Every try was answered: not done.
    NotDone,
    /// The value.
    Value(Option<Found>),
    /// All values.
    Page(Vec<Pair>),
    /// What a write did.
    Outcome(Outcome),
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Operated {
    pub(crate) key: Bytes,
    pub(crate) invocation: Invocation,
    pub(crate) invoked: Micros,
    pub(crate) returned: Option<Micros>,
    pub(crate) observed: Observed,
}

impl Operated {
    /// Whether the value may change later by time alone.
    pub(crate) fn expires(&self) -> bool {
        let Invocation::Write { operation, .. } = &self.invocation else { return false };
        matches!(operation, Operation::Put { expires: Some(_), .. } | Operation::Expire { .. })
    }

    /// Whether the same value may occur twice.
    pub(crate) fn counts(&self) -> bool {
        let Invocation::Write { operation, .. } = &self.invocation else { return false };
        matches!(operation, Operation::Add { .. } | Operation::Batch { .. })
    }

    /// The value that a read returned.
    pub(crate) fn read(&self) -> Option<Stored> {
        match &self.observed {
            Observed::Value(found) => Some(found.as_ref().map(|found| (found.version, found.value.clone()))),
            _ => None,
        }
    }
}

/// Checks the operations on one partition against its log. All keys together: the log is one order for all of them.
pub(crate) fn check_partition(operations: &[&Operated], model: &Model) -> Result<(), String> {
    // Begins and ends in order of time; at one moment begins first, so that nothing is ordered that might overlap.
    let mut moments: BTreeMap<(Micros, bool, usize), ()> = BTreeMap::new();
    for (index, operated) in operations.iter().enumerate() {
        moments.insert((operated.invoked, false, index), ());
        if let Some(returned) = operated.returned {
            moments.insert((returned, true, index), ());
        }
    }
    let mut floor = Seq(0);
    let mut floors: Vec<Seq> = vec![Seq(0); operations.len()];
    for &(_, ends, index) in moments.keys() {
        let operated = operations[index];
        if !ends {
            floors[index] = floor;
            continue;
        }
        let place = place(operated, model, floors[index]).map_err(|what| format!("{what}; {operated:?}"))?;
        floor = floor.max(place.unwrap_or_default());
    }
    for operated in operations {
        check_not_done(operated, model)?;
    }
    Ok(())
}

/// Where in the log an answered operation happened.
fn place(operated: &Operated, model: &Model, floor: Seq) -> Result<Option<Seq>, String> {
    match (&operated.invocation, &operated.observed) {
        (_, Observed::Unknown | Observed::NotDone) => Ok(None),
        (Invocation::Get, _) => {
            let read = operated.read().ok_or("a read was answered with an outcome")?;
            model.place_read(&operated.key, &read, floor).map(Some)
        }
        (Invocation::Write { origin: Some((client, number)), .. }, Observed::Outcome(outcome)) => {
            let (seq, effect) = model.effect(*client, *number).ok_or("an acknowledged write is in no log")?;
            if effect != outcome {
                return Err(format!("I7: a write was answered {outcome:?}, it did {effect:?}"));
            }
            later(seq, floor)
        }
        (Invocation::Write { origin: None, .. }, Observed::Outcome(outcome)) => {
            super::server::clients::version_of(outcome).map_or(Ok(None), |version| later(version.seq, floor))
        }
        (Invocation::Scan, Observed::Page(pairs)) => {
            let found =
                pairs.iter().map(|pair| (pair.key.clone(), (pair.found.version, pair.found.value.clone())));
            model.place_scan(&found.collect(), floor).map(Some)
        }
        (invocation, observed) => Err(format!("{invocation:?} was answered with {observed:?}")),
    }
}

fn later(seq: Seq, floor: Seq) -> Result<Option<Seq>, String> {
    if seq > floor {
        return Ok(Some(seq));
    }
    Err(format!("a write has the place {seq}, and {floor} was observed before it was invoked"))
}

/// W2: what was answered as not done is in no log.
fn check_not_done(operated: &Operated, model: &Model) -> Result<(), String> {
    let (Invocation::Write { origin, operation }, Observed::NotDone) =
        (&operated.invocation, &operated.observed)
    else {
        return Ok(());
    };
    let by_origin = origin.and_then(|(client, number)| model.effect(client, number)).map(|(seq, _)| seq);
    let by_token = match operation {
        Operation::Put { value, .. } | Operation::Append { value, .. } | Operation::Set { value, .. } => {
            model.token(value)
        }
        _ => None,
    };
    match by_origin.or(by_token) {
        None => Ok(()),
        Some(seq) => Err(format!("W2: answered as not done, and it is entry {seq}: {operated:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, LogId};
    use common::operation::{Command, Origin};

    const CLIENT: ClientId = ClientId(3);

    fn at(seq: u64) -> LogId {
        LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
    }

    fn put(value: &'static str) -> Operation {
        Operation::put("k", value)
    }

    /// The log: a, then b.
    fn model() -> Model {
        let mut model = Model::default();
        for (number, value) in [(1, "a"), (2, "b")] {
            let number = RequestNumber(number);
            let origin = Some(Origin { client: CLIENT, number, first_unanswered: number });
            let command = Command { origin, stamp: Default::default(), operation: put(value) };
            let _ = model.apply(at(number.0), &command);
        }
        model
    }

    fn write(number: u64, value: &'static str, times: (u64, u64), observed: Observed) -> Operated {
        let origin = Some((CLIENT, RequestNumber(number)));
        let invocation = Invocation::Write { origin, operation: put(value) };
        Operated { key: "k".into(), invocation, invoked: times.0, returned: Some(times.1), observed }
    }

    fn written(seq: u64) -> Observed {
        Observed::Outcome(Outcome::Written { version: at(seq), replaced: seq > 1 })
    }

    fn read(seq: u64, value: &'static str, times: (u64, u64)) -> Operated {
        let found = (seq > 0).then(|| Found { value: value.into(), version: at(seq), expires: None });
        let observed = Observed::Value(found);
        Operated {
            key: "k".into(),
            invocation: Invocation::Get,
            invoked: times.0,
            returned: Some(times.1),
            observed,
        }
    }

    fn check(operations: &[Operated]) -> Result<(), String> {
        check_partition(&operations.iter().collect::<Vec<_>>(), &model())
    }

    #[test]
    fn what_can_have_happened_passes() {
        let writes = [write(1, "a", (0, 10), written(1)), write(2, "b", (20, 30), written(2))];
        check(
            &[&writes[..], &[read(1, "a", (12, 25)), read(2, "b", (28, 29)), read(0, "", (0, 5))]].concat(),
        )
        .unwrap();
    }

    #[test]
    fn a_stale_read_is_found() {
        let writes = [write(1, "a", (0, 10), written(1)), write(2, "b", (20, 30), written(2))];
        let found = check(&[&writes[..], &[read(1, "a", (31, 40))]].concat()).unwrap_err();
        assert!(found.contains("no longer"), "{found}");
    }

    #[test]
    fn reads_that_go_back_are_found() {
        let found = check(&[read(2, "b", (0, 5)), read(1, "a", (6, 9))]).unwrap_err();
        assert!(found.contains("no longer"), "{found}");
    }

    #[test]
    fn writes_out_of_order_are_found() {
        let found =
            check(&[write(2, "b", (0, 10), written(2)), write(1, "a", (20, 30), written(1))]).unwrap_err();
        assert!(found.contains("was observed before"), "{found}");
    }

    #[test]
    fn another_outcome_than_the_logs_is_found() {
        let observed = Observed::Outcome(Outcome::NotFound {});
        assert!(check(&[write(1, "a", (0, 10), observed)]).unwrap_err().contains("I7"));
    }

    #[test]
    fn a_refused_write_that_happened_is_found() {
        assert!(check(&[write(1, "a", (0, 10), Observed::NotDone)]).unwrap_err().contains("W2"));
        check(&[write(9, "z", (0, 10), Observed::NotDone)]).unwrap();
    }
}
