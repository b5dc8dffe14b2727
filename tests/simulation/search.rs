//! Linearizability by search, from the clients' histories alone: some order of the operations on a key must explain all
//! answers, in which nothing comes before what had ended when it began (Wing and Gong 1993, with the memory of visited
//! states of Lowe 2017). Operations without an answer may happen at any later time, or never.

use std::collections::BTreeSet;

use bytes::Bytes;
use common::operation::{Condition, Operation, Outcome};

use super::history::{Invocation, Observed, Operated};
use super::timeline::Micros;

/// States that are visited before the search gives up.
const STATES_MAX: usize = 200_000;

/// What the search found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    Impossible,
    /// Nothing was found in the states that were visited.
    TooLarge,
}

/// An operation on a register whose values are never written twice; a version stands for its value.
#[derive(Debug)]
struct Step {
    invoked: Micros,
    returned: Micros,
    effect: Effect,
}

#[derive(Debug)]
enum Effect {
    Read(Option<Bytes>),
    Put {
        value: Bytes,
        condition: Want,
        done: Option<bool>,
    },
    Append {
        value: Bytes,
        offset: Option<u64>,
    },
    Delete {
        condition: Want,
        done: Option<Deleted>,
    },
    /// `observed`: whether it was set, and the value before, as far as that was answered.
    Set {
        value: Bytes,
        condition: Want,
        observed: Option<(bool, Option<Bytes>)>,
    },
    Take {
        observed: Option<Option<Bytes>>,
    },
}

#[derive(Debug)]
enum Want {
    Always,
    Absent,
    Present,
    Value(Bytes),
    /// A version whose value no client ever saw: nothing is known of it.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deleted {
    Yes,
    NothingThere,
    Refused,
}

/// Checks the operations on one key.
pub(crate) fn check_key(operations: &[&Operated]) -> Verdict {
    let steps: Vec<Step> = operations.iter().filter_map(|operated| step(operated, operations)).collect();
    Search::new(steps).run()
}

fn step(operated: &Operated, all: &[&Operated]) -> Option<Step> {
    let effect = match (&operated.invocation, &operated.observed) {
        (_, Observed::NotDone)
        | (Invocation::Get, Observed::Unknown | Observed::Outcome(_) | Observed::Page(_))
        | (Invocation::Scan, _) => return None,
        (Invocation::Get, Observed::Value(_)) => Effect::Read(operated.read()?.map(|(_, value)| value)),
        (Invocation::Write { operation, .. }, observed) => effect(operation, observed, all)?,
    };
    let answered = !matches!(operated.observed, Observed::Unknown);
    let returned = operated.returned.filter(|_| answered).unwrap_or(Micros::MAX);
    Some(Step { invoked: operated.invoked, returned, effect })
}

fn effect(operation: &Operation, observed: &Observed, all: &[&Operated]) -> Option<Effect> {
    let outcome = match observed {
        Observed::Outcome(outcome) => Some(outcome),
        _ => None,
    };
    Some(match operation {
        Operation::Put { value, condition, .. } => Effect::Put {
            value: value.clone(),
            condition: want(condition, all),
            done: outcome.map(|outcome| matches!(outcome, Outcome::Written { .. })),
        },
        Operation::Append { value, .. } => Effect::Append {
            value: value.clone(),
            offset: outcome.and_then(|outcome| match outcome {
                Outcome::Appended { offset, .. } => Some(*offset),
                _ => None,
            }),
        },
        Operation::Delete { condition, .. } => Effect::Delete {
            condition: want(condition, all),
            done: outcome.map(|outcome| match outcome {
                Outcome::Deleted { .. } => Deleted::Yes,
                Outcome::NotFound {} => Deleted::NothingThere,
                _ => Deleted::Refused,
            }),
        },
        Operation::Set { value, condition, return_old: false, .. } => Effect::Put {
            value: value.clone(),
            condition: want(condition, all),
            done: outcome.map(|outcome| matches!(outcome, Outcome::Written { .. })),
        },
        Operation::Set { value, condition, .. } => Effect::Set {
            value: value.clone(),
            condition: want(condition, all),
            observed: outcome.and_then(|outcome| match outcome {
                Outcome::Changed { old, .. } => Some((true, old.clone())),
                Outcome::Kept { old } => Some((false, old.clone())),
                _ => None,
            }),
        },
        Operation::Take { .. } => Effect::Take {
            observed: outcome.map(|outcome| match outcome {
                Outcome::Changed { old, .. } => old.clone(),
                _ => None,
            }),
        },
        _ => return None,
    })
}

