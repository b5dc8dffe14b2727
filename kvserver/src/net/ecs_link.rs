//! The link to the ECS: reports go one way, nothing is read. Views come on a link that the ECS makes.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use common::clock;
use common::codec::Wire as _;
use common::frame::{PREFACE, take_frame, write_frame};
use common::ids::{ClusterId, ServerId};
use common::limits::Timers;
use common::messages::{
    AsideStore, ClientMessage, Hello, ProcessId, Reply, Request, ServerMessage, ServerReport,
};
use common::stream::Stream;
use common::view::View;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::driver::{Event, Events};
use crate::limits::{CONNECT_FOR, FOLLOW_EVERY};
use crate::net::backoff::{Backoff, connect};
use crate::net::heartbeat::{Beat, DiskStallMonitor, HeartbeatKeeper};
use kvserver_core::Input;

/// The link to the ECS, and what it needs.
pub(crate) struct EcsLink {
    pub(crate) address: String,
    pub(crate) me: ProcessId,
    pub(crate) reports: UnboundedReceiver<ServerReport>,
    pub(crate) views: watch::Receiver<Option<Arc<View>>>,
    pub(crate) events: Events,
    pub(crate) timers: Timers,
    pub(crate) disk: Arc<DiskStallMonitor>,
    /// Stores that were set aside and are still there.
    pub(crate) aside: Vec<AsideStore>,
}

/// A link that ends sooner was refused, or no ECS listens there.
const LINK_STANDS_AFTER: Duration = Duration::from_secs(1);

/// The pause between two tries while the ECS is another cluster's, which only a person can change.
const FOREIGN_AGAIN: Duration = Duration::from_secs(5);

/// How long an ECS may take to say which cluster is its own.
const ASK_FOR: Duration = Duration::from_secs(2);

