//! Leases and promises between processes of servers, and the views that each process was heard to use.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{Epoch, ServerId};
use common::messages::ProcessId;
use common::time::{Now, Time};

use super::config::Config;
use super::context::first_number;
use super::lease::Leases;
use super::planted::PlantedBug;
use super::process::{Process, Vows};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Promises {
    pub(crate) leases: Leases,
    /// Until when promises of a former process of this server may bind.
    pub(crate) bound_by_past: Time,
    /// The newest view that each process was heard to use.
    used_views: BTreeMap<Process, Epoch>,
    /// S4: whether this process may make promises.
    pub(crate) vows: Vows,
    /// Members to ping with this batch, for reads without leases.
    pub(crate) to_confirm: BTreeSet<ServerId>,
}

impl Promises {
    pub(crate) fn new(config: &Config, me: ProcessId, now: Now) -> Self {
        let mut leases = Leases::new(config.timers, first_number(me) + 1);
        #[cfg(feature = "planted-bugs")]
        {
            leases.count_from_receipt = config.bug == Some(PlantedBug::LeaseFromReceipt);
        }
        let _ = &mut leases;
        let forgets =
            cfg!(feature = "planted-bugs") && config.bug == Some(PlantedBug::RestartForgetsPromises);
        Self {
            leases,
            bound_by_past: if forgets { now.time } else { now.time + config.timers.promise },
            used_views: BTreeMap::new(),
            vows: Vows::new(now.time + config.timers.dead),
            to_confirm: BTreeSet::new(),
        }
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, me: ProcessId, latest: Time) {
        self.leases.invariants(me.server, latest);
        assert!(!self.used_views.contains_key(&Process::from(me)), "this process has sent itself a message");
    }

    /// Notes that a process uses a view; read leases of older epochs are void there.
    pub(crate) fn saw_view(&mut self, process: Process, view: Epoch) {
        let known = self.used_views.entry(process).or_default();
        *known = view.max(*known);
    }

    /// Whether a process was heard to use the view of `epoch`, or a newer one.
    pub(crate) fn has_left(&self, process: Process, epoch: Epoch) -> bool {
        self.used_views.get(&process).is_some_and(|view| *view >= epoch)
    }
}
