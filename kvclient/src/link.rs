//! One connection to a server, shared by all requests to it.
//!
//! A task of its own encodes whatever waits in the queue into one write, and completes requests by number as
//! answers arrive. When the connection breaks, every request learns whether it can have reached the server: what
//! was not yet encoded cannot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::clock;
use common::codec::Wire;
use common::frame::{PREFACE, take_frame, write_frame};
use common::ids::RequestId;
use common::messages::{ClientMessage, Hello, Request, ServerMessage};
use common::stream::{ReadHalf, Stream, WriteHalf, connect};
use common::time::Time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::limits::{
    BATCH_REQUESTS_MAX, BUFFER_BYTES_KEPT, CONNECT_FOR, FRAME_BYTES_FULL, LINK_QUEUE_LEN, READ_BYTES,
};
use crate::retry::Tried;

/// Takes the result of a request.
type Answer = oneshot::Sender<Tried>;

/// A request in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    request: Request,
    /// The id under which servers log what they do with it, if it is traced.
    traced: Option<RequestId>,
    answer: Answer,
}

/// Requests that were encoded and have no answer yet, by number.
type Pending = Mutex<BTreeMap<u64, Answer>>;

/// A connection. It lasts until the last handle is dropped, the server closes it, or it is [closed](Self::close).
#[derive(Debug)]
pub(crate) struct Link {
    queue: mpsc::Sender<Queued>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// When something last arrived, in microseconds.
    heard: AtomicU64,
    close: Notify,
}

impl Link {
    /// Connects to `address`.
    pub(crate) async fn connect(address: &str) -> Result<Self, String> {
        let stream = match timeout(CONNECT_FOR, connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("cannot connect: {error}")),
            Err(_) => return Err(format!("no connection within {CONNECT_FOR:?}")),
        };
        let (queue, requests) = mpsc::channel(LINK_QUEUE_LEN);
        let state = Arc::new(State { heard: AtomicU64::new(clock::time().0), close: Notify::new() });
        tokio::spawn(run(stream, requests, Arc::clone(&state)));
        tracing::debug!(server = address, "connected");
        Ok(Self { queue, state })
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Ends the connection; requests without an answer are lost.
    pub(crate) fn close(&self) {
        self.state.close.notify_one();
    }

    /// For how long nothing has arrived.
    pub(crate) fn silent_for(&self) -> Duration {
        clock::time().since(Time(self.state.heard.load(Ordering::Relaxed)))
    }

    /// A slot in the queue, if one is free.
    pub(crate) fn try_slot(&self) -> Option<Slot<'_>> {
        self.queue.try_reserve().ok().map(Slot)
    }

    /// A slot in the queue, as soon as one is free. An error: the connection has ended.
    pub(crate) async fn slot(&self) -> Result<Slot<'_>, String> {
        self.queue.reserve().await.map(Slot).map_err(|_| "the connection was closed".to_owned())
    }
}

/// A slot in a link's queue.
#[derive(Debug)]
pub(crate) struct Slot<'a>(mpsc::Permit<'a, Queued>);

impl Slot<'_> {
    /// Queues a request.
    pub(crate) fn send(self, request: Request, traced: Option<RequestId>) -> oneshot::Receiver<Tried> {
        let (answer, receiver) = oneshot::channel();
        self.0.send(Queued { request, traced, answer });
        receiver
    }
}

/// The link's task.
async fn run(stream: Stream, mut requests: mpsc::Receiver<Queued>, state: Arc<State>) {
    let pending = Pending::default();
    let (read, write) = stream.into_split();
    let reason = tokio::select! {
        reason = read_answers(read, &pending, &state) => reason,
        reason = write_requests(write, &mut requests, &pending) => reason,
        () = state.close.notified() => "the server did not answer".to_owned(),
    };
    tracing::debug!(reason, "connection closed");
    requests.close();
    while let Some(queued) = requests.recv().await {
        let _ = queued.answer.send(Tried::NotSent(reason.clone()));
    }
    for answer in std::mem::take(&mut *locked(&pending)).into_values() {
        let _ = answer.send(Tried::Lost(reason.clone()));
    }
}

fn locked(pending: &Pending) -> MutexGuard<'_, BTreeMap<u64, Answer>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what is queued, many requests at a time; returns why it ended.
async fn write_requests(
    mut write: WriteHalf,
    requests: &mut mpsc::Receiver<Queued>,
    pending: &Pending,
) -> String {
    let mut out = greeting();
    let mut batch = Vec::new();
    let mut next_id = 1;
    loop {
        if let Err(error) = write.write_all(&out).await {
            return format!("the connection broke: {error}");
        }
        out.clear();
        out.shrink_to(BUFFER_BYTES_KEPT);
        if requests.recv_many(&mut batch, BATCH_REQUESTS_MAX).await == 0 {
            return "the client has ended".to_owned();
        }
        encode(&mut out, &mut batch, &mut next_id, pending);
    }
}

/// The preface and the hello.
fn greeting() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    let hello = serde_json::to_vec(&Hello::Client {}).expect("a hello is plain JSON");
    write_frame(&mut out, |payload| payload.extend_from_slice(&hello));
    out
}

/// Encodes a batch as frames. From here on its requests may have reached the server.
fn encode(out: &mut Vec<u8>, batch: &mut Vec<Queued>, next_id: &mut u64, pending: &Pending) {
    let mut pending = locked(pending);
    let mut queue = batch.drain(..).peekable();
    while queue.peek().is_some() {
        write_frame(out, |payload| {
            let full = payload.len() + FRAME_BYTES_FULL;
            while payload.len() < full
                && let Some(Queued { request, traced, answer }) = queue.next()
            {
                let id = *next_id;
                *next_id += 1;
                // Not sent if its caller has given up.
                if !answer.is_closed() {
                    if let Some(request) = traced {
                        ClientMessage { id, request: Request::Trace { request } }.write(payload);
                    }
                    ClientMessage { id, request }.write(payload);
                    pending.insert(id, answer);
                }
            }
        });
    }
}

/// Completes requests as answers arrive; returns why it ended.
async fn read_answers(mut read: ReadHalf, pending: &Pending, state: &State) -> String {
    let mut input = BytesMut::new();
    loop {
        input.reserve(READ_BYTES);
        match read.read_buf(&mut input).await {
            Ok(0) => return "the server closed the connection".to_owned(),
            Ok(_) => state.heard.store(clock::time().0, Ordering::Relaxed),
            Err(error) => return format!("the connection broke: {error}"),
        }
        loop {
            match take_frame(&mut input) {
                Ok(Some(payload)) => {
                    if let Err(malformed) = complete(payload, pending) {
                        return format!("the server's answer cannot be read: {malformed}");
                    }
                }
                Ok(None) => break,
                Err(error) => return format!("the server's answer cannot be read: {error}"),
            }
        }
    }
}

fn complete(mut payload: Bytes, pending: &Pending) -> Result<(), common::codec::Malformed> {
    let mut pending = locked(pending);
    while !payload.is_empty() {
        let ServerMessage { id, reply } = ServerMessage::read(&mut payload)?;
        // A number that is not there was answered before: the repetition is dropped.
        if let Some(answer) = pending.remove(&id) {
            let _ = answer.send(Tried::Answered(reply));
        }
    }
    Ok(())
}
