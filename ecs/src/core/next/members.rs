//! Who is a member, and in which state: the servers of the next view.

use common::ids::ServerId;
use common::view::{Assignment, Member, ServerInfo, ServerState};

use super::{Builder, Registration};
use crate::core::cause::Change;
use crate::core::peers::Gone;
use crate::core::plan::Part;
use crate::core::planner::Target;

impl Builder<'_> {
    /// Takes up the servers that said hello. The first server of a cluster gets all partitions.
    pub(super) fn register(&mut self) {
        for registration in self.facts.registrations {
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
            Some(old) if old.incarnation < sender.incarnation => Some(Change::Restarted),
            Some(old) if old.address != *address || old.weight != *weight => Some(Change::Readdressed),
            Some(_) => None,
        };
        let info = ServerInfo {
            store: sender.store,
            incarnation: sender.incarnation,
            address: address.clone(),
            weight: *weight,
            state: old.map_or(ServerState::Up, |old| old.state),
        };
        self.view.servers.insert(sender.server, info);
        let known = self.registry.entry(sender.server).or_default();
        known.saw(sender.store, sender.incarnation);
        let Some(change) = change else { return };
        // The first server of a cluster has nobody to stand by for.
        known.stands_by |= is_new && self.facts.settings.stand_by && !self.view.assignments.is_empty();
        known.added |= is_new && !known.stands_by;
        if change != Change::Readdressed {
            // A new process: what an earlier one wanted is over.
            known.leaving = false;
            known.returned |= known.left.take().is_some();
        }
        if change == Change::Restarted {
            self.restarted.insert(sender.server);
        }
        let stands_by = change == Change::Joined && known.stands_by;
        self.note(sender.server, change, 0);
        if stands_by {
            self.note(sender.server, Change::StandsBy, 0);
        }
    }

    /// Finds each server's state: who is gone, back, or leaving.
    pub(super) fn rate(&mut self) {
        let servers: Vec<(ServerId, ServerState)> =
            self.view.servers.iter().map(|(&server, info)| (server, info.state)).collect();
        for (server, before) in servers {
            self.note_part(server);
            let leaving = self.registry.get(&server).is_some_and(|known| known.leaving);
            let alive = if leaving { ServerState::Leaving } else { ServerState::Up };
            let (state, change) = self.rate_one(server, before, alive);
            if let Some(change) = change {
                self.note(server, change, 0);
            }
            self.view.servers.get_mut(&server).expect("listed above").state = state;
        }
    }

    /// Gives a server the part that is wanted, if it has another one.
    fn note_part(&mut self, server: ServerId) {
        let known = self.registry.entry(server).or_default();
        let before = (known.leaving, known.stands_by);
        let change = match self.facts.parts.get(&server) {
            None => return,
            Some(Part::Leave) => {
                known.leaving = true;
                Change::Leaving
            }
            Some(Part::StandBy) => {
                (known.leaving, known.stands_by, known.added) = (false, true, false);
                Change::StandsBy
            }
            Some(Part::Serve) => {
                (known.leaving, known.stands_by) = (false, false);
                known.added |= before.1;
                if before.0 { Change::Stays } else { Change::Serves }
            }
        };
        if (known.leaving, known.stands_by) != before {
            self.note(server, change, 0);
        }
    }

    fn rate_one(
        &self,
        server: ServerId,
        before: ServerState,
        alive: ServerState,
    ) -> (ServerState, Option<Change>) {
        let (now, timers) = (self.facts.now, &self.facts.config.timers);
        let peer = self.facts.peers.get(&server);
        if before == ServerState::Down {
            let back = peer.is_some_and(|peer| peer.back(now, timers));
            return if back { (alive, Some(Change::Back)) } else { (before, None) };
        }
        match peer.and_then(|peer| peer.gone(now, timers)) {
            Some(Gone::StoreFailed) => (ServerState::Down, Some(Change::StoreFailed)),
            Some(Gone::Silent) if !self.facts.quiet => (ServerState::Down, Some(Change::Silent)),
            Some(Gone::LinkEnded) if !self.facts.quiet => (ServerState::Down, Some(Change::LinkEnded)),
            _ => (alive, None),
        }
    }

    /// Who came back after it had left, and holds a copy, is a member like others.
    fn note_holders(&mut self) {
        for (server, known) in self.registry.iter_mut().filter(|(_, known)| known.returned) {
            let holds = |now: &Assignment| now.in_sync_member(*server).is_some();
            known.returned = !self.view.assignments.iter().any(holds);
        }
    }

    /// Who was added and has all that is wanted there is a member like others.
    pub(super) fn note_settled(&mut self, target: &Target) {
        for (server, known) in self.registry.iter_mut().filter(|(_, known)| known.added) {
            let mut wanted = self.view.assignments.iter().zip(target);
            known.added = !target.iter().flatten().any(|holder| holder == server)
                || wanted
                    .any(|(now, target)| target.contains(server) && now.in_sync_member(*server).is_none());
        }
    }

    /// Removes servers that were to leave, or died before they held anything, and hold nothing any more.
    pub(super) fn see_off(&mut self) {
        self.note_holders();
        let goes = |(&server, info): (&ServerId, &ServerInfo)| {
            let known = self.registry.get(&server);
            let idle = known.is_some_and(|known| known.returned || known.stands_by);
            let died = info.state == ServerState::Down && idle;
            (died || known.is_some_and(|known| known.leaving)).then_some(server)
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
            let info = self.view.servers.remove(&server).expect("listed above");
            let known = self.registry.get_mut(&server).expect("listed above");
            (known.leaving, known.returned, known.stands_by, known.added) = (false, false, false, false);
            known.left = Some(info.incarnation);
            self.note(server, Change::Left, 0);
        }
    }
}
