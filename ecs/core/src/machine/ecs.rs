//! What the ECS keeps between two steps.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{Epoch, PartitionId, ServerId};
use common::time::Time;

use super::asking::Asking;
use super::comparing::Comparing;
use super::io::Effect;
use super::newcomers::Newcomer;
use super::persists::Persists;
use super::stores::Suspects;
use crate::config::Config;
use crate::left_out::LeftOut;
use crate::peers::Behind;
use crate::plan::RequestedState;
use crate::rebalancing::Rebalancing;
use crate::reports::Reports;
use crate::served::Served;
use crate::state::{Settings, State};

/// The state machine: what is durable, what is being persisted, and what became known since.
#[derive(Debug)]
pub struct Ecs {
    pub(super) config: Config,
    pub(super) durable: State,
    pub(super) persists: Persists,
    pub(super) reports: Reports,
    pub(super) orders: Orders,
    pub(super) rebalancing: Rebalancing,
    pub(super) timing: Timing,
    pub(super) start: Start,
    /// Whether something became known that may need a new view.
    pub(super) wanted: bool,
    pub(super) asking: Asking,
    pub(super) suspects: Suspects,
    /// N1: by server, a process that says hello while an earlier one of the same store lives.
    pub(super) newcomers: BTreeMap<ServerId, Newcomer>,
    pub(super) served: Served,
    /// Processes that were refused recently.
    pub(super) left_out: LeftOut,
    pub(super) out: Out,
}

/// What operators have ordered.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Ordered state changes (leave, stand by, serve) that are in no persisted state yet, by server.
    pub(super) states: BTreeMap<ServerId, RequestedState>,
    /// Offline partitions that operators want to resume, and the server whose copy they resume from.
    pub(super) recoveries: BTreeMap<PartitionId, ServerId>,
    /// Settings that are in no persisted state yet.
    pub(super) settings: Option<Settings>,
    /// How many orders, settings and forced recoveries were given.
    pub(super) given: u64,
    /// How many of them are on disk.
    pub(super) durable: u64,
}

/// When something is due, and which times say nothing about servers.
#[derive(Debug)]
pub(super) struct Timing {
    /// The quiet time ends.
    pub(super) quiet_until: Time,
    /// Whether it was the quiet time at the last step.
    pub(super) was_quiet: bool,
    /// When the servers are next checked for silence.
    pub(super) look_at: Time,
    /// Gaps between heartbeats count from this time on: before, this process was suspended.
    pub(super) judged_from: Time,
    /// When something can be done that could not be done at the last step.
    pub(super) wake: Option<Time>,
    /// When the last step asked for the next one. When that comes much later, this process itself was suspended.
    pub(super) expected: Option<Time>,
}

/// V6: how this ECS began, and whether its directory may be an older copy of itself.
#[derive(Debug)]
pub(super) struct Start {
    /// The number of the view with which it began.
    pub(super) began_at: Epoch,
    pub(super) comparing: Comparing,
    /// A server has a newer view.
    pub(super) behind: Option<Behind>,
}

/// What is to go out.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) effects: Vec<Effect>,
    /// Servers that are to get the present view.
    pub(super) await_view: BTreeSet<ServerId>,
}

impl Ecs {
    /// Begins with what is on disk: in the quiet time, with the durable view for all servers.
    #[must_use]
    pub fn new(config: Config, state: State, now: Time) -> Self {
        let mut ecs = Self {
            config,
            persists: Persists::default(),
            reports: Reports::new(&state, now),
            orders: Orders::default(),
            rebalancing: Rebalancing::default(),
            timing: Timing {
                quiet_until: now + config.timers.quiet,
                was_quiet: true,
                look_at: now,
                judged_from: now,
                wake: None,
                expected: None,
            },
            start: Start {
                began_at: state.view.number,
                comparing: Comparing::begin(&state.view, config.restart_wait, now),
                behind: None,
            },
            wanted: true,
            asking: Asking::default(),
            suspects: Suspects::default(),
            newcomers: BTreeMap::new(),
            served: Served::new(state.view.number),
            left_out: LeftOut::default(),
            out: Out { effects: Vec::new(), await_view: state.view.servers.keys().copied().collect() },
            durable: state,
        };
        ecs.publish_pending(now);
        ecs.timing.expected = ecs.next_deadline(now);
        ecs
    }

    /// Takes the effects of the steps since the last call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out.effects)
    }

    /// When it wants [`Input::Tick`](super::Input::Tick), if nothing else comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.timing.expected
    }
}
