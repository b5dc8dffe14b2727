//! The outcomes of one client's recent writes, by number.

use std::collections::VecDeque;

use common::ids::RequestNumber;
use common::operation::Outcome;

/// The outcomes in the order of their numbers. A queue, as the newest number nearly always comes last, and the oldest
/// ones are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes(VecDeque<(RequestNumber, Outcome)>);

impl Outcomes {
    /// Restores stored outcomes, in any order.
    pub(super) fn from_stored(mut stored: Vec<(RequestNumber, Outcome)>) -> Self {
        // If a number occurs twice, the last one counts, as if they had been noted one by one.
        stored.reverse();
        stored.sort_by_key(|(number, _)| *number);
        stored.dedup_by_key(|(number, _)| *number);
        Self(stored.into())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(RequestNumber, Outcome)> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, number: RequestNumber) -> Option<&Outcome> {
        let index = self.index(number).ok()?;
        self.0.get(index).map(|(_, outcome)| outcome)
    }

    /// Notes an outcome; one that was noted before under the same number is replaced.
    pub(super) fn insert(&mut self, number: RequestNumber, outcome: Outcome) {
        if self.0.back().is_none_or(|(last, _)| *last < number) {
            return self.0.push_back((number, outcome));
        }
        match self.index(number) {
            Ok(index) => self.0[index].1 = outcome,
            Err(index) => self.0.insert(index, (number, outcome)),
        }
    }

    /// Drops outcomes with numbers below `first`.
    pub(super) fn forget_below(&mut self, first: RequestNumber) {
        while self.0.front().is_some_and(|(number, _)| *number < first) {
            self.0.pop_front();
        }
    }

    /// Drops the outcome with the smallest number, and returns that number.
    pub(super) fn pop_first(&mut self) -> Option<RequestNumber> {
        self.0.pop_front().map(|(number, _)| number)
    }

    /// Asserts what must be true after every command.
    pub(super) fn invariants(&self) {
        let numbers = || self.0.iter().map(|(number, _)| *number);
        assert!(numbers().zip(numbers().skip(1)).all(|(one, next)| one < next), "outcomes are in order");
    }

    fn index(&self, number: RequestNumber) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seq: u64) -> Outcome {
        let tag = common::ids::Epoch::default();
        Outcome::Deleted { version: common::ids::LogId { tag, seq: common::ids::Seq(seq) } }
    }

    fn numbers(outcomes: &Outcomes) -> Vec<u64> {
        outcomes.iter().map(|(number, _)| number.0).collect()
    }

    #[test]
    fn they_are_in_order_whatever_comes_first() {
        let mut outcomes = Outcomes::default();
        for number in [3, 5, 1, 4, 5] {
            outcomes.insert(RequestNumber(number), outcome(number * 10 + outcomes.len() as u64));
        }
        assert_eq!(numbers(&outcomes), [1, 3, 4, 5]);
        assert_eq!(outcomes.get(RequestNumber(5)), Some(&outcome(54)), "the last one holds");
        assert_eq!(outcomes.get(RequestNumber(2)), None);
        outcomes.forget_below(RequestNumber(4));
        assert_eq!(numbers(&outcomes), [4, 5]);
        assert_eq!(outcomes.pop_first(), Some(RequestNumber(4)));
    }

    #[test]
    fn what_is_stored_comes_back_in_order() {
        let stored = [(4, 1), (2, 2), (4, 3)].map(|(number, seq)| (RequestNumber(number), outcome(seq)));
        let outcomes = Outcomes::from_stored(stored.to_vec());
        assert_eq!(numbers(&outcomes), [2, 4]);
        assert_eq!(outcomes.get(RequestNumber(4)), Some(&outcome(3)));
    }
}
