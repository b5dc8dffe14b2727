//! Limits the connections of each kind: servers, clients' links, HTTP, and connections that have not said yet what they
//! are. Each kind has its part of all permits, so that none of them shuts another out, and idle clients do not shut out
//! active ones.
//!
//! Where the permits of a kind are taken the one that has said nothing for longest gives way to the new one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A connection that has not said yet what it is.
    New,
    /// The link of a client library or of `kvclient`.
    Client,
    /// Requests of browsers, scripts and Prometheus.
    Http,
    /// A server's reports.
    Report,
}

/// All permits, shared by the connections.
#[derive(Debug)]
pub(super) struct Permits {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Counts the messages of all connections, as a clock for `by_age`.
    last: u64,
    /// The connections of each kind, by the count at their last message.
    by_age: BTreeMap<Kind, BTreeMap<u64, Arc<Notify>>>,
}

/// A connection's permit, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    kind: Kind,
    number: u64,
    ended: Arc<Notify>,
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn count(&self, kind: Kind) -> usize {
        self.by_age.get(&kind).map_or(0, BTreeMap::len)
    }

    fn all(&self) -> usize {
        self.by_age.values().map(BTreeMap::len).sum()
    }

    /// Ends the connection that has said nothing for longest; whether there is one.
    fn end_oldest(&mut self, kind: Kind) -> bool {
        let oldest = self.by_age.get_mut(&kind).and_then(BTreeMap::pop_first);
        oldest.map(|(_, ended)| ended.notify_one()).is_some()
    }
}

impl Permits {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of a kind there may be: half of all for servers and for clients each, a quarter for HTTP.
    fn max_of(&self, kind: Kind) -> usize {
        match kind {
            Kind::New => self.max,
            Kind::Client | Kind::Report => (self.max / 2).max(1),
            Kind::Http => (self.max / 4).max(1),
        }
    }

    /// A permit for a new connection; none when servers have them all.
    pub(super) fn take(self: &Arc<Self>) -> Option<Permit> {
        let mut taken = self.taken();
        let is_full = taken.all() >= self.max;
        if is_full && ![Kind::New, Kind::Client, Kind::Http].into_iter().any(|kind| taken.end_oldest(kind)) {
            return None;
        }
        let (number, ended) = (taken.next(), Arc::new(Notify::new()));
        taken.by_age.entry(Kind::New).or_default().insert(number, Arc::clone(&ended));
        Some(Permit { permits: Arc::clone(self), kind: Kind::New, number, ended })
    }
}

impl Permit {
    /// The connection has said what it is.
    pub(super) fn becomes(&mut self, kind: Kind) {
        let mut taken = self.permits.taken();
        let was_there = taken.by_age.get_mut(&self.kind).and_then(|of| of.remove(&self.number)).is_some();
        if !was_there {
            return;
        }
        if taken.count(kind) >= self.permits.max_of(kind) {
            taken.end_oldest(kind);
        }
        (self.kind, self.number) = (kind, taken.next());
        taken.by_age.entry(kind).or_default().insert(self.number, Arc::clone(&self.ended));
    }

    /// The connection has said something.
    pub(super) fn on_heard(&mut self) {
        let mut taken = self.permits.taken();
        let number = taken.next();
        let Some(of) = taken.by_age.get_mut(&self.kind) else { return };
        if let Some(ended) = of.remove(&self.number) {
            of.insert(number, ended);
            self.number = number;
        }
    }

    /// Ends when the permit is needed by another.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let ended = Arc::clone(&self.ended);
        async move { ended.notified().await }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken();
        taken.by_age.get_mut(&self.kind).and_then(|of| of.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether something is over, without waiting for it.
    fn is_over(future: impl Future<Output = ()>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }

    fn permits(permits: &Arc<Permits>, kind: Kind, count: usize) -> Vec<Permit> {
        let one = |_| {
            let mut permit = permits.take().expect("a permit");
            permit.becomes(kind);
            permit
        };
        (0..count).map(one).collect()
    }

    fn ended(of: &[Permit]) -> usize {
        of.iter().filter(|permit| is_over(permit.ended())).count()
    }

    #[test]
    fn idle_clients_give_way_to_each_other_and_keep_nobody_out() {
        let all = Permits::new(16);
        let mut clients = permits(&all, Kind::Client, 8);
        clients[0].on_heard();
        let more = permits(&all, Kind::Client, 3);
        assert!(!is_over(clients[0].ended()), "it has spoken of late");
        assert_eq!((ended(&clients), ended(&more)), (3, 0));
        let servers = permits(&all, Kind::Report, 8);
        assert_eq!((ended(&servers), all.taken().all()), (0, 16));
        let http = permits(&all, Kind::Http, 5);
        assert_eq!((ended(&servers), ended(&http)), (0, 1), "a quarter is for HTTP");
        assert_eq!(all.taken().count(Kind::Report), 8);
        drop((clients, more, servers, http));
        assert_eq!(all.taken().all(), 0);
    }

    #[test]
    fn who_says_nothing_gives_way_first() {
        let all = Permits::new(4);
        let silent: Vec<Permit> = (0..4).map(|_| all.take().unwrap()).collect();
        let servers = permits(&all, Kind::Report, 2);
        assert_eq!((ended(&silent), ended(&servers)), (2, 0));
        let mut gone = silent.into_iter().next().unwrap();
        gone.becomes(Kind::Client);
        assert_eq!(all.taken().count(Kind::Client), 0, "its permit is another's");
    }

    #[test]
    fn a_server_that_is_heard_gives_way_to_none() {
        let all = Permits::new(4);
        let mut servers = permits(&all, Kind::Report, 2);
        servers[0].on_heard();
        let another = permits(&all, Kind::Report, 1);
        assert!(!is_over(servers[0].ended()) && is_over(servers[1].ended()));
        assert_eq!(ended(&another), 0);
    }
}
