//! What must be true between two steps, for tests and simulations.

use std::collections::BTreeSet;

use common::ids::Epoch;
use common::limits::SERVERS_MAX;

use super::ecs::Ecs;

impl Ecs {
    /// Asserts what must be true between two steps.
    ///
    /// # Panics
    /// When it is not: a bug.
    pub fn invariants(&self) {
        self.check_durable();
        self.check_persist();
        self.check_reports();
        self.check_orders();
        self.check_rebalancing();
        self.check_start();
        self.check_rebuild();
        self.left_out.invariants();
    }

    fn check_durable(&self) {
        let (view, state) = (&self.durable.view, &self.durable);
        if let Err(invalid) = view.check() {
            panic!("the durable view: {invalid}");
        }
        for (partition, assignment) in view.iter() {
            assert!(assignment.epoch <= view.number, "no partition has an epoch of a later view");
            assert!(assignment.in_sync_member(assignment.coordinator).is_some(), "{partition:?}: V2");
            let members: BTreeSet<_> = assignment.in_sync.iter().chain(&assignment.joining).collect();
            let listed = assignment.in_sync.len() + assignment.joining.len();
            assert_eq!(members.len(), listed, "{partition:?}: a member is listed once");
        }
        assert!(view.forced.values().all(|&forced| forced <= view.number));
        assert!(view.resumed.values().all(|&resumed| resumed <= view.number));
        assert!(usize::from(view.min_copies) <= self.config.copies, "a write can have its copies");
        for known in state.registry.values() {
            assert!(known.left.is_none() || !known.leaving, "a server that has left is not leaving");
        }
        for (&partition, found) in &state.disagreements {
            assert!(view.assignment(partition).is_some(), "P2: a partition that there is");
            assert!(!found.is_decided(view, partition), "P2: what is decided is forgotten");
        }
    }

    /// V1.
    fn check_persist(&self) {
        let Some(persisting) = &self.persists.under_way else { return };
        self.check_rules(&persisting.state);
        assert_eq!(persisting.ticket, self.persists.ticket, "one persist is under way at a time");
        assert!(persisting.state.view.number > self.durable.view.number);
        assert!(self.persists.began.is_some(), "it has begun");
        assert!(persisting.orders >= self.orders.durable, "orders become durable in order");
        assert!(persisting.orders <= self.orders.given, "no order is persisted that was not given");
    }

    fn check_reports(&self) {
        let (reports, view) = (&self.reports, &self.durable.view);
        for server in view.servers.keys() {
            assert!(reports.peers.contains_key(server), "{server:?} is a member and not watched");
        }
        assert!(reports.peers.len() <= SERVERS_MAX);
        reports.peers.iter().for_each(|(&server, peer)| peer.invariants(server));
        reports.complaints.invariants();
        reports.edges.invariants();
        assert!(
            reports.lost_entries.is_subset(&reports.failed_copies),
            "P5: a copy that lost entries has failed"
        );
        for wish in reports.yields.values() {
            assert_ne!(wish.from, wish.to, "P1: a coordinator yields to another member");
        }
        let mut hellos = BTreeSet::new();
        for registration in &reports.registrations {
            assert!(hellos.insert(registration.sender.server), "the last hello of a server counts");
            assert!(reports.peers.contains_key(&registration.sender.server), "what said hello is watched");
            assert!(registration.weight >= 1, "every server has a share");
        }
        for (server, newcomer) in &self.newcomers {
            assert_eq!(*server, newcomer.arrival.registration.sender.server, "N1: kept by its server");
        }
    }

    fn check_orders(&self) {
        assert!(self.orders.durable <= self.orders.given, "no order is durable that was not given");
        let minimum = self.orders.settings.and_then(|settings| settings.min_copies);
        assert!(minimum.is_none_or(|minimum| (1..=self.config.copies).contains(&minimum)));
    }

    fn check_rebalancing(&self) {
        let target = self.rebalancing.planned.target();
        for holders in target {
            assert!(holders.len() <= self.config.copies, "no more copies are planned than wanted");
            let distinct: BTreeSet<_> = holders.iter().collect();
            assert_eq!(distinct.len(), holders.len(), "copies of a partition are at different servers");
        }
    }

    /// V6.
    fn check_start(&self) {
        assert!(self.durable.view.number >= self.start.began_at, "views go on from the one it began with");
        let strangers = self.reports.strangers_view;
        assert!(strangers == Epoch::default() || strangers.generation == self.start.began_at.generation);
    }

    /// R6.
    fn check_rebuild(&self) {
        let Some(rebuild) = &self.durable.rebuild else {
            assert!(self.asking.asked.is_empty(), "only an ECS that is being rebuilt asks servers");
            return;
        };
        assert!(rebuild.generation <= self.durable.view.number.generation, "its views are of its generation");
        let partitions = self.durable.view.assignments.len();
        assert!(rebuild.waiting.iter().all(|partition| usize::from(partition.0) < partitions));
        for (server, asked) in &self.asking.asked {
            assert_eq!(*server, asked.registration.sender.server, "kept by its server");
        }
    }
}
