//! What the next view is made of, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{PartitionId, ServerId};
use common::time::Time;
use common::view::{Member, View};

use crate::cause::Cause;
use crate::config::Config;
use crate::plan::RequestedState;
use crate::rebalancing::Rebalancing;
use crate::rebuild::Report;
use crate::reports::Reports;
use crate::silence::Patience;
use crate::state::{Settings, State};

/// R6: what a server has reported.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) member: Member,
    /// The generation that it promised, above every one that it had seen or promised before.
    pub(crate) generation: u32,
    pub(crate) view: Arc<View>,
    pub(crate) report: Report,
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
    pub(crate) reports: &'a Reports,
    pub(crate) rebalancing: &'a Rebalancing,
    /// Requested state changes (leave, stand by, serve) by server.
    pub(crate) requested_states: &'a BTreeMap<ServerId, RequestedState>,
    /// R6: in the order of their arrival.
    pub(crate) holdings: &'a [Holding],
    /// R7: partitions that are to go on from a server's copy.
    pub(crate) recoveries: &'a BTreeMap<PartitionId, ServerId>,
    pub(crate) settings: Settings,
    /// The earliest time of the next planned hand-over.
    pub(crate) hand_over_from: Time,
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
