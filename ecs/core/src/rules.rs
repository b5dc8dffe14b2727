//! The rules that any two consecutive views satisfy, checked on each view before it is persisted, and by the
//! simulation on what was published.
//!
//! - V2: the new coordinator was in sync before.
//! - V3: the new in-sync set is part of the old one and one joining copy at most.
//! - V4: an in-sync set is never empty, and members that live and whose copies are well are never taken out of it where
//!   fewer living ones than the minimum stay. Those that are dead, or whose copies have failed, are: coordinators
//!   acknowledge nothing below the minimum, so those that stay have all that was acknowledged.
//! - V5: a coordinator whose process is another one than before has a new epoch.
//! - An epoch is the number of the view that changed the coordinator or the in-sync set. A new epoch may also come
//!   without a change: it takes back what a coordinator's earlier process, or an unanswered proposal, may hold.
//! - R7 is the exception from V2 to V4: an operator lets a partition that is offline begin anew from one copy, and the
//!   view says so.

use std::collections::BTreeSet;

use common::ids::PartitionId;
use common::view::{Assignment, Member, ServerState, View};

use super::limits::NUMBERS_LEFT_OUT_MAX;
use super::state::State;

/// A rule that a view breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The view contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// The number is not a later one of the same generation.
    #[error("view {new} follows view {old}")]
    Number {
        /// The older view's number.
        old: String,
        /// The newer view's number.
        new: String,
    },
    /// One partition's step breaks a rule.
    #[error("partition {partition}: {rule}")]
    Partition {
        /// The partition in which the rule is broken.
        partition: PartitionId,
        /// What should be so, and is not.
        rule: &'static str,
    },
}

/// Copies that their servers have said to have failed.
type Failed = BTreeSet<(PartitionId, Member)>;

/// Checks the step from one view to the next. `failed`: copies of which their servers say that they have failed.
///
/// # Errors
/// The first rule that is broken.
pub fn check(old: &View, new: &View, failed: &Failed) -> Result<(), Broken> {
    new.check().map_err(|invalid| Broken::Invalid(invalid.to_string()))?;
    let next = old.number.next();
    let left_out = new.number.version.checked_sub(next.version);
    let goes_on = new.number.generation == next.generation
        && left_out.is_some_and(|left_out| left_out <= NUMBERS_LEFT_OUT_MAX);
    if !goes_on || new.cluster != old.cluster || new.partitions != old.partitions {
        return Err(Broken::Number { old: old.number.to_string(), new: new.number.to_string() });
    }
    for (partition, assignment) in new.iter() {
        let step = match old.assignment(partition) {
            Some(_) if new.forced.get(&partition) == Some(&new.number) => check_forced(new, assignment),
            Some(before) => check_partition((old, new), partition, before, assignment, failed),
            None if assignment.in_sync.len() == 1 && assignment.epoch == new.number => Ok(()),
            None => Err("the first view gives each partition to one server"),
        };
        step.map_err(|rule| Broken::Partition { partition, rule })?;
    }
    Ok(())
}

/// Checks the step from one state to the next: as [`check`], and while an ECS is rebuilt without its disk (R6), whose
/// partitions wait in old epochs until they are resumed.
///
/// # Errors
/// The first rule that is broken.
pub fn check_states(old: &State, new: &State, failed: &Failed) -> Result<(), Broken> {
    let (before, after) = (&*old.view, &*new.view);
    let Some(rebuild) = &old.rebuild else { return check(before, after, failed) };
    after.check().map_err(|invalid| Broken::Invalid(invalid.to_string()))?;
    if after.number <= before.number || after.cluster != before.cluster {
        return Err(Broken::Number { old: before.number.to_string(), new: after.number.to_string() });
    }
    for (partition, assignment) in after.iter() {
        let step = match before.assignment(partition) {
            Some(_) if after.forced.get(&partition) == Some(&after.number) => check_forced(after, assignment),
            Some(before) if !rebuild.waiting.contains(&partition) => {
                check_partition((&old.view, after), partition, before, assignment, failed)
            }
            _ => check_resumed(new, partition, assignment),
        };
        step.map_err(|rule| Broken::Partition { partition, rule })?;
    }
    Ok(())
}

/// R6: it waits as it was reported, or it has a new epoch.
fn check_resumed(new: &State, partition: PartitionId, now: &Assignment) -> Result<(), &'static str> {
    let waits = new.rebuild.as_ref().is_some_and(|rebuild| rebuild.waiting.contains(&partition));
    let is_new = now.epoch == new.view.number;
    if waits == is_new {
        Err("R6: resumed without a new epoch, or a new epoch while it waits")
    } else {
        Ok(())
    }
}

fn check_partition(
    (before, view): (&View, &View),
    partition: PartitionId,
    old: &Assignment,
    new: &Assignment,
    failed: &Failed,
) -> Result<(), &'static str> {
    let added: Vec<_> = new.in_sync.iter().filter(|member| !old.in_sync.contains(member)).collect();
    let removed = old.in_sync.iter().any(|member| !new.in_sync.contains(member));
    let changed = !added.is_empty() || removed || old.coordinator != new.coordinator;
    if new.epoch != old.epoch && new.epoch != view.number {
        return Err("the epoch is neither the old one nor the view's number");
    }
    if changed && new.epoch == old.epoch {
        return Err("the coordinator or the in-sync set changed without a new epoch");
    }
    let process = |view: &View| view.servers.get(&new.coordinator).map(|info| info.process(new.coordinator));
    if new.epoch == old.epoch && process(before) != process(view) {
        return Err("V5: the coordinator's process is another one, without a new epoch");
    }
    let coordinator = new.in_sync_member(new.coordinator);
    if changed && coordinator.is_none_or(|member| !old.in_sync.contains(&member)) {
        return Err("V2: the new coordinator was not in sync");
    }
    if added.len() > 1 || added.iter().any(|member| !old.joining.contains(member)) {
        return Err("V3: more than one member, or one that was not joining, came into the in-sync set");
    }
    let lives = |member: &Member| {
        let info = view.servers.get(&member.server);
        info.is_some_and(|info| info.store == member.store && info.state != ServerState::Down)
    };
    let is_well = |member: &Member| lives(member) && !failed.contains(&(partition, *member));
    let mut lost = old.in_sync.iter().filter(|member| !new.in_sync.contains(member));
    // Of those that stay, one may be said to have failed since the view was made.
    let stay = new.in_sync.iter().filter(|member| lives(member)).count();
    if stay < usize::from(view.min_copies) && lost.any(is_well) {
        return Err("V4: a member that is well was taken out of an in-sync set below the minimum");
    }
    Ok(())
}

