//! The position in a file below which every line is acknowledged, though answers come in any order.

use std::collections::VecDeque;

/// Where an import goes on: between two lines of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct FilePosition {
    /// Bytes before the position.
    pub(super) offset: u64,
    /// Lines before the position.
    pub(super) lines: u64,
}

/// Lines that are under way, in the order of the file.
#[derive(Debug)]
pub(super) struct Window {
    /// All lines before this position are done.
    position: FilePosition,
    /// The number of the first element of `under_way`.
    first: u64,
    /// Where each line ends, and whether it is done.
    under_way: VecDeque<(FilePosition, bool)>,
}

impl Window {
    pub(super) fn new(position: FilePosition) -> Self {
        Self { position, first: 0, under_way: VecDeque::new() }
    }

    /// Notes a line that is begun and ends at `end`; returns its number.
    pub(super) fn begin(&mut self, end: FilePosition) -> u64 {
        self.under_way.push_back((end, false));
        self.first + self.under_way.len() as u64 - 1
    }

    /// Notes that a line is done.
    pub(super) fn done(&mut self, number: u64) {
        let index = usize::try_from(number - self.first).expect("lines under way fit in memory");
        self.under_way[index].1 = true;
        while let Some((end, true)) = self.under_way.front().copied() {
            self.position = end;
            self.first += 1;
            self.under_way.pop_front();
        }
    }

    /// The position before which everything is acknowledged.
    pub(super) fn position(&self) -> FilePosition {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(lines: u64) -> FilePosition {
        FilePosition { offset: lines * 10, lines }
    }

    proptest! {
        #[test]
        fn the_position_is_where_the_first_unanswered_line_begins(
            order in Just((0..20_u64).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let mut window = Window::new(FilePosition::default());
            for number in 0..20 {
                prop_assert_eq!(window.begin(position(number + 1)), number);
            }
            let mut open: std::collections::BTreeSet<u64> = (0..20).collect();
            for number in order {
                window.done(number);
                open.remove(&number);
                prop_assert_eq!(window.position(), position(open.first().copied().unwrap_or(20)));
            }
        }
    }
}
