//! The last moments of a server that has handed everything over: no new connections, and those that are open are
//! answered until their clients have gone elsewhere. A connection that is closed under a request leaves its client
//! without an answer, so the clients close first wherever they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::limits::{LINGER, LINGER_MAX};

/// What goes on between clients and this server, on all connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    heard: AtomicU64,
    unanswered: AtomicUsize,
}

impl Traffic {
    /// A client said something.
    pub(crate) fn on_heard(&self) {
        self.0.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// So many requests wait for their answers.
    pub(crate) fn set_unanswered(&self, requests: usize) {
        self.0.unanswered.store(requests, Ordering::Relaxed);
    }

    fn heard(&self) -> u64 {
        self.0.heard.load(Ordering::Relaxed)
    }

    fn unanswered(&self) -> usize {
        self.0.unanswered.load(Ordering::Relaxed)
    }
}

/// What is known of the clients when a server leaves.
pub(crate) struct Farewell {
    /// Tells the ports to close.
    pub(crate) closing: watch::Sender<bool>,
    /// A permit for each connection that may be open.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) traffic: Traffic,
    places: usize,
    silence: Duration,
    at_most: Duration,
}

impl Farewell {
    /// For a server that takes so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            closing: watch::Sender::new(false),
            connections: Arc::new(Semaphore::new(connections)),
            traffic: Traffic::default(),
            places: connections,
            silence: LINGER,
            at_most: LINGER_MAX,
        }
    }

    /// Returns when all clients have closed their connections, or have their answers and have been silent for
    /// [`LINGER`], at the latest after [`LINGER_MAX`].
    pub(crate) async fn say(self) {
        self.closing.send_replace(true);
        if timeout(self.at_most, self.until_silent()).await.is_err() {
            tracing::info!("clients still ask this server after {:?}: they are cut off", self.at_most);
        }
    }

    async fn until_silent(&self) {
        let all = u32::try_from(self.places).unwrap_or(u32::MAX);
        loop {
            let before = self.traffic.heard();
            let gone = timeout(self.silence, self.connections.acquire_many(all)).await.is_ok();
            if gone || (self.traffic.heard() == before && self.traffic.unanswered() == 0) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use tokio::time::Instant;

    const MOMENT: Duration = Duration::from_millis(20);

    fn farewell(silence: Duration, at_most: Duration) -> Farewell {
        Farewell { silence, at_most, ..Farewell::new(3) }
    }

    #[tokio::test]
    async fn without_connections_nothing_is_waited_for() {
        let farewell = farewell(Duration::MAX, Duration::MAX);
        let closing = farewell.closing.subscribe();
        farewell.say().await;
        assert!(*closing.borrow());
    }

    #[tokio::test]
    async fn silent_connections_are_waited_for_once() {
        let farewell = farewell(MOMENT, Duration::MAX);
        let _idle = Arc::clone(&farewell.connections).try_acquire_owned().unwrap();
        let start = Instant::now();
        farewell.say().await;
        assert!(start.elapsed() >= MOMENT);
    }

    #[tokio::test]
    async fn who_leaves_is_not_waited_for_any_longer() {
        let farewell = farewell(Duration::MAX, Duration::MAX);
        let connection = Arc::clone(&farewell.connections).try_acquire_owned().unwrap();
        let mut closing = farewell.closing.subscribe();
        let client = async {
            closing.wait_for(|closing| *closing).await.unwrap();
            drop(connection);
        };
        tokio::join!(farewell.say(), client);
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_is_not_cut_off_before() {
        let farewell = farewell(MOMENT, Duration::MAX);
        let _waiting = Arc::clone(&farewell.connections).try_acquire_owned().unwrap();
        let traffic = farewell.traffic.clone();
        traffic.set_unanswered(1);
        let answered = async {
            let _over = timeout(3 * MOMENT, pending::<()>()).await;
            traffic.set_unanswered(0);
        };
        let start = Instant::now();
        tokio::join!(farewell.say(), answered);
        assert!(start.elapsed() >= 3 * MOMENT);
    }

    #[tokio::test]
    async fn who_goes_on_asking_is_cut_off_in_the_end() {
        let farewell = farewell(MOMENT, 5 * MOMENT);
        let _busy = Arc::clone(&farewell.connections).try_acquire_owned().unwrap();
        let traffic = farewell.traffic.clone();
        let start = Instant::now();
        let asking = async {
            loop {
                traffic.on_heard();
                let _over = timeout(MOMENT / 10, pending::<()>()).await;
            }
        };
        tokio::select! {
            () = farewell.say() => {}
            () = asking => {}
        }
        assert!(start.elapsed() >= 2 * MOMENT);
    }
}
