//! Linearizability by search, from requests and answers alone, without versions: some order of the operations on a
//! key must explain all answers, in which nothing comes before what had ended when it began (Wing and Gong 1993, with
//! the memory of visited states of Lowe 2017).
//!
//! Of the operations that may be next, one that changes nothing and fits is taken without looking at others: taking it
//! later could explain nothing more. An operation without an answer may happen at any time after it was invoked, or
//! never.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use common::operation::{Outcome, Version};

use super::{Invocation, Micros, Observed, Operated};

/// States that are visited before the search gives up.
const STATES_MAX: usize = 300_000;

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    Impossible,
    /// Nothing was found in the states that were visited.
    TooLarge,
}

type Value = Option<Rc<str>>;

struct Step<'a> {
    invoked: Micros,
    returned: Micros,
    operated: &'a Operated,
}

/// How far an order has come. Of the answered steps, all before `front` and those in `ahead` have happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    front: usize,
    ahead: BTreeSet<usize>,
    /// Steps without an answer that have happened.
    late: BTreeSet<usize>,
    value: Value,
}

/// Checks the operations on one key.
pub(crate) fn check(operations: &[&Operated]) -> Verdict {
    Search::new(operations).run()
}

struct Search<'a> {
    /// By begin.
    answered: Vec<Step<'a>>,
    lost: Vec<Step<'a>>,
    /// The values of versions, as reads returned them.
    values: BTreeMap<Version, &'a str>,
}

