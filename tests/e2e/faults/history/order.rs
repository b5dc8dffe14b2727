//! The check by versions, of the keys of one partition together: a version is a place in the partition's log, which
//! is one order for all of them. Linear in time but for sorting.
//!
//! Each answered operation gets the first place that fits and is not before that of any operation answered before it
//! began. A write with an unknown outcome has a place if a client read what it wrote, and none otherwise: then its
//! possible effect on its key is allowed.

use std::collections::BTreeMap;

use common::ids::Seq;
use common::operation::{Outcome, Version};

use super::{Invocation, Micros, Observed, Operated, last_token};

/// The writes of a partition that are known to have happened.
struct Log<'a> {
    /// By token: the operation's number.
    writers: BTreeMap<&'a str, usize>,
    /// By the operation's number.
    versions: BTreeMap<usize, Version>,
    /// By key and place: the operation's number.
    keys: BTreeMap<&'a str, BTreeMap<Seq, usize>>,
    /// Keys with a write that may have happened anywhere or nowhere.
    doubtful: BTreeMap<&'a str, Doubt>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    deletes: bool,
}

/// Checks the operations on one partition.
pub(crate) fn check(operations: &[&Operated]) -> Result<(), String> {
    let log = Log::read(operations)?;
    log.check_values(operations)?;
    log.check_times(operations)
}

