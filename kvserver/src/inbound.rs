//! Connections that come in: one port for everything. The first bytes decide: a binary link begins with a byte that
//! is no ASCII, a Redis client with `*` or with the name of one of its commands, everything else is text.

mod binary;
mod first_bytes;
mod intake;
mod order;
mod resp;
mod silent;
mod text;
mod window;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::clock;
use common::frame::PREFACE;
use common::ids::{Epoch, LogId, PartitionId};
use common::messages::{Reply, Sender};
use common::stream::{self, Stream};
use common::view::View;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

pub(crate) use self::binary::{next_frame, read_hello};
use self::first_bytes::First;
pub(crate) use self::intake::{InputBudget, Intake};
pub(crate) use self::resp::Registry;
use self::silent::{Quiet, Silent};
use crate::agreed::AgreedClock;
use crate::driver::{Event, Events};
use crate::limits::{FIRST_BYTE_FOR, HELLO_FOR, PLACE_WITHIN};
use crate::net::byte_counter::ByteCounter;
use crate::protocol::text::RangeLists;
use crate::server::shutdown::{LastCall, Traffic};

/// Connections beyond `--max-connections` that are let in until their first bytes show what they are: links of other
/// servers and of the ECS must be possible however many clients there are.
const STRANGERS_MAX: usize = 64;

/// The pause after the system failed to accept a connection, until the next try.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// State that all connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) me: Sender,
    pub(crate) events: Events,
    pub(crate) views: watch::Receiver<Option<Arc<View>>>,
    /// The view that was last sent to clients, encoded once for all of them.
    pub(crate) told: Arc<Mutex<Option<(Epoch, Bytes)>>>,
    pub(crate) ranges: watch::Receiver<Arc<RangeLists>>,
    pub(crate) value_bytes_max: usize,
    /// Bytes that all connections have open, see [`window`].
    pub(crate) open_bytes: ByteCounter,
    /// Budgets for unfinished requests: of clients, and of other servers and the ECS.
    pub(crate) input: InputBudget,
    pub(crate) members_input: InputBudget,
    /// The runtime of the thread that serves links of large messages.
    pub(crate) bulk: Handle,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) resp: Arc<Registry>,
    /// The clock by which values expire.
    pub(crate) agreed: AgreedClock,
    pub(crate) traffic: Traffic,
    /// Says when connections are to read no more.
    pub(crate) last_call: LastCall,
}

impl Shared {
    /// Whether this server has a role in some partition of the view.
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

    /// The server's status, as JSON.
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
    /// A permit of `--max-connections`.
    Client(#[expect(dead_code, reason = "held for as long as the connection is open")] OwnedSemaphorePermit),
    /// All permits of clients are taken. The connection may stay if it turns out to be a member's link.
    Stranger(#[expect(dead_code, reason = "held until it has said what it is")] OwnedSemaphorePermit),
}

/// The protocols that a port takes.
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
    let strangers = Arc::new(Semaphore::new(port.strangers_max()));
    let acceptor = Acceptor { shared, strangers, silent: Arc::default(), port };
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = stream::accept(&listener) => accepted,
            _closing = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, from)) => {
                failing = false;
                acceptor.admit(stream, from).await;
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
    for (stream, from) in stream::close(listener) {
        acceptor.admit(stream, from).await;
    }
}

/// Admits connections at a port.
struct Acceptor {
    shared: Shared,
    strangers: Arc<Semaphore>,
    silent: Arc<Silent>,
    port: Port,
}

impl Acceptor {
    async fn admit(&self, stream: Stream, from: SocketAddr) {
        let Some(place) = self.place().await else {
            tracing::debug!(%from, "refused: --max-connections are open");
            return text::refuse(stream).await;
        };
        let (shared, port) = (self.shared.clone(), self.port);
        let quiet = self.silent.begin(matches!(place, Place::Client(_)), clock::time());
        tokio::spawn(async move {
            if let Err(error) = serve(stream, shared, place, port, quiet).await {
                tracing::debug!(%from, "connection ended: {error}");
            }
        });
    }

    /// A place for a new connection. If there is none, a connection that has sent nothing for a while is closed to make
    /// room.
    async fn place(&self) -> Option<Place> {
        let clients = || Arc::clone(&self.shared.connections);
        if let Ok(place) = clients().try_acquire_owned() {
            return Some(Place::Client(place));
        }
        if self.silent.end_oldest(true, clock::time())
            && let Ok(Ok(place)) = timeout(PLACE_WITHIN, clients().acquire_owned()).await
        {
            return Some(Place::Client(place));
        }
        let strangers = || Arc::clone(&self.strangers);
        if let Ok(place) = strangers().try_acquire_owned() {
            return Some(Place::Stranger(place));
        }
        if !self.silent.end_oldest(false, clock::time()) {
            return None;
        }
        timeout(PLACE_WITHIN, strangers().acquire_owned()).await.ok()?.ok().map(Place::Stranger)
    }
}

/// The first byte of a connection, which stays unread; `None` at its end. A connection that is silent for too long gets
/// an error, and is not served.
async fn first_byte(stream: &Stream, place: &Place, quiet: &Quiet) -> std::io::Result<Option<u8>> {
    let mut first = [0; 1];
    let within = match place {
        Place::Client(_) => FIRST_BYTE_FOR,
        Place::Stranger(_) => HELLO_FOR,
    };
    let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, "it has said nothing");
    let peeked = tokio::select! {
        peeked = timeout(within, stream.peek(&mut first)) => peeked.map_err(|_| silent())??,
        () = quiet.ended() => return Err(silent()),
    };
    Ok((peeked > 0).then_some(first[0]))
}

async fn serve(
    mut stream: Stream,
    mut shared: Shared,
    place: Place,
    port: Port,
    quiet: Quiet,
) -> std::io::Result<()> {
    if let Port::Text { greeting: true } = port {
        text::greet(&mut stream).await?;
    }
    let first = tokio::select! {
        first = first_byte(&stream, &place, &quiet) => first,
        () = shared.last_call.called() => return Ok(()),
    };
    let first = match first {
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            text::refuse(stream).await;
            return Err(error);
        }
        first => first?,
    };
    drop(quiet);
    match (first, place) {
        (None, _) => Ok(()),
        (Some(_), _) if port != Port::Any => text::serve(stream, shared, BytesMut::new()).await,
        (Some(first), place) if first == PREFACE[0] => binary::serve(stream, shared, place).await,
        (Some(_), Place::Client(_)) => {
            let (first, input) = tokio::select! {
                read = first_bytes::read(&mut stream) => read?,
                () = shared.last_call.called() => return Ok(()),
            };
            match first {
                First::Resp => resp::serve(stream, shared, input).await,
                First::Text => text::serve(stream, shared, input).await,
            }
        }
        (Some(b'*'), Place::Stranger(_)) => {
            resp::refuse(stream).await;
            Ok(())
        }
        (Some(_), Place::Stranger(_)) => {
            text::refuse(stream).await;
            Ok(())
        }
    }
}
