//! Links to the other servers, one way each: at the other end `inbound/links` gives what comes to the driver. Messages
//! may be lost; the core sends again.
//!
//! There are three to each server, so that large messages never delay urgent ones ([`lanes`]). The first is
//! there from the beginning; the others are opened with the first message that goes by them. The third one belongs to a
//! thread of its own, which encodes what goes by it piece by piece ([`bulk`]).
//!
//! A link to a server that has left stays for a moment: requests that it had passed on are still to be answered. If
//! such a server goes on running and keeps a link to this one, this one keeps a link to it: it follows the views and
//! passes on what its clients ask.

mod bulk;
mod lanes;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::codec::Wire;
use common::frame::{PREFACE, write_frame};
use common::ids::{ClusterId, ServerId};
use common::messages::{Hello, PeerMessage, ProcessId};
use common::stream::Stream;
use common::view::View;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::driver::{Event, Events};
use crate::limits::{
    DATA_QUEUE_BYTES_MAX, LIFE_QUEUE_BYTES_MAX, LINKED_AFTER, PEER_FRAME_BYTES, STRANGERS_LINKED_MAX,
};
use crate::net::backoff::{Backoff, connect};
use crate::net::rope::Rope;
use crate::net::send_buffer::SendBuffer;
use bulk::BulkQueue;
use kvserver_core::Input;
use lanes::Lane;

/// All links of this server.
pub(crate) struct Peers {
    me: ProcessId,
    runtime: Handle,
    /// The runtime of the thread that serves large messages.
    bulk: Handle,
    events: Events,
    links: BTreeMap<ServerId, Link>,
    /// The port that this server listens at.
    port: u16,
    /// Servers that have links to this one, in the view or not: their addresses, and how many links.
    incoming: BTreeMap<ServerId, (String, usize)>,
    view: Option<Arc<View>>,
}

struct Link {
    address: String,
    /// Whether the server is in the view, or has a link to this one.
    listed: watch::Sender<bool>,
    life: Arc<SendBuffer>,
    data: Arc<SendBuffer>,
    bulk: Arc<BulkQueue>,
    tasks: [JoinHandle<()>; 3],
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Peers {
    /// `address`: at which others reach this server.
    pub(crate) fn new(me: ProcessId, address: &str, runtime: Handle, bulk: Handle, events: Events) -> Self {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
        let (links, incoming, view) = (BTreeMap::new(), BTreeMap::new(), None);
        Self { me, runtime, bulk, events, links, port, incoming, view }
    }

    /// Adapts the links to the view: new servers get links, and a server with another address new ones.
    pub(crate) fn on_view(&mut self, view: &Arc<View>) {
        self.view = Some(Arc::clone(view));
        self.relink();
    }

    /// Notes a link from a server that listens at `address`.
    pub(crate) fn on_incoming(&mut self, from: ServerId, address: String) {
        let known = self.incoming.entry(from).or_default();
        (known.0, known.1) = (address, known.1 + 1);
        self.relink();
    }

    /// Notes that such a link has ended.
    pub(crate) fn on_incoming_ended(&mut self, from: ServerId) {
        let Some(known) = self.incoming.get_mut(&from) else { return };
        known.1 -= 1;
        if known.1 == 0 {
            self.incoming.remove(&from);
        }
        self.relink();
    }

    fn relink(&mut self) {
        let Some(view) = self.view.clone() else { return };
        self.links.retain(|server, link| {
            let info = view.servers.get(server);
            link.listed.send_replace(info.is_some() || self.incoming.contains_key(server));
            let is_served = !link.tasks.iter().any(JoinHandle::is_finished);
            is_served && info.is_none_or(|info| info.address == link.address)
        });
        let strangers = self.incoming.iter().filter(|(server, _)| !view.servers.contains_key(server));
        let strangers = strangers.map(|(&server, (address, _))| (server, address.clone()));
        let strangers: Vec<_> = strangers.take(STRANGERS_LINKED_MAX).collect();
        let members = view.servers.iter().map(|(&server, info)| (server, info.address.clone()));
        for (server, address) in members.chain(strangers) {
            if server != self.me.server && !self.links.contains_key(&server) {
                let link = self.link(server, address, view.cluster);
                self.links.insert(server, link);
            }
        }
    }

    fn link(&self, to: ServerId, address: String, cluster: ClusterId) -> Link {
        let (life, data, bulk) =
            (Arc::new(SendBuffer::default()), Arc::new(SendBuffer::default()), Arc::default());
        let (listed, is_listed) = watch::channel(true);
        let spawn = |lane, runtime: &Handle, way: Way| {
            // Only one of the three links announces the address.
            let port = if lane == Lane::Life { self.port } else { 0 };
            let outgoing = Outgoing {
                to,
                lane,
                address: address.clone(),
                hello: Hello::Peer { cluster, sender: self.me, to, port, bulk: lane == Lane::Bulk },
                way,
                events: self.events.clone(),
                listed: is_listed.clone(),
            };
            let is_listed = is_listed.clone();
            runtime.spawn(async move {
                tokio::select! {
                    () = outgoing.run() => {}
                    () = has_left(is_listed) => outgoing.way.disconnect(),
                }
            })
        };
        let tasks = [
            spawn(Lane::Life, &self.runtime, Way::Prompt(Arc::clone(&life))),
            spawn(Lane::Data, &self.runtime, Way::Prompt(Arc::clone(&data))),
            spawn(Lane::Bulk, &self.bulk, Way::Bulk(Arc::clone(&bulk))),
        ];
        Link { address, listed, life, data, bulk, tasks }
    }

    /// Sends messages; drops them if the server is unknown, not linked, or takes nothing any more.
    pub(crate) fn send(&self, to: ServerId, messages: Vec<PeerMessage>) {
        let Some(link) = self.links.get(&to) else { return };
        let (mut life, mut data, mut bulk) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            match Lane::of(&message, to, self.view.as_deref()) {
                Lane::Life => life.push(message),
                Lane::Data => data.push(message),
                Lane::Bulk => bulk.push(message),
            }
        }
        if !life.is_empty() {
            link.life.send(LIFE_QUEUE_BYTES_MAX, |out| encode(life, out));
        }
        if !data.is_empty() {
            link.data.send(DATA_QUEUE_BYTES_MAX, |out| encode(data, out));
        }
        if !bulk.is_empty() {
            link.bulk.send(bulk);
        }
    }
}

