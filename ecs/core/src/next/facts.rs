//! What the next view is made of, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{Epoch, Incarnation, PartitionId, ServerId, StoreId};
use common::messages::ProcessId;
use common::time::Time;
use common::view::{Member, View};

use crate::backoff::Backoff;
use crate::cause::Cause;
use crate::config::Config;
use crate::disks::Disks;
use crate::peers::{Complaints, Disagreements, FailedCopies, LostEntries, Peer, Yields};
use crate::plan::RequestedState;
use crate::planner::Target;
use crate::planted::PlantedBug;
use crate::reach::edges::Edges;
use crate::rebuild::Report;
use crate::settling::Settling;
use crate::silence::Patience;
use crate::state::{Settings, State};

/// What a server said in its hello.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) sender: ProcessId,
    pub(crate) address: String,
    pub(crate) weight: u32,
}

/// R6: what a server has reported.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) member: Member,
    /// The generation that it promised, above every one that it had seen or promised before.
    pub(crate) generation: u32,
    pub(crate) view: Arc<View>,
    pub(crate) report: Report,
}

/// A coordinator's wish to take a member into the in-sync set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposal {
    pub(crate) sender: ProcessId,
    pub(crate) epoch: Epoch,
    pub(crate) member: Member,
    pub(crate) incarnation: Incarnation,
}

/// Where copies should be, and for which members that was planned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planned {
    pub(super) members: BTreeMap<ServerId, (u32, StoreId)>,
    pub(super) relieved: BTreeSet<ServerId>,
    pub(super) target: Target,
}

impl Planned {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

/// What became known since the last view.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) now: Time,
    /// Whether it is the quiet time: no server may be removed for silence.
    pub(crate) quiet: bool,
    /// For how long servers may be silent.
    pub(crate) patience: Patience,
    /// How often servers were removed recently.
    pub(crate) falls: &'a BTreeMap<ServerId, Backoff>,
    pub(crate) peers: &'a BTreeMap<ServerId, Peer>,
    pub(crate) disks: &'a Disks,
    /// In the order of their arrival.
    pub(crate) registrations: &'a [Registration],
    /// Requested state changes (leave, stand by, serve) by server.
    pub(crate) requested_states: &'a BTreeMap<ServerId, RequestedState>,
    /// R6: in the order of their arrival.
    pub(crate) holdings: &'a [Holding],
    /// R7: partitions that are to go on from a server's copy.
    pub(crate) recoveries: &'a BTreeMap<PartitionId, ServerId>,
    pub(crate) settings: Settings,
    pub(crate) proposals: &'a BTreeMap<PartitionId, Proposal>,
    pub(crate) complaints: &'a Complaints,
    pub(crate) edges: &'a Edges,
    pub(crate) failed_copies: &'a FailedCopies,
    pub(crate) lost_entries: &'a LostEntries,
    pub(crate) yields: &'a Yields,
    pub(crate) disagreements: &'a Disagreements,
    /// Copies that are not to be tried again before a time.
    pub(crate) backed_off: &'a BTreeMap<(PartitionId, ServerId), Time>,
    /// Partitions that are left alone until their new coordinators are active.
    pub(crate) settling: &'a Settling,
    /// A view that a server has which this ECS does not know: its number may have been given.
    pub(crate) strangers_view: Epoch,
    /// The earliest time of the next planned hand-over.
    pub(crate) hand_over_from: Time,
}

impl Facts<'_> {
    /// V6: the newest number of a view that was given, as far as is known. An ECS on an older copy of its directory may
    /// have given more than it knows of.
    pub(crate) fn given(&self, own: Epoch) -> Epoch {
        let counts = self.strangers_view.generation == own.generation;
        if counts && !self.config.planted(PlantedBug::NumberGivenAgain) {
            own.max(self.strangers_view)
        } else {
            own
        }
    }
}

/// The next view, if there is a reason for one.
pub(crate) struct Next {
    pub(crate) state: State,
    pub(crate) causes: Vec<Cause>,
    /// Partitions whose coordinators changed as planned.
    pub(crate) handed_over: Vec<PartitionId>,
}

/// What [`make`] found.
pub(crate) struct Outcome {
    pub(crate) next: Option<Next>,
    /// When to make a view again, because something may not be done before this time.
    pub(crate) wake: Option<Time>,
    /// Copies that were given up because their coordinator complained.
    pub(crate) back_off: Vec<(PartitionId, ServerId)>,
    /// Servers that were taken off partitions because others do not hear them.
    pub(crate) lost: BTreeSet<ServerId>,
}
