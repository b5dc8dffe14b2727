//! Connections that have sent nothing yet. They may be silent for a while, as a person may type; but where permits are
//! few, the one that has been silent longest is closed for a new one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::time::Time;
use tokio::sync::Notify;

use crate::limits::SILENT_AT_LEAST;

/// The silent connections of one port, shared by their tasks.
#[derive(Debug, Default)]
pub(super) struct Silent {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    last: u64,
    /// The silent connections, in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// The connection has a client's permit.
    client: bool,
    since: Time,
    ended: Arc<Notify>,
}

/// A connection that has sent nothing yet; dropped when it sends something.
#[derive(Debug)]
pub(super) struct Quiet {
    silent: Arc<Silent>,
    number: u64,
    ended: Arc<Notify>,
}

impl Silent {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new connection, with a client's permit (`client`) or another one.
    pub(super) fn begin(self: &Arc<Self>, client: bool, since: Time) -> Quiet {
        let ended = Arc::new(Notify::new());
        let mut list = self.list();
        list.last += 1;
        let number = list.last;
        list.waiting.insert(number, Waiting { client, since, ended: Arc::clone(&ended) });
        Quiet { silent: Arc::clone(self), number, ended }
    }

    /// Closes the connection that has been silent longest with such a permit, if that is long enough. Returns whether
    /// there was one.
    pub(super) fn end_oldest(&self, client: bool, now: Time) -> bool {
        let mut list = self.list();
        let oldest = list.waiting.iter().find(|(_, waiting)| waiting.client == client);
        let number =
            oldest.filter(|(_, waiting)| now.since(waiting.since) >= SILENT_AT_LEAST).map(|(n, _)| *n);
        let ended = number.and_then(|number| list.waiting.remove(&number));
        ended.map(|waiting| waiting.ended.notify_one()).is_some()
    }
}

impl Quiet {
    /// Completes when the connection's permit is needed by another.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.silent.list().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_of_its_kind_gives_way_once_it_was_silent_long_enough() {
        let silent = Arc::new(Silent::default());
        let begin = Time(1_000_000);
        let stranger = silent.begin(false, begin);
        let spoke = silent.begin(true, begin);
        let (first, second) = (silent.begin(true, begin), silent.begin(true, begin + SILENT_AT_LEAST));
        drop(spoke);
        assert!(!silent.end_oldest(true, begin), "it has just come");
        assert!(silent.end_oldest(true, begin + SILENT_AT_LEAST));
        first.ended().await;
        assert!(!silent.end_oldest(true, begin + SILENT_AT_LEAST), "the next one has just come");
        assert!(silent.end_oldest(false, begin + SILENT_AT_LEAST));
        stranger.ended().await;
        drop((first, second, stranger));
        assert!(silent.list().waiting.is_empty());
    }
}
