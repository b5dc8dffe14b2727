//! Around the core: sockets, the clock, the disk.
//!
//! - `driver` is the one task that owns the core. All other tasks ask it over a bounded queue.
//! - `inbound` takes connections: by their first byte binary links (servers' reports, clients) or HTTP (`http`).
//! - `board` keeps the load that servers report, for people.
//! - `permits` limits the connections of each kind.
//! - `outbound` brings views to the servers, on links that it opens.
//!
//! Tasks end with [`Opened::serve`]: nothing of it outlives the call.

mod board;
mod driver;
mod http;
mod inbound;
mod outbound;
mod permits;
mod wire;

use std::sync::Arc;

use common::address::HostNames;
use common::clock;
use common::ids::{ClusterId, Epoch, RebuildId};
use common::stream;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::error::Error;
use crate::journal::{Directory, Journal};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, FILES_OF_ITS_OWN, LARGE_REPORTS_BYTES_MAX};
use crate::options::{MinCopies, Options};
use driver::Driver;
use ecs_core::{Ecs, State};
use permits::Permits;

pub use driver::{Difference, EventRecord};

/// An ECS whose directory is open and locked, ready to serve.
#[derive(Debug)]
pub struct Opened {
    options: Options,
    directory: Directory,
    state: State,
}

/// Runs an ECS on a listener until `shutdown` comes to its end: open, then serve.
///
/// # Errors
/// When the directory cannot be used, or, later, the state cannot be written.
pub async fn run(
    options: &Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    Opened::open(options)?.serve(listener, shutdown).await
}

impl Opened {
    /// Opens the directory of the options and reads its state; creates a cluster in a new one.
    ///
    /// # Errors
    /// When the directory cannot be used, the state is damaged, or the cluster has another number of partitions.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let directory = Directory::open(&options.dir)?;
        let found = directory.load()?;
        let new = || State::new(ClusterId::random(), options.partitions_of_new());
        let mut state = match options.rebuild {
            Some(cluster) => rebuilt(options, found.clone(), cluster)?,
            None => found.clone().unwrap_or_else(new),
        };
        let have = state.view.partitions;
        if let Some(asked) = options.partitions.filter(|&asked| asked != have) {
            return Err(Error::Partitions { have: have.into(), asked: asked.into() });
        }
        if let Some(MinCopies(min_copies)) = options.min_copies {
            state.settings.min_copies = min_copies;
        }
        if let Some(stand_by) = options.stand_by {
            state.settings.stand_by = stand_by;
        }
        let (min, copies) = (state.settings.min_copies, options.copies);
        if let Some(min) = min.filter(|&min| min > copies) {
            return Err(Error::MinCopies { min, copies });
        }
        if found.as_ref() != Some(&state) {
            directory.store(&state)?;
        }
        Ok(Self { options: options.clone(), directory, state })
    }

    /// The id that servers must know to join.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.state.view.cluster
    }

    /// Serves on a listener until `shutdown` comes to its end.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let cluster = self.cluster();
        info!(%cluster, view = %self.state.view.number, servers = self.state.view.servers.len(), "ecs starts");
        let ecs = Ecs::new(self.options.config(), self.state, clock::time());
        let (driver, handle, done) = Driver::new(ecs);
        let journal = Journal::start(self.directory, done)?;
        let board = handle.board().clone();
        let names = self.options.host_names.clone().unwrap_or_default().with_machine();
        let connections = accept(listener, &handle, Arc::new(names));
        let result = tokio::select! {
            error = driver.run(&journal) => Err(error),
            () = connections => Ok(()),
            () = board.run() => Ok(()),
            () = shutdown => Ok(()),
        };
        info!("ecs stops");
        result
    }
}

/// The state of an ECS that knows nothing, or that of one which is being rebuilt already.
fn rebuilt(options: &Options, found: Option<State>, cluster: ClusterId) -> Result<State, Error> {
    match found {
        Some(state) if state.rebuild.is_some() && state.view.cluster == cluster => Ok(state),
        // A state without a server: the ECS was started on the empty directory by mistake.
        Some(state) if state.view.number != Epoch::default() || !state.registry.is_empty() => {
            Err(Error::Rebuild { path: options.dir.clone(), cluster: state.view.cluster })
        }
        _ => Ok(State::rebuild(cluster, RebuildId::random())),
    }
}

/// Accepts connections for ever. Beyond the limit idle ones are closed to make room, see [`permits`].
async fn accept(listener: TcpListener, handle: &driver::Handle, names: Arc<HostNames>) {
    let max = CONNECTIONS_MAX.min(common::files::raise_limit().saturating_sub(FILES_OF_ITS_OWN)).max(1);
    let (permits, large) = (Permits::new(max), Arc::new(Semaphore::new(LARGE_REPORTS_BYTES_MAX)));
    let mut connections = JoinSet::new();
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = stream::accept(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // For example too many open files: some must be closed before another try is of use.
                warn!(%error, "cannot take a connection");
                let _ = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
                continue;
            }
        };
        let permit = permits.take();
        if permit.is_none() && !full {
            warn!(max, "too many servers are connected: new connections are closed until others end");
        }
        full = permit.is_none();
        let Some(permit) = permit else { continue };
        let (handle, names, large) = (handle.clone(), Arc::clone(&names), Arc::clone(&large));
        connections.spawn(async move {
            let ended = permit.ended();
            tokio::select! {
                () = ended => debug!("a connection made room for another"),
                () = inbound::serve(stream, &handle, names, permit, large) => {}
            }
        });
    }
}
