//! A server from start to stop: opens its store, starts its threads and tasks, hands everything over when it leaves.

mod files;
mod ports;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::clock;
use common::ids::{ClientId, ClusterId, Epoch, PartitionId};
use common::messages::{Sender, ServerReport};
use common::ring::Partitions;
use common::view::{ServerState, View};
use storage::LogWriter;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::clients::{self, Port, Shared};
use crate::copies;
use crate::core::{COPY_FROM, PARKED_BYTES_MAX, PENDING_BYTES_MAX};
use crate::core::{Config, Node, RecoveredCopy, Scrub};
use crate::damage;
use crate::digests;
use crate::disk;
use crate::driver::traces::TraceLog;
use crate::driver::{Driver, Event, Events, Parts};
use crate::ecs_link::EcsLink;
use crate::error::{Error, Failure, condemns};
use crate::farewell::Farewell;
use crate::gauge::Gauge;
use crate::http::{self, Shown};
use crate::identity;
use crate::machine::Machine;
use crate::metrics::Connections;
use crate::options::Options;
use crate::peers::Peers;
use crate::protocol::text::RangeLists;
use crate::pulse::DiskWatch;
use crate::scrub;
use crate::walks;
use files::Files;
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

/// A server whose store is open: it can serve.
pub(crate) struct Opened {
    options: Options,
    started: Started,
    http: Option<TcpListener>,
}

/// Opens the store and starts what works on it.
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
    let started = start(&options, local, Ports { listener, text })?;
    Ok(Opened { options, started, http })
}

impl Opened {
    /// Where metrics and health are told, if they are.
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
        // Its end ends the port: nothing of it outlives the call.
        let mut http = JoinSet::new();
        if let Some(listener) = self.http.take() {
            http.spawn(http::serve(listener, self.started.shown.clone()));
        }
        let ended = self.serve_clients(stop).await;
        http.shutdown().await;
        ended
    }

    async fn serve_clients<Leave, Now>(self, stop: Stop<Leave, Now>) -> Result<(), Error>
    where
        Leave: Future<Output = ()> + Send,
        Now: Future<Output = ()> + Send,
    {
        let Self { options, started, .. } = self;
        let mut ended = started.ended;
        let Stop { leave, now } = stop;
        tokio::pin!(now);
        tokio::select! {
            outcome = &mut ended => return finish(outcome),
            () = &mut now => {}
            () = leave => {
                tokio::select! {
                    outcome = &mut ended => return finish(outcome),
                    () = &mut now => {}
                    () = async {
                        if drain(&options, &started.reports, started.views.clone(), &started.me).await {
                            started.farewell.say().await;
                        }
                    } => {}
                }
            }
        }
        let _gone = started.events.send(Event::Stop);
        finish(ended.await)
    }
}

type Ended = oneshot::Receiver<Result<(), Failure>>;

/// For the ECS to hear that the store failed, before the process ends. Without that word it hears that the link ended.
const TELL_FOR: Duration = Duration::from_millis(500);

/// A store that failed is noted, and the ECS is told. What condemns no store is not.
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

/// What became of the server. A panic is a bug, and says nothing of the store: what is on disk is as after a kill.
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
    farewell: Farewell,
    ended: Ended,
    shown: Shown,
}

/// A store as it was found.
struct Found {
    log: LogWriter,
    machine: Machine,
    copies: BTreeMap<PartitionId, RecoveredCopy>,
}

/// Why a store was not opened.
enum NotOpened {
    /// It must not be used as it is.
    Damaged(String),
    /// Something else, which says nothing of it.
    Refused(storage::Error),
}

impl NotOpened {
    fn into_error(self, dir: &Path) -> Error {
        match self {
            Self::Damaged(reason) => Error::Condemned { reason },
            Self::Refused(error) => Error::storage(dir)(error),
        }
    }
}

/// Opens the store and reads what belongs to it.
fn find(dir: &Path, options: &storage::Options) -> Result<Found, NotOpened> {
    let opened = storage::Store::open(dir, options).map_err(|error| {
        if condemns(&error) { NotOpened::Damaged(error.to_string()) } else { NotOpened::Refused(error) }
    })?;
    let malformed = |detail| NotOpened::Damaged(format!("{}: {detail}", dir.display()));
    let (machine, copies) = Machine::new(opened.trees, opened.reader, opened.recovered).map_err(malformed)?;
    Ok(Found { log: opened.log, machine, copies })
}

