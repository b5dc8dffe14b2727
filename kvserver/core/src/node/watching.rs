//! The copies that clients watch.

use super::super::limits::WATCH_LOOK;
use super::Node;

impl Node {
    /// Answers clients that have waited long enough for a change.
    pub(super) fn look_at_watches(&mut self) {
        let now = self.env.cx.now.time;
        if now < self.next.watch_look || self.env.watched.is_empty() {
            return;
        }
        self.next.watch_look = now + WATCH_LOOK;
        for partition in self.env.watched.clone() {
            let Some(copy) = self.copies.get_mut(usize::from(partition.0)) else { continue };
            copy.watch_tick(&mut self.env);
        }
    }

    /// Asserts that the counted questions and bytes are those of the copies.
    pub(super) fn watch_invariants(&self) {
        let (mut waits, mut kept_bytes) = (0, 0);
        for copy in &self.copies {
            let is_watched = self.env.watched.contains(&copy.id());
            assert!(is_watched || !copy.watches().is_open(), "changes are kept and never dropped");
            assert!(is_watched || !copy.watches().is_awaited(), "a client waits and no clock is looked at");
            let (copy_waits, copy_bytes) = copy.watches().counted();
            waits += copy_waits;
            kept_bytes += copy_bytes;
        }
        assert_eq!((waits, kept_bytes), (self.env.budgets.watches, self.env.budgets.change_bytes));
    }
}
