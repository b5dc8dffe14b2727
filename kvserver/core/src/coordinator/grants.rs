//! Read leases at the server that gives them (7.1, 7.2): an active coordinator gives them to in-sync members, for no
//! longer than its own leases run. A read lease binds the giver through later epochs and roles, until it has run out or
//! the member was heard to use a newer view, in which it is void.

use common::ids::Epoch;
use common::messages::{ReadGrant, Sender};

use super::super::config::Reads;
use super::super::context::named_process;
use super::super::copy::{PartitionCopy, Role};
use super::super::env::Env;
use super::super::limits::READ_LEASE_PART;
use super::super::planted::PlantedBug;
use super::super::process::Process;

impl PartitionCopy {
    /// 7.1: gives a member the read lease that it asks for in `epoch`, if it may have one. Its present process must
    /// have acknowledged what is committed now: a restarted one whose disk went back has a shorter log than its former
    /// process, and would answer reads from that.
    pub(crate) fn grant_read_lease(&mut self, env: &Env, to: Sender, epoch: Epoch) -> Option<ReadGrant> {
        let (mine, applied, commit, now) = (self.epoch, self.applied, self.commit, env.cx.now.time);
        let Role::Coordinator(coordinator) = &self.role else { return None };
        let peer = coordinator.peers.get(&to.server)?;
        let is_in_sync = coordinator.in_sync.contains(&to.server);
        let counts = is_in_sync || env.cx.planted(PlantedBug::ReadLeaseToJoiner);
        let has_all = peer.process == Some(to) && peer.acked.is_some_and(|acked| acked >= commit);
        if !has_all && !env.cx.planted(PlantedBug::ReadLeaseToShorter) {
            return None;
        }
        if epoch != mine || peer.member.store != to.store || !counts || env.cx.config.reads == Reads::Barrier
        {
            return None;
        }
        let left = coordinator.lease_left(env, mine, applied)?;
        let timers = env.cx.config.timers;
        let (length, bound) = if env.cx.planted(PlantedBug::ReadLeaseUnbounded) {
            (timers.lease * 2, timers.promise / READ_LEASE_PART)
        } else {
            (left.min(timers.lease / READ_LEASE_PART), timers.promise / READ_LEASE_PART)
        };
        self.given.read_grants.insert(to.into(), now + bound);
        let for_us = u64::try_from(length.as_micros()).ok()?;
        Some(ReadGrant { partition: self.id, epoch, for_us })
    }

    /// Forgets read leases that have run out, or are void as the member uses a view in which this epoch began.
    pub(crate) fn sift_read_grants(&mut self, env: &Env) {
        let (epoch, now) = (self.epoch, env.cx.now.time);
        let in_sync = match &self.role {
            Role::Coordinator(coordinator) => coordinator.in_sync.as_slice(),
            _ => &[],
        };
        self.given.read_grants.retain(|process, until| {
            *until > now && (in_sync.contains(&process.server) || !env.promises.has_left(*process, epoch))
        });
    }

    /// P4: whether no read lease that this server gave may still run, other than those of the present in-sync set.
    /// These are void before a coordinator is active in this epoch, as their members have acknowledged it.
    pub(crate) fn is_clean(&mut self, env: &Env) -> bool {
        self.sift_read_grants(env);
        let assignment = env.cx.view.assignment(self.id);
        let counts = |process: &Process| {
            let is_in_sync = assignment.is_some_and(|a| a.in_sync_member(process.server).is_some());
            is_in_sync && named_process(&env.cx.view, process.server).map(Process::from) == Some(*process)
        };
        self.given.read_grants.keys().all(counts) || env.cx.planted(PlantedBug::CleanDespiteReadGrants)
    }
}
