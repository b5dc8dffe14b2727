//! Clients that send requests to a cluster and record what they observe.
//!
//! Each client is one of the library, with a connection of its own to each server. Beside them, a *reader* for each
//! named server sends requests to that server only, in the text protocol: its answers must be as fresh as all others.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use common::clock;
use common::operation::{Condition, Operation};
use kvclient::{Client, Error, Options, ReadFrom};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Invocation, Observed, Operated, TOKEN_END};
use crate::support::Stopwatch;
use crate::support::db::Db;
use crate::support::wait::{SOON, wait_until};

/// Between two requests of one client: the load of many clients, and not the most that two cores can do.
const PACE: Duration = Duration::from_millis(3);

/// Between two requests of one reader.
const READER_PACE: Duration = Duration::from_millis(5);

/// How long a client retries a request. Some outcomes remain unknown, as they do in life.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a reader waits for a line before it takes a new connection.
const LINE_WITHIN: Duration = Duration::from_secs(3);

/// How long a pause lasts at most that must end before any client is answered.
const MOMENT: Duration = Duration::from_millis(1500);

/// Bytes of a value after which it is set anew instead of added to.
const VALUE_BYTES_MAX: usize = 200;

/// Which clients run, and their keys.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The servers that clients know at first.
    pub(crate) seeds: Vec<String>,
    /// Servers that have a reader each.
    pub(crate) readers: Vec<SocketAddr>,
    pub(crate) clients: usize,
    /// Keys that all of them share.
    pub(crate) keys: usize,
}

/// Clients that run.
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    order: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    operations: Mutex<Vec<Operated>>,
    answered: AtomicU64,
    failed: AtomicU64,
    keys: usize,
}

impl Shared {
    fn note(&self, operated: Operated) {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).push(operated);
    }
}

impl Recorder {
    /// Starts clients and waits until they are answered.
    #[track_caller]
    pub(crate) fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared { keys: plan.keys, ..Shared::default() });
        let (order, stop) = watch::channel(false);
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || run(&plan, &shared, &stop)
        });
        let recorder = Self { shared, order, thread: Some(thread) };
        recorder.wait_for_more(1);
        recorder
    }

    /// Requests of clients that were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` further requests of clients were answered.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, more: u64) {
        let until = self.answered() + more;
        wait_until(&format!("{more} more answers"), 2 * SOON, || self.answered() >= until);
    }

    /// Waits until `more` further requests were answered, or until a moment has passed: where no client can be
    /// answered, there is nothing to wait for.
    pub(crate) fn wait_for_some(&self, more: u64) {
        let watch = Stopwatch::start();
        let until = self.answered() + more;
        wait_until("a moment", SOON, || self.answered() >= until || watch.elapsed() > MOMENT);
    }

    /// Waits until every key can be written again by a client that tries now.
    #[track_caller]
    pub(crate) fn wait_all_keys(&self, db: &Db) -> Duration {
        let watch = Stopwatch::start();
        for key in 0..self.shared.keys {
            // Put and get of a key in each partition that clients use, not part of the history.
            let key = format!("{}/probe", key_name(key));
            db.put(key.clone(), "probe");
            assert_eq!(db.get(key).as_deref(), Some("probe"));
        }
        watch.elapsed()
    }

    /// Ends all clients after their requests, reads every key once more through `db`, and returns what they observed.
    #[track_caller]
    pub(crate) fn stop(mut self, db: &Db) -> History {
        self.order.send_replace(true);
        if self.thread.take().expect("it runs").join().is_err() {
            panic!("the recorder's thread has panicked");
        }
        let mut operations =
            std::mem::take(&mut *self.shared.operations.lock().unwrap_or_else(PoisonError::into_inner));
        for key in (0..self.shared.keys).map(key_name) {
            let invoked = clock::time().0;
            let found = db.found(key.clone());
            operations.push(Operated {
                key,
                invocation: Invocation::Get,
                invoked,
                returned: clock::time().0,
                observed: observed(found),
            });
        }
        History { operations, failed: self.shared.failed.load(Ordering::Relaxed) }
    }

    /// Adds an operation that the test itself has performed.
    pub(crate) fn add(&self, operated: Operated) {
        self.shared.note(operated);
    }

    /// The keys that clients use.
    pub(crate) fn keys(&self) -> Vec<String> {
        (0..self.shared.keys).map(key_name).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.order.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// What clients observed.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operated>,
    /// Requests that failed, with or without a known outcome.
    pub(crate) failed: u64,
}

fn key_name(key: usize) -> String {
    format!("history/{key}")
}

fn observed(found: Option<common::operation::Found>) -> Observed {
    let version = found.as_ref().map(|found| found.version);
    let value = found.map(|found| String::from_utf8_lossy(&found.value).into_owned());
    Observed::Value { value, version }
}

