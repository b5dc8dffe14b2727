//! A client of the Redis protocol that keeps any number of requests in flight on one connection.
//!
//! Requests that wait while a write is on its way leave together. With `wait`, one `WAIT` follows each such batch that
//! writes, and its puts are done when as many replicas have confirmed them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use cli::bench::{Answered, Kind, Request, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the writer.
const QUEUE_LEN: usize = 4096;

/// Requests that leave in one write, at most.
const BATCH_REQUESTS_MAX: usize = 1024;

/// How long a `WAIT` may take: as long as Trefoil's library is patient.
const WAIT_MS: u32 = 60_000;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{address}: {reason}")]
    Broken { address: String, reason: String },
    #[error("the server says: {0}")]
    Refused(String),
    #[error("{0} of the replicas that were waited for have confirmed")]
    Unconfirmed(i64),
}

/// An answer, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Number(i64),
    Text(Bytes),
    Error(String),
    List(Vec<Value>),
}

type Answer = oneshot::Sender<Result<Value, Error>>;

struct Queued {
    words: Vec<Bytes>,
    /// Replicas have to confirm it.
    confirmed: bool,
    answer: Answer,
}

/// What the next answer belongs to.
enum Expected {
    Plain(Answer),
    /// A put that waits for the `WAIT` behind it.
    Held(Answer),
    Wait,
}

type Pending = Arc<Mutex<VecDeque<Expected>>>;

/// A connection.
#[derive(Clone, Debug)]
pub(crate) struct Resp {
    address: Arc<str>,
    queue: mpsc::Sender<Queued>,
}

impl Resp {
    pub(crate) async fn connect(address: &str, wait: Option<u32>) -> Result<Self, Error> {
        let broken =
            |error: std::io::Error| Error::Broken { address: address.to_owned(), reason: error.to_string() };
        let stream = TcpStream::connect(address).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let (read, write) = stream.into_split();
        let (queue, requests) = mpsc::channel(QUEUE_LEN);
        let pending = Pending::default();
        tokio::spawn(run(read, write, requests, pending, wait));
        Ok(Self { address: address.into(), queue })
    }

    /// Sends a command and waits for its answer, and for the replicas if `confirmed`.
    pub(crate) async fn call(&self, words: Vec<Bytes>, confirmed: bool) -> Result<Value, Error> {
        let broken =
            || Error::Broken { address: self.address.to_string(), reason: "the connection ended".to_owned() };
        let (answer, answered) = oneshot::channel();
        self.queue.send(Queued { words, confirmed, answer }).await.map_err(|_| broken())?;
        match answered.await.map_err(|_| broken())?? {
            Value::Error(text) => Err(Error::Refused(text)),
            value => Ok(value),
        }
    }
}

impl Target for Resp {
    type Error = Error;

    const KINDS: &'static [Kind] = &[Kind::Get, Kind::Put, Kind::Insert];

    async fn perform(&self, request: Request) -> Result<Answered, Error> {
        let mut answered = Answered::default();
        match request {
            Request::Get { key } => {
                let found = self.call(vec!["GET".into(), key], false).await?;
                answered.missed = found == Value::Null;
            }
            Request::Put { key, value } => {
                self.call(vec!["SET".into(), key, value], true).await?;
            }
            Request::Scan { .. } | Request::Update { .. } => {
                unreachable!("the arguments were checked for it")
            }
        }
        Ok(answered)
    }
}

/// The connection's task. When it ends, requests without an answer learn it by their channel.
async fn run(
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    requests: mpsc::Receiver<Queued>,
    pending: Pending,
    wait: Option<u32>,
) {
    tokio::select! {
        () = read_answers(read, &pending, wait) => {}
        () = write_requests(write, requests, &pending, wait) => {}
    }
    locked(&pending).clear();
}

