//! How each kind of condition is found. What is found names the servers and says what to do next. Partitions
//! (`partitions`), processes that are refused (`refused`) and disks (`disks`) have files of their own.

mod disks;
mod partitions;
mod refused;

use std::collections::BTreeSet;

use common::ids::{PartitionId, ServerId};
use common::status::{ClusterStatus, WaitingStore};
use common::view::{Assignment, ServerState};

use super::kind::Kind;
use super::known::{Found, Known, counted, listed, living};
use crate::limits::{PERSISTED_WITHIN, VIEWS_TAKEN_WITHIN};

/// What there is of one kind of condition.
pub(super) fn find(kind: Kind, known: &Known<'_>, status: &ClusterStatus) -> Vec<Found> {
    let found = match kind {
        Kind::EcsBehind => known.ecs_behind(),
        Kind::StoresWait => stores_wait(status),
        Kind::CopiesDisagree => known.copies_disagree(),
        Kind::Offline => known.offline(),
        Kind::AwaitsMembers => known.awaits_members(),
        Kind::NotActive => known.not_active(),
        Kind::WritesWait => known.writes_wait(),
        Kind::Gathering => gathering(status),
        Kind::Waiting => known.waiting(status),
        Kind::NoServers => no_servers(status),
        Kind::TooFewServers => known.too_few_servers(status),
        Kind::FewerCopies => known.fewer_copies(status),
        Kind::EcsStalls => known.ecs_stalls(),
        Kind::LeftOut => return known.left_out(),
        Kind::Comparing => known.comparing(),
        Kind::Unheard => known.unheard(),
        Kind::ResumedWithout => known.resumed_without(),
        Kind::ViewsNotTaken => known.views_not_taken(),
        Kind::CutLinks => known.links_are_cut(status),
        Kind::CutOff => known.cut_off(status),
        Kind::CopiesDiffer => known.copies_differ(),
        Kind::DiskFull => known.disk_full(),
        Kind::SlowDisk => known.slow_disk(),
        Kind::ReplacementHeld => return known.replacements_held(),
        Kind::Paused => paused(status),
    };
    found.into_iter().collect()
}

/// What is offline may be in stores that failed. One that is not needed waits for a moment only.
fn stores_wait(status: &ClusterStatus) -> Option<Found> {
    let stores: Vec<&WaitingStore> =
        status.stores_waiting.iter().filter(|store| store.unserved > 0 && status.offline > 0).collect();
    let first = stores.first()?;
    let names: Vec<&str> = stores.iter().map(|store| store.address.as_str()).collect();
    let what = format!(
        "{} at {} failed, and {} not served without: nothing was changed ({})",
        counted(stores.len(), "store", "stores"),
        listed(&names),
        counted(status.offline as usize, "partition is", "partitions are"),
        first.reason
    );
    let next = format!(
        "start the servers with the other copies; if there are none, stop each of these, run `kvserver reinstate -d \
         DIR` there (DIR is {} at {}), and start them",
        first.dir, first.address
    );
    Some(Found { servers: stores.iter().map(|store| store.server).collect(), what, next })
}

fn gathering(status: &ClusterStatus) -> Option<Found> {
    status.gathering.then(|| Found {
        servers: Vec::new(),
        what: "the ECS is being rebuilt and gathers what the servers hold: it makes no views yet. Reads and writes go \
            on"
            .to_owned(),
        next: "start all servers, and it goes on by itself".to_owned(),
    })
}

fn no_servers(status: &ClusterStatus) -> Option<Found> {
    (status.servers.is_empty() && !status.gathering).then(|| Found {
        servers: Vec::new(),
        what: "no servers yet".to_owned(),
        next: "start one with the address of this ECS (kvserver -b HOST:PORT)".to_owned(),
    })
}

fn paused(status: &ClusterStatus) -> Option<Found> {
    status.paused.then(|| Found {
        servers: Vec::new(),
        what: "copying is paused until `admin resume`".to_owned(),
        next: "give it when it is time".to_owned(),
    })
}