fn start(options: &Options, local: SocketAddr, ports: Ports) -> Result<Started, Error> {
    let dir = options.dir.clone();
    std::fs::create_dir_all(&dir).map_err(|source| Error::Directory { dir: dir.clone(), source })?;
    let files = Files::share(common::files::raise_limit(), options.max_connections);
    if let Some(reason) = identity::condemned(&dir)? {
        damage::set_aside(&dir, &reason)?;
    }
    let storage_options = store_options(options, files);
    let Found { log, machine, copies } = match find(&dir, &storage_options) {
        Err(NotOpened::Damaged(reason)) => {
            damage::set_aside(&dir, &reason)?;
            find(&dir, &storage_options)
        }
        found => found,
    }
    .map_err(|not_opened| not_opened.into_error(&dir))?;
    let me = identity::begin(&dir)?;
    let view = identity::read_view(&dir)?;
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
        mutation: None,
    };
    let node = Node::new(config, me, view.clone(), copies, clock::now());
    let node = node.promised(identity::read_promise(&dir, me.store)?);
    let (events, inbox) = unbounded_channel();
    let (reports, report_queue) = unbounded_channel();
    let (view_sender, views) = watch::channel(view);
    let (snapshot_sender, snapshots) = watch::channel(None);
    let address = options.advertise.clone().unwrap_or_else(|| local.to_string());
    let watch = Arc::new(DiskWatch::default());
    let (log, log_thread) = disk::queue(log, Arc::clone(&watch));
    let (log_events, log_dir) = (events.clone(), dir.clone());
    let log_thread = spawn("log", move || log_thread.run(&log_dir, &log_events))?;
    let ((readers, read_jobs), read_events) = (channel(), events.clone());
    let ((builders, build_jobs), build_events) = (channel(), events.clone());
    let ((scrubber, scrub_jobs), scrub_events) = (channel(), events.clone());
    let ((digester, digest_jobs), digest_events) = (channel(), events.clone());
    let ((walker, walks), walk_events) = (channel(), events.clone());
    // What they hold keeps the store in use: they end before the server does.
    let helpers = [
        log_thread,
        spawn_background("copies-read", move || copies::read(&read_jobs, &read_events))?,
        spawn_background("copies-build", move || copies::build(&build_jobs, &build_events))?,
        spawn_background("scrub", move || scrub::run(&scrub_jobs, &scrub_events))?,
        spawn_background("digests", move || digests::run(&digest_jobs, &digest_events))?,
        spawn("walks", move || walks::run(&walks, &walk_events))?,
    ];
    let runtime = core_runtime()?;
    let farewell = Farewell::new(files.connections);
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
        peers: Peers::new(me, runtime.handle().clone(), events.clone()),
        views: view_sender,
        reports: reports.clone(),
        snapshots: snapshot_sender,
        traffic: farewell.traffic.clone(),
        me,
        address,
        ecs: options.ecs.clone(),
        weight: options.weight,
        slow_ms: options.slow_ms,
        traces: traces.clone(),
    };
    let empty = Arc::new(View::new(ClusterId(0), Epoch::default(), Partitions::default()));
    let first = views.borrow().clone().unwrap_or(empty);
    let (closing, text_closing) = (farewell.closing.subscribe(), farewell.closing.subscribe());
    let (ranges, range_lists) = watch::channel(Arc::new(RangeLists::new(first)));
    let connections = Connections {
        open_bytes: Gauge::default(),
        free: Arc::clone(&farewell.connections),
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
        connections: Arc::clone(&farewell.connections),
        traffic: farewell.traffic.clone(),
        resp: Arc::new(clients::Registry::new()),
    };
    let link = EcsLink {
        address: options.ecs.clone(),
        me,
        reports: report_queue,
        views: views.clone(),
        events: events.clone(),
        timers: options.timers.timers(),
        disk: watch,
    };
    // Not on the core's thread, which may be in a write.
    let link = tokio::spawn(link.run());
    let ports = ports.move_to(&runtime)?;
    let greeting = options.greeting;
    let (end, ended) = oneshot::channel();
    let last_words = reports.clone();
    spawn("core", move || {
        let outcome = {
            let _handle = runtime.enter();
            tokio::spawn(clients::accept(ports.listener, shared.clone(), closing, Port::Any));
            if let Some(text) = ports.text {
                tokio::spawn(clients::accept(text, shared.clone(), text_closing, Port::Text { greeting }));
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
        // Its ports are free again, and the driver's end ends the helpers' jobs; the log is closed in good order.
        drop(runtime);
        for helper in helpers {
            let _panicked = helper.join();
        }
        traces.stop();
        let _gone = end.send(outcome);
    })?;
    let shown = Shown { snapshots, connections };
    Ok(Started { views, reports, events, me, farewell, ended, shown })
}

/// All that happens between a socket and the core happens on one thread: a request wakes nobody on its way.
fn core_runtime() -> Result<Runtime, Error> {
    let started = Builder::new_current_thread().enable_all().build();
    started.map_err(|source| Error::Io { action: "start the runtime", source })
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

/// The range lists follow the view; they are made when somebody asks.
async fn keep_ranges(mut views: watch::Receiver<Option<Arc<View>>>, ranges: watch::Sender<Arc<RangeLists>>) {
    while views.changed().await.is_ok() {
        if let Some(view) = views.borrow_and_update().clone() {
            ranges.send_replace(Arc::new(RangeLists::new(view)));
        }
    }
}

/// Asks the ECS to move everything away and waits until no view lists this server, for as long as is allowed. Where
/// no other server is up, there is nobody to wait for: a whole cluster that is stopped at once stops at once. Whether
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
