//! Trying a request until it is answered: the shell around what [`retry`](crate::retry) decides.

use std::sync::Arc;
use std::time::Duration;

use common::clock;
use common::ids::{Epoch, RequestId};
use common::messages::{Reply, Request};
use common::time::Time;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::Client;
use crate::error::Error;
use crate::limits::{LINK_SILENT_FOR, REFRESH_ANSWERS_SILENCE, TRY_FOR};
use crate::link::Link;
use crate::options::ReadFrom;
use crate::peer::Peer;
use crate::retry::{Next, Progress, Refresh, Tried};
#[cfg(feature = "otel")]
use crate::root_span::RootSpan;
use crate::router::Target;

/// A request on its way: the connection is kept until the answer is here.
type Sent = (Arc<Link>, oneshot::Receiver<Tried>);

impl Client {
    /// Asks the seeds until one of them answers with a view, or `patience` is over.
    pub(crate) async fn first_view(&self, patience: Duration) -> Result<(), Error> {
        let started = clock::time();
        let mut progress = Progress::read();
        loop {
            let left = patience.saturating_sub(clock::time().since(started));
            let answer = timeout(left, self.router().refresh(Epoch::default(), None, 1)).await;
            let (reason, over) = match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => (reason, false),
                Err(_) => ("no answer in time".to_owned(), true),
            };
            progress.on_unreachable(self.router().addresses(None), reason, over);
            if over {
                return Err(progress.give_up());
            }
            wait(progress.backoff(fastrand::f64()).min(left)).await;
        }
    }

    /// Tries until there is an answer. `request` makes each try's message from the age of the first one; `traced`: the
    /// id under which servers log what they do with it.
    pub(crate) async fn call(
        &self,
        target: Target<'_>,
        progress: Progress,
        traced: Option<RequestId>,
        request: impl Fn(u64) -> Request,
    ) -> Result<Reply, Error> {
        #[cfg(feature = "otel")]
        let root = RootSpan::begin(self, traced, || request(0));
        let answer = self.try_until_answered(target, progress, traced, request).await;
        #[cfg(feature = "otel")]
        if let Some(root) = root {
            root.end(&answer);
        }
        answer
    }

    async fn try_until_answered(
        &self,
        target: Target<'_>,
        mut progress: Progress,
        traced: Option<RequestId>,
        request: impl Fn(u64) -> Request,
    ) -> Result<Reply, Error> {
        let started = clock::time();
        let mut age = Duration::ZERO;
        let mut spread = progress.is_read() && self.read_from() == ReadFrom::InSync;
        loop {
            let route = self.router().route();
            let ours = route.view.number;
            // Only in the first try: if a replica cannot answer, the coordinator may.
            let anywhere = std::mem::take(&mut spread);
            let server = if anywhere { route.any_in_sync(target) } else { route.coordinator(target) };
            let (server, next) = match server {
                // A client that was connected lazily: nothing was sent.
                None if ours == Epoch::default() => {
                    self.first_view(self.left(started)).await?;
                    if self.router().route().view.number > ours {
                        continue;
                    }
                    (None, progress.on_no_coordinator())
                }
                None => (None, progress.on_no_coordinator()),
                Some(peer) => {
                    let message = request(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                    let tried = match self.send(peer, (message, traced), started).await {
                        Ok((link, answer)) => {
                            self.answer(peer, target, anywhere, &link, answer, started).await
                        }
                        Err(reason) => Tried::NotSent(reason),
                    };
                    (Some(peer.address()), progress.on_tried(peer.address(), tried, ours))
                }
            };
            match next {
                Next::Done(reply) => return Ok(reply),
                Next::Fail(error) => return Err(error),
                Next::Again { refresh, wait } => {
                    if !self.pause(started, ours, server, refresh, wait.then_some(&progress)).await {
                        return Err(progress.give_up());
                    }
                    age = clock::time().since(started);
                }
            }
        }
    }

    /// Waits between two tries. Returns `false` when the time is over.
    pub(crate) async fn pause(
        &self,
        started: Time,
        ours: Epoch,
        server: Option<&str>,
        refresh: Refresh,
        backoff: Option<&Progress>,
    ) -> bool {
        let router = self.router();
        let refreshing = async {
            match refresh {
                Refresh::No => {}
                Refresh::Maybe => router.refresh_if_due(ours, None, 1).await,
                // Whether it worked shows in the next try.
                Refresh::Certainly => drop(router.refresh(ours, server, 1).await),
            }
        };
        if timeout(self.left(started), refreshing).await.is_err() {
            return false;
        }
        if let Some(progress) = backoff
            && router.route().view.number <= ours
        {
            wait(progress.backoff(fastrand::f64()).min(self.left(started))).await;
        }
        !self.left(started).is_zero()
    }

    fn left(&self, started: Time) -> Duration {
        self.timeout().saturating_sub(clock::time().since(started))
    }

    /// Hands a request to a server's connection, which is made if there is none.
    pub(crate) async fn send(
        &self,
        peer: &Peer,
        (message, traced): (Request, Option<RequestId>),
        started: Time,
    ) -> Result<Sent, String> {
        let live = peer.live();
        if let Some(link) = &live
            && let Some(slot) = link.try_slot()
        {
            return Ok((Arc::clone(link), slot.send(message, traced)));
        }
        let sending = async {
            let link = peer.link().await?;
            let answer = link.slot().await?.send(message, traced);
            Ok((link, answer))
        };
        let busy = || Err("the server takes no more requests at the moment".to_owned());
        timeout(self.left(started), sending).await.unwrap_or_else(|_| busy())
    }

    /// Waits for an answer, as long as the server is the one to ask.
    async fn answer(
        &self,
        peer: &Arc<Peer>,
        target: Target<'_>,
        anywhere: bool,
        link: &Link,
        mut answer: oneshot::Receiver<Tried>,
        started: Time,
    ) -> Tried {
        let mut patience = self.timeout().min(TRY_FOR);
        loop {
            match timeout(patience, &mut answer).await {
                Ok(Ok(tried)) => return tried,
                Ok(Err(_)) => return Tried::Lost("the connection was closed".to_owned()),
                Err(_) => {}
            }
            if self.left(started).is_zero() {
                return Tried::Lost("it did not answer in time".to_owned());
            }
            if anywhere {
                return Tried::Lost("it did not answer; the coordinator is asked".to_owned());
            }
            if let Some(other) = self.coordinator_changed(peer, target, started).await {
                return Tried::Lost(format!("it did not answer; {other} coordinates now"));
            }
            if link.silent_for() > LINK_SILENT_FOR {
                link.close();
            }
            patience = self.left(started).min(TRY_FOR);
        }
    }

    /// Asks for a newer view. Returns the address of the coordinator, if it is another server now.
    async fn coordinator_changed(
        &self,
        peer: &Arc<Peer>,
        target: Target<'_>,
        started: Time,
    ) -> Option<String> {
        let router = self.router();
        let seen = router.route().view.number;
        let _ = timeout(
            self.left(started),
            router.refresh_if_due(seen, Some(peer.address()), REFRESH_ANSWERS_SILENCE),
        )
        .await;
        let route = router.route();
        let now = route.coordinator(target)?.address();
        (now != peer.address()).then(|| now.to_owned())
    }
}

pub(crate) async fn wait(duration: Duration) {
    // There is no event to wait for between tries: a server does not announce that it is ready.
    sleep_until(Instant::now() + duration).await;
}
