//! Promises and read leases that this server gave for a partition. They bind it through later epochs and roles.

use std::collections::BTreeMap;

use common::ids::ServerId;
use common::time::Time;

use super::super::process::Process;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Promises of this server to former coordinators, and until when each binds.
    promises: BTreeMap<Process, Time>,
    /// Read leases that this server gave (7.2), by member, and until when each may run, by this server's clock.
    read_leases: BTreeMap<Process, Time>,
}

impl Given {
    /// P3b: notes a promise to a former coordinator.
    pub(crate) fn note_promise(&mut self, to: Process, until: Time) {
        let known = self.promises.entry(to).or_insert(until);
        *known = until.max(*known);
    }

    /// Promises to former coordinators, and until when each binds.
    pub(crate) fn promises(&self) -> impl Iterator<Item = (&Process, &Time)> {
        self.promises.iter()
    }

    /// Forgets the promises that have run out.
    pub(crate) fn prune_promises(&mut self, now: Time) {
        self.promises.retain(|_, until| *until > now);
    }

    /// The promises to former coordinators bind no longer: the coordinator of the present epoch is active.
    pub(crate) fn release_promises(&mut self) {
        self.promises.clear();
    }

    /// A planted bug: prolongs each promise by what `until` says of it.
    pub(crate) fn renew_promises(&mut self, new: impl Fn(Process) -> Option<Time>) {
        for (process, until) in &mut self.promises {
            *until = new(*process).unwrap_or(*until).max(*until);
        }
    }

    /// 7.1: notes that a member was given a read lease.
    pub(crate) fn give_read_lease(&mut self, to: Process, until: Time) {
        self.read_leases.insert(to, until);
    }

    /// The processes that may have a read lease of this server.
    pub(crate) fn read_leases(&self) -> impl Iterator<Item = &Process> {
        self.read_leases.keys()
    }

    /// Forgets read leases that have run out, and those that `may_run` says are void.
    pub(crate) fn prune_read_leases(&mut self, now: Time, may_run: impl Fn(Process) -> bool) {
        self.read_leases.retain(|process, until| *until > now && may_run(*process));
    }

    /// Asserts what must be true after every step. `latest`: the end of a promise that is given now.
    pub(super) fn invariants(&self, me: ServerId, latest: Time) {
        assert!(self.promises.keys().all(|to| to.server != me), "a server is bound to itself");
        assert!(self.promises.values().all(|until| *until <= latest), "a promise binds for too long");
        assert!(self.read_leases.keys().all(|to| to.server != me), "a server has a read lease of its own");
        assert!(self.read_leases.values().all(|until| *until <= latest), "a read lease binds for too long");
    }

    /// A planted bug: forgets the read leases of a server.
    pub(crate) fn forget_read_leases(&mut self, server: ServerId) {
        self.read_leases.retain(|process, _| process.server != server);
    }
}
