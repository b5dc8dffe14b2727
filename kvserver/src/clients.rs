//! Connections that come in: one port for everything. The first bytes decide: a binary link begins with a byte that
//! is no ASCII, a Redis client with `*` or with the name of one of its commands, everything else is text.

mod binary;
mod first;
mod order;
mod resp;
mod text;
mod window;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::frame::PREFACE;
use common::ids::{Epoch, LogId, PartitionId};
use common::messages::{Reply, Sender};
use common::view::View;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use self::first::First;
pub(crate) use self::resp::Registry;
use crate::driver::{Event, Events};
use crate::farewell::Traffic;
use crate::gauge::Gauge;
use crate::limits::HELLO_FOR;
use crate::protocol::text::RangeLists;

/// Connections beyond `--max-connections` that may say what they are: the links of other servers and of the ECS must
/// come about however many clients there are.
const STRANGERS_MAX: usize = 64;

/// After the system could give no connection, until it is asked for the next.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) me: Sender,
    pub(crate) events: Events,
    pub(crate) views: watch::Receiver<Option<Arc<View>>>,
    /// The view that clients were told last, encoded once for all of them.
    pub(crate) told: Arc<Mutex<Option<(Epoch, Bytes)>>>,
    pub(crate) ranges: watch::Receiver<Arc<RangeLists>>,
    pub(crate) value_bytes_max: usize,
    /// What all connections have open, see [`window`].
    pub(crate) open_bytes: Gauge,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) resp: Arc<Registry>,
    pub(crate) traffic: Traffic,
}

impl Shared {
    /// This server has a part in the view.
    pub(crate) fn serves(&self) -> bool {
        self.views.borrow().as_ref().is_some_and(|view| view.servers.contains_key(&self.me.server))
    }

    /// The view in use, as JSON.
    pub(crate) fn view_json(&self) -> Option<Bytes> {
        let view = self.views.borrow().clone()?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_none_or(|(number, _)| *number != view.number) {
            let json = serde_json::to_vec(&*view).expect("a view is JSON");
            *told = Some((view.number, json.into()));
        }
        told.as_ref().map(|(_, json)| json.clone())
    }

    /// How the server does, as JSON.
    pub(crate) async fn status(&self) -> Option<Vec<u8>> {
        let (answer, status) = oneshot::channel();
        self.events.send(Event::Status(answer)).ok()?;
        Some(serde_json::to_vec(&status.await.ok()?).expect("a status is JSON"))
    }

    /// The digest of the copy here as it was at an entry.
    pub(crate) async fn digest(&self, partition: PartitionId, at: LogId) -> Reply {
        let (answer, digest) = oneshot::channel();
        let _gone = self.events.send(Event::Digest(partition, at, answer));
        match digest.await.ok().flatten() {
            Some(digest) => Reply::Digest { digest },
            None => Reply::Busy {
                reason: format!("there is no digest of partition {partition} at entry {at} yet"),
            },
        }
    }
}

/// The place of a connection among those that are allowed. Links of members need none.
enum Place {
    /// One of `--max-connections`.
    Client(#[expect(dead_code, reason = "held for as long as the connection is open")] OwnedSemaphorePermit),
    /// All of those are taken. It may stay if it turns out to be a member's link.
    Stranger(#[expect(dead_code, reason = "held until it has said what it is")] OwnedSemaphorePermit),
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// Everything.
    Any,
    /// Text alone. `greeting`: the server sends one line first.
    Text { greeting: bool },
}

impl Port {
    fn strangers_max(self) -> usize {
        match self {
            Self::Any => STRANGERS_MAX,
            Self::Text { .. } => 0,
        }
    }
}

/// Accepts connections until the port is to close. Those that the system has taken by then are served as well.
pub(crate) async fn accept(
    listener: TcpListener,
    shared: Shared,
    mut closing: watch::Receiver<bool>,
    port: Port,
) {
    let door = Door { shared, strangers: Arc::new(Semaphore::new(port.strangers_max())), port };
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _closing = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, from)) => {
                failing = false;
                door.admit(stream, from).await;
            }
            Err(error) => {
                // Out of memory or files, which may pass, or a connection that ended at once.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("a connection could not be accepted: {error}; trying again");
                }
                let _over = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
            }
        }
    }
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, from)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            door.admit(stream, from).await;
        }
    }
}

/// Who gets in at a port.
struct Door {
    shared: Shared,
    strangers: Arc<Semaphore>,
    port: Port,
}

impl Door {
    async fn admit(&self, stream: TcpStream, from: SocketAddr) {
        let client = Arc::clone(&self.shared.connections).try_acquire_owned().map(Place::Client);
        let place = client.or_else(|_| Arc::clone(&self.strangers).try_acquire_owned().map(Place::Stranger));
        let Ok(place) = place else {
            tracing::debug!(%from, "refused: --max-connections are open");
            return text::refuse(stream).await;
        };
        let (shared, port) = (self.shared.clone(), self.port);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, shared, place, port).await {
                tracing::debug!(%from, "connection ended: {error}");
            }
        });
    }
}

async fn serve(mut stream: TcpStream, shared: Shared, place: Place, port: Port) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let local: SocketAddr = stream.local_addr()?;
    if let Port::Text { greeting } = port {
        return text::serve(stream, shared, greeting.then_some(local), BytesMut::new()).await;
    }
    let mut first = [0; 1];
    let peeked = match &place {
        Place::Client(_) => stream.peek(&mut first).await?,
        Place::Stranger(_) => match timeout(HELLO_FOR, stream.peek(&mut first)).await {
            Ok(peeked) => peeked?,
            Err(_) => {
                text::refuse(stream).await;
                return Ok(());
            }
        },
    };
    match place {
        _ if peeked == 0 => Ok(()),
        place if first[0] == PREFACE[0] => binary::serve(stream, shared, place).await,
        Place::Client(_) => {
            let (first, input) = first::read(&mut stream).await?;
            match first {
                First::Resp => resp::serve(stream, shared, input).await,
                First::Text => text::serve(stream, shared, None, input).await,
            }
        }
        Place::Stranger(_) if first[0] == b'*' => {
            resp::refuse(stream).await;
            Ok(())
        }
        Place::Stranger(_) => {
            text::refuse(stream).await;
            Ok(())
        }
    }
}
