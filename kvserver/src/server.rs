//! A server from start to stop: opens its store, starts its threads and tasks, hands everything over when it leaves.

mod files;
mod ports;
pub(crate) mod shutdown;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::address::HostNames;
use common::clock;
use common::ids::{ClientId, ClusterId, Epoch, PartitionId};
use common::messages::{Sender, ServerReport};
use common::ring::Partitions;
use common::view::{ServerState, View};
use storage::LogWriter;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::agreed::AgreedClock;
use crate::driver::traces::TraceLog;
use crate::driver::{Driver, Event, Events, Parts};
use crate::error::{Error, Failure, condemns};
use crate::http::{self, Shown};
use crate::inbound::{self, InputBudget, Port, Shared};
use crate::metrics::Connections;
use crate::net::byte_counter::ByteCounter;
use crate::net::ecs_link::{EcsLink, follow};
use crate::net::heartbeat::DiskStallMonitor;
use crate::net::peers::Peers;
use crate::options::Options;
use crate::protocol::text::RangeLists;
use crate::server::shutdown::Shutdown;
use crate::store::identity;
use crate::store::log_writer;
use crate::store::quarantine;
use crate::store::state_machine::Machine;
use crate::store::suspect::Suspect;
use crate::workers::digest;
use crate::workers::key_scan;
use crate::workers::scrub;
use crate::workers::transfer;
use files::Files;
use kvserver_core::{COPY_FROM, PARKED_BYTES_MAX, PENDING_BYTES_MAX};
use kvserver_core::{Config, Node, RecoveredCopy, Scrub};
pub use ports::bind;
use ports::{Ports, bind_http};

/// How a server is asked to stop.
pub struct Stop<Leave, Now> {
    /// Hand everything over, then stop.
    pub leave: Leave,
    /// Stop at once: nothing that was acknowledged is lost, requests under way are not answered.
    pub now: Now,
}

/// Runs a server on a port that was bound before, until it is asked to stop or cannot go on: open, then serve.
///
/// # Errors
/// What stopped it, or why it did not start.
pub async fn run<Leave, Now>(
    options: Options,
    listener: TcpListener,
    stop: Stop<Leave, Now>,
) -> Result<(), Error>
where
    Leave: Future<Output = ()> + Send,
    Now: Future<Output = ()> + Send,
{
    open(options, listener).await?.serve(stop).await
}

/// A server that has its ports, and a store that is open, or one that waits (R3).
pub(crate) struct Opened {
    options: Options,
    local: SocketAddr,
    stage: Stage,
    http: Option<Arc<TcpListener>>,
}

enum Stage {
    Started(Started),
    Suspect(Suspect, Ports),
}

/// Opens the store and starts its threads and tasks. A store that failed, or cannot be read, is left as it is.
///
/// # Errors
/// Why it cannot start.
pub(crate) async fn open(options: Options, listener: TcpListener) -> Result<Opened, Error> {
    let local =
        listener.local_addr().map_err(|source| Error::Io { action: "read the bound address", source })?;
    let text = match options.text_port {
        Some(port) => Some(bind(&options.address, port).await?),
        None => None,
    };
    let http = match &options.http {
        Some(address) => Some(bind_http(address).await?),
        None => None,
    };
    let ports = Ports { listener, text };
    let files = Files::share(common::files::raise_limit(), options.max_connections);
    let stage = match open_store(&options, files)? {
        Ok(found) => Stage::Started(start(&options, files, local, ports, found)?),
        Err(reason) => {
            let address = options.advertise.clone().unwrap_or_else(|| local.to_string());
            Stage::Suspect(Suspect::new(&options.dir, reason, address, options.ecs.clone())?, ports)
        }
    };
    Ok(Opened { options, local, stage, http: http.map(Arc::new) })
}

