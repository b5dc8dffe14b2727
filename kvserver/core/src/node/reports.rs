//! What a node reports to the ECS, and shows of itself.

use std::sync::Arc;

use common::ids::{LogId, PartitionId};
use common::messages::{CopyState, Digest, LogTail, Promised, ServerReport};
use common::status::{CaughtUp, ComparedStatus, CopyStatus, TransferStatus};
use common::time::Time;

use super::super::coordinator::state::Coordinator;
use super::super::partition::Partition;
use super::super::partition::durable_state::DurableState;
use super::{CopyFacts, Node};

impl Node {
    /// The hello for a new link to the ECS. Heartbeats report the state of all copies again, as it may be another
    /// process of the ECS.
    #[must_use]
    pub fn hello(&mut self, address: String, weight: u32) -> ServerReport {
        let (view, rebuild) = (self.env.cx.view.number, self.env.cx.view.rebuild);
        self.reported.copies.clear();
        self.copies.iter().for_each(|copy| self.reported.changed.insert(copy.id()));
        ServerReport::Hello { address, weight, view, rebuild, tails: self.tails() }
    }

    /// The logs of all copies, also of those that no view names yet: the file of the view may be lost, and the logs are
    /// there.
    fn tails(&self) -> Vec<LogTail> {
        let tail = |partition: PartitionId, last, state: &DurableState| LogTail {
            partition,
            last,
            proposed: state.proposed.clone(),
            epoch: state.proposed_in,
        };
        let listed = self
            .copies
            .iter()
            .map(Partition::state)
            .filter(|p| !p.log().is_empty() || *p.durable_state() != DurableState::default());
        let listed = listed.map(|p| tail(p.id(), p.log().durable_id(), p.durable_state()));
        let found = self.recovered.iter().filter(|(_, found)| found.has_something());
        listed.chain(found.map(|(&id, found)| tail(id, found.last_id(), &found.durable_state))).collect()
    }

    /// All copies that a view lists or that have data, for the status.
    #[must_use]
    pub fn status(&self) -> Vec<CopyStatus> {
        self.copies.iter().filter(|copy| !copy.is_nothing()).map(|copy| copy.status(&self.env)).collect()
    }

    /// Copies of partitions that this server sends now.
    #[must_use]
    pub fn transfers(&self) -> Vec<TransferStatus> {
        let (now, me) = (self.env.cx.now.time, self.env.cx.me.server);
        let sending = |copy: &Partition| {
            let coordinator = copy.coordinator();
            coordinator.map(|coordinator| coordinator.transfers(now, copy.id(), me)).unwrap_or_default()
        };
        self.busy.iter().filter_map(|id| self.copies.get(usize::from(id.0))).flat_map(sending).collect()
    }

    /// Counters of what was sent to members that were behind.
    #[must_use]
    pub fn caught_up(&self) -> CaughtUp {
        self.env.transfers.caught_up
    }

    /// Microseconds from `CLOCK_BOOTTIME` to the time by which values expire.
    #[must_use]
    pub fn stamp_offset(&self) -> i64 {
        self.env.clock.offset()
    }

    /// Microseconds that this server's wall clock is ahead of the time by which values expire.
    #[must_use]
    pub fn wall_ahead(&self) -> i64 {
        self.env.clock.wall_ahead()
    }

    /// The results of comparing copies. Undecided differences are only listed for partitions that this server still
    /// coordinates.
    #[must_use]
    pub fn compared(&self) -> ComparedStatus {
        let mut compared = self.env.integrity.compared.clone();
        let coordinates = |partition: u16| {
            let copy = self.copies.get(usize::from(partition));
            copy.is_some_and(|copy| copy.coordinator().is_some())
        };
        compared.differences.retain(|one| !one.wrong.is_empty() || coordinates(one.partition));
        compared
    }

    /// The digest of this server's copy as of an entry, if it is made.
    #[must_use]
    pub fn digest(&self, partition: PartitionId, at: LogId) -> Option<Digest> {
        self.env.integrity.digests.get((partition, at))
    }

    /// The facts of a copy at `time`, for checkers.
    #[must_use]
    pub fn facts(&self, partition: PartitionId, time: Time) -> Option<CopyFacts> {
        let copy = self.copies.get(usize::from(partition.0))?;
        let (p, coordinator) = (copy.state(), copy.coordinator());
        let may_read =
            |coordinator: &Coordinator| coordinator.may_read_at(&self.env, p.epoch(), p.applied(), time);
        Some(CopyFacts {
            epoch: p.epoch(),
            active: coordinator.is_some_and(Coordinator::is_active),
            may_read: coordinator.is_some_and(may_read),
            last: p.log().last().0,
            durable: p.log().durable().0,
            commit: p.commit().0,
            applied: p.applied().0,
            has_read_lease: copy.has_read_lease(time),
        })
    }

    pub(super) fn report_holdings(&mut self, promised: Option<Promised>) {
        let (view, tails) = (Arc::clone(&self.env.cx.view), self.tails());
        self.env.out.report(ServerReport::Holdings { promised, view, tails });
    }

    /// Sends a heartbeat: what has changed since the last one. The shell adds load figures.
    pub(super) fn heartbeat(&mut self) {
        let mut copies = Vec::new();
        while let Some(partition) = self.reported.changed.pop_first() {
            let Some(facts) = self.facts(partition, self.env.cx.now.time) else { continue };
            let CopyFacts { epoch, active, durable, applied, .. } = facts;
            let proved =
                self.copies.get(usize::from(partition.0)).is_some_and(|copy| copy.state().is_proved());
            let state = CopyState { partition, epoch, active, last: durable, applied, proved };
            if self.reported.copies.get(&partition) != Some(&state) {
                self.reported.copies.insert(partition, state.clone());
                copies.push(state);
            }
        }
        let view = self.env.cx.view.number;
        let report = ServerReport::Heartbeat {
            view,
            copies,
            requests: 0,
            keys: 0,
            bytes: 0,
            free_bytes: 0,
            health: Default::default(),
        };
        self.env.out.report(report);
        let transfers = self.transfers();
        if !transfers.is_empty() || self.reported.transfers {
            self.reported.transfers = !transfers.is_empty();
            self.env.out.report(ServerReport::Transfers { transfers });
        }
    }
}