fn run(plan: &Plan, shared: &Arc<Shared>, stop: &watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..plan.clients {
            // Every other client reads at replicas too.
            let read_from = if number % 2 == 0 { ReadFrom::Coordinator } else { ReadFrom::InSync };
            let options = Options { timeout: REQUEST_TIMEOUT, connect_timeout: SOON, read_from };
            let client = Client::connect(&plan.seeds, options).await.expect("the cluster answers");
            let asker = Asker { number, client, keys: plan.keys, shared: Arc::clone(shared) };
            tasks.spawn(asker.run(stop.clone()));
        }
        for &address in &plan.readers {
            tasks.spawn(read_lines(address, plan.keys, Arc::clone(shared), stop.clone()));
        }
        tasks.join_all().await;
    });
}

/// One client: a request at a time.
struct Asker {
    number: usize,
    client: Client,
    keys: usize,
    shared: Arc<Shared>,
}

impl Asker {
    async fn run(self, stop: watch::Receiver<bool>) {
        // The newest version and length that this client has seen of each key.
        let mut seen = vec![None; self.keys];
        let mut number = 0;
        while !*stop.borrow() {
            let next = Instant::now() + PACE;
            number += 1;
            let key = fastrand::usize(..self.keys);
            let token = format!("{}.{number}{TOKEN_END}", self.number);
            let invocation = self.choose(seen[key].as_ref(), token);
            let observed = self.ask(&key_name(key), invocation).await;
            if let Observed::Value { value, version } = observed {
                seen[key] = version.zip(value.map(|value| value.len()));
            }
            sleep_until(next).await;
        }
    }

    fn choose(&self, seen: Option<&(common::operation::Version, usize)>, token: String) -> Invocation {
        match (fastrand::u8(..100), seen) {
            (0..45, _) => Invocation::Get,
            (45..60, Some((_, bytes))) if *bytes < VALUE_BYTES_MAX => Invocation::Append { token },
            (60..75, Some((version, _))) => Invocation::PutIf { version: *version, token },
            (75..80, _) => Invocation::Delete,
            _ => Invocation::Put { token },
        }
    }

    /// Sends a request, and records what was observed.
    async fn ask(&self, key: &str, invocation: Invocation) -> Observed {
        let client = &self.client;
        let key = key.to_owned();
        let invoked = clock::time().0;
        let answer = match invocation.clone() {
            Invocation::Get => client.get(key.clone()).await.map(observed),
            Invocation::Put { token } => {
                client.write(Operation::put(key.clone(), token)).await.map(Observed::Outcome)
            }
            Invocation::PutIf { version, token } => {
                let condition = Condition::Version { version };
                client.put(key.clone(), token).condition(condition).await.map(Observed::Outcome)
            }
            Invocation::Append { token } => client.append(key.clone(), token).await.map(|at| {
                Observed::Outcome(common::operation::Outcome::Appended {
                    version: at.version,
                    offset: at.offset,
                })
            }),
            Invocation::Delete => {
                client.delete(key.clone()).condition(Condition::Always {}).await.map(Observed::Outcome)
            }
        };
        let counter = if answer.is_ok() { &self.shared.answered } else { &self.shared.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let observed = answer.unwrap_or_else(|error| match error {
            Error::OutcomeUnknown { .. } | Error::Incompatible { .. } => Observed::Unknown,
            _ => Observed::NotDone,
        });
        self.shared.note(Operated {
            key,
            invocation,
            invoked,
            returned: clock::time().0,
            observed: observed.clone(),
        });
        observed
    }
}

/// One reader. An answer that is neither a value nor `key not found` says nothing about the key.
async fn read_lines(address: SocketAddr, keys: usize, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        // It ends when the server does; then a new connection is tried.
        let _ended = read_connection(address, keys, &shared, &stop).await;
        sleep_until(Instant::now() + READER_PACE * 10).await;
    }
}

async fn read_connection(
    address: SocketAddr,
    keys: usize,
    shared: &Shared,
    stop: &watch::Receiver<bool>,
) -> std::io::Result<()> {
    let stream = timeout(LINE_WITHIN, TcpStream::connect(address)).await??;
    let mut stream = BufReader::new(stream);
    while !*stop.borrow() {
        let next = Instant::now() + READER_PACE;
        let key = key_name(fastrand::usize(..keys));
        let invoked = clock::time().0;
        stream.write_all(format!("get {key}\r\n").as_bytes()).await?;
        let mut line = String::new();
        if timeout(LINE_WITHIN, stream.read_line(&mut line)).await?? == 0 {
            return Ok(());
        }
        if let Some(observed) = observed_in(&line, &key) {
            shared.note(Operated {
                key,
                invocation: Invocation::Get,
                invoked,
                returned: clock::time().0,
                observed,
            });
        }
        sleep_until(next).await;
    }
    Ok(())
}

/// What a line of the text protocol says about a key; nothing if it is a refusal.
pub(crate) fn observed_in(line: &str, key: &str) -> Option<Observed> {
    let line = line.trim_end();
    let value = match line.strip_prefix(&format!("get_success {key} ")) {
        Some(value) => Some(value.to_owned()),
        None if line == format!("get_error {key} key not found") => None,
        None => return None,
    };
    Some(Observed::Value { value, version: None })
}
