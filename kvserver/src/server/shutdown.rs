//! The last moments of a server that has handed everything over: no new connections, and those that are open are
//! answered until their clients have gone elsewhere. A connection that is closed during a request leaves its client
//! without an answer, so clients get time to close first.
//!
//! Those that stay are closed between two commands ([`LastCall`]): nothing more is read, what was read is carried out
//! and answered, and then the connection ends. What a client sends later is read and dropped for a moment
//! ([`discard_rest`]): to close a socket with unread bytes in it may destroy the answers that are on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::limits::{DISCARD_FOR, LAST_ANSWERS_FOR, LINGER, LINGER_MAX, READ_BYTES};

/// The traffic of clients on all connections: how often they sent something, and how many requests are not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    heard: AtomicU64,
    unanswered: AtomicUsize,
}

impl Traffic {
    /// Notes that a client sent something.
    pub(crate) fn on_received(&self) {
        self.0.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets how many requests wait for their answers.
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

/// Says when a connection is to read no more.
#[derive(Clone, Debug)]
pub(crate) struct LastCall(watch::Receiver<bool>);

impl LastCall {
    /// Completes when nothing more is to be read.
    pub(crate) async fn called(&mut self) {
        // Without a sender the server has ended.
        let _ended = self.0.wait_for(|called| *called).await;
    }

    /// Whether nothing more is to be read.
    pub(crate) fn is_called(&self) -> bool {
        *self.0.borrow()
    }
}

/// Takes what a client still sends and drops it, until the client closes, for a moment at most. All answers are sent,
/// and the other direction is closed.
pub(crate) async fn discard_rest(mut reading: impl AsyncRead + Unpin) {
    let mut dropped = vec![0; READ_BYTES];
    let to_end = async { while reading.read(&mut dropped).await.is_ok_and(|read| read > 0) {} };
    let _silent = timeout(DISCARD_FOR, to_end).await;
}

/// The clients of a server, as its shutdown sees them.
pub(crate) struct Shutdown {
    /// Set when the ports are to close.
    pub(crate) closing: watch::Sender<bool>,
    /// Set when the connections are to read no more.
    last_call: watch::Sender<bool>,
    /// A permit for each connection that may be open.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) traffic: Traffic,
    permits: usize,
    silence: Duration,
    at_most: Duration,
    answers: Duration,
}

impl Shutdown {
    /// For a server that takes so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            closing: watch::Sender::new(false),
            last_call: watch::Sender::new(false),
            connections: Arc::new(Semaphore::new(connections)),
            traffic: Traffic::default(),
            permits: connections,
            silence: LINGER,
            at_most: LINGER_MAX,
            answers: LAST_ANSWERS_FOR,
        }
    }

    /// A receiver for a connection.
    pub(crate) fn last_call(&self) -> LastCall {
        LastCall(self.last_call.subscribe())
    }

    /// Waits until all clients have closed their connections, or have their answers and have been silent for
    /// [`LINGER`], at the latest until [`LINGER_MAX`] is over. Then the connections that are left are closed, each when
    /// what was read from it is answered.
    pub(crate) async fn run(self) {
        self.closing.send_replace(true);
        if timeout(self.at_most, self.until_silent()).await.is_err() {
            tracing::info!(
                "clients still ask this server after {:?}: they get the answers to what they have asked, and their \
                 connections are closed",
                self.at_most
            );
        }
        self.last_call.send_replace(true);
        if timeout(self.answers, self.connections.acquire_many(self.all())).await.is_err() {
            tracing::warn!(
                "some clients did not take their last answers within {:?}: they are cut off",
                self.answers
            );
        }
    }

    fn all(&self) -> u32 {
        u32::try_from(self.permits).unwrap_or(u32::MAX)
    }

    async fn until_silent(&self) {
        loop {
            let before = self.traffic.heard();
            let gone = timeout(self.silence, self.connections.acquire_many(self.all())).await.is_ok();
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

    fn shutdown(silence: Duration, at_most: Duration) -> Shutdown {
        Shutdown { silence, at_most, answers: MOMENT, ..Shutdown::new(3) }
    }

    #[tokio::test]
    async fn without_connections_nothing_is_waited_for() {
        let shutdown = shutdown(Duration::MAX, Duration::MAX);
        let closing = shutdown.closing.subscribe();
        shutdown.run().await;
        assert!(*closing.borrow());
    }

    #[tokio::test]
    async fn silent_connections_are_waited_for_once() {
        let shutdown = shutdown(MOMENT, Duration::MAX);
        let _idle = Arc::clone(&shutdown.connections).try_acquire_owned().unwrap();
        let start = Instant::now();
        shutdown.run().await;
        assert!(start.elapsed() >= MOMENT);
    }

    #[tokio::test]
    async fn who_leaves_is_not_waited_for_any_longer() {
        let shutdown = shutdown(Duration::MAX, Duration::MAX);
        let connection = Arc::clone(&shutdown.connections).try_acquire_owned().unwrap();
        let mut closing = shutdown.closing.subscribe();
        let client = async {
            closing.wait_for(|closing| *closing).await.unwrap();
            drop(connection);
        };
        tokio::join!(shutdown.run(), client);
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_is_not_cut_off_before() {
        let shutdown = shutdown(MOMENT, Duration::MAX);
        let _waiting = Arc::clone(&shutdown.connections).try_acquire_owned().unwrap();
        let traffic = shutdown.traffic.clone();
        traffic.set_unanswered(1);
        let answered = async {
            let _over = timeout(3 * MOMENT, pending::<()>()).await;
            traffic.set_unanswered(0);
        };
        let start = Instant::now();
        tokio::join!(shutdown.run(), answered);
        assert!(start.elapsed() >= 3 * MOMENT);
    }

    #[tokio::test]
    async fn connections_that_stay_read_no_more_and_are_waited_for() {
        let shutdown = Shutdown { answers: Duration::MAX, ..shutdown(MOMENT, 2 * MOMENT) };
        let connection = Arc::clone(&shutdown.connections).try_acquire_owned().unwrap();
        let (mut last_call, traffic) = (shutdown.last_call(), shutdown.traffic.clone());
        assert!(!last_call.is_called());
        let client = async {
            loop {
                tokio::select! {
                    () = last_call.called() => break,
                    _over = timeout(MOMENT / 10, pending::<()>()) => traffic.on_received(),
                }
            }
            drop(connection);
        };
        tokio::join!(shutdown.run(), client);
    }

    #[tokio::test]
    async fn what_comes_after_the_last_answer_is_dropped_until_the_client_closes() {
        let (mut client, server) = tokio::io::duplex(16);
        let client = async {
            tokio::io::AsyncWriteExt::write_all(&mut client, &[b'x'; 100]).await.unwrap();
            drop(client);
        };
        let start = Instant::now();
        tokio::join!(discard_rest(server), client);
        assert!(start.elapsed() < DISCARD_FOR);
    }

    #[tokio::test]
    async fn who_goes_on_asking_is_cut_off_in_the_end() {
        let shutdown = shutdown(MOMENT, 5 * MOMENT);
        let _busy = Arc::clone(&shutdown.connections).try_acquire_owned().unwrap();
        let traffic = shutdown.traffic.clone();
        let start = Instant::now();
        let asking = async {
            loop {
                traffic.on_received();
                let _over = timeout(MOMENT / 10, pending::<()>()).await;
            }
        };
        tokio::select! {
            () = shutdown.run() => {}
            () = asking => {}
        }
        assert!(start.elapsed() >= 2 * MOMENT);
    }
}
