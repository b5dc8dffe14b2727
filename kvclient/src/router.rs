//! Where a request goes: the newest view that the client knows, and a connection to each server.
//!
//! A view is asked for when a server says that there is a newer one, or when a server does not answer as expected.
//! However many requests want a newer view at a time, one of them asks and the others wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use common::clock;
use common::ids::{ClusterId, Epoch, PartitionId, ServerId};
use common::messages::{Reply, Request};
use common::ring::Partitions;
use common::time::Time;
use common::view::{Assignment, ServerState, View};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits::{REFRESH_PAUSE_FIRST, REFRESH_PAUSE_MAX, REFRESH_STAGGER};
use crate::peer::Peer;

/// The target of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// The partition that this key is of.
    Key(&'a Bytes),
    /// All keys of a partition.
    Partition(PartitionId),
}

/// A view, with the connections that it leads to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) view: Arc<View>,
    /// By partition number; empty before the first server has joined.
    coordinators: Vec<Arc<Peer>>,
    /// By partition number: all servers that answer reads, the coordinator first.
    in_sync: Vec<Vec<Arc<Peer>>>,
}

impl Route {
    /// The server that orders and answers for `target`, if the view names one.
    pub(crate) fn coordinator(&self, target: Target<'_>) -> Option<&Arc<Peer>> {
        self.coordinators.get(self.index_of(target))
    }

    /// Any server that answers reads of `target`, by chance; `None` if the view names none.
    pub(crate) fn any_in_sync(&self, target: Target<'_>) -> Option<&Arc<Peer>> {
        let members = self.in_sync.get(self.index_of(target)).filter(|members| !members.is_empty())?;
        members.get(fastrand::usize(..members.len()))
    }

    fn index_of(&self, target: Target<'_>) -> usize {
        let partition = match target {
            Target::Key(key) => self.view.partitions.of_key(key),
            Target::Partition(partition) => partition,
        };
        usize::from(partition.0)
    }
}

/// The client's knowledge of the cluster.
#[derive(Debug)]
pub(crate) struct Router {
    seeds: Vec<String>,
    route: RwLock<Arc<Route>>,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    refreshing: tokio::sync::Mutex<()>,
    last: Mutex<LastRefresh>,
}

/// How the last refresh ended.
#[derive(Clone, Debug)]
struct LastRefresh {
    count: u64,
    ended: Time,
    /// The pause before the next refresh that is not necessary.
    pause: Duration,
    result: Result<(), String>,
}

impl Default for Route {
    fn default() -> Self {
        let view = View::new(ClusterId::default(), Epoch::default(), Partitions::default());
        Self { view: Arc::new(view), coordinators: Vec::new(), in_sync: Vec::new() }
    }
}

impl Router {
    pub(crate) fn new(seeds: Vec<String>) -> Self {
        Self {
            seeds,
            route: RwLock::default(),
            peers: Mutex::default(),
            refreshing: tokio::sync::Mutex::new(()),
            last: Mutex::new(LastRefresh {
                count: 0,
                ended: Time::default(),
                pause: REFRESH_PAUSE_FIRST,
                result: Ok(()),
            }),
        }
    }

