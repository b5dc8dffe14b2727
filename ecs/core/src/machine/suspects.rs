//! R3: stores that failed, or cannot be read, and whose servers wait for the decision whether to set them aside.
//!
//! A store is set aside only where it is not needed: each of its partitions has a coordinator that is active in the
//! present epoch and is heard, so another in-sync copy is being served, and no view counts the store there any more.
//! Its partitions are those of the last view that its server has seen, and those of the newest view. Else it is kept,
//! though no client is served from it: it may be all that is left. So it is while the ECS makes no views, as it does
//! not know whether the epoch that it takes for the present one is (V6), and where a partition waits in an old epoch
//! for an ECS that is being rebuilt (R6). Nothing is remembered over a restart of the ECS; servers that wait say so
//! again and again, and get the present answer each time.

use common::address;
use common::ids::{Epoch, PartitionId, ServerId};
use common::limits::SERVERS_MAX;
use common::messages::{AsideStore, ProcessId, StoreVerdict, Suspicion};
use common::status::WaitingStore;
use common::time::Time;
use common::view::Member;

use super::stores::{KeptStore, Waiting};
use super::{Ecs, Effect};
use crate::limits::WAITING_STORE_REMEMBERED_FOR;
use crate::peers::Peer;
use crate::planted::PlantedBug;
use crate::refusal::Refusal;

impl Ecs {
    /// A server waits with a store.
    pub(super) fn on_suspect(&mut self, now: Time, sender: ProcessId, suspicion: Suspicion) {
        if let Err(invalid) = address::split(&suspicion.address) {
            return self.refuse(now, sender, None, Refusal::Address(invalid));
        }
        if let Some(refusal) = self.refusal_of_leap(sender, suspicion.view) {
            return self.refuse(now, sender, None, refusal);
        }
        let server = sender.server;
        let known = self.reports.peers.get(&server).map(|peer| peer.sender);
        let address = Some(suspicion.address.clone());
        if let Some(newer) = known.filter(|known| *known != sender && known.incarnation >= sender.incarnation)
        {
            return self.refuse(now, sender, address, Refusal::OldProcess { known: newer.incarnation });
        }
        if self.suspects.waiting.len() >= SERVERS_MAX && !self.suspects.waiting.contains_key(&server) {
            return self.refuse(now, sender, address, Refusal::TooManyServers);
        }
        // A copy of a directory whose server lives says nothing of that one (N1).
        let patience = self.patience(now);
        let others = self.reports.peers.get(&server).filter(|peer| peer.sender != sender);
        let is_awaited = |peer: &Peer| {
            let is_early = now.since(peer.since) < self.config.timers.promise;
            !peer.spoke() && peer.may_live() && is_early && !self.is_down(server)
        };
        let has_twin = others.is_some_and(|peer| peer.lives(now, &patience) || is_awaited(peer));
        // What a former process of the server said no longer counts: that process is gone.
        if !has_twin && (known.is_some() || self.durable.view.servers.contains_key(&server)) {
            let peer = self.reports.peers.entry(server).or_insert_with(|| Peer::new(sender, now));
            if peer.sender != sender {
                *peer = Peer::new(sender, now);
            }
            self.wanted |= peer.hear(now, self.timing.judged_from, &self.config.timers);
            self.wanted |= !std::mem::replace(&mut peer.failed, true);
            self.reports.registrations.retain(|earlier| earlier.sender.server != server);
        }
        if !has_twin {
            self.compare_with_suspect(now, sender, &suspicion);
        }
        let (to, address) = (sender, suspicion.address.clone());
        self.suspects.waiting.insert(server, Waiting { sender, suspicion, heard: now });
        let verdict = self.verdict(now, &self.suspects.waiting[&server]);
        self.out.effects.push(Effect::Verdict { to, address, verdict });
    }

    /// V6: a server that waits with a store does not say hello, but it reports which view it has seen.
    fn compare_with_suspect(&mut self, now: Time, sender: ProcessId, suspicion: &Suspicion) {
        let (view, own) = (suspicion.view, self.durable.view.number);
        if view > own && !self.is_of_before(view) {
            if self.start.behind.is_none_or(|behind| view > behind.view) {
                self.refuse(now, sender, None, Refusal::Behind { server: view, own });
            }
        } else if view != Epoch::default() || suspicion.partitions.is_none() {
            self.on_compared(sender.server);
        }
    }