impl Opened {
    /// The address of the HTTP port, if there is one.
    pub(crate) fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|http| http.local_addr().ok())
    }

    /// Serves until it is asked to stop or cannot go on.
    ///
    /// # Errors
    /// What stopped it.
    pub(crate) async fn serve<Leave, Now>(mut self, stop: Stop<Leave, Now>) -> Result<(), Error>
    where
        Leave: Future<Output = ()> + Send,
        Now: Future<Output = ()> + Send,
    {
        let Stop { leave, now } = stop;
        tokio::pin!(leave, now);
        // Dropped at the end of this function, which closes the port.
        let mut http = JoinSet::new();
        let started = match self.stage {
            Stage::Started(started) => started,
            Stage::Suspect(suspect, ports) => {
                if let Some(listener) = self.http.clone() {
                    let shown = Shown::waiting(&suspect.text());
                    http.spawn(http::serve(listener, shown, host_names(&self.options)));
                }
                tokio::select! {
                    () = suspect.wait(&ports.listener) => {}
                    () = &mut leave => return Ok(()),
                    () = &mut now => return Ok(()),
                }
                http.shutdown().await;
                start_anew(&self.options, self.local, ports, suspect)?
            }
        };
        if let Some(listener) = self.http.take() {
            http.spawn(http::serve(listener, started.shown.clone(), host_names(&self.options)));
        }
        let ended = serve_clients(&self.options, started, leave, now).await;
        http.shutdown().await;
        ended
    }
}

/// Sets the store aside, as the ECS has said that it is not needed, and starts with an empty one.
fn start_anew(
    options: &Options,
    local: SocketAddr,
    ports: Ports,
    suspect: Suspect,
) -> Result<Started, Error> {
    let reason = suspect.reason().to_owned();
    drop(suspect);
    quarantine::set_aside(&options.dir, &reason)?;
    let files = Files::share(common::files::raise_limit(), options.max_connections);
    match open_store(options, files)? {
        Ok(found) => start(options, files, local, ports, found),
        Err(reason) => Err(Error::Condemned { reason }),
    }
}

/// Serves until it is asked to stop or cannot go on.
async fn serve_clients<Leave, Now>(
    options: &Options,
    started: Started,
    leave: Pin<&mut Leave>,
    mut now: Pin<&mut Now>,
) -> Result<(), Error>
where
    Leave: Future<Output = ()> + Send,
    Now: Future<Output = ()> + Send,
{
    let mut ended = started.ended;
    {
        tokio::select! {
            outcome = &mut ended => return finish(outcome),
            () = &mut now => {}
            () = leave => {
                tokio::select! {
                    outcome = &mut ended => return finish(outcome),
                    () = &mut now => {}
                    () = async {
                        if drain(options, &started.reports, started.views.clone(), &started.me).await {
                            started.shutdown.say().await;
                        }
                    } => {}
                }
            }
        }
        let _gone = started.events.send(Event::Stop);
        finish(ended.await)
    }
}

/// Host names for which the HTTP port answers: the machine's, and those in the server's own addresses.
fn host_names(options: &Options) -> HostNames {
    let own = [&options.http, &options.advertise].into_iter().flatten();
    own.fold(HostNames::default().with_machine(), |names, address| names.with_address(address))
}

type Ended = oneshot::Receiver<Result<(), Failure>>;

/// How long the report that the store failed may take to the ECS before the process ends. Without it the ECS only sees
/// that the link ended.
const TELL_FOR: Duration = Duration::from_millis(500);

/// Reports to the ECS that the store failed, and notes it on disk if the store must not be used again.
async fn tell(
    failure: &Failure,
    dir: &Path,
    reports: &UnboundedSender<ServerReport>,
    link: tokio::task::JoinHandle<()>,
) {
    let reason = match failure {
        Failure::Stopped(_) => return,
        Failure::DiskFull(reason) => reason,
        Failure::Damaged(reason) | Failure::Store(reason) => {
            identity::write_failed(dir, reason);
            reason
        }
    };
    let _gone = reports.send(ServerReport::StoreFailed { reason: reason.clone() });
    let _away = tokio::time::timeout(TELL_FOR, link).await;
}