/// R7: an operator let the partition begin anew.
fn check_forced(view: &View, new: &Assignment) -> Result<(), &'static str> {
    let anew = new.epoch == view.number && new.in_sync.len() == 1;
    anew.then_some(()).ok_or("R7: what is forced begins anew from one copy")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use common::ids::{ClusterId, Epoch, Incarnation, Nonce, ServerId, StoreId};
    use common::ring::Partitions;
    use common::view::{Member, ServerInfo, ServerState};

    fn member(id: u128) -> Member {
        Member { server: ServerId(id), store: StoreId(id) }
    }

    /// One partition, servers 1 to 4; 1 and 2 in sync, 3 joining.
    fn view() -> View {
        let mut view =
            View::new(ClusterId(9), Epoch { generation: 0, version: 5 }, Partitions::try_from(1).unwrap());
        for id in 1..=4 {
            let info = ServerInfo {
                store: StoreId(id),
                incarnation: Incarnation(1),
                nonce: Nonce(1),
                address: format!("127.0.0.1:{id}"),
                weight: 1,
                state: ServerState::Up,
            };
            view.servers.insert(ServerId(id), info);
        }
        view.assignments.push(Assignment {
            epoch: Epoch { generation: 0, version: 5 },
            coordinator: ServerId(1),
            in_sync: vec![member(1), member(2)],
            joining: vec![member(3)],
        });
        view
    }

    fn broken(change: impl FnOnce(&mut Assignment)) -> Option<String> {
        let old = Arc::new(view());
        let mut new = view();
        new.min_copies = 2;
        new.number = new.number.next();
        let number = new.number;
        new.assignments[0].epoch = number;
        change(&mut new.assignments[0]);
        check(&old, &new, &Failed::new()).err().map(|broken| broken.to_string())
    }

    #[test]
    fn each_rule_can_be_broken() {
        assert_eq!(broken(|_| ()), None);
        assert_eq!(broken(|now| now.in_sync = vec![member(2), member(3)]).map(|_| ()), Some(()));
        let promote = |now: &mut Assignment| {
            now.in_sync = vec![member(2), member(3)];
            now.joining.clear();
        };
        type Case<'a> = (&'a str, &'a dyn Fn(&mut Assignment));
        let cases: [Case<'_>; 5] = [
            ("V2", &|now| {
                promote(now);
                now.coordinator = ServerId(3);
            }),
            ("V3", &|now| {
                promote(now);
                now.in_sync.push(member(4));
                now.coordinator = ServerId(2);
            }),
            ("V4", &|now| now.in_sync = vec![member(1)]),
            ("without a new epoch", &|now| {
                now.epoch = Epoch { generation: 0, version: 5 };
                now.coordinator = ServerId(2);
            }),
            ("neither", &|now| now.epoch = Epoch { generation: 0, version: 4 }),
        ];
        for (expected, change) in cases {
            let found = broken(change).unwrap_or_default();
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn below_the_minimum_only_what_is_lost_is_taken_out() {
        let (old, mut new) = (view(), view());
        new.min_copies = 2;
        new.number = new.number.next();
        new.assignments[0].epoch = new.number;
        new.assignments[0].in_sync = vec![member(1)];
        assert!(check(&old, &new, &Failed::new()).is_err());
        assert_eq!(check(&old, &new, &Failed::from([(PartitionId(0), member(2))])), Ok(()));
        new.servers.get_mut(&ServerId(2)).unwrap().state = ServerState::Down;
        assert_eq!(check(&old, &new, &Failed::new()), Ok(()));
    }

    #[test]
    fn a_dead_member_that_stays_counts_for_nothing() {
        let (mut old, mut new) = (view(), view());
        old.assignments[0].in_sync.push(member(4));
        new.min_copies = 2;
        new.number = new.number.next();
        new.assignments[0].epoch = new.number;
        new.assignments[0].in_sync = vec![member(1), member(4)];
        assert_eq!(check(&old, &new, &Failed::new()), Ok(()));
        new.servers.get_mut(&ServerId(4)).unwrap().state = ServerState::Down;
        assert!(check(&old, &new, &Failed::new()).is_err());
    }

    #[test]
    fn numbers_go_on_in_their_generation() {
        let old = view();
        let Epoch { generation, version } = old.number;
        let follows = |generation, version| {
            let new = View { number: Epoch { generation, version }, ..old.clone() };
            check(&old, &new, &Failed::new()) == Ok(())
        };
        assert!(follows(generation, version + 1) && follows(generation, version + 5), "some may be left out");
        assert!(!follows(generation, version) && !follows(generation, version - 1));
        assert!(!follows(generation + 1, version + 1));
        assert!(!follows(generation, version + 2 + NUMBERS_LEFT_OUT_MAX));
    }
}
