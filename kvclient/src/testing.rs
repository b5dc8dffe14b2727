//! A server for tests: it speaks the frames on a free port, does what the test says, and ends with it.

mod action;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, take_preface, write_frame};
use common::ids::{ClusterId, Epoch, Incarnation, Nonce, ServerId, StoreId};
use common::messages::{ClientMessage, Hello, Reply, Request, ServerMessage};
use common::operation::{Found, Operation, Origin, Outcome, Version};
use common::ring::Partitions;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::options::Options;

pub use action::Action;
pub use store::Store;

type Handler = Box<dyn FnMut(&Request) -> Action + Send>;

struct Inner {
    view: Mutex<View>,
    status: Mutex<Option<Bytes>>,
    handler: Mutex<Handler>,
    /// Reads and writes that arrived.
    requests: Mutex<Vec<Request>>,
    connections: Mutex<usize>,
}

/// The server. Its tasks end when it is dropped.
pub struct Fake {
    /// Where it listens.
    pub address: String,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// Listens, and answers with `handler` what is neither about views nor about its state.
    pub async fn start(handler: impl FnMut(&Request) -> Action + Send + 'static) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner {
            view: Mutex::new(view(0, &[], 0)),
            status: Mutex::new(None),
            handler: Mutex::new(Box::new(handler)),
            requests: Mutex::default(),
            connections: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&inner)));
        Self { address, inner, _tasks: tasks }
    }

    /// Alone in its cluster, with view 1.
    pub async fn alone(handler: impl FnMut(&Request) -> Action + Send + 'static) -> Self {
        let fake = Self::start(handler).await;
        fake.set_view(view(1, &[&fake.address], 0));
        fake
    }

    /// Sets the server's view.
    pub fn set_view(&self, view: View) {
        *self.inner.view.lock().unwrap() = view;
    }

    /// Sets the server's status.
    pub fn set_status(&self, json: impl Into<Bytes>) {
        *self.inner.status.lock().unwrap() = Some(json.into());
    }

    /// Reads and writes that arrived.
    pub fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.inner.requests.lock().unwrap()
    }

    /// The origins of the writes that arrived.
    pub fn origins(&self) -> Vec<Origin> {
        let origin = |request: &Request| match request {
            Request::Write { origin, .. } => Some(*origin),
            _ => None,
        };
        self.requests().iter().filter_map(origin).collect()
    }

    /// Connections that were made.
    pub fn connections(&self) -> usize {
        *self.inner.connections.lock().unwrap()
    }

    /// A client with this server as its seed.
    pub async fn client(&self, timeout_ms: u64) -> Client {
        let timeout = std::time::Duration::from_millis(timeout_ms);
        let options = Options { timeout, ..Options::default() };
        Client::connect([&self.address], options).await.unwrap()
    }
}

/// A view whose partitions all have the `coordinator`-th server as their coordinator.
pub fn view(version: u64, servers: &[&String], coordinator: usize) -> View {
    let number = Epoch { generation: 0, version };
    let mut view = View::new(ClusterId(9), number, Partitions::try_from(4).unwrap());
    for (index, address) in servers.iter().enumerate() {
        let id = index as u128 + 1;
        let info = ServerInfo {
            store: StoreId(id),
            incarnation: Incarnation(1),
            nonce: Nonce(1),
            address: (*address).clone(),
            weight: 1,
            state: ServerState::Up,
        };
        view.servers.insert(ServerId(id), info);
    }
    if !servers.is_empty() {
        let id = coordinator as u128 + 1;
        let all = 1..=servers.len() as u128;
        let in_sync = all.map(|id| Member { server: ServerId(id), store: StoreId(id) }).collect();
        let assignment =
            Assignment { epoch: number, coordinator: ServerId(id), in_sync, joining: Vec::new() };
        view.assignments = vec![assignment; view.partitions.count()];
    }
    view
}

/// A successful write.
pub fn written() -> Reply {
    Reply::Outcome { outcome: Outcome::Written { version: Version::default(), replaced: false } }
}

/// A found value.
pub fn value(bytes: &'static str) -> Reply {
    let found = Found { value: Bytes::from(bytes), version: Version::default(), expires: None };
    Reply::Value { found: Some(found) }
}

/// The key that a request is about.
pub fn key_of(request: &Request) -> Bytes {
    match request {
        Request::Get { key } => key.clone(),
        Request::Write { operation, .. } => operation.key().cloned().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

/// The operation that a request carries.
pub fn operation_of(request: &Request) -> Option<&Operation> {
    match request {
        Request::Write { operation, .. } => Some(operation),
        _ => None,
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut links = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        *inner.connections.lock().unwrap() += 1;
        links.spawn(serve(stream, Arc::clone(&inner)));
    }
}

async fn serve(mut stream: TcpStream, inner: Arc<Inner>) {
    let mut input = BytesMut::new();
    let (mut preface, mut hello) = (false, false);
    loop {
        while (!preface && !input.is_empty()) && take_preface(&mut input).unwrap() {
            preface = true;
        }
        while preface && let Some(payload) = take_frame(&mut input).unwrap() {
            if !hello {
                assert_eq!(serde_json::from_slice::<Hello>(&payload).unwrap(), Hello::Client {});
                hello = true;
                continue;
            }
            let Some(out) = answer(payload, &inner) else { return };
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

/// The answers to a frame, the last one first, for the order is free. `None`: break the connection.
fn answer(mut payload: Bytes, inner: &Inner) -> Option<Vec<u8>> {
    let mut answers = Vec::new();
    while !payload.is_empty() {
        let ClientMessage { id, request } = ClientMessage::read(&mut payload).unwrap();
        let action = match &request {
            Request::View {} => {
                let json = serde_json::to_vec(&*inner.view.lock().unwrap()).unwrap().into();
                Action::Reply(Reply::View { json })
            }
            Request::Status {} => match inner.status.lock().unwrap().clone() {
                Some(json) => Action::Reply(Reply::Status { json }),
                None => Action::Break,
            },
            // No client waits for an answer.
            Request::Trace { .. } => Action::Silence,
            other => (inner.handler.lock().unwrap())(other),
        };
        if !matches!(request, Request::View {} | Request::Status {}) {
            inner.requests.lock().unwrap().push(request);
        }
        match action {
            Action::Reply(reply) => answers.push(ServerMessage { id, reply }),
            Action::Silence => {}
            Action::Break => return None,
        }
    }
    let mut out = Vec::new();
    write_frame(&mut out, |frame| answers.iter().rev().for_each(|message| message.write(frame)));
    Some(out)
}