    /// The newest route.
    pub(crate) fn route(&self) -> Arc<Route> {
        Arc::clone(&self.route.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The server at an address.
    pub(crate) fn peer(&self, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.entry(address.to_owned()).or_insert_with(|| Arc::new(Peer::new(address.to_owned())));
        Arc::clone(peer)
    }

    /// Asks for a view newer than `seen`, at `hint` first, and ends after `answers` servers that have none. An error
    /// when no server answered with a view; that there is no newer one is no error.
    pub(crate) async fn refresh(
        &self,
        seen: Epoch,
        hint: Option<&str>,
        answers: usize,
    ) -> Result<(), String> {
        let before = self.last().count;
        let _turn = self.refreshing.lock().await;
        if self.route().view.number > seen {
            return Ok(());
        }
        let last = self.last();
        if last.count != before {
            return last.result;
        }
        let result = self.ask_for_view(seen, hint, answers).await;
        let newer = self.route().view.number > seen;
        let pause = if newer { REFRESH_PAUSE_FIRST } else { (last.pause * 2).min(REFRESH_PAUSE_MAX) };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            LastRefresh { count: before + 1, ended: clock::time(), pause, result: result.clone() };
        result
    }

    /// As [`refresh`](Self::refresh), unless that was done a moment ago: a view is large, and while a cluster
    /// repairs itself many clients look for the next one.
    pub(crate) async fn refresh_if_due(&self, seen: Epoch, hint: Option<&str>, answers: usize) {
        let LastRefresh { ended, pause, .. } = self.last();
        if clock::time().since(ended) >= pause {
            // Whether it brought a newer view shows in the next try.
            let _ = self.refresh(seen, hint, answers).await;
        }
    }

    /// All addresses that are known: `first`, then servers that are up and seeds in random order, then the rest.
    pub(crate) fn addresses(&self, first: Option<&str>) -> Vec<String> {
        let route = self.route();
        let known = |up: bool| {
            let servers = route.view.servers.values();
            servers.filter(move |info| (info.state == ServerState::Up) == up).map(|info| info.address.clone())
        };
        let mut near: Vec<String> = self.seeds.iter().cloned().chain(known(true)).collect();
        fastrand::shuffle(&mut near);
        let mut seen = BTreeSet::new();
        let all = first.map(str::to_owned).into_iter().chain(near).chain(known(false));
        all.filter(|address| seen.insert(address.clone())).collect()
    }

    /// Asks one server after the other, without waiting long for any of them.
    async fn ask_for_view(&self, seen: Epoch, hint: Option<&str>, enough: usize) -> Result<(), String> {
        let mut addresses = self.addresses(hint).into_iter();
        let mut asked = JoinSet::new();
        let mut answers = 0;
        let mut reason = "no server is known".to_owned();
        loop {
            if let Some(address) = addresses.next() {
                let peer = self.peer(&address);
                asked.spawn(async move { view_of(&peer, seen).await });
            }
            match timeout(REFRESH_STAGGER, asked.join_next()).await {
                Ok(Some(Ok(Ok(view)))) => {
                    answers += 1;
                    let newer = view.map(|view| self.adopt(view)).is_some();
                    if newer || answers >= enough {
                        return Ok(());
                    }
                }
                Ok(Some(Ok(Err(why)))) => reason = why,
                Ok(Some(Err(error))) => reason = error.to_string(),
                Ok(None) => return if answers > 0 { Ok(()) } else { Err(reason) },
                Err(_) => {}
            }
        }
    }

    /// Takes a view if it is newer than ours and of the same cluster.
    fn adopt(&self, view: View) {
        let mut route = self.route.write().unwrap_or_else(PoisonError::into_inner);
        let first = route.view.cluster == ClusterId::default();
        if view.number <= route.view.number || !(first || view.cluster == route.view.cluster) {
            return;
        }
        tracing::info!(view = %view.number, servers = view.servers.len(), "new view");
        let peers: BTreeMap<ServerId, Arc<Peer>> =
            view.servers.iter().map(|(&id, info)| (id, self.peer(&info.address))).collect();
        let coordinators = view
            .assignments
            .iter()
            .filter_map(|assignment| peers.get(&assignment.coordinator).map(Arc::clone))
            .collect();
        let members = |assignment: &Assignment| {
            let replicas = assignment.replicas().map(|member| member.server);
            let all = [assignment.coordinator].into_iter().chain(replicas);
            all.filter_map(|server| peers.get(&server).map(Arc::clone)).collect()
        };
        let in_sync = view.assignments.iter().map(members).collect();
        *route = Arc::new(Route { view: Arc::new(view), coordinators, in_sync });
        drop(route);
        self.drop_other_peers(&peers);
    }

    /// Drops connections to all but the members. A seed is mostly a member by another name; its connection
    /// is made again when it is asked. Requests under way keep theirs.
    fn drop_other_peers(&self, members: &BTreeMap<ServerId, Arc<Peer>>) {
        let known: BTreeSet<&str> = members.values().map(|peer| peer.address()).collect();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|address, _| known.contains(address.as_str()));
    }

    fn last(&self) -> LastRefresh {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A server's view, if it is newer than `seen`.
async fn view_of(peer: &Peer, seen: Epoch) -> Result<Option<View>, String> {
    let address = peer.address();
    let json = match peer.ask(Request::View {}).await {
        Ok(Reply::View { json }) => json,
        Ok(Reply::Busy { reason } | Reply::Refused { reason }) => return Err(format!("{address}: {reason}")),
        Ok(other) => return Err(format!("{address}: asked for its view, it answered {other:?}")),
        Err(reason) => return Err(format!("{address}: {reason}")),
    };
    decoded(&json, seen).map_err(|reason| format!("{address}: its view cannot be used: {reason}"))
}

/// The number alone: reading a whole view costs much more than passing over it.
#[derive(Deserialize)]
struct Numbered {
    number: Epoch,
}

fn decoded(json: &[u8], seen: Epoch) -> Result<Option<View>, String> {
    let Numbered { number } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if number <= seen {
        return Ok(None);
    }
    let view: View = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    view.check().map_err(|error| error.to_string())?;
    Ok(Some(view))
}