fn want(condition: &Condition, all: &[&Operated]) -> Want {
    match condition {
        Condition::Always {} => Want::Always,
        Condition::Absent {} => Want::Absent,
        Condition::Present {} => Want::Present,
        Condition::Value { value } => Want::Value(value.clone()),
        // The simulated clients do not ask for it.
        Condition::NotValue { .. } => Want::Unknown,
        Condition::Version { version } => {
            let seen = all.iter().filter_map(|operated| operated.read().flatten());
            let value = seen.into_iter().find(|(seen, _)| seen == version).map(|(_, value)| value);
            value.map_or(Want::Unknown, Want::Value)
        }
    }
}

impl Want {
    /// Whether it is met; none: it is not known.
    fn holds(&self, state: Option<&Bytes>) -> Option<bool> {
        match self {
            Self::Always => Some(true),
            Self::Absent => Some(state.is_none()),
            Self::Present => Some(state.is_some()),
            Self::Value(value) => Some(state == Some(value)),
            Self::Unknown => None,
        }
    }
}

impl Effect {
    /// The states that it may lead to from `state`, if its answer fits.
    fn after(&self, state: &Option<Bytes>) -> Vec<Option<Bytes>> {
        let old = state.as_ref();
        match self {
            Self::Read(value) => {
                if value == state {
                    vec![state.clone()]
                } else {
                    Vec::new()
                }
            }
            Self::Put { value, condition, done } => {
                let mut after = Vec::new();
                let holds = condition.holds(old);
                if holds != Some(false) && *done != Some(false) {
                    after.push(Some(value.clone()));
                }
                if holds != Some(true) && *done != Some(true) {
                    after.push(state.clone());
                }
                after
            }
            Self::Set { value, condition, observed } => {
                let fits = |done| observed.as_ref().is_none_or(|observed| *observed == (done, state.clone()));
                let holds = condition.holds(old);
                let set = (holds != Some(false) && fits(true)).then(|| Some(value.clone()));
                let kept = (holds != Some(true) && fits(false)).then(|| state.clone());
                set.into_iter().chain(kept).collect()
            }
            Self::Take { observed } => {
                let fits = observed.as_ref().is_none_or(|observed| observed == state);
                fits.then_some(None).into_iter().collect()
            }
            Self::Append { value, offset } => {
                let old = state.clone().unwrap_or_default();
                let fits = offset.is_none_or(|offset| offset == old.len() as u64);
                if fits { vec![Some([&old[..], &value[..]].concat().into())] } else { Vec::new() }
            }
            Self::Delete { condition, done } => {
                let mut after = Vec::new();
                let holds = condition.holds(old);
                let did = if old.is_some() { Deleted::Yes } else { Deleted::NothingThere };
                if holds != Some(false) && done.is_none_or(|done| done == did) {
                    after.push(None);
                }
                if holds != Some(true) && done.is_none_or(|done| done == Deleted::Refused) {
                    after.push(state.clone());
                }
                after
            }
        }
    }
}

/// A depth-first search over which operations have happened and the state that they left.
struct Search {
    steps: Vec<Step>,
    visited: BTreeSet<(Vec<u64>, Option<Bytes>)>,
}

impl Search {
    fn new(mut steps: Vec<Step>) -> Self {
        steps.sort_by_key(|step| step.invoked);
        Self { steps, visited: BTreeSet::new() }
    }

    fn run(mut self) -> Verdict {
        let answered = self.steps.iter().filter(|step| step.returned != Micros::MAX).count();
        // By level: what has happened, the first that has not, how many answers are to be explained yet, and the
        // successors that are not tried yet.
        let begin = vec![0; self.steps.len().div_ceil(64)];
        let successors = self.successors(&begin, 0, &None);
        let mut stack = vec![(begin, 0, answered, successors)];
        while let Some((done, first, open, successors)) = stack.last_mut() {
            if *open == 0 {
                return Verdict::Linearizable;
            }
            let Some((index, state)) = successors.pop() else {
                stack.pop();
                continue;
            };
            let mut done = done.clone();
            done[index / 64] |= 1 << (index % 64);
            let open = *open - usize::from(self.steps[index].returned != Micros::MAX);
            let mut first = *first;
            while first < self.steps.len() && is_set(&done, first) {
                first += 1;
            }
            if !self.visited.insert((done.clone(), state.clone())) {
                continue;
            }
            if self.visited.len() > STATES_MAX {
                return Verdict::TooLarge;
            }
            let successors = self.successors(&done, first, &state);
            stack.push((done, first, open, successors));
        }
        Verdict::Impossible
    }