/// The outcome of the server's run. A panic is a bug, and says nothing about the store: what is on disk is as after a
/// kill.
fn finish(outcome: Result<Result<(), Failure>, oneshot::error::RecvError>) -> Result<(), Error> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::DiskFull(reason))) => Err(Error::NoRoom { reason }),
        Ok(Err(Failure::Damaged(reason))) => Err(Error::Damaged { reason }),
        Ok(Err(Failure::Store(reason))) => Err(Error::Condemned { reason }),
        Ok(Err(Failure::Stopped(reason))) => Err(Error::Stopped { reason }),
        Err(_) => {
            let reason = "the core's thread ended without a word; see the log above".to_owned();
            Err(Error::Stopped { reason })
        }
    }
}

struct Started {
    views: watch::Receiver<Option<Arc<View>>>,
    reports: UnboundedSender<ServerReport>,
    events: Events,
    me: Sender,
    shutdown: Shutdown,
    ended: Ended,
    shown: Shown,
}

/// A store that was opened, and its recovered state.
struct Found {
    log: LogWriter,
    machine: Machine,
    copies: BTreeMap<PartitionId, RecoveredCopy>,
}

/// Opens the store and reads its state; or returns the reason why it must not be used as it is (R3).
fn open_store(options: &Options, files: Files) -> Result<Result<Found, String>, Error> {
    let dir = &options.dir;
    common::files::private_dir(dir).map_err(|source| Error::Directory { dir: dir.clone(), source })?;
    identity::check_versions(dir)?;
    if let Some(reason) = identity::condemned(dir)? {
        return Ok(Err(reason));
    }
    let opened = match storage::Store::open(dir, &store_options(options, files)) {
        Ok(opened) => opened,
        Err(error) if condemns(&error) => return Ok(Err(error.to_string())),
        Err(error) => return Err(Error::storage(dir)(error)),
    };
    match Machine::new(opened.trees, opened.reader, opened.recovered) {
        Ok((machine, copies)) => Ok(Ok(Found { log: opened.log, machine, copies })),
        Err(Failure::Damaged(reason) | Failure::Store(reason)) => Ok(Err(reason)),
        Err(Failure::DiskFull(reason)) => Err(Error::NoRoom { reason }),
        Err(Failure::Stopped(reason)) => Err(Error::Stopped { reason }),
    }
}

