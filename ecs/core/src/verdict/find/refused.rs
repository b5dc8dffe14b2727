//! Processes that report as servers and were refused: why, and what to do.

use std::collections::BTreeMap;

use common::ids::{ClusterId, ServerId};

use crate::refusal::Refusal;
use crate::verdict::known::{Found, Known, listed};

impl Known<'_> {
    /// Processes that are refused for the same reason are one condition.
    pub(super) fn left_out(&self) -> Vec<Found> {
        let mut found: BTreeMap<(String, String), (Vec<ServerId>, Vec<String>)> = BTreeMap::new();
        for (server, refused) in self.left_out.present(self.now) {
            let name = refused.address.clone().unwrap_or_else(|| self.name(server));
            let (servers, names) = found.entry(self.reason(refused.why.clone())).or_default();
            servers.push(server);
            names.push(name);
        }
        let in_words = |((why, next), (servers, names)): (_, (_, Vec<String>))| {
            let names = listed(&names.iter().map(String::as_str).collect::<Vec<_>>());
            Found { servers, what: format!("{names} wants to be a server and is left out: {why}"), next }
        };
        found.into_iter().map(in_words).collect()
    }

    /// Why a process is refused, and what to do.
    fn reason(&self, refusal: Refusal) -> (String, String) {
        let (why, next) = match refusal {
            Refusal::OldProcess { known } => (
                format!(
                    "start {} of its store, or a later store, is known: its directory is an older copy",
                    known.0
                ),
                "start the newer directory; if that is gone, give this one a new store id (kvserver new-store -d DIR)",
            ),
            Refusal::Twin { known, .. } => (
                format!(
                    "another process of its store is alive at {known}: one directory is a copy of the other"
                ),
                "stop one of the two, or give the copy an identity of its own (kvserver new-store --new-server -d DIR)",
            ),
            Refusal::Left => ("it has left".to_owned(), "start it anew to join again"),
            Refusal::TooManyServers => {
                ("the cluster has as many servers as it may have".to_owned(), "drain another one first")
            }
            Refusal::Address(invalid) => (
                format!("it gives no address that others could reach it at ({invalid})"),
                "start it with another --advertise HOST:PORT",
            ),
            Refusal::OtherCluster(cluster) => return self.other_cluster(cluster),
            Refusal::Holdings => (
                "its report is not of this cluster, or contradicts itself".to_owned(),
                "start it with an empty directory to join anew",
            ),
            Refusal::OtherRing { said, own } => (
                format!(
                    "it reports {} partitions, and other servers have reported {}",
                    said.count(),
                    own.count()
                ),
                "one of them is of another cluster: if it is this one, start it with an empty directory; if not, \
                 rebuild the ECS once more in an empty directory, without the others",
            ),
            Refusal::LaterRebuild { seen, own } => (
                format!(
                    "it follows generation {seen} of another rebuild of the ECS, and this one makes {own}"
                ),
                "if no other ECS of the cluster runs, rebuild this one once more in an empty directory, with all \
                 servers running",
            ),
            Refusal::UnknownForce { partition } => (
                format!("partition {partition} began anew there by an order that this ECS does not know of"),
                "see \"The ECS's disk is lost\" in docs/operations.md before anything else is done with it",
            ),
            Refusal::IncarnationLeaps { known, said } => (
                format!(
                    "it says that it is start {said} of its directory, and {known} is the last that is known"
                ),
                "start it with an empty directory, if it is a server of this cluster",
            ),
            Refusal::ViewLeaps { server, own } => (
                format!("it says that it has view {server}, which no ECS can have made: this one has {own}"),
                "start it with an empty directory, if it is a server of this cluster",
            ),
            Refusal::NewerStranger { server, own } | Refusal::Behind { server, own } => (
                format!("it has view {server}, this ECS has {own} and has never heard of it"),
                "start it with an empty directory, unless this ECS runs on an older copy of its directory",
            ),
        };
        (why, next.to_owned())
    }

    fn other_cluster(&self, cluster: ClusterId) -> (String, String) {
        let why = format!("it belongs to the cluster {cluster}");
        let next = if self.state.view.servers.is_empty() {
            format!(
                "this ECS began a new cluster: if the disk of that one's ECS is lost, stop this one and start it with \
                 --rebuild {cluster} and an empty directory; if not, start the server with its own ECS's address"
            )
        } else {
            "start it with the address of its own ECS, or with an empty directory to join this cluster"
                .to_owned()
        };
        (why, next)
    }
}