    /// What may happen next, when all before `first` has happened: nothing that began after something else had ended
    /// which has not happened yet. The one that ended first is tried first (it is last in the list).
    fn successors(&self, done: &[u64], first: usize, state: &Option<Bytes>) -> Vec<(usize, Option<Bytes>)> {
        let mut first_end = Micros::MAX;
        let mut candidates = Vec::new();
        for (index, step) in self.steps.iter().enumerate().skip(first) {
            if step.invoked > first_end {
                break;
            }
            if !is_set(done, index) {
                first_end = first_end.min(step.returned);
                candidates.push(index);
            }
        }
        candidates.retain(|&index| self.steps[index].invoked <= first_end);
        candidates.sort_by_key(|&index| std::cmp::Reverse(self.steps[index].returned));
        let after =
            |index: usize| self.steps[index].effect.after(state).into_iter().map(move |state| (index, state));
        candidates.into_iter().flat_map(after).collect()
    }
}

fn is_set(bits: &[u64], index: usize) -> bool {
    bits[index / 64] & (1 << (index % 64)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, LogId, Seq};
    use common::operation::Found;

    fn version(seq: u64) -> LogId {
        LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
    }

    fn put(value: &'static str, condition: Condition, times: (u64, Option<u64>), done: bool) -> Operated {
        let outcome = if done {
            Outcome::Written { version: version(1), replaced: false }
        } else {
            Outcome::ConditionFailed { current: None }
        };
        let operation = Operation::Put { key: "k".into(), value: value.into(), expires: None, condition };
        let observed = times.1.map_or(Observed::Unknown, |_| Observed::Outcome(outcome));
        let invocation = Invocation::Write { origin: None, operation };
        Operated { key: "k".into(), invocation, invoked: times.0, returned: times.1, observed }
    }

    fn read(value: Option<&'static str>, times: (u64, u64)) -> Operated {
        let found = value.map(|value| Found { value: value.into(), version: version(1), expires: None });
        let observed = Observed::Value(found);
        Operated {
            key: "k".into(),
            invocation: Invocation::Get,
            invoked: times.0,
            returned: Some(times.1),
            observed,
        }
    }

    fn check(operations: &[Operated]) -> Verdict {
        check_key(&operations.iter().collect::<Vec<_>>())
    }

    const ALWAYS: Condition = Condition::Always {};

    #[test]
    fn overlapping_operations_may_happen_in_any_order() {
        let a = put("a", ALWAYS, (0, Some(10)), true);
        let b = put("b", ALWAYS, (0, Some(10)), true);
        assert_eq!(check(&[a, b, read(Some("a"), (11, 12))]), Verdict::Linearizable);
    }

    #[test]
    fn a_stale_read_is_found() {
        let a = put("a", ALWAYS, (0, Some(10)), true);
        let b = put("b", ALWAYS, (20, Some(30)), true);
        assert_eq!(check(&[a, b, read(Some("a"), (31, 32))]), Verdict::Impossible);
    }

    #[test]
    fn an_unanswered_write_may_happen_late_or_never_but_not_twice() {
        let lost = || put("x", ALWAYS, (0, None), true);
        let a = || put("a", ALWAYS, (5, Some(10)), true);
        assert_eq!(check(&[lost(), a(), read(Some("a"), (11, 12))]), Verdict::Linearizable);
        let late = [lost(), a(), read(Some("a"), (11, 12)), read(Some("x"), (13, 14))];
        assert_eq!(check(&late), Verdict::Linearizable);
        let twice = [lost(), read(Some("x"), (1, 2)), a(), read(Some("x"), (13, 14))];
        assert_eq!(check(&twice), Verdict::Impossible);
    }

    #[test]
    fn two_winners_of_one_comparison_are_found() {
        let absent = || Condition::Absent {};
        let a = put("a", absent(), (0, Some(10)), true);
        let b = || put("b", absent(), (0, Some(10)), true);
        assert_eq!(check(&[a.clone(), put("b", absent(), (0, Some(10)), false)]), Verdict::Linearizable);
        assert_eq!(check(&[a, b()]), Verdict::Impossible);
    }

    #[test]
    fn an_append_at_a_wrong_offset_is_found() {
        let append = |value: &'static str, offset, times: (u64, u64)| Operated {
            key: "k".into(),
            invocation: Invocation::Write {
                origin: None,
                operation: Operation::Append { key: "k".into(), value: value.into() },
            },
            invoked: times.0,
            returned: Some(times.1),
            observed: Observed::Outcome(Outcome::Appended { version: version(1), offset }),
        };
        assert_eq!(check(&[append("ab", 0, (0, 1)), append("c", 2, (2, 3))]), Verdict::Linearizable);
        assert_eq!(check(&[append("ab", 0, (0, 1)), append("c", 0, (2, 3))]), Verdict::Impossible);
    }
}
