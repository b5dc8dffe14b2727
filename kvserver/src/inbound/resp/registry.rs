//! The Redis clients of a server, for `CLIENT LIST` and `CLIENT KILL`.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::clock;
use common::time::Time;
use common::time::WallTime;
use tokio::sync::Notify;

use crate::protocol::resp::{ClientFacts, Kill};

#[derive(Debug)]
struct Client {
    facts: ClientFacts,
    killed: Arc<Notify>,
}

/// All Redis clients, shared by their connections.
#[derive(Debug)]
pub(crate) struct Registry {
    clients: Mutex<BTreeMap<u64, Client>>,
    last: AtomicU64,
    commands: AtomicU64,
    pub(super) started: Time,
}

/// A client's entry in the registry, for as long as it is there.
#[derive(Debug)]
pub(super) struct Registered {
    registry: Arc<Registry>,
    id: u64,
    killed: Arc<Notify>,
}

impl Registry {
    /// An empty registry.
    pub(crate) fn new() -> Self {
        Self {
            clients: Mutex::default(),
            last: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            started: clock::time(),
        }
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(
        self: &Arc<Self>,
        address: SocketAddr,
        local: SocketAddr,
        since: WallTime,
    ) -> Registered {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let killed = Arc::new(Notify::new());
        let (address, local) = (address.to_string(), local.to_string());
        let facts = ClientFacts { id, address, local, version: 2, since, ..ClientFacts::default() };
        self.clients().insert(id, Client { facts, killed: Arc::clone(&killed) });
        Registered { registry: Arc::clone(self), id, killed }
    }

    pub(super) fn facts(&self, id: u64) -> ClientFacts {
        self.clients().get(&id).map(|client| client.facts.clone()).unwrap_or_default()
    }

    pub(super) fn set(&self, facts: ClientFacts) {
        if let Some(client) = self.clients().get_mut(&facts.id) {
            client.facts = facts;
        }
    }

    pub(super) fn all(&self) -> Vec<ClientFacts> {
        self.clients().values().map(|client| client.facts.clone()).collect()
    }

    pub(super) fn kill(&self, kill: &Kill, me: u64) -> usize {
        let clients = self.clients();
        let meant = clients.values().filter(|Client { facts, .. }| {
            kill.id.is_none_or(|id| id == facts.id)
                && kill.address.as_ref().is_none_or(|address| *address == facts.address)
                && kill.local.as_ref().is_none_or(|local| *local == facts.local)
                && !(kill.skip_me && facts.id == me)
        });
        meant.map(|client| client.killed.notify_one()).count()
    }

    pub(super) fn count_command(&self) {
        self.commands.fetch_add(1, Ordering::Relaxed);
    }

    /// Commands and connections so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.commands.load(Ordering::Relaxed), self.last.load(Ordering::Relaxed))
    }
}

impl Registered {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Completes when another client kills this one.
    pub(super) fn killed(&self) -> impl Future<Output = ()> + Send + use<> {
        let killed = Arc::clone(&self.killed);
        async move { killed.notified().await }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.clients().remove(&self.id);
    }
}