impl<'a> Log<'a> {
    fn read(operations: &[&'a Operated]) -> Result<Self, String> {
        let mut writers: BTreeMap<&'a str, usize> = BTreeMap::new();
        let mut versions: BTreeMap<usize, Version> = BTreeMap::new();
        for (index, operated) in operations.iter().enumerate() {
            if let Some(token) = operated.invocation.token() {
                writers.insert(token, index);
            }
            if let Some(version) = written(operated) {
                versions.insert(index, version);
            }
        }
        for operated in operations {
            let Observed::Value { value: Some(value), version } = &operated.observed else { continue };
            let writer = *writers
                .get(last_token(value))
                .ok_or(format!("no client wrote what was read: {operated:?}"))?;
            let by = operations[writer];
            if by.observed == Observed::NotDone {
                return Err(format!("answered as not done, and it was read: {by:?}, {operated:?}"));
            }
            if by.key != operated.key {
                return Err(format!("another key's value: {by:?}, {operated:?}"));
            }
            if by.invoked > operated.returned {
                return Err(format!("read before it was written: {by:?}, {operated:?}"));
            }
            if let Some(version) = *version
                && let Some(other) = versions.insert(writer, version)
                && other != version
            {
                return Err(format!(
                    "one write with two places, {other} and {version}: {by:?}, {operated:?}"
                ));
            }
        }
        let mut places: BTreeMap<Seq, usize> = BTreeMap::new();
        let mut log = Self { writers, versions, keys: BTreeMap::new(), doubtful: BTreeMap::new() };
        for (&index, version) in &log.versions {
            if let Some(other) = places.insert(version.seq, index) {
                return Err(format!(
                    "two writes at {version}: {:?}, {:?}",
                    operations[other], operations[index]
                ));
            }
            log.keys.entry(&operations[index].key).or_default().insert(version.seq, index);
        }
        let tags: Vec<_> = places.values().map(|index| log.versions[index]).collect();
        if let Some(pair) = tags.windows(2).find(|pair| pair[0].tag > pair[1].tag) {
            return Err(format!("epochs go back in the log: {} before {}", pair[0], pair[1]));
        }
        for (index, operated) in operations.iter().enumerate() {
            if operated.invocation != Invocation::Get
                && operated.observed == Observed::Unknown
                && !log.versions.contains_key(&index)
            {
                log.doubtful.entry(&operated.key).or_default().deletes |=
                    operated.invocation == Invocation::Delete;
            }
        }
        Ok(log)
    }

    /// What each write did, and what was read of it, by the writes before it.
    fn check_values(&self, operations: &[&Operated]) -> Result<(), String> {
        let mut values: BTreeMap<Version, String> = BTreeMap::new();
        for (key, changes) in self.keys.iter().filter(|(key, _)| !self.doubtful.contains_key(*key)) {
            let mut state: Option<(Version, String)> = None;
            for &index in changes.values() {
                let operated = operations[index];
                let version = self.versions[&index];
                let fits = fits(operated, state.as_ref());
                let old = state.take().map(|(_, value)| value);
                state = after(&operated.invocation, old).map(|value| (version, value));
                if !fits {
                    return Err(format!(
                        "key {key}: what a write did does not follow from those before: {operated:?}"
                    ));
                }
                if let Some((version, value)) = &state {
                    values.insert(*version, value.clone());
                }
            }
        }
        for operated in operations {
            let Observed::Value { value: Some(value), version: Some(version) } = &operated.observed else {
                continue;
            };
            let by = operations[self.writers[last_token(value)]];
            let wanted = if matches!(by.invocation, Invocation::Append { .. }) {
                value.as_str()
            } else {
                last_token(value)
            };
            let known = values.entry(*version).or_insert_with(|| wanted.to_owned());
            if known != value {
                return Err(format!("version {version} was {known} elsewhere: {operated:?}"));
            }
        }
        Ok(())
    }

    /// No operation has an earlier place than one that had ended before it began.
    fn check_times(&self, operations: &[&Operated]) -> Result<(), String> {
        // At one moment begins first, so that nothing is ordered that might overlap.
        let mut moments: Vec<(Micros, bool, usize)> = Vec::new();
        for (index, operated) in operations.iter().enumerate() {
            if !matches!(operated.observed, Observed::Unknown | Observed::NotDone) {
                moments.push((operated.invoked, false, index));
                moments.push((operated.returned, true, index));
            }
        }
        moments.sort_unstable();
        let mut floor = Seq(0);
        let mut floors = vec![Seq(0); operations.len()];
        for (_, ends, index) in moments {
            if ends {
                let place = self.place(index, operations, floors[index]);
                floor = floor.max(place.map_err(|what| format!("{what}; {:?}", operations[index]))?);
            } else {
                floors[index] = floor;
            }
        }
        Ok(())
    }

    /// The first place from `floor` on at which an operation can have happened.
    fn place(&self, index: usize, operations: &[&Operated], floor: Seq) -> Result<Seq, String> {
        if let Some(version) = self.versions.get(&index) {
            let late =
                format!("a write has the place {version}, and {floor} was observed before it was invoked");
            return if version.seq > floor { Ok(version.seq) } else { Err(late) };
        }
        let operated = operations[index];
        match &operated.observed {
            Observed::Value { value: Some(_), version: Some(version) } => {
                self.present(&operated.key, *version, floor)
            }
            Observed::Value { value: Some(value), version: None } => {
                match self.writers.get(last_token(value)).and_then(|writer| self.versions.get(writer)) {
                    Some(version) => self.present(&operated.key, *version, floor),
                    None => Ok(floor),
                }
            }
            Observed::Outcome(Outcome::ConditionFailed { current: Some(version) }) => {
                self.present(&operated.key, *version, floor)
            }
            Observed::Value { value: None, .. }
            | Observed::Outcome(Outcome::NotFound {} | Outcome::ConditionFailed { .. }) => {
                self.absent(operated, operations, floor)
            }
            other => Err(format!("an answer that does not fit the request: {other:?}")),
        }
    }

    fn present(&self, key: &str, version: Version, floor: Seq) -> Result<Seq, String> {
        let next = self.keys.get(key).and_then(|changes| changes.range(version.seq.next()..).next());
        match next {
            Some((next, _)) if *next <= floor => Err(format!(
                "{version} was read, and it was replaced at {next} when {floor} had been observed"
            )),
            _ => Ok(floor.max(version.seq)),
        }
    }

    fn absent(&self, operated: &Operated, operations: &[&Operated], floor: Seq) -> Result<Seq, String> {
        let Some(changes) = self.keys.get(operated.key.as_str()) else { return Ok(floor) };
        let deletes = |index: &usize| operations[*index].invocation == Invocation::Delete;
        let gone = changes.range(..=floor).next_back().is_none_or(|(_, index)| deletes(index));
        if gone || self.doubtful.get(operated.key.as_str()).is_some_and(|doubt| doubt.deletes) {
            return Ok(floor);
        }
        let deleted = changes.range(floor.next()..).find(|(_, index)| deletes(index));
        match deleted {
            Some((place, index)) if operations[*index].invoked <= operated.returned => Ok(*place),
            _ => Err(format!("nothing was read, and there was a value when {floor} had been observed")),
        }
    }
}

/// The version that an answered write made.
fn written(operated: &Operated) -> Option<Version> {
    match operated.observed {
        Observed::Outcome(
            Outcome::Written { version, .. }
            | Outcome::Appended { version, .. }
            | Outcome::Deleted { version },
        ) => Some(version),
        _ => None,
    }
}

fn after(invocation: &Invocation, old: Option<String>) -> Option<String> {
    match invocation {
        Invocation::Get => old,
        Invocation::Put { token } | Invocation::PutIf { token, .. } => Some(token.clone()),
        Invocation::Append { token } => Some(old.unwrap_or_default() + token),
        Invocation::Delete => None,
    }
}

fn fits(operated: &Operated, state: Option<&(Version, String)>) -> bool {
    if let Invocation::PutIf { version, .. } = operated.invocation
        && state.is_none_or(|(current, _)| *current != version)
    {
        return false;
    }
    match operated.observed {
        Observed::Outcome(Outcome::Written { replaced, .. }) => replaced == state.is_some(),
        Observed::Outcome(Outcome::Appended { offset, .. }) => {
            offset == state.map_or(0, |(_, value)| value.len() as u64)
        }
        Observed::Outcome(Outcome::Deleted { .. }) => state.is_some(),
        // It was read, so it happened.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{Epoch, LogId};

    use super::*;

    fn at(seq: u64) -> Version {
        LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
    }

    fn operated(invocation: Invocation, times: (u64, u64), observed: Observed) -> Operated {
        Operated { key: "k".into(), invocation, invoked: times.0, returned: times.1, observed }
    }

    fn put(token: &str, seq: u64, replaced: bool, times: (u64, u64)) -> Operated {
        let observed = Observed::Outcome(Outcome::Written { version: at(seq), replaced });
        operated(Invocation::Put { token: token.into() }, times, observed)
    }

    fn lost(token: &str, times: (u64, u64)) -> Operated {
        operated(Invocation::Put { token: token.into() }, times, Observed::Unknown)
    }

    fn get(value: &str, seq: u64, times: (u64, u64)) -> Operated {
        operated(
            Invocation::Get,
            times,
            Observed::Value { value: Some(value.into()), version: Some(at(seq)) },
        )
    }

    fn line(value: &str, times: (u64, u64)) -> Operated {
        operated(Invocation::Get, times, Observed::Value { value: Some(value.into()), version: None })
    }

    fn nothing(times: (u64, u64)) -> Operated {
        operated(Invocation::Get, times, Observed::Value { value: None, version: None })
    }

    fn delete(seq: u64, times: (u64, u64)) -> Operated {
        operated(Invocation::Delete, times, Observed::Outcome(Outcome::Deleted { version: at(seq) }))
    }

    fn append(token: &str, seq: u64, offset: u64, times: (u64, u64)) -> Operated {
        let observed = Observed::Outcome(Outcome::Appended { version: at(seq), offset });
        operated(Invocation::Append { token: token.into() }, times, observed)
    }

    fn passes(operations: &[Operated]) {
        check(&operations.iter().collect::<Vec<_>>()).unwrap();
    }

    #[track_caller]
    fn fails(operations: &[Operated], with: &str) {
        let what = check(&operations.iter().collect::<Vec<_>>()).expect_err("it must be found");
        assert!(what.contains(with), "{what}");
    }

    fn two() -> Vec<Operated> {
        vec![put("a;", 1, false, (0, 10)), put("b;", 3, true, (20, 30))]
    }

    fn two_and(more: Operated) -> Vec<Operated> {
        [two(), vec![more]].concat()
    }

    #[test]
    fn what_can_have_happened_passes() {
        passes(&two_and(get("a;", 1, (12, 25))));
        passes(&two_and(line("b;", (22, 25))));
        passes(&two_and(nothing((0, 5))));
        passes(&[two(), vec![delete(4, (40, 50)), nothing((45, 46)), nothing((51, 52))]].concat());
    }

    #[test]
    fn a_stale_read_is_found() {
        fails(&two_and(get("a;", 1, (31, 40))), "was replaced");
        fails(&two_and(line("a;", (31, 40))), "was replaced");
        fails(&two_and(nothing((31, 40))), "nothing was read");
        fails(
            &[get("b;", 3, (0, 21)), get("a;", 1, (22, 40)), two().remove(0), two().remove(1)],
            "was replaced",
        );
    }

    #[test]
    fn a_lost_write_is_found() {
        let gone = [two(), vec![delete(4, (40, 50))]].concat();
        fails(&[gone, vec![get("b;", 3, (51, 52))]].concat(), "was replaced");
        fails(&[put("a;", 1, false, (0, 10)), nothing((11, 12))], "nothing was read");
    }

    #[test]
    fn a_read_of_the_future_is_found() {
        fails(&two_and(get("b;", 3, (5, 6))), "before it was written");
    }

    #[test]
    fn a_key_that_answers_for_another_is_found() {
        let mut other = get("a;", 1, (12, 13));
        other.key = "l".into();
        fails(&two_and(other), "another key");
    }

    #[test]
    fn writes_out_of_order_or_at_one_place_are_found() {
        fails(&[put("b;", 3, false, (0, 10)), put("a;", 1, false, (20, 30))], "does not follow");
        fails(&[put("b;", 3, true, (0, 10)), put("a;", 1, false, (20, 30))], "was observed before");
        fails(&[put("a;", 1, false, (0, 10)), put("b;", 1, true, (20, 30))], "two writes at");
    }

    #[test]
    fn an_append_that_was_carried_out_twice_is_found() {
        passes(&[append("a;", 1, 0, (0, 1)), append("b;", 2, 2, (2, 3)), get("a;b;", 2, (4, 5))]);
        fails(&[append("a;", 1, 0, (0, 1)), append("b;", 2, 4, (2, 3))], "does not follow");
        fails(&[append("a;", 1, 0, (0, 1)), get("a;a;", 1, (4, 5))], "elsewhere");
        fails(&[append("a;", 1, 0, (0, 1)), get("a;a;", 2, (4, 5))], "two places");
    }

    #[test]
    fn an_unknown_write_may_happen_at_any_time_but_stays() {
        passes(&[lost("x;", (0, 1)), put("a;", 1, false, (5, 10)), get("a;", 1, (11, 12))]);
        let seen = [lost("x;", (0, 1)), put("a;", 1, false, (5, 10)), get("x;", 2, (11, 12))];
        passes(&seen);
        fails(&[seen.to_vec(), vec![get("a;", 1, (13, 14))]].concat(), "was replaced");
        fails(&[seen.to_vec(), vec![get("x;", 5, (13, 14))]].concat(), "two places");
    }

    #[test]
    fn a_refused_write_that_happened_is_found() {
        let refused = operated(Invocation::Put { token: "x;".into() }, (0, 1), Observed::NotDone);
        passes(std::slice::from_ref(&refused));
        fails(&[refused, get("x;", 1, (2, 3))], "not done");
    }

    #[test]
    fn a_comparison_with_another_version_is_found() {
        let observed = Observed::Outcome(Outcome::Written { version: at(5), replaced: true });
        let swap = |seq| {
            operated(Invocation::PutIf { version: at(seq), token: "c;".into() }, (40, 50), observed.clone())
        };
        passes(&two_and(swap(3)));
        fails(&two_and(swap(1)), "does not follow");
    }

    #[test]
    fn epochs_that_go_back_are_found() {
        let mut late = put("b;", 3, true, (20, 30));
        let tag = Epoch { generation: 0, version: 0 };
        late.observed =
            Observed::Outcome(Outcome::Written { version: LogId { tag, seq: Seq(3) }, replaced: true });
        fails(&[put("a;", 1, false, (0, 10)), late], "epochs go back");
    }
}
