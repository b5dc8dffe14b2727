//! Servers that are not heard (V7): those that this one pings, or that should ping it, and that have been silent for
//! the report time. They are reported to the ECS, which judges by the reports of both sides.
//!
//! Any message of a server counts. A process that stood still could not hear others, so that time does not count.

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::ServerId;
use common::limits::Timers;
use common::time::Time;
use common::view::{ServerState, View};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// For each server that is expected to send something: when it was last heard, or since when that is expected. As
    /// [`Context::watched`](crate::context::Context::watched) counts.
    heard: BTreeMap<ServerId, Time>,
    /// When any server was last heard, expected or not.
    last: BTreeMap<ServerId, Time>,
    reported: Option<Time>,
}

impl Unheard {
    /// Takes over the expected servers of a view: coordinators ping all members whose copies they bring up to date, and
    /// are answered.
    pub(super) fn on_view(&mut self, me: ServerId, view: &View, now: Time, grace: Duration) {
        let before = std::mem::take(&mut self.heard);
        let mut expect = |server: ServerId| {
            let is_up = view.servers.get(&server).is_some_and(|info| info.state != ServerState::Down);
            if server != me && is_up {
                // A server that was not expected to send anything before may get the same view some time later.
                let since = before.get(&server).copied().unwrap_or(now + grace);
                self.heard.entry(server).or_insert(since);
            }
        };
        for assignment in &view.assignments {
            let members = assignment.in_sync.iter().chain(&assignment.joining).map(|member| member.server);
            if assignment.coordinator == me {
                members.for_each(&mut expect);
            } else if members.into_iter().any(|server| server == me) {
                expect(assignment.coordinator);
            }
        }
    }

    pub(super) fn on_heard(&mut self, from: ServerId, now: Time) {
        self.last.insert(from, now);
        if let Some(heard) = self.heard.get_mut(&from) {
            *heard = now;
        }
    }

    /// Whether a server has sent nothing since then.
    pub(super) fn is_silent_since(&self, server: ServerId, since: Time) -> bool {
        self.last.get(&server).is_none_or(|heard| *heard < since)
    }

    /// Whether a server that is expected to send something has been silent for the report time.
    pub(super) fn is_unheard(&self, server: ServerId, now: Time, timers: &Timers) -> bool {
        self.heard.get(&server).is_some_and(|heard| now.since(*heard) >= timers.report)
    }

    /// The servers to report now.
    pub(super) fn due(&mut self, now: Time, timers: &Timers) -> Vec<ServerId> {
        if self.reported.is_some_and(|at| now.since(at) < timers.report) {
            return Vec::new();
        }
        let silent = self.heard.iter().filter(|(_, heard)| now.since(**heard) >= timers.report);
        let silent: Vec<ServerId> = silent.map(|(&server, _)| server).collect();
        if !silent.is_empty() {
            self.reported = Some(now);
        }
        silent
    }

    /// Asserts what must be true after every step. `latest`: no server was heard later.
    pub(super) fn invariants(&self, me: ServerId, latest: Time) {
        assert!(!self.heard.contains_key(&me), "a server does not wait for itself");
        assert!(self.last.values().all(|heard| *heard <= latest), "a server was heard in the future");
        assert!(self.reported.is_none_or(|at| at <= latest), "reported in the future");
        let are_newer =
            |(server, heard): (&ServerId, &Time)| self.last.get(server).is_none_or(|last| last <= heard);
        assert!(self.heard.iter().all(are_newer), "a server that was heard counts as silent");
    }
}
