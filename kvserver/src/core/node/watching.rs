//! The copies that somebody watches.

use super::super::limits::WATCH_LOOK;
use super::Node;

impl Node {
    /// Who has waited long enough for a change is answered.
    pub(super) fn look_at_watches(&mut self) {
        let now = self.env.now.time;
        if now < self.next_watch_look || self.env.watched.is_empty() {
            return;
        }
        self.next_watch_look = now + WATCH_LOOK;
        for partition in self.env.watched.clone() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            copy.watch_tick(&mut self.env);
        }
    }

    /// What is held is what is counted.
    pub(super) fn watch_invariants(&self) {
        let (mut waits, mut told_bytes) = (0, 0);
        for copy in &self.copies {
            let (copy_waits, copy_told_bytes) = copy.watches.held();
            waits += copy_waits;
            told_bytes += copy_told_bytes;
        }
        assert_eq!((waits, told_bytes), (self.env.watches, self.env.told_bytes));
    }
}
