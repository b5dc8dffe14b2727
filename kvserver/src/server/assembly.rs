//! A server's parts, put together: [`start`] opens, starts the threads, assembles, and lets the core's thread serve.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::ids::{ClusterId, Epoch};
use common::messages::{ProcessId, ServerReport};
use common::ring::Partitions;
use common::view::View;
use kvserver_core::{Node, Scrub};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::files::Files;
use super::ports::Ports;
use super::recovery::{Found, Recovered};
use super::shutdown::Shutdown;
use super::threads::{BulkThread, Threads, Workers, core_runtime, spawn, spawn_workers};
use crate::agreed::AgreedClock;
use crate::driver::traces::TraceLog;
use crate::driver::{Driver, Event, Events, Parts};
use crate::error::{Error, Failure};
use crate::http::Shown;
use crate::inbound::{self, InputBudget, Port, Shared};
use crate::metrics::Connections;
use crate::net::byte_counter::ByteCounter;
use crate::net::ecs_link::{EcsLink, follow};
use crate::net::heartbeat::DiskStallMonitor;
use crate::net::peers::Peers;
use crate::options::Options;
use crate::protocol::text::RangeLists;
use crate::store::state_machine::StateMachine;
use crate::store::{identity, quarantine};

/// How long the report that the store failed may take to the ECS before the process ends. Without it the ECS only sees
/// that the link ended.
const REPORT_FOR: Duration = Duration::from_millis(500);

/// A server that serves.
pub(super) struct Started {
    pub(super) views: watch::Receiver<Option<Arc<View>>>,
    pub(super) reports: UnboundedSender<ServerReport>,
    pub(super) events: Events,
    pub(super) me: ProcessId,
    pub(super) shutdown: Shutdown,
    pub(super) ended: oneshot::Receiver<Result<(), Failure>>,
    pub(super) shown: Shown,
}

/// Starts a server on an open store.
///
/// # Errors
/// Why it cannot start.
pub(super) fn start(
    options: &Options,
    files: Files,
    local: SocketAddr,
    ports: Ports,
    found: Found,
) -> Result<Started, Error> {
    let Recovered { me, view, node, machine, log } = found.begin(options)?;
    let (events, inbox) = unbounded_channel();
    let disk = Arc::new(DiskStallMonitor::default());
    let (workers, threads) = spawn_workers(&options.dir, log, Arc::clone(&disk), &events)?;
    let (runtime, bulk) = (core_runtime()?, BulkThread::start()?);
    let (view_sender, views) = watch::channel(view);
    let (report_sender, metrics_reports) = watch::channel(None);
    let (reports, report_queue) = unbounded_channel();
    let joints = Joints {
        options,
        me,
        address: options.advertise.clone().unwrap_or_else(|| local.to_string()),
        events,
        reports,
        views,
        shutdown: Shutdown::new(files.connections),
        open_bytes: ByteCounter::default(),
        agreed: AgreedClock::default(),
        traces: TraceLog::start(options, &me)?,
        core: runtime.handle().clone(),
        bulk_links: bulk.handle.clone(),
    };
    joints.agreed.set(node.stamp_offset());
    let link = joints.serve_link(report_queue, disk);
    let parts = joints.parts(node, machine, workers, view_sender, report_sender);
    let ended = joints.core(parts, inbox, ports.move_to(&runtime)?, link).serve(
        runtime,
        bulk,
        threads,
        joints.traces.clone(),
    )?;
    let Joints { views, reports, events, shutdown, open_bytes, .. } = joints;
    let free = Arc::clone(&shutdown.connections);
    let connections = Connections { open_bytes, free, permits: files.connections };
    let shown = Shown { metrics_reports, connections, waits: None };
    Ok(Started { views, reports, events, me, shutdown, ended, shown })
}

/// What several parts of a server share.
struct Joints<'a> {
    options: &'a Options,
    me: ProcessId,
    /// The address at which others reach this server.
    address: String,
    events: Events,
    reports: UnboundedSender<ServerReport>,
    views: watch::Receiver<Option<Arc<View>>>,
    shutdown: Shutdown,
    /// Bytes that all connections have open.
    open_bytes: ByteCounter,
    agreed: AgreedClock,
    traces: TraceLog,
    /// The runtime of the core's thread, and that of the links for large messages.
    core: Handle,
    bulk_links: Handle,
}