impl EcsLink {
    /// Runs as long as the server does.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        // The message that was logged last, so that it is logged once.
        let mut logged = String::new();
        loop {
            self.await_disk().await;
            let started = clock::time();
            let error = match connect(&self.address).await {
                Ok(stream) => {
                    if logged.is_empty() {
                        tracing::info!(ecs = %self.address, "linked to the ECS");
                    }
                    match self.serve(stream).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if clock::time().since(started) > LINK_STANDS_AFTER + CONNECT_FOR {
                backoff.reset();
                logged.clear();
            }
            let foreign = self.foreign_cluster().await;
            let trouble = match foreign {
                Some((own, other)) => format!(
                    "this storage directory belongs to cluster {own}, but the ECS is that of cluster {other}: start \
                     with another directory (-d) or another ECS (-b); if the ECS has lost its disk, start it with \
                     --rebuild {own}"
                ),
                None => {
                    "the ECS cannot be reached; trying again. Reads and writes go on as far as the last view \
                         allows; check the address given with -b, and that the ECS runs"
                        .to_owned()
                }
            };
            if logged != trouble {
                tracing::warn!(ecs = %self.address, %error, "{trouble}");
                logged = trouble;
            }
            while self.reports.try_recv().is_ok() {}
            if foreign.is_some() {
                let _over = timeout(FOREIGN_AGAIN, std::future::pending::<()>()).await;
            } else {
                backoff.wait().await;
            }
        }
    }

    /// Waits while the disk takes no writes: other servers should take over the partitions.
    async fn await_disk(&self) {
        let keeper = HeartbeatKeeper::new(self.timers, clock::time());
        let is_stalled =
            || self.disk.stalled_for(clock::time()).is_some_and(|time| time >= keeper.stall_max());
        if !is_stalled() {
            return;
        }
        tracing::error!(
            "the disk has taken no write for {:?}: the ECS hears nothing of this server until it does, and gives its \
             partitions to others",
            keeper.stall_max()
        );
        while is_stalled() {
            let _over = timeout(keeper.every(), std::future::pending::<()>()).await;
        }
        tracing::info!("the disk takes writes again");
    }

    /// Our cluster and the ECS's, if they differ: such an ECS closes the link, and as it answers no reports it cannot
    /// say why.
    async fn foreign_cluster(&self) -> Option<(ClusterId, ClusterId)> {
        let own = self.views.borrow().as_ref().map(|view| view.cluster)?;
        let other = timeout(ASK_FOR, ask_cluster(&self.address)).await.ok()?.ok()?;
        (own != other).then_some((own, other))
    }

    async fn serve(&mut self, mut stream: Stream) -> std::io::Result<()> {
        let (answer, report) = oneshot::channel();
        let _gone = self.events.send(Event::Hello(answer));
        let Ok(report) = report.await else { return Ok(()) };
        // Read after the report was made, as the report names a view, and the hello must name its cluster.
        let cluster = self.views.borrow().as_ref().map(|view| view.cluster);
        let hello = Hello::Report { cluster, sender: self.me };
        let mut out = PREFACE.to_vec();
        let json = serde_json::to_vec(&hello).expect("a hello is JSON");
        write_frame(&mut out, |payload| payload.extend_from_slice(&json));
        push(&mut out, &report);
        if !self.aside.is_empty() {
            push(&mut out, &ServerReport::Aside { stores: self.aside.clone() });
        }
        stream.write_all(&out).await?;
        let mut nothing = [0; 1];
        let mut keeper = HeartbeatKeeper::new(self.timers, clock::time());
        loop {
            let report = tokio::select! {
                report = timeout(keeper.every(), self.reports.recv()) => report,
                end = stream.read(&mut nothing) => {
                    end?;
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
            };
            let now = clock::time();
            let mut next = match report {
                Ok(None) => return Ok(()),
                Ok(report) => report,
                Err(_elapsed) => match keeper.beat(now, self.disk.stalled_for(now)) {
                    Beat::Wait => continue,
                    Beat::Send(report) => Some(report),
                    Beat::Close => return Err(std::io::ErrorKind::TimedOut.into()),
                },
            };
            out.clear();
            let mut is_last = false;
            while let Some(report) = next {
                is_last |= matches!(report, ServerReport::StoreFailed { .. });
                keeper.on_report(&report, now);
                push(&mut out, &report);
                next = self.reports.try_recv().ok();
            }
            stream.write_all(&out).await?;
            if is_last {
                // The process ends next: the report must have left before.
                stream.shutdown().await?;
                return Ok(());
            }
        }
    }
}

fn push(out: &mut Vec<u8>, report: &ServerReport) {
    let json = serde_json::to_vec(report).expect("a report is JSON");
    write_frame(out, |payload| payload.extend_from_slice(&json));
}

/// Gives the core newer views while this server is in none. It has left and goes on, so the ECS sends it no views any
/// more, and its clients' requests must still go to the servers that coordinate their keys. Runs as long as the server
/// does.
pub(crate) async fn follow(
    address: String,
    me: ServerId,
    mut views: watch::Receiver<Option<Arc<View>>>,
    events: Events,
) {
    let left = |view: &Option<Arc<View>>| {
        view.as_ref().is_some_and(|view| !view.assignments.is_empty() && !view.servers.contains_key(&me))
    };
    loop {
        let own = match views.wait_for(left).await {
            Ok(view) => view.as_ref().map(|view| (view.cluster, view.number)),
            Err(_) => return,
        };
        let found = timeout(ASK_FOR, ask_view(&address)).await;
        if let (Some((cluster, number)), Ok(Ok(view))) = (own, found)
            && view.cluster == cluster
            && view.number > number
        {
            let _gone = events.send(Event::Core(Input::View(Arc::new(view))));
        }
        let _over = timeout(FOLLOW_EVERY, std::future::pending::<()>()).await;
    }
}

/// The cluster of an ECS.
async fn ask_cluster(address: &str) -> std::io::Result<ClusterId> {
    Ok(ask_view(address).await?.cluster)
}

/// The newest view of an ECS.
async fn ask_view(address: &str) -> std::io::Result<View> {
    let mut stream = connect(address).await?;
    let mut out = PREFACE.to_vec();
    let hello = serde_json::to_vec(&Hello::Client {}).expect("a hello is JSON");
    write_frame(&mut out, |payload| payload.extend_from_slice(&hello));
    write_frame(&mut out, |payload| ClientMessage { id: 1, request: Request::View {} }.write(payload));
    stream.write_all(&out).await?;
    let mut input = BytesMut::new();
    let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    loop {
        if let Some(mut frame) = take_frame(&mut input).map_err(|error| invalid(error.to_string()))? {
            let message = ServerMessage::read(&mut frame).map_err(|error| invalid(error.to_string()))?;
            let Reply::View { json } = message.reply else { return Err(invalid(format!("{message:?}"))) };
            return Ok(serde_json::from_slice::<View>(&json)?);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
