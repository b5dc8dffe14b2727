//! Which partitions are served: those whose coordinators have said that they are active in the present epoch.
//!
//! A view names a coordinator, and that is not yet one: it asks all in-sync members for their logs (P1), waits until
//! they have all (P3), and for promises to former coordinators to run out. Before that the partition is neither read
//! nor written, and whatever holds it up does so for as long. A planned change and a fail-over take a moment; so a
//! partition counts as not served when it has not been for a while, or never since this ECS was started: nothing is
//! known of before.

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::{Epoch, PartitionId, ServerId};
use common::messages::CopyState;
use common::time::Time;
use common::view::{Assignment, ServerState, View};

/// See the module's text. Forgotten at a restart of the ECS: servers say it again with their hellos.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// The last epoch in which a coordinator said that it is active.
    active: BTreeMap<PartitionId, Epoch>,
    /// Since when a partition has had no active coordinator, though it had one or was to get its first.
    ended: BTreeMap<PartitionId, Time>,
    /// The view that the ECS began with.
    begun: Epoch,
}

impl Served {
    pub(super) fn new(begun: Epoch) -> Self {
        Self { begun, ..Self::default() }
    }

    /// What heartbeats of a server say of its copies, while this view is the newest one.
    pub(super) fn on_copies(&mut self, now: Time, from: ServerId, copies: &[CopyState], view: &View) {
        for &CopyState { partition, epoch, active, .. } in copies {
            let Some(assignment) = view.assignment(partition) else { continue };
            let is_present = assignment.epoch == epoch && assignment.coordinator == from;
            if active {
                let newest = self.active.entry(partition).or_default();
                *newest = epoch.max(*newest);
                if is_present {
                    self.ended.remove(&partition);
                }
            } else if is_present && self.is_active(partition, epoch) {
                self.active.remove(&partition);
                self.ended.insert(partition, now);
            }
        }
    }

    /// A new view is durable.
    pub(super) fn on_view(&mut self, now: Time, before: &View, view: &View) {
        assert!(view.number > before.number, "views become durable in order");
        for (partition, assignment) in view.iter() {
            let is_down =
                view.servers.get(&assignment.coordinator).is_none_or(|info| info.state == ServerState::Down);
            let old = before.assignment(partition).map(|old| old.epoch);
            if self.is_active(partition, assignment.epoch) && !is_down {
                self.ended.remove(&partition);
            } else if old.is_none() || view.forced.get(&partition) == Some(&view.number) {
                self.ended.insert(partition, now);
            } else if old.is_some_and(|old| self.is_active(partition, old)) {
                self.ended.entry(partition).or_insert(now);
            }
        }
    }

    /// The coordinator has said that it is active in that epoch.
    pub(super) fn is_active(&self, partition: PartitionId, epoch: Epoch) -> bool {
        self.active.get(&partition) == Some(&epoch)
    }

    /// Whether a partition is not served, and no moment that a change takes explains it. `has_told`: its coordinator
    /// was heard to say how its copies do.
    pub(super) fn is_missed(
        &self,
        partition: PartitionId,
        assignment: &Assignment,
        has_told: bool,
        now: Time,
        moment: Duration,
    ) -> bool {
        if self.is_active(partition, assignment.epoch) {
            return false;
        }
        match self.ended.get(&partition) {
            Some(&ended) => now.since(ended) >= moment,
            // In an epoch of before its start it may have been active all the time.
            None => has_told || assignment.epoch > self.begun,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Incarnation, Nonce, StoreId};
    use common::ring::Partitions;
    use common::view::{Member, ServerInfo};

    use super::*;

    const MOMENT: Duration = Duration::from_secs(1);
    const P: PartitionId = PartitionId(0);

    fn version(version: u64) -> Epoch {
        Epoch { generation: 0, version }
    }

    /// Server 1 coordinates.
    fn view(number: u64, epoch: u64, state: ServerState) -> View {
        let mut view = View::new(ClusterId(1), version(number), Partitions::try_from(1).unwrap());
        let (server, store) = (ServerId(1), StoreId(1));
        let (incarnation, nonce, address) = (Incarnation(1), Nonce(1), "h:1".to_owned());
        view.servers.insert(server, ServerInfo { store, incarnation, nonce, address, weight: 1, state });
        let in_sync = vec![Member { server, store }];
        let (epoch, joining) = (version(epoch), Vec::new());
        view.assignments.push(Assignment { epoch, coordinator: server, in_sync, joining });
        view
    }

    fn says(active: bool, epoch: u64) -> [CopyState; 1] {
        [CopyState { partition: P, epoch: version(epoch), active, last: 0, applied: 0, proved: false }]
    }

    fn is_missed(served: &Served, view: &View, has_told: bool, now: Time) -> bool {
        served.is_missed(P, &view.assignments[0], has_told, now, MOMENT)
    }

    #[test]
    fn a_change_has_a_moment_and_a_restart_has_none() {
        let (one, two) = (view(1, 1, ServerState::Up), view(2, 2, ServerState::Up));
        let begin = Time(1_000_000);
        // An ECS that was started again hears the coordinator first.
        let mut served = Served::new(version(1));
        assert!(!is_missed(&served, &one, false, begin));
        assert!(is_missed(&served, &one, true, begin));
        served.on_copies(begin, ServerId(1), &says(true, 1), &one);
        assert!(!is_missed(&served, &one, true, begin + MOMENT));
        served.on_view(begin, &one, &two);
        assert!(!is_missed(&served, &two, true, begin));
        assert!(is_missed(&served, &two, true, begin + MOMENT));
        // Nothing was served before the new epoch.
        let mut served = Served::new(version(1));
        served.on_view(begin, &one, &two);
        assert!(is_missed(&served, &two, false, begin));
    }

    #[test]
    fn the_moment_begins_when_the_coordinator_is_known_to_be_down() {
        let (up, down) = (view(1, 1, ServerState::Up), view(2, 1, ServerState::Down));
        let (back, anew) = (view(3, 1, ServerState::Up), view(3, 3, ServerState::Up));
        let begin = Time(1_000_000);
        let mut served = Served::new(Epoch::default());
        served.on_view(begin, &View::new(up.cluster, Epoch::default(), up.partitions), &up);
        assert!(!is_missed(&served, &up, false, begin), "a new cluster has a moment too");
        served.on_copies(begin, ServerId(1), &says(true, 1), &up);
        served.on_view(begin, &up, &down);
        let later = begin + MOMENT;
        // The same process was only silent.
        let mut same = Served { active: served.active.clone(), ended: served.ended.clone(), ..served };
        same.on_view(later, &down, &back);
        assert!(!is_missed(&same, &back, true, later));
        served.on_view(later, &down, &anew);
        assert!(is_missed(&served, &anew, false, later));
    }

    #[test]
    fn a_coordinator_may_say_that_it_is_active_no_more() {
        let (view, begin) = (view(1, 1, ServerState::Up), Time(1_000_000));
        let mut served = Served::new(version(1));
        served.on_copies(begin, ServerId(1), &says(true, 1), &view);
        served.on_copies(begin, ServerId(2), &says(false, 1), &view);
        assert!(!is_missed(&served, &view, true, begin), "a replica is never active");
        served.on_copies(begin, ServerId(1), &says(false, 1), &view);
        assert!(is_missed(&served, &view, true, begin + MOMENT));
    }
}
