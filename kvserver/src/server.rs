//! A server from start to stop: opens its store, starts its threads and tasks, hands everything over when it leaves.

mod assembly;
mod drain;
mod files;
mod ports;
mod recovery;
pub(crate) mod shutdown;
mod threads;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use common::address::HostNames;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::assembly::{Started, start};
use self::drain::drain;
use self::files::Files;
pub use self::ports::bind;
use self::ports::{Ports, bind_http};
use self::recovery::open_store;
use crate::driver::Event;
use crate::error::{Error, Failure};
use crate::http::{self, Shown};
use crate::options::Options;
use crate::store::quarantine;
use crate::store::suspect::Suspect;

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
                            started.shutdown.run().await;
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
