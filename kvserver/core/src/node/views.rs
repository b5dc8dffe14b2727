//! Views: which are adopted, and what becomes of the copies then.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::ids::Epoch;
use common::leaps::{generation_leaps, view_leaps};
use common::messages::{Promised, Refusal};
use common::view::View;

use super::super::context::named_process;
use super::super::io::Later;
use super::super::limits::SHOW_VIEW_AGAIN;
use super::super::partition::Partition;
use super::super::planted::PlantedBug;

use super::state::{Newest, Node};

impl Node {
    /// S1: adopts a view, if it is newer and of the same cluster. It is on disk before anything is done by it.
    pub(super) fn on_view(&mut self, view: Arc<View>) {
        let same_cluster = self.newest.number == Epoch::default() || view.cluster == self.env.cx.view.cluster;
        let same_ring = self.copies.is_empty() || view.partitions == self.env.cx.view.partitions;
        if view_leaps(self.newest.number, view.number) {
            let (said, own) = (view.number, self.newest.number);
            return self.env.out.alarm(format!(
                "a view with the number {said} was refused: no ECS can have made it, as the newest known one is {own}"
            ));
        }
        let wrong = !same_cluster || !same_ring || view.check().is_err();
        if view.number <= self.newest.number || wrong || !self.is_allowed(&view) {
            return;
        }
        assert!(view.number > self.env.cx.view.number, "the view in use is newer than the newest known one");
        self.newest = Newest { number: view.number, rebuild: view.rebuild };
        self.env.out.persist_view(Arc::clone(&view));
        if self.env.cx.planted(PlantedBug::ViewUsedBeforeFsync) {
            self.use_view(view);
        }
    }

    /// N1: this process has done nothing yet (S4), so it can stop without harm.
    pub(super) fn on_refused(&mut self, refusal: Refusal) {
        let renew = "`kvserver new-store -d DIR` gives the directory a new store id; what it holds is then brought up \
                     to date as a new copy";
        let beside = "`kvserver new-store --new-server -d DIR` makes the directory another server's";
        let own = self.env.cx.me.incarnation.0;
        let reason = match refusal {
            Refusal::OlderProcess { known } => format!(
                "the ECS knows start {} of this store, and this is start {own}: the directory is an older copy of \
                 itself. Start the newer directory, or, if that is gone, {renew}",
                known.0
            ),
            Refusal::Twin { address } => format!(
                "another process of this store is alive at {address}: this directory is a copy of its directory. Stop \
                 one of the two. To run both, {beside}"
            ),
            Refusal::Other { reason } => {
                return self.env.out.alarm(format!("the ECS refuses this server: {reason}"));
            }
        };
        self.env.out.effect(Later::Stop { reason });
    }

    /// R6: whether a view may be adopted. After a promise, only views of that rebuild which count this server's report,
    /// as perhaps no other server knows its present view. Without a promise, views of the same ECS.
    pub(super) fn is_allowed(&self, view: &View) -> bool {
        match self.env.cx.promised {
            None => self.newest.number == Epoch::default() || view.rebuild == self.newest.rebuild,
            Some(promised) => {
                view.rebuild == Some(promised.rebuild)
                    && view.number.generation == promised.generation
                    && view.counted.contains(&self.env.cx.me.store)
            }
        }
    }

    /// R6: gives the promise, and sends the report when the promise is on disk. From now on no older view is adopted
    /// and no member is proposed in an older epoch, as the report would lack it.
    pub(super) fn on_promise(&mut self, asked: Promised) {
        if self.env.cx.planted(PlantedBug::RebuildNoPromise) {
            return self.report_holdings(Some(asked));
        }
        let known =
            self.env.cx.promised.map_or(0, |promised| promised.generation).max(self.newest.number.generation);
        if generation_leaps(known, asked.generation) {
            let said = asked.generation;
            return self.env.out.alarm(format!(
                "a question of a rebuilt ECS for generation {said} was refused: {known} is the last that is known \
                 here, and there cannot have been so many rebuilds"
            ));
        }
        if asked.generation > known {
            self.env.cx.promised = Some(asked);
        }
        self.env.out.persist_promise(self.env.cx.promised);
    }

    pub(super) fn use_view(&mut self, view: Arc<View>) {
        if view.number <= self.env.cx.view.number {
            return;
        }
        assert!(view.number <= self.newest.number, "a view is used that was never taken");
        if self.copies.is_empty() && !view.assignments.is_empty() {
            let recovered = &mut self.recovered;
            let now = self.env.cx.now.time;
            let found = |id| Partition::new(id, recovered.remove(&id).unwrap_or_default(), now);
            self.copies = view.partitions.all().map(found).collect();
        }
        let old = Arc::clone(&self.env.cx.view);
        self.env.set_view(Arc::clone(&view));
        self.note_named_processes(&view);
        assert!(self.copies.len() >= view.assignments.len(), "each partition has its state");
        let time = self.env.cx.now.time;
        let mut givers = BTreeSet::new();
        for (partition, assignment) in view.iter() {
            let copy = &mut self.copies[usize::from(partition.0)];
            // P3b: promises to a process that does not coordinate any more.
            let former =
                old.assignment(partition).and_then(|old_one| named_process(&old, old_one.coordinator));
            let present = named_process(&view, assignment.coordinator);
            if let Some(former) =
                former.filter(|former| !self.env.cx.is_me(former.server) && Some(*former) != present)
                && let Some(until) = self.env.promises.leases.bound_until(former.into())
            {
                copy.note_promise(former.into(), until);
            }
            if assignment.epoch > copy.state().epoch() && copy.has_read_lease(time) {
                givers.extend(old.assignment(partition).map(|old| old.coordinator));
            }
            if assignment.epoch > copy.state().epoch() {
                copy.enter(&mut self.env, assignment);
            } else {
                copy.relist(&mut self.env, assignment);
            }
        }
        self.env.out.effect(Later::Adopted { view });
        self.expect_by_view();
        self.forward_anew();
        self.give_back_read_leases(givers);
        // L1: leases in a new epoch need pings sent after it was adopted.
        self.ping();
        for (from, message) in self.future_epochs.take() {
            self.on_peer(from, message);
        }
    }

    /// S2: the processes that a view names count as if they had been heard.
    pub(super) fn note_named_processes(&mut self, view: &View) {
        for (&server, info) in &view.servers {
            if !self.env.cx.is_me(server) && self.processes.name(info.process(server), view.number) {
                self.on_restarted(server);
            }
        }
    }

    /// S4: asks the other servers whether they know a newer view, as this process waits for the ECS and that is silent.
    pub(super) fn ask_for_newer_views(&mut self) {
        if !self.env.promises.vows.asks(self.env.cx.now.time) {
            return;
        }
        let (view, me) = (Arc::clone(&self.env.cx.view), self.env.cx.me.server);
        for &server in view.servers.keys().filter(|server| **server != me) {
            self.want_view_within(server, SHOW_VIEW_AGAIN);
        }
    }
}
