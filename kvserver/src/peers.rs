//! Links to the other servers: one outgoing link each, one way. Messages may be lost; the core sends again.
//!
//! A link to a server that has left stays for a moment: requests that it had passed on are still to be answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::codec::Wire;
use common::frame::{PREFACE, write_frame};
use common::ids::{ClusterId, ServerId};
use common::messages::{Hello, PeerMessage, Sender};
use common::view::View;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::backoff::{Backoff, connect};
use crate::core::Input;
use crate::driver::{Event, Events};
use crate::limits::{LINKED_AFTER, PEER_FRAME_BYTES, PEER_QUEUE_BYTES_MAX};
use crate::outlet::Outlet;

/// All links of this server.
pub(crate) struct Peers {
    me: Sender,
    runtime: Handle,
    events: Events,
    links: BTreeMap<ServerId, Link>,
}

struct Link {
    address: String,
    /// The server is in the view.
    listed: watch::Sender<bool>,
    outlet: Arc<Outlet>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peers {
    pub(crate) fn new(me: Sender, runtime: Handle, events: Events) -> Self {
        Self { me, runtime, events, links: BTreeMap::new() }
    }

    /// Links follow the view: new servers get one, a server with another address a new one.
    pub(crate) fn on_view(&mut self, view: &View) {
        self.links.retain(|server, link| {
            let info = view.servers.get(server);
            link.listed.send_replace(info.is_some());
            !link.task.is_finished() && info.is_none_or(|info| info.address == link.address)
        });
        for (&server, info) in &view.servers {
            if server != self.me.server && !self.links.contains_key(&server) {
                let link = self.link(server, info.address.clone(), view.cluster);
                self.links.insert(server, link);
            }
        }
    }

    fn link(&self, to: ServerId, address: String, cluster: ClusterId) -> Link {
        let outlet = Arc::new(Outlet::default());
        let (listed, is_listed) = watch::channel(true);
        let outgoing = Outgoing {
            to,
            address: address.clone(),
            hello: Hello::Peer { cluster, sender: self.me, to },
            outlet: Arc::clone(&outlet),
            events: self.events.clone(),
            listed: is_listed.clone(),
        };
        let task = self.runtime.spawn(async move {
            tokio::select! {
                () = outgoing.run() => {}
                () = has_left(is_listed) => outgoing.outlet.disconnect(),
            }
        });
        Link { address, listed, outlet, task }
    }

    /// Sends messages; drops them if the server is unknown, not linked, or takes nothing any more.
    pub(crate) fn send(&self, to: ServerId, messages: Vec<PeerMessage>) {
        if let Some(link) = self.links.get(&to) {
            link.outlet.send(PEER_QUEUE_BYTES_MAX, |out| encode(messages, out));
        }
    }
}

/// Frames of messages, none much larger than [`PEER_FRAME_BYTES`] unless one message is.
fn encode(messages: Vec<PeerMessage>, out: &mut Vec<u8>) {
    let mut messages = messages.into_iter().peekable();
    while messages.peek().is_some() {
        write_frame(out, |payload| {
            let start = payload.len();
            while payload.len() - start < PEER_FRAME_BYTES
                && let Some(message) = messages.next()
            {
                message.write(payload);
            }
        });
    }
}

struct Outgoing {
    to: ServerId,
    address: String,
    hello: Hello,
    outlet: Arc<Outlet>,
    events: Events,
    listed: watch::Receiver<bool>,
}

/// Returns when a server has been in no view for [`LINKED_AFTER`].
async fn has_left(mut listed: watch::Receiver<bool>) {
    loop {
        let left = listed.wait_for(|listed| !listed).await.is_err();
        if left || timeout(LINKED_AFTER, listed.wait_for(|listed| *listed)).await.is_err() {
            return;
        }
    }
}

impl Outgoing {
    /// Serves one link after the other, until one breaks to a server that is in no view.
    async fn run(&self) {
        let mut backoff = Backoff::default();
        let mut reachable = true;
        while *self.listed.borrow() {
            let error = match connect(&self.address).await {
                Ok(stream) => {
                    reachable = true;
                    tracing::debug!(peer = %self.to, address = %self.address, "linked");
                    let error = self.serve(stream, &mut backoff).await;
                    // What waited is lost; the core sends again what matters.
                    self.outlet.disconnect();
                    error
                }
                Err(error) => error,
            };
            if std::mem::take(&mut reachable) && *self.listed.borrow() {
                tracing::warn!(peer = %self.to, address = %self.address, "the link broke, trying again: {error}");
            }
            backoff.wait().await;
        }
    }

    /// Serves until the link breaks.
    async fn serve(&self, mut stream: TcpStream, backoff: &mut Backoff) -> std::io::Error {
        let mut out = PREFACE.to_vec();
        let hello = serde_json::to_vec(&self.hello).expect("a hello is JSON");
        write_frame(&mut out, |payload| payload.extend_from_slice(&hello));
        if let Err(error) = stream.write_all(&out).await {
            return error;
        }
        backoff.reset();
        let (reading, stream) = stream.into_split();
        let stream = Arc::new(stream);
        self.outlet.connect(Arc::clone(&stream));
        let _gone = self.events.send(Event::Core(Input::PeerLinked { server: self.to }));
        tokio::select! {
            error = self.outlet.drain(&stream) => error,
            error = end_of(&reading) => error,
        }
    }
}

/// Nothing comes back on a peer's link: what can be read is its end.
async fn end_of(stream: &OwnedReadHalf) -> std::io::Error {
    let mut nothing = [0; 1];
    loop {
        if let Err(error) = stream.readable().await {
            return error;
        }
        match stream.try_read(&mut nothing) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return error,
            Ok(_) => return std::io::ErrorKind::ConnectionReset.into(),
        }
    }
}
