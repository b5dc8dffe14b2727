//! Read leases at their giver (PROTOCOL.md, section 7): to in-sync members, by an active coordinator, no longer than
//! its own leases run. What was given binds through later epochs and roles, until it has run out or the member was
//! heard to use a newer view, in which it is void.

use common::ids::Epoch;
use common::messages::{ReadGrant, Sender};

use super::super::copy::{PartitionCopy, Role};
use super::super::env::{Env, Reads};
use super::super::limits::READ_LEASE_PART;
use super::super::mutation::Mutation;

impl PartitionCopy {
    /// 7.1: a member asks for a read lease in `epoch`.
    pub(crate) fn grant_read_lease(&mut self, env: &Env, to: Sender, epoch: Epoch) -> Option<ReadGrant> {
        let (mine, applied, now) = (self.epoch, self.applied, env.now.time);
        let Role::Coordinator(coordinator) = &self.role else { return None };
        let peer = coordinator.peers.get(&to.server)?;
        let is_in_sync = coordinator.in_sync.contains(&to.server);
        let counts = is_in_sync || env.mutated(Mutation::ReadLeaseToJoiner);
        if epoch != mine || peer.member.store != to.store || !counts || env.config.reads == Reads::Barrier {
            return None;
        }
        let left = coordinator.lease_left(env, mine, applied)?;
        let timers = env.config.timers;
        let (length, bound) = if env.mutated(Mutation::ReadLeaseUnbounded) {
            (timers.lease * 2, timers.promise / READ_LEASE_PART)
        } else {
            (left.min(timers.lease / READ_LEASE_PART), timers.promise / READ_LEASE_PART)
        };
        self.read_grants.insert(to.server, now + bound);
        let for_us = u64::try_from(length.as_micros()).ok()?;
        Some(ReadGrant { partition: self.id, epoch, for_us })
    }

    /// Forgets read leases that have run out, or are void as the member uses a view in which this epoch began.
    pub(crate) fn sift_read_grants(&mut self, env: &Env) {
        let (epoch, now) = (self.epoch, env.now.time);
        let in_sync = match &self.role {
            Role::Coordinator(coordinator) => coordinator.in_sync.as_slice(),
            _ => &[],
        };
        self.read_grants.retain(|server, until| {
            *until > now && (in_sync.contains(server) || !env.has_left(*server, epoch))
        });
    }

    /// P4: no read lease of this server's giving may run that the next coordinator would not know of. Members of the
    /// present in-sync set have acknowledged this epoch before anyone is active in it, so theirs are void then.
    pub(crate) fn is_clean(&mut self, env: &Env) -> bool {
        self.sift_read_grants(env);
        let assignment = env.view.assignment(self.id);
        let counts = |server| assignment.is_some_and(|a| a.in_sync_member(server).is_some());
        self.read_grants.keys().all(|server| counts(*server)) || env.mutated(Mutation::CleanDespiteReadGrants)
    }
}
