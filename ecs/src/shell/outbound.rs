//! Views to the servers: one link for each, opened by the ECS to the address that the server announced.
//!
//! Only the newest view counts: a slow link skips those in between. Nothing comes back. A link that fails is opened
//! anew, with growing pauses, while there is something to bring; what was lost with it is noticed by the server's
//! heartbeats, which name its view.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::frame::{PREFACE, write_frame};
use common::ids::{ClusterId, ServerId};
use common::messages::{Hello, ProcessId, Promised, Refusal, StoreVerdict};
use common::stream::{Stream, connect};
use common::time::Time;
use common::view::View;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::limits::{
    CONNECT_WITHIN, FAREWELL_TRIES_MAX, REFUSE_AGAIN, REFUSED_REMEMBERED_MAX, RETRY_FIRST, RETRY_MAX,
    SEND_WITHIN,
};

/// What is to be brought to a server.
#[derive(Clone, Debug)]
struct Parcel {
    address: String,
    frame: Arc<Vec<u8>>,
    /// The server is not in the view: it is the last one that is sent to it.
    last: bool,
}

/// The links, by server.
#[derive(Debug)]
pub(super) struct Outbound {
    cluster: ClusterId,
    links: BTreeMap<ServerId, watch::Sender<Parcel>>,
    tasks: JoinSet<()>,
    /// Processes that were refused recently.
    refused: BTreeMap<ProcessId, Time>,
}

impl Outbound {
    pub(super) fn new(cluster: ClusterId) -> Self {
        Self { cluster, links: BTreeMap::new(), tasks: JoinSet::new(), refused: BTreeMap::new() }
    }

    /// Asks a server for a report of its copies (R6).
    pub(super) fn ask(&mut self, to: ServerId, address: String, promise: Promised) {
        info!(server = to.short(), address, generation = promise.generation, "asked to report its copies");
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(ask(self.cluster, to, address, promise));
    }

    /// Sends a server the decision on the store that it waits with (R3). A message that is lost is sent again when the
    /// server asks again.
    pub(super) fn send_verdict(&mut self, to: ProcessId, address: String, verdict: StoreVerdict) {
        while self.tasks.try_join_next().is_some() {}
        let cluster = self.cluster;
        self.tasks.spawn(async move {
            let hello = Hello::StoreVerdict { cluster, to, verdict };
            if let Err(error) = within(CONNECT_WITHIN, open(&hello, &address)).await {
                debug!(server = to.server.short(), address, %error, "cannot send the verdict on its store");
            }
        });
    }

    /// Informs a process that it is refused, and why, at most once in [`REFUSE_AGAIN`].
    pub(super) fn refuse(&mut self, now: Time, to: ProcessId, address: String, refusal: Refusal) {
        self.refused.retain(|_, at| now.since(*at) < REFUSE_AGAIN);
        if self.refused.len() >= REFUSED_REMEMBERED_MAX || self.refused.contains_key(&to) {
            return;
        }
        self.refused.insert(to, now);
        while self.tasks.try_join_next().is_some() {}
        let hello = Hello::Refused { cluster: self.cluster, to, refusal };
        self.tasks.spawn(async move {
            if let Err(error) = within(CONNECT_WITHIN, open(&hello, &address)).await {
                debug!(server = to.server.short(), address, %error, "cannot send the refusal");
            }
        });
    }

    /// Sends a view to a server, instead of an older one that is still under way.
    pub(super) fn publish(&mut self, to: ServerId, address: String, view: &View, frame: Arc<Vec<u8>>) {
        let last = !view.servers.contains_key(&to);
        let parcel = Parcel { address, frame, last };
        while self.tasks.try_join_next().is_some() {}
        self.links.retain(|_, link| !link.is_closed());
        if let Some(link) = self.links.get(&to) {
            link.send_replace(parcel);
        } else {
            let (link, mut parcels) = watch::channel(parcel);
            parcels.mark_changed();
            self.links.insert(to, link);
            self.tasks.spawn(Link { cluster: self.cluster, to, parcels, stream: None, failures: 0 }.run());
        }
    }
}

/// Asks a server for a report of its copies; that the question arrived shows in the report.
async fn ask(cluster: ClusterId, to: ServerId, address: String, promise: Promised) {
    let hello = Hello::Rebuild { cluster, to, promise };
    if let Err(error) = within(CONNECT_WITHIN, open(&hello, &address)).await {
        warn!(server = to.short(), address, %error, "cannot ask it to report its copies; trying again");
    }
}

struct Link {
    cluster: ClusterId,
    to: ServerId,
    parcels: watch::Receiver<Parcel>,
    /// Open, and the address that it was opened to.
    stream: Option<(Stream, String)>,
    /// Failed tries since the last success.
    failures: u32,
}

impl Link {
    async fn run(mut self) {
        while self.parcels.changed().await.is_ok() {
            // A failure is tried again with the newest parcel, at once when there is a newer one.
            while let Err(error) = self.deliver().await {
                self.stream = None;
                self.note_failure(&error);
                if self.parcels.borrow().last && self.failures >= FAREWELL_TRIES_MAX {
                    return;
                }
                let pause = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
                if let Ok(Err(_)) = timeout(pause, self.parcels.changed()).await {
                    return;
                }
            }
            if self.parcels.borrow().last {
                return;
            }
        }
    }

    async fn deliver(&mut self) -> io::Result<()> {
        let parcel = self.parcels.borrow_and_update().clone();
        if self.stream.as_ref().is_none_or(|(stream, address)| *address != parcel.address || ended(stream)) {
            let hello = Hello::Views { cluster: self.cluster, to: self.to };
            let opened = within(CONNECT_WITHIN, open(&hello, &parcel.address)).await?;
            self.stream = Some((opened, parcel.address.clone()));
        }
        let (stream, _) = self.stream.as_mut().expect("opened above");
        within(SEND_WITHIN, stream.write_all(&parcel.frame)).await?;
        if self.failures > 0 {
            info!(server = self.to.short(), address = parcel.address, "reachable again");
            self.failures = 0;
        }
        Ok(())
    }

    fn note_failure(&mut self, error: &io::Error) {
        let (server, address) = (self.to.short(), self.parcels.borrow().address.clone());
        if self.failures == 0 {
            warn!(server, address, %error, "cannot bring the view; trying on");
        } else {
            debug!(server, address, %error, "cannot bring the view");
        }
        self.failures = self.failures.saturating_add(1);
    }
}

/// Whether the server has closed the link: what is written to it would be lost. A link on which something comes is of
/// no use either: servers send nothing on it.
fn ended(stream: &Stream) -> bool {
    let nothing_yet = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
    !stream.try_read(&mut [0]).is_err_and(nothing_yet)
}

async fn open(hello: &Hello, address: &str) -> io::Result<Stream> {
    let mut stream = connect(address).await?;
    let mut greeting = PREFACE.to_vec();
    write_frame(&mut greeting, |out| {
        serde_json::to_writer(out, hello).expect("a hello is JSON");
    });
    stream.write_all(&greeting).await?;
    Ok(stream)
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