    fn verdict(&self, now: Time, waiting: &Waiting) -> StoreVerdict {
        let view = &self.durable.view;
        let all = || view.partitions.all().collect();
        let mut partitions: Vec<PartitionId> = waiting.suspicion.partitions.clone().unwrap_or_else(all);
        let member = Member { server: waiting.sender.server, store: waiting.sender.store };
        if !self.config.planted(PlantedBug::SuspicionBelieved) {
            // The server may have failed before it saw the view that counts its store.
            let newest = self.newest().view.iter().filter(|(_, now)| now.in_sync.contains(&member));
            partitions.extend(newest.map(|(partition, _)| partition));
            partitions.sort_unstable();
            partitions.dedup();
        }
        let served = |partition: &PartitionId| self.is_served_without(now, *partition, member);
        let unserved: Vec<PartitionId> =
            partitions.into_iter().filter(|partition| !served(partition)).collect();
        let at_once = self.config.planted(PlantedBug::SetAsideAtOnce);
        if (unserved.is_empty() && self.makes_views(now)) || at_once {
            StoreVerdict::SetAside {}
        } else {
            StoreVerdict::Keep { unserved }
        }
    }

    /// Whether the coordinator of the present epoch is active and no view counts the member.
    fn is_served_without(&self, now: Time, partition: PartitionId, member: Member) -> bool {
        let newest = &self.newest().view;
        let counts =
            newest.assignment(partition).is_none_or(|assignment| assignment.in_sync.contains(&member));
        let patience = self.patience(now);
        let is_active = self.durable.view.assignment(partition).is_some_and(|assignment| {
            // What it said of itself is of the past where it is not heard now.
            let peer = self.reports.peers.get(&assignment.coordinator);
            let lives = peer.is_some_and(|peer| !peer.doubted && peer.lives(now, &patience));
            lives && self.served.is_active(partition, assignment.epoch)
        });
        (is_active || self.config.planted(PlantedBug::SetAsideUnserved))
            && !counts
            && !self.is_offline(partition)
            && !self.is_waiting(partition)
            && self.makes_views(now)
    }

    /// A server keeps stores that it had set aside.
    pub(super) fn on_aside(&mut self, server: ServerId, stores: Vec<AsideStore>) {
        self.suspects.aside.insert(server, stores);
    }

    pub(super) fn sift_suspects(&mut self, now: Time) {
        self.suspects.waiting.retain(|_, waiting| now.since(waiting.heard) < WAITING_STORE_REMEMBERED_FOR);
        let view = &self.durable.view;
        self.suspects.aside.retain(|server, _| view.servers.contains_key(server));
    }

    /// The stores that servers wait with, and then those that were set aside and are still there.
    #[must_use]
    pub fn kept_stores(&self) -> Vec<KeptStore> {
        let waiting = self.suspects.waiting.iter().map(|(&server, Waiting { suspicion, .. })| KeptStore {
            server,
            address: suspicion.address.clone(),
            dir: suspicion.dir.clone(),
            folder: None,
            reason: suspicion.reason.clone(),
            partitions: suspicion.partitions.clone(),
        });
        let address = |server| self.durable.view.servers.get(server).map(|info| info.address.clone());
        let aside = self.suspects.aside.iter().flat_map(|(server, stores)| {
            stores.iter().map(move |store| KeptStore {
                server: *server,
                address: address(server).unwrap_or_default(),
                dir: store.dir.clone(),
                folder: Some(store.folder.clone()),
                reason: store.reason.clone(),
                partitions: store.partitions.clone(),
            })
        });
        waiting.chain(aside).collect()
    }

    /// The stores that servers wait with, for people.
    pub(super) fn stores_waiting(&self, now: Time) -> Vec<WaitingStore> {
        let shown = |waiting: &Waiting| {
            let Suspicion { address, dir, reason, .. } = waiting.suspicion.clone();
            let unserved = match self.verdict(now, waiting) {
                StoreVerdict::SetAside {} => 0,
                StoreVerdict::Keep { unserved } => u32::try_from(unserved.len()).unwrap_or(u32::MAX),
            };
            WaitingStore { server: waiting.sender.server, address, dir, reason, unserved }
        };
        self.suspects.waiting.values().map(shown).collect()
    }
}
