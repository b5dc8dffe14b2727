//! Links to the other servers: one outgoing link each, one way. Messages may be lost; the core sends again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender as EventSender;

use common::codec::Wire;
use common::frame::{PREFACE, write_frame};
use common::ids::{ClusterId, ServerId};
use common::messages::{Hello, PeerMessage, Sender};
use common::view::View;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::backoff::{Backoff, connect};
use crate::core::Input;
use crate::driver::Event;
use crate::limits::{PEER_FRAME_BYTES, PEER_QUEUE_BYTES_MAX};

/// All links of this server.
pub(crate) struct Peers {
    me: Sender,
    runtime: Handle,
    events: EventSender<Event>,
    links: BTreeMap<ServerId, Link>,
}

struct Link {
    address: String,
    queue: UnboundedSender<Vec<PeerMessage>>,
    /// Bytes of values in the queue, about.
    queued: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peers {
    pub(crate) fn new(me: Sender, runtime: Handle, events: EventSender<Event>) -> Self {
        Self { me, runtime, events, links: BTreeMap::new() }
    }

    /// Links follow the view: new servers get one, a server with another address a new one.
    pub(crate) fn on_view(&mut self, view: &View) {
        self.links
            .retain(|server, link| view.servers.get(server).is_some_and(|info| info.address == link.address));
        for (&server, info) in &view.servers {
            if server != self.me.server && !self.links.contains_key(&server) {
                let link = self.link(server, info.address.clone(), view.cluster);
                self.links.insert(server, link);
            }
        }
    }

    fn link(&self, to: ServerId, address: String, cluster: ClusterId) -> Link {
        let (queue, messages) = unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let outgoing = Outgoing {
            to,
            address: address.clone(),
            hello: Hello::Peer { cluster, sender: self.me, to },
            messages,
            queued: Arc::clone(&queued),
            events: self.events.clone(),
        };
        let task = self.runtime.spawn(outgoing.run());
        Link { address, queue, queued, task }
    }

    /// Queues messages; drops them if the server is unknown or its queue full.
    pub(crate) fn send(&self, to: ServerId, messages: Vec<PeerMessage>) {
        let Some(link) = self.links.get(&to) else { return };
        let bytes: usize = messages.iter().map(weight).sum();
        if link.queued.load(Ordering::Relaxed) + bytes > PEER_QUEUE_BYTES_MAX {
            return;
        }
        link.queued.fetch_add(bytes, Ordering::Relaxed);
        let _gone = link.queue.send(messages);
    }
}

/// About what a message takes in memory and on the wire.
fn weight(message: &PeerMessage) -> usize {
    const FIXED_BYTES: usize = 64;
    FIXED_BYTES
        + match message {
            PeerMessage::Append { entries, .. } => {
                entries.iter().map(|entry| FIXED_BYTES + entry.body.len()).sum()
            }
            PeerMessage::SnapshotChunk { pairs, .. } => {
                pairs.iter().map(|(key, value)| FIXED_BYTES + key.len() + value.len()).sum()
            }
            PeerMessage::View { json } => json.len(),
            PeerMessage::SnapshotBegin { state, .. } => state.len(),
            _ => 0,
        }
}

struct Outgoing {
    to: ServerId,
    address: String,
    hello: Hello,
    messages: UnboundedReceiver<Vec<PeerMessage>>,
    queued: Arc<AtomicUsize>,
    events: EventSender<Event>,
}

impl Outgoing {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut reachable = true;
        loop {
            let error = match connect(&self.address).await {
                Ok(stream) => {
                    reachable = true;
                    tracing::debug!(peer = %self.to, address = %self.address, "linked");
                    match self.serve(stream, &mut backoff).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if std::mem::take(&mut reachable) {
                tracing::warn!(peer = %self.to, address = %self.address, "the link broke, trying again: {error}");
            }
            // What waited is lost; the core sends again what matters.
            while let Ok(messages) = self.messages.try_recv() {
                self.forget(&messages);
            }
            backoff.wait().await;
        }
    }

    fn forget(&self, messages: &[PeerMessage]) {
        self.queued.fetch_sub(messages.iter().map(weight).sum(), Ordering::Relaxed);
    }

    /// Sends until the link breaks (an error) or the server no longer needs it.
    async fn serve(&mut self, mut stream: TcpStream, backoff: &mut Backoff) -> std::io::Result<()> {
        let mut out = PREFACE.to_vec();
        let hello = serde_json::to_vec(&self.hello).expect("a hello is JSON");
        write_frame(&mut out, |payload| payload.extend_from_slice(&hello));
        stream.write_all(&out).await?;
        let _gone = self.events.send(Event::Core(Input::PeerLinked { server: self.to }));
        // Nothing comes back on a peer's link: what can be read is its end.
        let (mut reads, mut writes) = stream.split();
        let mut nothing = [0; 1];
        loop {
            let messages = tokio::select! {
                messages = self.messages.recv() => messages,
                end = tokio::io::AsyncReadExt::read(&mut reads, &mut nothing) => {
                    end?;
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
            };
            let Some(messages) = messages else { return Ok(()) };
            backoff.reset();
            out.clear();
            self.encode(messages, &mut out);
            while out.len() < PEER_FRAME_BYTES
                && let Ok(messages) = self.messages.try_recv()
            {
                self.encode(messages, &mut out);
            }
            writes.write_all(&out).await?;
            if out.capacity() > 4 * PEER_FRAME_BYTES {
                out = Vec::new();
            }
        }
    }

    /// Frames of messages, none much larger than [`PEER_FRAME_BYTES`] unless one message is.
    fn encode(&self, messages: Vec<PeerMessage>, out: &mut Vec<u8>) {
        self.forget(&messages);
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
}