/// Frames of messages, none much larger than [`PEER_FRAME_BYTES`] unless one message is.
fn encode(messages: Vec<PeerMessage>, out: &mut Rope) {
    let mut messages = messages.into_iter().peekable();
    while messages.peek().is_some() {
        out.frame(|payload| {
            let start = payload.len();
            while payload.len() - start < PEER_FRAME_BYTES
                && let Some(message) = messages.next()
            {
                message.write(payload);
            }
        });
    }
}

/// How messages wait for their socket.
enum Way {
    /// Encoded, on the core's thread.
    Prompt(Arc<SendBuffer>),
    /// As messages, for a thread of its own.
    Bulk(Arc<BulkQueue>),
}

impl Way {
    fn disconnect(&self) {
        match self {
            Self::Prompt(send_buffer) => send_buffer.disconnect(),
            Self::Bulk(queue) => queue.close(),
        }
    }

    /// Lets messages wait for a socket, and returns when some do.
    async fn wanted(&self) {
        match self {
            Self::Prompt(send_buffer) => {
                send_buffer.expect();
                send_buffer.wanted().await;
            }
            Self::Bulk(queue) => {
                queue.expect();
                queue.wanted().await;
            }
        }
    }
}

struct Outgoing {
    to: ServerId,
    lane: Lane,
    address: String,
    hello: Hello,
    way: Way,
    events: Events,
    listed: watch::Receiver<bool>,
}

/// Returns when a server has been in no view, and has not linked here, for [`LINKED_AFTER`].
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
        // Only the first of the three links to a server logs that it broke, as the others break with it.
        let mut reachable = self.lane == Lane::Life;
        let mut lost = self.lane == Lane::Life;
        while *self.listed.borrow() {
            if self.lane != Lane::Life {
                self.way.wanted().await;
            }
            let error = match connect(&self.address).await {
                Ok(stream) => {
                    reachable = self.lane == Lane::Life;
                    tracing::debug!(peer = %self.to, address = %self.address, lane = ?self.lane, "linked");
                    self.serve(stream, &mut backoff, lost).await
                }
                Err(error) => error,
            };
            // Messages that waited are lost; the core sends again those that matter.
            self.way.disconnect();
            lost = true;
            if std::mem::take(&mut reachable) && *self.listed.borrow() {
                tracing::warn!(peer = %self.to, address = %self.address, "the link broke, trying again: {error}");
            }
            backoff.wait().await;
        }
    }

    /// Serves until the link breaks. `lost`: messages may have been lost before.
    async fn serve(&self, mut stream: Stream, backoff: &mut Backoff, lost: bool) -> std::io::Error {
        let mut out = PREFACE.to_vec();
        let hello = serde_json::to_vec(&self.hello).expect("a hello is JSON");
        write_frame(&mut out, |payload| payload.extend_from_slice(&hello));
        if let Err(error) = stream.write_all(&out).await {
            return error;
        }
        backoff.reset();
        let (reading, stream) = stream.into_split();
        let stream = Arc::new(stream);
        match &self.way {
            Way::Prompt(send_buffer) if self.lane == Lane::Life => send_buffer.connect(Arc::clone(&stream)),
            Way::Prompt(send_buffer) => send_buffer.attach(Arc::clone(&stream)),
            Way::Bulk(_) => {}
        }
        if lost {
            let _gone = self.events.send(Event::Core(Input::PeerLinked { server: self.to }));
        }
        let sent = async {
            match &self.way {
                Way::Prompt(send_buffer) => send_buffer.drain(&stream).await,
                Way::Bulk(queue) => queue.drain(&stream).await,
            }
        };
        tokio::select! {
            error = sent => error,
            error = reading.ended() => error,
        }
    }
}
