//! Around the core: sockets, the clock, the disk.
//!
//! - `driver` is the one task that owns the core. Everybody else asks it over a bounded queue.
//! - `inbound` takes connections: by their first byte binary links (servers' reports, clients) or HTTP (`http`).
//! - `board` keeps what servers tell of their load, for people.
//! - `outbound` brings views to the servers, on links that it opens.
//!
//! Tasks end with [`Opened::serve`]: nothing of it outlives the call.

mod board;
mod driver;
mod http;
mod inbound;
mod outbound;
mod wire;

use std::sync::Arc;

use common::clock;
use common::ids::{ClusterId, Epoch, RebuildId};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::core::{Ecs, State};
use crate::error::Error;
use crate::journal::{Directory, Journal};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, FILES_OF_ITS_OWN};
use crate::options::Options;
use driver::Driver;

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
        if let Some(min_copies) = options.min_copies {
            state.settings.min_copies = min_copies;
        }
        if let Some(stand_by) = options.stand_by {
            state.settings.stand_by = stand_by;
        }
        let (min, copies) = (state.settings.min_copies, options.copies);
        if min > copies {
            return Err(Error::MinCopies { min, copies });
        }
        if found.as_ref() != Some(&state) {
            directory.store(&state)?;
        }
        Ok(Self { options: options.clone(), directory, state })
    }

    /// The cluster.
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
        let connections = accept(listener, &handle);
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
        // Started by mistake on the empty directory: no server has ever been in it.
        Some(state) if state.view.number != Epoch::default() || !state.registry.is_empty() => {
            Err(Error::Rebuild { path: options.dir.clone(), cluster: state.view.cluster })
        }
        _ => Ok(State::rebuild(cluster, RebuildId::random())),
    }
}

/// Takes connections for ever. Beyond the limit they are closed at once.
async fn accept(listener: TcpListener, handle: &driver::Handle) {
    let max = CONNECTIONS_MAX.min(common::files::raise_limit().saturating_sub(FILES_OF_ITS_OWN)).max(1);
    let permits = Arc::new(Semaphore::new(max));
    let mut connections = JoinSet::new();
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, for one: what is open must be closed before it is of use to go on.
                warn!(%error, "cannot take a connection");
                let _ = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
                continue;
            }
        };
        let permit = permits.clone().try_acquire_owned().ok();
        if permit.is_none() && !full {
            warn!(max, "too many connections: new ones are closed until others end");
        }
        full = permit.is_none();
        let Some(permit) = permit else { continue };
        let handle = handle.clone();
        connections.spawn(async move {
            inbound::serve(stream, &handle).await;
            drop(permit);
        });
    }
}
