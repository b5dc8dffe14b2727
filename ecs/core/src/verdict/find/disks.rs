//! Servers whose disks are full or slow, and what others do for them.

use common::ids::ServerId;
use common::status::{DiskState, Health};
use common::view::Assignment;

use crate::verdict::known::{Found, Known};

impl Known<'_> {
    /// Servers that are not down and whose disk counts as `state`, or that say so.
    fn with_disk(&self, state: DiskState, says: impl Fn(&Health) -> bool) -> Vec<ServerId> {
        let counts = |server: &ServerId| {
            let known = self.state.registry.get(server).map(|known| known.disk);
            known == Some(state) || self.reports.peers.get(server).is_some_and(|peer| says(&peer.load.health))
        };
        let servers = self.state.view.servers.keys().copied();
        servers.filter(|&server| !self.is_down(server)).filter(counts).collect()
    }

    /// What others have taken over from servers with such a disk.
    fn relief(&self, servers: &[ServerId]) -> Relief {
        let coordinates = |now: &Assignment| servers.contains(&now.coordinator);
        let holds = |now: &Assignment| now.in_sync.iter().any(|member| servers.contains(&member.server));
        let assignments = &self.state.view.assignments;
        match (assignments.iter().any(coordinates), assignments.iter().any(holds)) {
            (true, _) => Relief::None,
            (false, true) => Relief::Coordinators,
            (false, false) => Relief::Copies,
        }
    }

    pub(super) fn disk_full(&self) -> Option<Found> {
        let servers = self.with_disk(DiskState::Full, |health| health.disk_full);
        (!servers.is_empty()).then(|| {
            let names = self.names(&servers);
            let so = match self.relief(&servers) {
                Relief::None => "writes are refused",
                Relief::Coordinators => "others coordinate what it did",
                Relief::Copies => "others hold its copies",
            };
            let what = format!("the disk of {names} is full: less is free than --reserve-mb, and {so}");
            let next = format!("make room there, or add a server and drain {names}");
            Found { servers, what, next }
        })
    }

    pub(super) fn slow_disk(&self) -> Option<Found> {
        let servers = self.with_disk(DiskState::Slow, |_| false);
        let slowest =
            servers.iter().filter_map(|&server| self.reports.disks.reading(server).health.sync_us).max();
        (!servers.is_empty()).then(|| {
            let names = self.names(&servers);
            let so = match self.relief(&servers) {
                Relief::None => "no other server can coordinate all that it does",
                Relief::Coordinators => "writes wait for it, others coordinate what it did",
                Relief::Copies => "others hold its copies",
            };
            let took = slowest.map_or(String::new(), |slowest| format!(", {} ms a sync", slowest / 1000));
            let what = format!("the disk of {names} is many times slower than the others'{took}, and {so}");
            let next = format!("look at that disk; if it stays so, add a server and drain {names}");
            Found { servers, what, next }
        })
    }
}

/// What others do for a server whose disk is slow or full.
enum Relief {
    None,
    Coordinators,
    Copies,
}