fn start(
    options: &Options,
    files: Files,
    local: SocketAddr,
    ports: Ports,
    found: Found,
) -> Result<Started, Error> {
    let dir = options.dir.clone();
    let Found { log, machine, copies } = found;
    let me = identity::begin(&dir)?;
    let view = identity::read_view(&dir)?;
    if identity::lacks_view(&dir, !copies.is_empty()) {
        tracing::warn!(
            "there are copies of partitions in {}, but no view of the cluster: its file was removed. It is fetched \
             anew from the ECS",
            dir.display()
        );
    }
    tracing::info!(server = %me.server, incarnation = me.incarnation.0, copies = copies.len(), "store opened");
    let traces = TraceLog::start(options, &me)?;
    let config = Config {
        timers: options.timers.timers(),
        park: options.park(),
        reads: options.reads.into(),
        value_bytes_max: options.max_value,
        pending_bytes_max: PENDING_BYTES_MAX,
        parked_bytes_max: PARKED_BYTES_MAX,
        session: ClientId::random(),
        transfer_rate: options.transfer_rate,
        copy_from: COPY_FROM,
        bug: None,
    };
    let node = Node::new(config, me, view.clone(), copies, clock::now());
    let node = node.promised(identity::read_promise(&dir, me.store)?);
    let (events, inbox) = unbounded_channel();
    let (reports, report_queue) = unbounded_channel();
    let (view_sender, views) = watch::channel(view);
    let (snapshot_sender, snapshots) = watch::channel(None);
    let address = options.advertise.clone().unwrap_or_else(|| local.to_string());
    let watch = Arc::new(DiskStallMonitor::default());
    let (log, log_thread) = log_writer::queue(log, Arc::clone(&watch));
    let (log_events, log_dir) = (events.clone(), dir.clone());
    let log_thread = spawn("log", move || log_thread.run(&log_dir, &log_events))?;
    let ((readers, read_jobs), read_events) = (channel(), events.clone());
    let ((builders, build_jobs), build_events) = (channel(), events.clone());
    let ((scrubber, scrub_jobs), scrub_events) = (channel(), events.clone());
    let ((digester, digest_jobs), digest_events) = (channel(), events.clone());
    let ((walker, walks), walk_events) = (channel(), events.clone());
    // These threads have handles that keep the store in use: they end before the server does.
    let helpers = [
        log_thread,
        spawn_background("copies-read", move || transfer::read(&read_jobs, &read_events))?,
        spawn_background("copies-build", move || transfer::build(&build_jobs, &build_events))?,
        spawn_background("scrub", move || scrub::run(&scrub_jobs, &scrub_events))?,
        spawn_background("digests", move || digest::run(&digest_jobs, &digest_events))?,
        spawn("walks", move || key_scan::run(&walks, &walk_events))?,
    ];
    let runtime = core_runtime()?;
    let agreed = AgreedClock::default();
    agreed.set(node.stamp_offset());
    let bulk = BulkThread::start()?;
    let shutdown = Shutdown::new(files.connections);
    let parts = Parts {
        node,
        machine,
        log,
        readers,
        builders,
        scrubber,
        digester,
        walker,
        scrub: Scrub::new(options.scrub(), options.scrub_rate, clock::time()),
        peers: Peers::new(me, &address, runtime.handle().clone(), bulk.handle.clone(), events.clone()),
        views: view_sender,
        reports: reports.clone(),
        snapshots: snapshot_sender,
        traffic: shutdown.traffic.clone(),
        me,
        address,
        ecs: options.ecs.clone(),
        weight: options.weight,
        slow_ms: options.slow_ms,
        reserve_bytes: options.reserve_mb << 20,
        traces: traces.clone(),
        agreed: agreed.clone(),
    };
    let empty = Arc::new(View::new(ClusterId(0), Epoch::default(), Partitions::default()));
    let first = views.borrow().clone().unwrap_or(empty);
    let (closing, text_closing) = (shutdown.closing.subscribe(), shutdown.closing.subscribe());
    let (ranges, range_lists) = watch::channel(Arc::new(RangeLists::new(first)));
    let connections = Connections {
        open_bytes: ByteCounter::default(),
        free: Arc::clone(&shutdown.connections),
        places: files.connections,
    };
    let shared = Shared {
        me,
        events: events.clone(),
        views: views.clone(),
        told: Arc::default(),
        ranges: range_lists,
        value_bytes_max: options.max_value,
        open_bytes: connections.open_bytes.clone(),
        input: InputBudget::default(),
        members_input: InputBudget::default(),
        bulk: bulk.handle.clone(),
        connections: Arc::clone(&shutdown.connections),
        traffic: shutdown.traffic.clone(),
        last_call: shutdown.last_call(),
        resp: Arc::new(inbound::Registry::new()),
        agreed,
    };
    let link = EcsLink {
        address: options.ecs.clone(),
        me,
        reports: report_queue,
        views: views.clone(),
        events: events.clone(),
        timers: options.timers.timers(),
        disk: watch,
        aside: quarantine::aside(&dir),
    };
    // Not on the core's thread, which may block in a write.
    tokio::spawn(follow(options.ecs.clone(), me.server, views.clone(), events.clone()));
    let link = tokio::spawn(link.run());
    let ports = ports.move_to(&runtime)?;
    let greeting = options.greeting;
    let (end, ended) = oneshot::channel();
    let last_words = reports.clone();
    spawn("core", move || {
        let outcome = {
            let _handle = runtime.enter();
            tokio::spawn(inbound::accept(ports.listener, shared.clone(), closing, Port::Any));
            if let Some(text) = ports.text {
                tokio::spawn(inbound::accept(text, shared.clone(), text_closing, Port::Text { greeting }));
            }
            tokio::spawn(keep_ranges(shared.views.clone(), ranges));
            drop(shared);
            runtime.block_on(async move {
                let outcome = Driver::new(parts).run(inbox).await;
                if let Err(failure) = &outcome {
                    tell(failure, &dir, &last_words, link).await;
                }
                outcome
            })
        };
        // Frees the ports and drops the driver, which ends the helpers' jobs; then the log thread closes the log.
        drop(runtime);
        bulk.end();
        for helper in helpers {
            let _panicked = helper.join();
        }
        traces.stop();
        let _gone = end.send(outcome);
    })?;
    let shown = Shown { snapshots, connections, waits: None };
    Ok(Started { views, reports, events, me, shutdown, ended, shown })
}

