//! Links between servers: those that are cut, and the servers that lost parts by it.

use std::collections::BTreeSet;

use common::ids::ServerId;
use common::status::ClusterStatus;

use super::known::{Found, Known, listed};

impl Known<'_> {
    /// Pairs of servers that are heard here, of which one does not hear the other.
    pub(crate) fn cut_links(&self) -> Vec<(ServerId, ServerId)> {
        let counting = self.reports.edges.counting(self.now, &self.config.timers);
        counting.into_iter().filter(|&(one, other)| !self.is_down(one) && !self.is_down(other)).collect()
    }

    pub(super) fn links_are_cut(&self, status: &ClusterStatus) -> Option<Found> {
        let pair =
            |&(one, other): &(ServerId, ServerId)| format!("{} and {}", self.name(one), self.name(other));
        let pairs: Vec<String> = status.cut_links.iter().map(pair).collect();
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        (!pairs.is_empty()).then(|| Found {
            servers: ends(status).into_iter().collect(),
            what: format!("{} do not hear each other, though the ECS hears them", listed(&pairs)),
            next: "look at the network between them; others have their parts until then".to_owned(),
        })
    }

    /// Servers that lost parts as others did not hear them, and that no server complains of any more. A server without
    /// parts is pinged by none, so it is not known whether it is heard again: only parts that it keeps show that.
    pub(super) fn cut_off(&self, status: &ClusterStatus) -> Option<Found> {
        let named = ends(status);
        let lost = self.reports.edges.lost(self.now, &self.config.timers);
        let servers: Vec<ServerId> =
            lost.filter(|server| !self.is_down(*server) && !named.contains(server)).collect();
        let names = self.names(&servers);
        (!servers.is_empty()).then(|| Found {
            servers,
            what: format!("{names} lost parts to servers that hear more of the others"),
            next: format!(
                "look at the network between {names} and the others; parts are given back after a pause"
            ),
        })
    }
}

/// The servers at the ends of cut links.
fn ends(status: &ClusterStatus) -> BTreeSet<ServerId> {
    status.cut_links.iter().flat_map(|&(one, other)| [one, other]).collect()
}
