//! Becoming the coordinator of an epoch (P1-P4): members are brought in step, promises to former coordinators run
//! out, and then it is active.

use std::collections::{BTreeMap, VecDeque};

use common::ids::{PartitionId, Seq, ServerId};
use common::view::Assignment;

use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::mutation::Mutation;
use super::{Coordinator, Stage};

impl Coordinator {
    pub(crate) fn new(
        env: &mut Env,
        partition: PartitionId,
        assignment: &Assignment,
        former: Option<Self>,
        last: Seq,
    ) -> Self {
        let mut coordinator = Self {
            active: env.mutated(Mutation::ServesBeforeSync),
            ping_floor: env.leases.next_ping(),
            adopted_last: last,
            in_sync: assignment.replicas().map(|member| member.server).collect(),
            peers: BTreeMap::new(),
            extra: None,
            reads: VecDeque::new(),
            noticed: env.now.time,
            comparison: None,
        };
        coordinator.relist(env, partition, assignment);
        if let Some(former) = former {
            // A copy under way goes on: what it holds is committed, so it serves every later epoch.
            for (server, old) in former.peers {
                let peer = coordinator.peers.get_mut(&server).filter(|peer| peer.member == old.member);
                let Stage::Snapshot(sending) = old.stage else {
                    if let Some(peer) = peer {
                        peer.hold = old.hold;
                    }
                    continue;
                };
                match peer {
                    Some(peer) => {
                        peer.incarnation = old.incarnation;
                        peer.stage = Stage::Snapshot(sending);
                        peer.hold = old.hold;
                        peer.rewind(env.now.time);
                    }
                    None => sending.close(env, partition),
                }
            }
            coordinator.reads = former.reads;
        }
        coordinator
    }
}

impl PartitionCopy {
    /// P3b: what this server promised to former coordinators has run out, or those have acknowledged this epoch.
    pub(super) fn promises_are_over(&self, env: &Env) -> bool {
        let Role::Coordinator(coordinator) = &self.role else { return false };
        let now = env.now.time;
        let released = |server: &ServerId| coordinator.peers.get(server).is_some_and(|peer| peer.clean);
        let mut promises = self.promises.iter();
        promises.all(|(server, until)| *until <= now || released(server)) && now >= env.bound_by_past
    }

    /// P3: active only when all in-sync members have the whole log as it was, and promises to former coordinators
    /// have run out (or those have acknowledged this epoch).
    pub(super) fn try_activate(&mut self, env: &mut Env) {
        let (durable, now) = (self.log.durable(), env.now.time);
        if env.mutated(Mutation::PromiseRenewed) {
            for (server, until) in &mut self.promises {
                *until = env.leases.bound_until(*server).unwrap_or(*until).max(*until);
            }
        }
        self.promises.retain(|_, until| *until > now);
        let free = self.promises_are_over(env);
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        if coordinator.active || durable < coordinator.adopted_last {
            return;
        }
        let synced = |server: &ServerId| {
            let peer = coordinator.peers.get(server);
            peer.and_then(|peer| peer.acked).is_some_and(|acked| acked >= coordinator.adopted_last)
        };
        if !coordinator.in_sync.iter().all(synced) {
            return;
        }
        if free || env.mutated(Mutation::PromiseNotAwaited) {
            coordinator.active = true;
            // Whoever coordinated before this epoch reads no more, nor does a replica under a lease of theirs: what was
            // promised to them binds no later epoch of this coordinator either, though they may be members no longer.
            self.promises.clear();
        }
    }
}
