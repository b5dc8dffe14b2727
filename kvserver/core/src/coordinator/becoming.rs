//! Becoming the coordinator of an epoch (P1-P4): its log is found (`reconcile`), members are brought in step, promises
//! to former coordinators run out, and then it is active.

use std::collections::{BTreeMap, VecDeque};

use common::ids::{LogId, PartitionId, Seq};
use common::time::Time;
use common::view::Assignment;

use super::super::env::Env;
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::super::process::Process;
use super::progress::Stage;
use super::state::Coordinator;

impl Coordinator {
    pub(crate) fn new(
        env: &mut Env,
        partition: PartitionId,
        assignment: &Assignment,
        former: Option<Self>,
        last: LogId,
    ) -> Self {
        let early = env.cx.planted(PlantedBug::ServesBeforeSync);
        let mut coordinator = Self {
            active: early,
            ping_floor: env.promises.leases.next_ping(),
            begin: early.then_some(last),
            fetch: None,
            yielded: None,
            disagreement: None,
            bounds: BTreeMap::new(),
            ticked: Seq::default(),
            in_sync: assignment.replicas().map(|member| member.server).collect(),
            peers: BTreeMap::new(),
            voter: None,
            reads: VecDeque::new(),
            noticed: env.cx.now.time,
            comparison: None,
        };
        coordinator.relist(env, partition, assignment);
        assert!(!coordinator.in_sync.contains(&env.cx.me.server), "a coordinator sends itself nothing");
        if let Some(former) = former {
            // A copy under way goes on: its content is committed, so it serves every later epoch. An in-sync member
            // is asked for its log first (P1).
            for (server, old) in former.peers {
                let joins = !coordinator.in_sync.contains(&server);
                let peer =
                    coordinator.peers.get_mut(&server).filter(|peer| joins && peer.member == old.member);
                let Stage::Snapshot(sending) = old.stage else {
                    if let Some(peer) = peer {
                        peer.retained = old.retained;
                    }
                    continue;
                };
                match peer {
                    Some(peer) => {
                        peer.process = old.process;
                        peer.stage = Stage::Snapshot(sending);
                        peer.retained = old.retained;
                        peer.rewind(env.cx.now.time);
                    }
                    None => sending.close(env, partition),
                }
            }
            coordinator.reads = former.reads;
        }
        coordinator
    }

    /// P3b: whether all promises to former coordinators are over, those of this server and those that members have
    /// named: their time has run out, or those processes have acknowledged this epoch.
    fn promises_are_over(&self, p: &PartitionState, env: &Env) -> bool {
        let now = env.cx.now.time;
        let released = |process: &Process| {
            let peer = self.peers.get(&process.server);
            peer.is_some_and(|peer| peer.clean && peer.process.map(Process::from) == Some(*process))
        };
        let is_over = |(process, until): (&Process, &Time)| *until <= now || released(process);
        let named = env.cx.planted(PlantedBug::OnlyOwnPromises) || self.bounds.iter().all(is_over);
        named && p.given().promises().all(is_over) && now >= env.promises.bound_by_past
    }

    /// P3: becomes active when all in-sync members have the whole log and the no-op of the epoch, and promises to
    /// former coordinators are over.
    pub(super) fn try_activate(&mut self, p: &mut PartitionState, env: &mut Env) {
        let (durable, now) = (p.log().durable(), env.cx.now.time);
        let volatile = env.cx.planted(PlantedBug::FetchedNotDurable);
        if env.cx.planted(PlantedBug::PromiseRenewed) {
            p.given_mut().renew_promises(|process| env.promises.leases.bound_until(process));
        }
        p.given_mut().prune_promises(now);
        let free = self.promises_are_over(p, env);
        let Some(begin) = self.begin else { return };
        if self.active || self.disagreement.is_some() || (durable < begin.seq && !volatile) {
            return;
        }
        if !self.in_sync.iter().all(|server| self.has_synced(*server)) {
            return;
        }
        if free || env.cx.planted(PlantedBug::PromiseNotAwaited) {
            assert!(p.log().contains(begin), "partition {}: active without the no-op", p.id());
            assert!(self.fetch.is_none(), "partition {}: active before its log is whole", p.id());
            self.active = true;
            p.prove();
            // No former coordinator reads any more, nor a replica under a read lease of one. So the promises to them
            // bind no later epoch of this coordinator either, even if they are no members any more.
            p.given_mut().release_promises();
            self.bounds.clear();
        }
    }
}
