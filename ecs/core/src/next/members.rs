//! Which servers are members, and in which state: the servers of the next view.

use std::collections::BTreeMap;

use common::ids::{PartitionId, ServerId};
use common::time::Time;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};

use super::builder::Builder;
use crate::backoff::Backoff;
use crate::cause::Change;
use crate::peers::{Gone, Peer};
use crate::plan::RequestedState;
use crate::planner::Target;
use crate::reports::Registration;
use crate::silence::FLAPPING;

/// Until when a server that was removed several times recently may not come back. One that an in-sync set still counts
/// comes back at once: writes wait for it, or no other server has what it has.
pub(crate) fn paused_until(
    view: &View,
    falls: &BTreeMap<ServerId, Backoff>,
    server: ServerId,
    now: Time,
) -> Option<Time> {
    let until = falls.get(&server)?.until(&FLAPPING).filter(|until| *until > now)?;
    let counts = |assignment: &Assignment| assignment.in_sync_member(server).is_some();
    (!view.assignments.iter().any(counts)).then_some(until)
}

impl Builder<'_> {
    /// Adds the servers that said hello. The first server of a cluster gets all partitions.
    pub(super) fn register(&mut self) {
        for registration in &self.facts.reports.registrations {
            self.register_one(registration);
            if self.view.assignments.is_empty() {
                let Registration { sender, .. } = registration;
                let first = Assignment {
                    epoch: self.number,
                    coordinator: sender.server,
                    in_sync: vec![Member { server: sender.server, store: sender.store }],
                    joining: Vec::new(),
                };
                self.view.assignments = vec![first; self.view.partitions.count()];
                assert!(!self.view.assignments.is_empty(), "a ring has partitions");
            }
        }
    }

    fn register_one(&mut self, registration: &Registration) {
        let Registration { sender, address, weight } = registration;
        let old = self.view.servers.get(&sender.server);
        let is_new = old.is_none();
        let change = match old {
            None => Some(Change::Joined),
            Some(old) if old.store != sender.store => Some(Change::NewStore),
            Some(old) if (old.incarnation, old.nonce) != (sender.incarnation, sender.nonce) => {
                Some(Change::Restarted)
            }
            Some(old) if old.address != *address || old.weight != *weight => Some(Change::Readdressed),
            Some(_) => None,
        };
        let info = ServerInfo {
            store: sender.store,
            incarnation: sender.incarnation,
            nonce: sender.nonce,
            address: address.clone(),
            weight: *weight,
            state: old.map_or(ServerState::Up, |old| old.state),
        };
        self.view.servers.insert(sender.server, info);
        assert!(*weight >= 1, "every server has a share");
        let known = self.registry.entry(sender.server).or_default();
        let is_forgotten = is_new && known.stores.get(&sender.store) == Some(&sender.incarnation);
        known.saw(sender.store, sender.incarnation);
        let Some(change) = change else { return };
        if is_new && !is_forgotten {
            // The first server of a cluster has no other one to stand by for.
            known.stands_by = self.facts.settings.stand_by && !self.view.assignments.is_empty();
        }
        known.added |= is_new && !known.stands_by;
        if change != Change::Readdressed {
            // A new process: what an earlier one wanted is over.
            (known.leaving, known.replaced_by) = (false, None);
            known.returned |= known.left.take().is_some();
        }
        if matches!(change, Change::Restarted | Change::NewStore) {
            self.restarted.insert(sender.server);
        }
        let stands_by = change == Change::Joined && known.stands_by;
        self.note(sender.server, change, 0);
        if stands_by {
            self.note(sender.server, Change::StandsBy, 0);
        }
    }

    /// Finds each server's state: gone, back, or leaving.
    pub(super) fn find_states(&mut self) {
        let before: Vec<(ServerId, ServerState)> =
            self.view.servers.iter().map(|(&server, info)| (server, info.state)).collect();
        for &(server, before) in &before {
            self.note_part(server);
            let leaving = self.registry.get(&server).is_some_and(|known| known.leaving);
            let alive = if leaving { ServerState::Leaving } else { ServerState::Up };
            let (state, change) = self.find_state(server, before, alive);
            if let Some(change) = change {
                self.note(server, change, 0);
            }
            self.view.servers.get_mut(&server).expect("listed above").state = state;
        }
        self.hold_replacements(&before);
    }

    /// A server that is to be replaced stays while its replacement is not up: else there would be one copy less of
    /// everything.
    fn hold_replacements(&mut self, before: &[(ServerId, ServerState)]) {
        for &(server, before) in before {
            if self.view.servers[&server].state != ServerState::Leaving {
                continue;
            }
            let held = self.is_held(server);
            if held {
                self.view.servers.get_mut(&server).expect("found above").state = ServerState::Up;
            }
            match (before, held) {
                (ServerState::Leaving, true) => self.note(server, Change::Held, 0),
                (ServerState::Up, false) => self.note(server, Change::Leaving, 0),
                _ => {}
            }
        }
    }

    /// Whether it is to be replaced by a server that is not up.
    fn is_held(&self, server: ServerId) -> bool {
        let Some(by) = self.registry.get(&server).and_then(|known| known.replaced_by) else { return false };
        let is_up = self.view.servers.get(&by).is_some_and(|info| info.state == ServerState::Up);
        !is_up || self.registry.get(&by).is_some_and(|known| known.stands_by || known.leaving)
    }

    /// Carries out a requested state change, if the server is not in that state already.
    fn note_part(&mut self, server: ServerId) {
        let known = self.registry.entry(server).or_default();
        let before = (known.leaving, known.stands_by);
        let change = match self.facts.requested_states.get(&server) {
            None => return,
            Some(RequestedState::Leave) => {
                (known.leaving, known.replaced_by) = (true, None);
                Change::Leaving
            }
            Some(RequestedState::Replaced { by }) => {
                (known.leaving, known.replaced_by) = (true, Some(*by));
                Change::Leaving
            }
            Some(RequestedState::StandBy) => {
                (known.leaving, known.stands_by, known.added) = (false, true, false);
                known.replaced_by = None;
                Change::StandsBy
            }
            Some(RequestedState::Serve) => {
                (known.leaving, known.replaced_by, known.stands_by) = (false, None, false);
                known.added |= before.1;
                if before.0 { Change::Stays } else { Change::Serves }
            }
        };
        if (known.leaving, known.stands_by) != before {
            self.note(server, change, 0);
        }
    }

    fn find_state(
        &mut self,
        server: ServerId,
        before: ServerState,
        alive: ServerState,
    ) -> (ServerState, Option<Change>) {
        let (now, patience) = (self.facts.now, &self.facts.patience);
        let peer = self.facts.reports.peers.get(&server);
        if before == ServerState::Down {
            if !peer.is_some_and(|peer| peer.back(now, patience)) {
                return (before, None);
            }
            if let Some(until) = paused_until(&self.view, &self.facts.rebalancing.falls, server, now) {
                self.wake_at(until);
                return (before, None);
            }
            return (alive, Some(Change::Back));
        }
        match peer.and_then(|peer| peer.gone(now, patience)) {
            Some(Gone::StoreFailed) => (ServerState::Down, Some(Change::StoreFailed)),
            Some(Gone::Silent) if !self.facts.quiet => (ServerState::Down, Some(Change::Silent)),
            Some(Gone::LinkEnded) if !self.facts.quiet => (ServerState::Down, Some(Change::LinkEnded)),
            _ => (alive, None),
        }
    }

    /// A server that came back after it had left, and now has a copy, is a member like others.
    fn note_holders(&mut self) {
        for (server, known) in self.registry.iter_mut().filter(|(_, known)| known.returned) {
            let holds = |now: &Assignment| now.in_sync_member(*server).is_some();
            known.returned = !self.view.assignments.iter().any(holds);
        }
    }

    /// A server that was added, and now has all the copies that the plan gives it, is a member like others.
    pub(super) fn note_settled(&mut self, target: &Target) {
        for (server, known) in self.registry.iter_mut().filter(|(_, known)| known.added) {
            let mut wanted = self.view.assignments.iter().zip(target);
            known.added = !target.iter().flatten().any(|holder| holder == server)
                || wanted
                    .any(|(now, target)| target.contains(server) && now.in_sync_member(*server).is_none());
        }
    }

    /// V4a: forgets members that were left out after a restart and are filled again or gone, or hold nothing any more,
    /// as the plan has no place for a copy there; and that a partition went on without some, when there are none any
    /// more and it has all its copies.
    pub(super) fn note_filled(&mut self, target: &Target) {
        let (view, peers) = (&self.view, &self.facts.reports.peers);
        let has_emptied = |partition: PartitionId, member: &Member| {
            let peer = peers.get(&member.server).filter(|peer| peer.sender.store == member.store);
            peer.is_some_and(|peer| peer.emptied.contains(&partition))
        };
        self.left_out.retain(|&partition, members| {
            let in_sync = view.assignment(partition).map_or(&[][..], |now| &now.in_sync);
            members.retain(|member| {
                let info = view.servers.get(&member.server);
                let is_there = info.is_some_and(|info| info.store == member.store);
                is_there && !in_sync.contains(member) && !has_emptied(partition, member)
            });
            !members.is_empty()
        });
        let known = self.known();
        let has_all = |&partition: &PartitionId| {
            let (Some(now), Some(target)) =
                (view.assignment(partition), target.get(usize::from(partition.0)))
            else {
                return false;
            };
            let member = |&server: &ServerId| now.in_sync_member(server);
            target.iter().all(|server| member(server).is_some_and(|member| known.is_well(partition, member)))
        };
        let resumed = view.resumed.keys().copied();
        let over: Vec<PartitionId> = resumed
            .filter(|partition| !self.left_out.contains_key(partition) && has_all(partition))
            .collect();
        self.view.resumed.retain(|partition, _| !over.contains(partition));
    }

    /// Removes servers that were to leave, or died before they held anything, and hold nothing any more. One that was
    /// gone again before it took a view was never a part of the cluster: any process can say hello in any name.
    pub(super) fn finish_leaving(&mut self) {
        self.note_holders();
        let goes = |(&server, info): (&ServerId, &ServerInfo)| {
            let known = self.registry.get(&server);
            let idle = known.is_some_and(|known| known.returned || known.stands_by);
            let idle = idle || self.passed_by(server);
            let died = info.state == ServerState::Down && idle;
            // A server whose leaving is held back is up.
            let leaves = known.is_some_and(|known| known.leaving) && info.state != ServerState::Up;
            (died || leaves).then_some(server)
        };
        let mut gone: Vec<ServerId> = self.view.servers.iter().filter_map(goes).collect();
        if gone.is_empty() || self.view.assignments.is_empty() {
            return;
        }
        for now in &self.view.assignments {
            gone.retain(|&server| {
                now.in_sync_member(server).is_none() && now.joining_member(server).is_none()
            });
        }
        for server in gone {
            let passed_by = self.passed_by(server);
            let info = self.view.servers.remove(&server).expect("listed above");
            assert!(!self.holds_anything(server), "a server with a copy stays a member");
            self.note(server, Change::Left, 0);
            if passed_by {
                self.registry.remove(&server);
                continue;
            }
            let known = self.registry.get_mut(&server).expect("listed above");
            known.added = false;
            // One that was silent, with nothing on it, may be heard again, and has then the state that it has now.
            if known.leaving {
                (known.leaving, known.returned, known.stands_by) = (false, false, false);
                (known.left, known.replaced_by) = (Some(info.incarnation), None);
            }
        }
    }

    fn holds_anything(&self, server: ServerId) -> bool {
        let holds =
            |now: &Assignment| now.in_sync_member(server).is_some() || now.joining_member(server).is_some();
        self.view.assignments.iter().any(holds)
    }

    /// It said hello, and took no view.
    fn passed_by(&self, server: ServerId) -> bool {
        let took_none = self.facts.reports.peers.get(&server).is_some_and(Peer::took_no_view);
        took_none && self.registry.get(&server).is_some_and(|known| known.added && !known.leaving)
    }
}