impl<'a> Search<'a> {
    fn new(operations: &[&'a Operated]) -> Self {
        let mut search = Self { answered: Vec::new(), lost: Vec::new(), values: BTreeMap::new() };
        for &operated in operations {
            if let Observed::Value { value: Some(value), version: Some(version) } = &operated.observed {
                search.values.insert(*version, value);
            }
            let Operated { invoked, returned, .. } = *operated;
            match operated.observed {
                Observed::NotDone => {}
                Observed::Unknown if operated.invocation == Invocation::Get => {}
                Observed::Unknown => search.lost.push(Step { invoked, returned: Micros::MAX, operated }),
                _ => search.answered.push(Step { invoked, returned, operated }),
            }
        }
        search.answered.sort_by_key(|step| step.invoked);
        search
    }

    fn run(&self) -> Verdict {
        let begin = State { front: 0, ahead: BTreeSet::new(), late: BTreeSet::new(), value: None };
        let mut visited = BTreeSet::new();
        let mut stack = vec![begin];
        while let Some(state) = stack.pop() {
            if state.front == self.answered.len() {
                return Verdict::Linearizable;
            }
            if visited.len() > STATES_MAX {
                return Verdict::TooLarge;
            }
            if visited.insert(state.clone()) {
                self.push_successors(&state, &mut stack);
            }
        }
        Verdict::Impossible
    }

    /// What may happen next: nothing that began after something had ended which has not happened yet. The one that
    /// ended first is tried first (it is pushed last).
    fn push_successors(&self, state: &State, stack: &mut Vec<State>) {
        let mut first_end = Micros::MAX;
        let mut candidates = Vec::new();
        for (index, step) in self.answered.iter().enumerate().skip(state.front) {
            if step.invoked > first_end {
                break;
            }
            if !state.ahead.contains(&index) {
                first_end = first_end.min(step.returned);
                candidates.push(index);
            }
        }
        candidates.retain(|&index| self.answered[index].invoked <= first_end);
        let happened = |index: usize, value: Value| {
            let mut next = State { value, ..state.clone() };
            next.ahead.insert(index);
            while next.ahead.remove(&next.front) {
                next.front += 1;
            }
            next
        };
        let after = |index: usize| self.after(self.answered[index].operated, &state.value);
        if let Some(&index) = candidates.iter().find(|&&index| after(index).as_ref() == Some(&state.value)) {
            stack.push(happened(index, state.value.clone()));
            return;
        }
        for (index, step) in self.lost.iter().enumerate() {
            if step.invoked <= first_end
                && !state.late.contains(&index)
                && let Some(value) = self.after(step.operated, &state.value)
                && value != state.value
            {
                let mut next = State { value, ..state.clone() };
                next.late.insert(index);
                stack.push(next);
            }
        }
        candidates.sort_by_key(|&index| std::cmp::Reverse(self.answered[index].returned));
        stack.extend(candidates.into_iter().filter_map(|index| Some(happened(index, after(index)?))));
    }

    /// The value after an operation, if the observed outcome fits the value before.
    fn after(&self, operated: &Operated, value: &Value) -> Option<Value> {
        let set = |token: &str| Some(Some(Rc::from(token)));
        let unchanged = || Some(value.clone());
        let outcome = match &operated.observed {
            Observed::Value { value: read, .. } => {
                return if read.as_deref() == value.as_deref() { unchanged() } else { None };
            }
            Observed::Outcome(outcome) => Some(outcome),
            Observed::Unknown | Observed::NotDone => None,
        };
        match (&operated.invocation, outcome) {
            (Invocation::Put { token }, Some(Outcome::Written { replaced, .. })) => {
                if *replaced == value.is_some() { set(token) } else { None }
            }
            (Invocation::Put { token }, None) => set(token),
            (Invocation::PutIf { version, token }, outcome) => {
                let wanted = self.values.get(version).copied();
                let holds = wanted.is_some() && wanted == value.as_deref();
                match outcome {
                    Some(Outcome::Written { .. }) => {
                        if holds {
                            set(token)
                        } else {
                            None
                        }
                    }
                    Some(_) => {
                        if holds {
                            None
                        } else {
                            unchanged()
                        }
                    }
                    None => {
                        if holds {
                            set(token)
                        } else {
                            unchanged()
                        }
                    }
                }
            }
            (Invocation::Append { token }, outcome) => {
                let old = value.as_deref().unwrap_or_default();
                match outcome {
                    Some(Outcome::Appended { offset, .. }) if *offset != old.len() as u64 => None,
                    Some(Outcome::Appended { .. }) | None => set(&format!("{old}{token}")),
                    Some(_) => None,
                }
            }
            (Invocation::Delete, Some(Outcome::NotFound {})) => {
                if value.is_none() {
                    Some(None)
                } else {
                    None
                }
            }
            (Invocation::Delete, Some(_)) => value.is_some().then_some(None),
            (Invocation::Delete, None) => Some(None),
            (Invocation::Get | Invocation::Put { .. }, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{Epoch, LogId, Seq};

    use super::*;

    fn version(seq: u64) -> Version {
        LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
    }

    fn operated(invocation: Invocation, times: (u64, u64), observed: Observed) -> Operated {
        Operated { key: "k".into(), invocation, invoked: times.0, returned: times.1, observed }
    }

    fn put(token: &str, replaced: bool, times: (u64, u64)) -> Operated {
        let observed = Observed::Outcome(Outcome::Written { version: version(1), replaced });
        operated(Invocation::Put { token: token.into() }, times, observed)
    }

    fn lost(token: &str, invoked: u64) -> Operated {
        operated(Invocation::Put { token: token.into() }, (invoked, invoked), Observed::Unknown)
    }

    fn get(value: &str, times: (u64, u64)) -> Operated {
        operated(Invocation::Get, times, Observed::Value { value: Some(value.into()), version: None })
    }

    fn nothing(times: (u64, u64)) -> Operated {
        operated(Invocation::Get, times, Observed::Value { value: None, version: None })
    }

    fn verdict(operations: &[Operated]) -> Verdict {
        check(&operations.iter().collect::<Vec<_>>())
    }

    #[test]
    fn overlapping_operations_may_happen_in_any_order() {
        let both = [put("a;", true, (0, 10)), put("b;", false, (0, 10))];
        assert_eq!(verdict(&[&both[..], &[get("a;", (11, 12))]].concat()), Verdict::Linearizable);
        assert_eq!(verdict(&[&both[..], &[get("b;", (11, 12))]].concat()), Verdict::Impossible);
    }

    #[test]
    fn a_stale_read_is_found() {
        let writes = [put("a;", false, (0, 10)), put("b;", true, (20, 30))];
        assert_eq!(verdict(&[&writes[..], &[get("a;", (12, 25))]].concat()), Verdict::Linearizable);
        assert_eq!(verdict(&[&writes[..], &[get("a;", (31, 32))]].concat()), Verdict::Impossible);
        assert_eq!(verdict(&[&writes[..], &[nothing((31, 32))]].concat()), Verdict::Impossible);
    }

    #[test]
    fn an_unanswered_write_may_happen_late_or_never_but_not_twice() {
        let begin = [lost("x;", 0), put("a;", false, (5, 10)), get("a;", (11, 12))];
        assert_eq!(verdict(&begin), Verdict::Linearizable);
        assert_eq!(verdict(&[&begin[..], &[get("x;", (13, 14))]].concat()), Verdict::Linearizable);
        let twice = [lost("x;", 0), get("x;", (1, 2)), put("a;", true, (5, 10)), get("x;", (13, 14))];
        assert_eq!(verdict(&twice), Verdict::Impossible);
        assert_eq!(verdict(&[get("x;", (1, 2)), lost("x;", 3)]), Verdict::Impossible);
    }

    #[test]
    fn two_winners_of_one_comparison_are_found() {
        let read = operated(
            Invocation::Get,
            (11, 12),
            Observed::Value { value: Some("a;".into()), version: Some(version(1)) },
        );
        let swap = |token: &str, wins: bool| {
            let observed = if wins {
                Outcome::Written { version: version(2), replaced: true }
            } else {
                Outcome::ConditionFailed { current: Some(version(2)) }
            };
            operated(
                Invocation::PutIf { version: version(1), token: token.into() },
                (20, 30),
                Observed::Outcome(observed),
            )
        };
        let begin = [put("a;", false, (0, 10)), read];
        assert_eq!(
            verdict(&[&begin[..], &[swap("b;", true), swap("c;", false)]].concat()),
            Verdict::Linearizable
        );
        assert_eq!(
            verdict(&[&begin[..], &[swap("b;", true), swap("c;", true)]].concat()),
            Verdict::Impossible
        );
    }

    #[test]
    fn an_append_at_a_wrong_offset_is_found() {
        let append = |token: &str, offset, times| {
            let observed = Observed::Outcome(Outcome::Appended { version: version(1), offset });
            operated(Invocation::Append { token: token.into() }, times, observed)
        };
        assert_eq!(verdict(&[append("a;", 0, (0, 1)), append("b;", 2, (2, 3))]), Verdict::Linearizable);
        assert_eq!(verdict(&[append("a;", 0, (0, 1)), append("b;", 0, (2, 3))]), Verdict::Impossible);
    }

    #[test]
    fn a_lost_delete_is_found() {
        let delete =
            operated(Invocation::Delete, (5, 6), Observed::Outcome(Outcome::Deleted { version: version(2) }));
        let begin = [put("a;", false, (0, 1)), delete];
        assert_eq!(verdict(&[&begin[..], &[nothing((7, 8))]].concat()), Verdict::Linearizable);
        assert_eq!(verdict(&[&begin[..], &[get("a;", (7, 8))]].concat()), Verdict::Impossible);
    }
}
