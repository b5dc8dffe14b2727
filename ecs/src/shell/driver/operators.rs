//! What operators order.

use common::clock;
use common::ids::{Epoch, LogId, PartitionId, ServerId};
use tracing::{info, warn};

use super::Driver;
use crate::core::{Input, Order, Part, Plan, Settings, Unfit};

/// What becomes of the wish to force a partition to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::shell) enum Recovery {
    /// It begins anew from this server's copy; the last entry there, as told at the server's start.
    Begun(ServerId, Option<LogId>),
    /// A server that is up has a copy that counts.
    Served,
    /// The server that was named is not up, or none is.
    NotUp,
    /// There is no such partition.
    Unknown,
}

/// Why an order was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shell) enum NotApplied {
    /// It cannot be given now.
    Unfit(Unfit),
    /// It was planned for another view than this one, or this one is about to be replaced.
    Moved(Epoch),
}

impl Driver {
    /// Gives an order. `epoch`: the number of the view that it was planned for.
    pub(super) fn apply(&mut self, order: Order, epoch: Option<Epoch>) -> Result<Plan, NotApplied> {
        let now = clock::time();
        let own = self.ecs.view().number;
        if epoch.is_some_and(|epoch| epoch != own || !self.ecs.is_at_rest()) {
            return Err(NotApplied::Moved(own));
        }
        let plan = self.ecs.plan(now, order).map_err(NotApplied::Unfit)?;
        info!(%order, view = %own, copies = plan.copies, coordinators = plan.coordinators, "an operator orders");
        self.ecs.step(now, Input::Order { parts: order.parts() });
        Ok(plan)
    }

    /// Takes back what is under way with servers, with all that are named or with none; with whichever it is if none is named.
    pub(super) fn cancel(&mut self, servers: &[ServerId]) -> Result<Vec<(ServerId, Part)>, Unfit> {
        let parts = self.ecs.parts_before(servers)?;
        for (server, part) in &parts {
            info!(server = server.short(), becomes = ?part, "an operator cancels what is under way");
        }
        self.ecs.step(clock::time(), Input::Order { parts: parts.clone() });
        Ok(parts)
    }

    pub(super) fn set(&mut self, settings: Settings) -> Result<Settings, usize> {
        let copies = self.ecs.config().copies;
        if !(1..=copies).contains(&settings.min_copies) {
            return Err(copies);
        }
        let Settings { min_copies, paused, stand_by } = settings;
        info!(min_copies, paused, stand_by, "an operator sets");
        self.ecs.step(clock::time(), Input::Set(settings));
        Ok(self.ecs.settings())
    }

    pub(super) fn recover(&mut self, partition: PartitionId, server: Option<ServerId>) -> Recovery {
        if self.ecs.view().assignment(partition).is_none() {
            return Recovery::Unknown;
        }
        if !self.ecs.is_offline(partition) && !self.ecs.is_waiting(partition) {
            return Recovery::Served;
        }
        let candidates = self.ecs.candidates(partition);
        let chosen = candidates.into_iter().find(|&(up, _)| server.is_none_or(|server| server == up));
        let Some((server, last)) = chosen else { return Recovery::NotUp };
        warn!(
            %partition, server = server.short(),
            "an operator forces the partition to go on from this server's copy: acknowledged writes may be lost"
        );
        self.ecs.step(clock::time(), Input::Recover { partition, server });
        Recovery::Begun(server, last)
    }
}