/// The runtime of the core's thread. Everything between a socket and the core happens on this thread, so a request
/// wakes no other thread on its way.
fn core_runtime() -> Result<Runtime, Error> {
    let started = Builder::new_current_thread().enable_all().build();
    started.map_err(|source| Error::Io { action: "start the runtime", source })
}

/// The thread of the links for large messages, which encodes, reads and checks them.
struct BulkThread {
    handle: Handle,
    // Dropping it ends the thread.
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl BulkThread {
    fn start() -> Result<Self, Error> {
        let runtime = core_runtime()?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        let thread = spawn("bulk", move || _ = runtime.block_on(stopped))?;
        Ok(Self { handle, stop, thread })
    }

    fn end(self) {
        drop(self.stop);
        let _panicked = self.thread.join();
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map_err(|source| Error::Io { action: "start a thread", source })
}

/// A thread whose work can wait until requests are answered.
fn spawn_background(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, Error> {
    spawn(name, || {
        storage::work_in_background();
        body();
    })
}

fn store_options(options: &Options, files: Files) -> storage::Options {
    storage::Options {
        open_files: files.trees,
        log_bytes: options.log_mb << 20,
        cache_bytes: (options.cache_mb << 20) / 2,
        values_bytes: (options.cache_mb << 20) / 2,
        reserve_bytes: options.reserve_mb << 20,
        ..storage::Options::default()
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

/// Asks the ECS to move everything away and waits until no view lists this server, for as long as is allowed. Where no
/// other server is up, it does not wait: a whole cluster that is stopped at once stops at once. Returns whether
/// everything was handed over.
async fn drain(
    options: &Options,
    reports: &UnboundedSender<ServerReport>,
    mut views: watch::Receiver<Option<Arc<View>>>,
    me: &Sender,
) -> bool {
    let is_member = |view: &View| view.servers.contains_key(&me.server);
    let has_heir = |view: &View| {
        view.servers.iter().any(|(server, info)| *server != me.server && info.state == ServerState::Up)
    };
    let waits =
        |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| is_member(view) && has_heir(view));
    if options.drain_ms == 0 || !waits(&views.borrow()) {
        return false;
    }
    tracing::info!("leaving: handing everything over (again to stop at once)");
    let _gone = reports.send(ServerReport::Leave {});
    let limit = Duration::from_millis(options.drain_ms);
    match tokio::time::timeout(limit, views.wait_for(|view| !waits(view))).await {
        Ok(Ok(view)) if view.as_ref().is_some_and(|view| is_member(view)) => {
            tracing::info!(
                "no other server stays: stopping. What is here is on disk and counts again at the next start"
            );
            return false;
        }
        Ok(_) => {
            tracing::info!("everything is handed over");
            return true;
        }
        Err(_) => tracing::warn!(
            "not everything was handed over within {} ms (--drain-ms): the other servers have not caught up, or the \
             ECS does not answer. Stopping; what is here is on disk and counts again at the next start",
            options.drain_ms
        ),
    }
    false
}