impl Joints<'_> {
    fn parts(
        &self,
        node: Node,
        machine: StateMachine,
        workers: Workers,
        views: watch::Sender<Option<Arc<View>>>,
        metrics_reports: watch::Sender<Option<Arc<crate::metrics::MetricsReport>>>,
    ) -> Parts {
        let Workers { log, readers, builders, scrubber, digester, key_scanner } = workers;
        let options = self.options;
        let (core, bulk_links) = (self.core.clone(), self.bulk_links.clone());
        Parts {
            node,
            machine,
            log,
            readers,
            builders,
            scrubber,
            digester,
            key_scanner,
            scrub: Scrub::new(options.scrub(), options.scrub_rate, common::clock::time()),
            peers: Peers::new(self.me, &self.address, core, bulk_links, self.events.clone()),
            views,
            reports: self.reports.clone(),
            metrics_reports,
            traffic: self.shutdown.traffic.clone(),
            me: self.me,
            address: self.address.clone(),
            ecs: options.ecs.clone(),
            weight: options.weight,
            slow_ms: options.slow_ms,
            reserve_bytes: options.reserve_mb << 20,
            traces: self.traces.clone(),
            agreed: self.agreed.clone(),
        }
    }

    fn shared(&self, ranges: watch::Receiver<Arc<RangeLists>>) -> Shared {
        Shared {
            me: self.me,
            events: self.events.clone(),
            views: self.views.clone(),
            encoded_view: Arc::default(),
            ranges,
            value_bytes_max: self.options.max_value,
            open_bytes: self.open_bytes.clone(),
            input: InputBudget::default(),
            members_input: InputBudget::default(),
            bulk: self.bulk_links.clone(),
            connections: Arc::clone(&self.shutdown.connections),
            traffic: self.shutdown.traffic.clone(),
            last_call: self.shutdown.last_call(),
            resp: Arc::new(inbound::Registry::new()),
            agreed: self.agreed.clone(),
        }
    }

    fn core(
        &self,
        parts: Parts,
        inbox: UnboundedReceiver<Event>,
        ports: Ports,
        link: JoinHandle<()>,
    ) -> Core {
        let empty = || Arc::new(View::new(ClusterId(0), Epoch::default(), Partitions::default()));
        let first = self.views.borrow().clone().unwrap_or_else(empty);
        let (ranges, range_lists) = watch::channel(Arc::new(RangeLists::new(first)));
        Core {
            parts,
            inbox,
            shared: self.shared(range_lists),
            ranges,
            ports,
            greeting: self.options.greeting,
            closing: self.shutdown.closing.subscribe(),
            failure_reporter: FailureReporter {
                dir: self.options.dir.clone(),
                reports: self.reports.clone(),
                link,
            },
        }
    }

    /// Serves the link to the ECS, not on the core's thread, which may block in a write.
    fn serve_link(
        &self,
        reports: UnboundedReceiver<ServerReport>,
        disk: Arc<DiskStallMonitor>,
    ) -> JoinHandle<()> {
        let address = self.options.ecs.clone();
        tokio::spawn(follow(address.clone(), self.me.server, self.views.clone(), self.events.clone()));
        let link = EcsLink {
            address,
            me: self.me,
            reports,
            views: self.views.clone(),
            events: self.events.clone(),
            timers: self.options.timers.timers(),
            disk,
            aside: quarantine::aside(&self.options.dir),
        };
        tokio::spawn(link.run())
    }
}

/// What the core's thread owns.
struct Core {
    parts: Parts,
    inbox: UnboundedReceiver<Event>,
    shared: Shared,
    ranges: watch::Sender<Arc<RangeLists>>,
    ports: Ports,
    greeting: bool,
    closing: watch::Receiver<bool>,
    failure_reporter: FailureReporter,
}

impl Core {
    /// Serves on a thread of its own until the driver ends. Then the other threads end too, and the outcome is sent.
    fn serve(
        self,
        runtime: Runtime,
        bulk: BulkThread,
        threads: Threads,
        traces: TraceLog,
    ) -> Result<oneshot::Receiver<Result<(), Failure>>, Error> {
        let (end, ended) = oneshot::channel();
        spawn("core", move || {
            let outcome = self.run(&runtime);
            // Frees the ports and drops the driver, which ends the threads' jobs; then the log thread closes the log.
            drop(runtime);
            bulk.end();
            threads.join();
            traces.stop();
            let _gone = end.send(outcome);
        })?;
        Ok(ended)
    }

    fn run(self, runtime: &Runtime) -> Result<(), Failure> {
        let Self { parts, inbox, shared, ranges, ports, greeting, closing, failure_reporter } = self;
        let _handle = runtime.enter();
        tokio::spawn(inbound::accept(ports.listener, shared.clone(), closing.clone(), Port::Any));
        if let Some(text) = ports.text {
            tokio::spawn(inbound::accept(text, shared.clone(), closing, Port::Text { greeting }));
        }
        tokio::spawn(keep_ranges(shared.views.clone(), ranges));
        drop(shared);
        runtime.block_on(async move {
            let outcome = Driver::new(parts).run(inbox).await;
            if let Err(failure) = &outcome {
                failure_reporter.report(failure).await;
            }
            outcome
        })
    }
}

/// What a server that fails still does.
struct FailureReporter {
    dir: PathBuf,
    reports: UnboundedSender<ServerReport>,
    link: JoinHandle<()>,
}

impl FailureReporter {
    /// Reports to the ECS that the store failed, and notes it on disk if the store must not be used again.
    async fn report(self, failure: &Failure) {
        let reason = match failure {
            Failure::Stopped(_) => return,
            Failure::DiskFull(reason) => reason,
            Failure::Damaged(reason) | Failure::Store(reason) => {
                identity::write_failed(&self.dir, reason);
                reason
            }
        };
        let _gone = self.reports.send(ServerReport::StoreFailed { reason: reason.clone() });
        let _away = tokio::time::timeout(REPORT_FOR, self.link).await;
    }
}

/// Keeps the range lists of the newest view; each is made when it is first asked for.
async fn keep_ranges(mut views: watch::Receiver<Option<Arc<View>>>, ranges: watch::Sender<Arc<RangeLists>>) {
    while views.changed().await.is_ok() {
        if let Some(view) = views.borrow_and_update().clone() {
            ranges.send_replace(Arc::new(RangeLists::new(view)));
        }
    }
}
