//! What differs between a view and the one before, for people.

use common::ids::PartitionId;
use common::view::{Assignment, View};
use serde::Serialize;

/// Partitions by what changed in them, as first and last of each run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Another server coordinates.
    coordinator: Vec<(u16, u16)>,
    /// Other copies are in sync.
    in_sync: Vec<(u16, u16)>,
    /// Other copies are being brought up to date.
    joining: Vec<(u16, u16)>,
}

impl Difference {
    /// From a view to a later one. Partitions that are not in the earlier one count as changed in everything.
    pub(super) fn between(before: &View, after: &View) -> Self {
        let mut difference = Self::default();
        for (partition, now) in after.iter() {
            let then = before.assignment(partition);
            let differs =
                |same: fn(&Assignment, &Assignment) -> bool| then.is_none_or(|then| !same(then, now));
            let add = |runs: &mut Vec<(u16, u16)>| push(runs, partition);
            if differs(|one, other| one.coordinator == other.coordinator) {
                add(&mut difference.coordinator);
            }
            if differs(|one, other| one.in_sync == other.in_sync) {
                add(&mut difference.in_sync);
            }
            if differs(|one, other| one.joining == other.joining) {
                add(&mut difference.joining);
            }
        }
        difference
    }
}

fn push(runs: &mut Vec<(u16, u16)>, PartitionId(partition): PartitionId) {
    match runs.last_mut() {
        Some((_, last)) if *last + 1 == partition => *last = partition,
        _ => runs.push((partition, partition)),
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Epoch, ServerId, StoreId};
    use common::ring::Partitions;
    use common::view::Member;

    use super::*;

    fn view(coordinators: &[u128]) -> View {
        let member = |&server: &u128| Member { server: ServerId(server), store: StoreId(server) };
        let assignment = |server: &u128| Assignment {
            epoch: Epoch::default(),
            coordinator: ServerId(*server),
            in_sync: vec![member(server)],
            joining: Vec::new(),
        };
        let mut view = View::new(ClusterId(1), Epoch::default(), Partitions::try_from(8).unwrap());
        view.assignments = coordinators.iter().map(assignment).collect();
        view
    }

    #[test]
    fn partitions_that_changed_are_told_in_runs() {
        let (before, mut after) = (view(&[1; 8]), view(&[1, 2, 2, 2, 1, 1, 1, 2]));
        after.assignments[5].joining = after.assignments[1].in_sync.clone();
        let difference = Difference::between(&before, &after);
        assert_eq!(difference.coordinator, [(1, 3), (7, 7)]);
        assert_eq!(difference.in_sync, [(1, 3), (7, 7)]);
        assert_eq!(difference.joining, [(5, 5)]);
        assert_eq!(Difference::between(&after, &after), Difference::default());
        let first = Difference::between(&view(&[]), &after);
        assert_eq!(first.coordinator, [(0, 7)], "the first view");
    }
}
