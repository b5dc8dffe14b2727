//! Whether a coordinator may read by itself: on leases (L1, L2), or after a barrier (6.3).

use std::time::Duration;

use common::ids::{Epoch, Seq, ServerId};
use common::time::Time;

use super::super::config::Reads;
use super::super::env::Env;
use super::super::planted::PlantedBug;
use super::progress::Progress;
use super::state::Coordinator;

impl Coordinator {
    /// Whether this server has a lease of a member that counts, as in
    /// [`Leases::holds`](super::super::lease::Leases::holds).
    pub(super) fn holds_lease(&self, env: &Env, server: ServerId, epoch: Epoch, time: Time) -> bool {
        let peer = self.peers.get(&server);
        peer.is_some_and(|peer| env.promises.leases.holds(peer.member, self.ping_floor, epoch, time))
    }

    /// L1, L2: whether this coordinator may read, with leases of all members that count.
    pub(super) fn may_read(&self, env: &Env, epoch: Epoch, applied: Seq) -> bool {
        self.may_read_at(env, epoch, applied, env.cx.now.time)
    }

    /// 7.1: the time that is left of the leases that this coordinator reads under.
    pub(super) fn lease_left(&self, env: &Env, epoch: Epoch, applied: Seq) -> Option<Duration> {
        let now = env.cx.now.time;
        let until = self.needed().map(|server| {
            let member = self.peers.get(&server)?.member;
            env.promises.leases.until(member, self.ping_floor, epoch)
        });
        let until = until.min().flatten().filter(|_| self.may_read(env, epoch, applied))?;
        Some(until.since(now))
    }

    /// L2, or 6.3: whether a read that began when ping `floor` was the next one may be answered.
    pub(super) fn may_serve(&self, env: &Env, epoch: Epoch, applied: Seq, floor: u64) -> bool {
        match env.cx.config.reads {
            Reads::Lease => self.may_read(env, epoch, applied),
            Reads::Barrier => {
                self.has_applied_all(applied)
                    && (self.unconfirmed(env, epoch, floor).next().is_none()
                        || env.cx.planted(PlantedBug::BarrierNotAwaited))
            }
        }
    }

    /// Members that have not confirmed the epoch since ping `floor` was the next one.
    pub(super) fn unconfirmed<'a>(
        &'a self,
        env: &'a Env,
        epoch: Epoch,
        floor: u64,
    ) -> impl Iterator<Item = ServerId> + 'a {
        let floor = floor.max(self.ping_floor);
        self.needed().filter(move |server| {
            let confirmed = |peer: &Progress| env.promises.leases.confirmed(peer.member, floor, epoch);
            !self.has_synced(*server) || !self.peers.get(server).is_some_and(confirmed)
        })
    }

    /// `applied`: a former coordinator may have acknowledged anything of the log that this one began with, so the
    /// records must have all of it before they are read. What was acknowledged since is applied anyway.
    pub(crate) fn may_read_at(&self, env: &Env, epoch: Epoch, applied: Seq, time: Time) -> bool {
        let by_leases = env.cx.config.reads == Reads::Lease;
        by_leases && self.has_applied_all(applied) && self.is_leased(env, epoch, time)
    }

    /// L1: whether all members that count are in step and have given leases that run at `time`.
    fn is_leased(&self, env: &Env, epoch: Epoch, time: Time) -> bool {
        let holds = |server: ServerId| self.has_synced(server) && self.holds_lease(env, server, epoch, time);
        self.is_leased_by_mistake(env, &holds).unwrap_or_else(|| self.needed().all(holds))
    }

    /// Planted bugs: other leases than those of all members that count are enough.
    fn is_leased_by_mistake(&self, env: &Env, holds: &impl Fn(ServerId) -> bool) -> Option<bool> {
        if env.cx.planted(PlantedBug::ReadWithoutLease) {
            Some(true)
        } else if env.cx.planted(PlantedBug::LeaseOfMajority) {
            let held = self.needed().filter(|server| holds(*server)).count();
            Some(2 * held >= self.needed().count())
        } else if env.cx.planted(PlantedBug::LeaseIgnoresJoiner) {
            Some(self.in_sync.iter().all(|server| holds(*server)))
        } else {
            None
        }
    }
}