fn locked(pending: &Pending) -> MutexGuard<'_, VecDeque<Expected>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_requests(
    mut write: OwnedWriteHalf,
    mut requests: mpsc::Receiver<Queued>,
    pending: &Pending,
    wait: Option<u32>,
) {
    let (mut out, mut batch) = (Vec::new(), Vec::new());
    while requests.recv_many(&mut batch, BATCH_REQUESTS_MAX).await > 0 {
        out.clear();
        let mut held = false;
        {
            let mut pending = locked(pending);
            for Queued { words, confirmed, answer } in batch.drain(..) {
                encode(&mut out, &words);
                let hold = confirmed && wait.is_some();
                held |= hold;
                pending.push_back(if hold { Expected::Held(answer) } else { Expected::Plain(answer) });
            }
            if let Some(replicas) = wait.filter(|_| held) {
                encode(&mut out, &["WAIT".into(), replicas.to_string().into(), WAIT_MS.to_string().into()]);
                pending.push_back(Expected::Wait);
            }
        }
        if write.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn encode(out: &mut Vec<u8>, words: &[Bytes]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

async fn read_answers(mut read: OwnedReadHalf, pending: &Pending, wait: Option<u32>) {
    let mut input = BytesMut::with_capacity(65_536);
    let mut held: Vec<(Answer, Value)> = Vec::new();
    loop {
        while let Some((value, used)) = decode(&input) {
            input.advance(used);
            let Some(expected) = locked(pending).pop_front() else { return };
            match expected {
                Expected::Plain(answer) => drop(answer.send(Ok(value))),
                Expected::Held(answer) => held.push((answer, value)),
                Expected::Wait => confirm(&mut held, &value, wait),
            }
        }
        if !matches!(read.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

/// Tells the puts of a batch what its `WAIT` has said.
fn confirm(held: &mut Vec<(Answer, Value)>, waited: &Value, wait: Option<u32>) {
    let confirmed = if let Value::Number(confirmed) = waited { *confirmed } else { 0 };
    let enough = confirmed >= i64::from(wait.unwrap_or(0));
    for (answer, value) in held.drain(..) {
        let _ = answer.send(if enough { Ok(value) } else { Err(Error::Unconfirmed(confirmed)) });
    }
}

/// The first answer in `input` and its bytes; `None` while it is not whole.
fn decode(input: &[u8]) -> Option<(Value, usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let text = String::from_utf8_lossy(&input[1..end]);
    let number = || text.parse::<i64>().unwrap_or(-1);
    let mut used = end + 2;
    let value = match input[0] {
        b'+' => Value::Text(Bytes::copy_from_slice(&input[1..end])),
        b':' => Value::Number(number()),
        b'$' => match usize::try_from(number()) {
            Err(_) => Value::Null,
            Ok(bytes) => {
                let text = input.get(used..used + bytes + 2)?;
                used += bytes + 2;
                Value::Text(Bytes::copy_from_slice(&text[..bytes]))
            }
        },
        b'*' => {
            let mut list = Vec::new();
            for _ in 0..number().max(0) {
                let (value, bytes) = decode(&input[used..])?;
                used += bytes;
                list.push(value);
            }
            Value::List(list)
        }
        _ => Value::Error(text.into_owned()),
    };
    Some((value, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_when_they_are_whole() {
        let text = |text: &'static str| Value::Text(text.into());
        for (input, value) in [
            ("+OK\r\n", text("OK")),
            (":-7\r\n", Value::Number(-7)),
            ("$-1\r\n", Value::Null),
            ("$5\r\na\r\nbc\r\n", text("a\r\nbc")),
            ("-ERR no\r\n", Value::Error("ERR no".to_owned())),
            (
                "*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
                Value::List(vec![Value::Number(1), Value::List(vec![text("")])]),
            ),
        ] {
            for cut in 0..input.len() {
                assert_eq!(decode(&input.as_bytes()[..cut]), None, "{input:?} cut to {cut}");
            }
            assert_eq!(decode(input.as_bytes()), Some((value, input.len())));
        }
    }

    #[tokio::test]
    async fn puts_are_done_when_enough_replicas_have_confirmed() {
        for (confirmed, expected) in [(2, Ok(Value::Text("OK".into()))), (1, Err(Error::Unconfirmed(1)))] {
            let (answer, answered) = oneshot::channel();
            let mut held = vec![(answer, Value::Text("OK".into()))];
            confirm(&mut held, &Value::Number(confirmed), Some(2));
            assert_eq!(answered.await.unwrap(), expected);
        }
    }
}