impl Known<'_> {
    /// The name of a server for people: its address.
    pub(super) fn name(&self, server: ServerId) -> String {
        let info = self.state.view.servers.get(&server);
        info.map_or_else(|| server.short(), |info| info.address.clone())
    }

    pub(super) fn names(&self, servers: &[ServerId]) -> String {
        let names: Vec<String> = servers.iter().map(|&server| self.name(server)).collect();
        listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(super) fn is_down(&self, server: ServerId) -> bool {
        self.state.view.servers.get(&server).is_none_or(|info| info.state == ServerState::Down)
    }

    fn stands_by(&self, server: ServerId) -> bool {
        self.state.registry.get(&server).is_some_and(|known| known.stands_by)
    }

    /// Living copies of a partition that count.
    fn living(&self, (partition, now): (PartitionId, &Assignment)) -> usize {
        living(&self.state.view, &self.reports.failed_copies, partition, now)
    }

    /// Members of in-sync sets whose servers are down.
    fn down<'a>(&self, sets: impl Iterator<Item = &'a Assignment>) -> Vec<ServerId> {
        let members = sets.flat_map(|now| &now.in_sync).map(|member| member.server);
        members.filter(|&server| self.is_down(server)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn ecs_behind(&self) -> Option<Found> {
        let behind = self.behind?;
        let (name, own) = (self.name(behind.server), self.state.view.number);
        let what = format!(
            "{name} has view {}, and this ECS has {own}: it runs on an older copy of its directory and makes no views. \
             Reads and writes go on, and a server that fails is not replaced",
            behind.view
        );
        let next = format!(
            "stop this ECS and start it on the newest copy of its directory; if that is lost, start it with --rebuild \
             {} and an empty directory",
            self.state.view.cluster
        );
        Some(Found { servers: vec![behind.server], what, next })
    }

    /// V6: servers whose views are to be compared before the first view is made.
    fn comparing(&self) -> Option<Found> {
        let servers = self.comparing.clone();
        (!servers.is_empty()).then(|| {
            let names = self.names(&servers);
            let what = format!(
                "the ECS was started again and does not know yet which view {names} has: it makes no views. Reads and \
                 writes go on, and a server that fails is not replaced"
            );
            let next = match self.config.restart_wait {
                Some(wait) => format!("start {names}, or wait: it goes on {wait:?} (--restart-wait) after its start"),
                None => format!("start {names}, or start the ECS with --restart-wait 0 if it is lost for good"),
            };
            Found { servers, what, next }
        })
    }

    /// Servers that hold copies, or may, and are up.
    fn serving(&self) -> usize {
        self.state.view.servers.keys().filter(|&&server| self.serves(server)).count()
    }

    /// Partitions that are served, with fewer copies than wanted, and the fewest copies that one of them has.
    fn fewer(&self, status: &ClusterStatus) -> Option<(usize, usize)> {
        let copies = self.state.view.iter().map(|now| self.living(now));
        let fewer = copies.filter(|&living| living > 0 && living < status.copies as usize);
        fewer.fold(None, |found, living| {
            let (count, least) = found.unwrap_or((0, living));
            Some((count + 1, least.min(living)))
        })
    }

    fn too_few_servers(&self, status: &ClusterStatus) -> Option<Found> {
        let (serving, copies) = (self.serving(), status.copies as usize);
        let (_, least) = self.fewer(status)?;
        if serving >= copies {
            return None;
        }
        let all = self.state.view.servers.iter();
        let down: Vec<ServerId> = all
            .filter(|(server, info)| info.state == ServerState::Down && !self.stands_by(**server))
            .map(|(&server, _)| server)
            .collect();
        let idle = self.state.view.servers.keys().find(|&&server| self.stands_by(server));
        let add = match (idle, copies - serving) {
            (Some(&idle), _) => {
                format!("add one that stands by: kvclient admin plan add {}", self.name(idle))
            }
            (None, 1) => "add one".to_owned(),
            (None, many) => format!("add {many}"),
        };
        let (there, next) = match &down[..] {
            [] if serving == 1 => ("there is 1 server".to_owned(), add),
            [] => (format!("there are {serving} servers"), add),
            down => {
                let up = format!("{serving} of {} servers are up", serving + down.len());
                (up, format!("start {}, or {add}", self.names(down)))
            }
        };
        let what = format!("{least} of {}, as {there}", counted(copies, "copy", "copies"));
        Some(Found { servers: down, what, next })
    }

    fn fewer_copies(&self, status: &ClusterStatus) -> Option<Found> {
        let copies = status.copies as usize;
        let (fewer, _) = self.fewer(status)?;
        if self.serving() < copies {
            return None;
        }
        let down: Vec<ServerId> =
            self.state.view.servers.keys().copied().filter(|&server| self.is_down(server)).collect();
        let why = match down.len() {
            0 => String::new(),
            1 => format!(" as {} is down", self.names(&down)),
            _ => format!(" as {} are down", self.names(&down)),
        };
        let what = format!(
            "{} fewer than {}{why}, {} being made",
            counted(fewer, "partition has", "partitions have"),
            counted(copies, "copy", "copies"),
            counted(status.joining as usize, "is", "are")
        );
        let next = if status.paused {
            "kvclient admin resume lets copies be made"
        } else {
            "wait: copies are made by themselves; if none are, the logs of the ECS and of the servers say why"
        };
        Some(Found { servers: down, what, next: next.to_owned() })
    }

    fn ecs_stalls(&self) -> Option<Found> {
        let stalls = self.persisting.filter(|&stalls| stalls >= PERSISTED_WITHIN)?;
        let what = format!(
            "the ECS makes no views: its disk has not taken one for {} s. Reads and writes go on, and a server that \
             fails is not replaced",
            stalls.as_secs()
        );
        let next = "look at the disk of the ECS's directory; kill and start it again when the disk works";
        Some(Found { servers: Vec::new(), what, next: next.to_owned() })
    }

    /// Each server that is to be replaced by one that is not there to take its place.
    fn replacements_held(&self) -> Vec<Found> {
        let held = self
            .state
            .registry
            .iter()
            .filter(|(server, known)| known.leaving && self.state.view.servers.contains_key(server));
        let found = held.filter_map(|(&server, known)| {
            let by = known.replaced_by.filter(|&by| !self.serves(by) || self.is_leaving(by))?;
            let (name, by_name) = (self.name(server), self.name(by));
            let what = format!("{name} keeps what it has: {by_name}, which is to take its place, is not up");
            let next = format!("start {by_name}, or take it back: kvclient admin cancel {name}");
            Some(Found { servers: vec![server, by], what, next })
        });
        found.collect()
    }

    /// It is up, and holds its share.
    fn serves(&self, server: ServerId) -> bool {
        let info = self.state.view.servers.get(&server);
        info.is_some_and(|info| info.state == ServerState::Up) && !self.stands_by(server)
    }

    fn is_leaving(&self, server: ServerId) -> bool {
        self.state.registry.get(&server).is_some_and(|known| known.leaving)
    }

    /// What the ECS says of them is of before its start. Those that do not come are found to be down when its quiet
    /// time is over.
    fn unheard(&self) -> Option<Found> {
        let silent = |server: &ServerId| {
            let peer = self.reports.peers.get(server);
            peer.is_none_or(|peer| !peer.spoke())
        };
        let servers: Vec<ServerId> =
            self.state.view.servers.keys().copied().filter(|&server| !self.is_down(server)).collect();
        let servers: Vec<ServerId> = servers.into_iter().filter(silent).collect();
        (!servers.is_empty()).then(|| {
            let names = self.names(&servers);
            let what = format!("{names} not heard yet since the ECS started");
            Found { servers, what, next: "wait a moment; what does not run must be started".to_owned() }
        })
    }

    fn views_not_taken(&self) -> Option<Found> {
        let own = self.state.view.number;
        let lags = |server: &ServerId| {
            let peer = self.reports.peers.get(server);
            peer.is_some_and(|peer| peer.lags_behind(own, self.now) >= VIEWS_TAKEN_WITHIN)
        };
        let servers = self.state.view.servers.keys().copied();
        let servers: Vec<ServerId> = servers.filter(|&server| !self.is_down(server)).filter(lags).collect();
        (!servers.is_empty()).then(|| {
            let names = self.names(&servers);
            let what = format!("{names} is heard and takes no views: it does not follow the cluster");
            let next = "see that the ECS reaches it at that address (--advertise), and what its log says";
            Found { servers, what, next: next.to_owned() }
        })
    }

    /// What coordinators have found by comparing copies, and cannot decide.
    fn copies_differ(&self) -> Option<Found> {
        let servers = self.state.view.servers.keys().copied().filter(|&server| !self.is_down(server));
        let reported = |server: ServerId| {
            let count = self.reports.peers.get(&server).map_or(0, |peer| peer.load.health.copies_differ);
            (count > 0).then_some((server, count as usize))
        };
        let (servers, counts): (Vec<ServerId>, Vec<usize>) = servers.filter_map(reported).unzip();
        (!servers.is_empty()).then(|| {
            let count = counts.iter().fold(0_usize, |sum, &count| sum.saturating_add(count));
            let what = format!(
                "the copies of {}, coordinated by {}, differ, and it is not known which is right",
                counted(count, "partition", "partitions"),
                self.names(&servers)
            );
            let next = "add, drain or replace no server; kvclient status lists them, and \"Copies differ\" in \
                        docs/operations.md says what can be done";
            Found { servers, what, next: next.to_owned() }
        })
    }
}
