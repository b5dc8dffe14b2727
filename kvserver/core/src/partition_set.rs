//! A set of partitions: a bit for each, as there are few and every batch touches some.

use common::ids::PartitionId;

/// See the module's text. Iterates in ascending order.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionSet(Vec<u64>);

impl PartitionSet {
    pub(crate) fn insert(&mut self, partition: PartitionId) {
        let (word, bit) = word_and_bit(partition);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    pub(crate) fn remove(&mut self, partition: PartitionId) {
        let (word, bit) = word_and_bit(partition);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    pub(crate) fn contains(&self, partition: PartitionId) -> bool {
        let (word, bit) = word_and_bit(partition);
        self.0.get(word).is_some_and(|word| *word & bit != 0)
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        if others.0.len() > self.0.len() {
            self.0.resize(others.0.len(), 0);
        }
        assert!(self.0.len() >= others.0.len(), "there is room for each partition");
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word |= other;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Takes the first partition out of the set.
    pub(crate) fn pop_first(&mut self) -> Option<PartitionId> {
        let index = self.0.iter().position(|word| *word != 0)?;
        let word = &mut self.0[index];
        let bit = word.trailing_zeros();
        assert!(bit < u64::BITS, "the word has a bit");
        *word &= *word - 1;
        Some(named(index, bit))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(named(index, bit))
            })
        })
    }
}

/// The word and the bit of a partition.
fn word_and_bit(PartitionId(partition): PartitionId) -> (usize, u64) {
    (usize::from(partition) / 64, 1 << (partition % 64))
}

fn named(word: usize, bit: u32) -> PartitionId {
    PartitionId(u16::try_from(word * 64 + bit as usize).expect("it was made of a partition"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(set: &PartitionSet) -> Vec<u16> {
        set.iter().map(|partition| partition.0).collect()
    }

    #[test]
    fn it_holds_what_was_put_in_and_not_taken_out() {
        let mut set = PartitionSet::default();
        assert!(set.is_empty());
        for partition in [200, 0, 63, 64, u16::MAX, 64] {
            set.insert(PartitionId(partition));
        }
        set.remove(PartitionId(63));
        set.remove(PartitionId(7));
        assert_eq!(numbers(&set), [0, 64, 200, u16::MAX]);
        assert!(set.contains(PartitionId(64)) && !set.contains(PartitionId(63)));
        let mut other = PartitionSet::default();
        other.insert(PartitionId(5));
        other.extend(&set);
        assert_eq!(numbers(&other), [0, 5, 64, 200, u16::MAX]);
        let popped: Vec<u16> = std::iter::from_fn(|| set.pop_first()).map(|partition| partition.0).collect();
        assert_eq!(popped, [0, 64, 200, u16::MAX]);
        assert!(set.is_empty());
    }
}
