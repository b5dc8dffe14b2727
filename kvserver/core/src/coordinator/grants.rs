//! Read leases at the server that gives them (7.1, 7.2): an active coordinator gives them to in-sync members, for no
//! longer than its own leases run. A read lease binds the giver through later epochs and roles, until it has run out or
//! the member was heard to use a newer view, in which it is void.

use common::ids::Epoch;
use common::messages::{ProcessId, ReadGrant};

use super::super::config::Reads;
use super::super::env::Env;
use super::super::limits::READ_LEASE_PART;
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::super::process::Process;
use super::state::Coordinator;

impl Coordinator {
    /// 7.1: gives a member the read lease that it asks for in `epoch`, if it may have one. Its present process must
    /// have acknowledged what is committed now: a restarted one whose disk went back has a shorter log than its former
    /// process, and would answer reads from that.
    pub(crate) fn grant_read_lease(
        &self,
        p: &mut PartitionState,
        env: &Env,
        to: ProcessId,
        epoch: Epoch,
    ) -> Option<ReadGrant> {
        let (mine, applied, commit, now) = (p.epoch(), p.applied(), p.commit(), env.cx.now.time);
        let peer = self.peers.get(&to.server)?;
        let is_in_sync = self.in_sync.contains(&to.server);
        let counts = is_in_sync || env.cx.planted(PlantedBug::ReadLeaseToJoiner);
        let has_all = peer.process == Some(to) && peer.acked.is_some_and(|acked| acked >= commit);
        if !has_all && !env.cx.planted(PlantedBug::ReadLeaseToShorter) {
            return None;
        }
        if epoch != mine || peer.member.store != to.store || !counts || env.cx.config.reads == Reads::Barrier
        {
            return None;
        }
        let left = self.lease_left(env, mine, applied)?;
        let timers = env.cx.config.timers;
        let (length, bound) = if env.cx.planted(PlantedBug::ReadLeaseUnbounded) {
            (timers.lease * 2, timers.promise / READ_LEASE_PART)
        } else {
            (left.min(timers.lease / READ_LEASE_PART), timers.promise / READ_LEASE_PART)
        };
        assert!(self.active, "partition {id}: a read lease of a coordinator that is not active", id = p.id());
        let is_within = length <= bound || env.cx.planted(PlantedBug::ReadLeaseUnbounded);
        assert!(is_within, "partition {}: a read lease ends at its reader before it ends here (7.1)", p.id());
        p.given_mut().give_read_lease(to.into(), now + bound);
        let for_us = u64::try_from(length.as_micros()).ok()?;
        Some(ReadGrant { partition: p.id(), epoch, for_us })
    }

    /// Forgets read leases that have run out, or are void as the member uses a view in which this epoch began.
    pub(super) fn prune_read_leases(&self, p: &mut PartitionState, env: &Env) {
        let epoch = p.epoch();
        let may_run = |process: Process| {
            self.in_sync.contains(&process.server) || !env.promises.has_left(process, epoch)
        };
        p.given_mut().prune_read_leases(env.cx.now.time, may_run);
    }
}
