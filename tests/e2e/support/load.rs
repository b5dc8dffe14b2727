//! A load in a thread, with a record of what was acknowledged.
//!
//! Each writer has keys of its own, so what must be there at the end follows from its counters alone. In round `i` it
//! puts `i` to a new key, appends `i` to a log, puts `i` to a register, and reads back its register and an older key:
//! a value that goes back or is missing is noticed while the cluster changes. The log's offsets and its content
//! at the end show that each append was carried out exactly once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use kvclient::{Client, Error};
use tokio::sync::watch;

use super::db::{Db, options};
use super::wait::{SOON, Stopwatch, wait_until};

/// Bytes of one appended record: a number of nine digits and a blank.
const RECORD_BYTES: u64 = 10;

/// How far one kind of request of one writer has come: of `tried` requests `acked` were answered, all of them but
/// perhaps the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    tried: u64,
    acked: u64,
}

/// What one writer has done.
#[derive(Clone, Debug, Default)]
struct Record {
    puts: Count,
    appends: Count,
    register: Count,
    slowest: Duration,
    /// Requests that failed, and reads that were wrong.
    failures: Vec<String>,
}

/// When writers stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    /// After the request that is under way.
    Stop,
    /// At once: whether the request under way is carried out is not known.
    Abort,
}

/// A load that runs.
pub(crate) struct Load {
    name: String,
    records: Vec<Arc<Mutex<Record>>>,
    answered: Arc<AtomicU64>,
    order: watch::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What a load has done.
#[derive(Debug)]
pub(crate) struct Recording {
    name: String,
    records: Vec<Record>,
    /// It was aborted: the last request of each writer may have been carried out or not.
    aborted: bool,
}

impl Load {
    /// Starts writers, which connect to any of `seeds`, and waits until they have written.
    #[track_caller]
    pub(crate) fn start(name: &str, seeds: &[String], writers: usize) -> Self {
        let records: Vec<_> = (0..writers).map(|_| Arc::new(Mutex::new(Record::default()))).collect();
        let answered = Arc::new(AtomicU64::new(0));
        let (order, orders) = watch::channel(Order::Run);
        let thread = std::thread::spawn({
            let (name, seeds, records) = (name.to_owned(), seeds.to_vec(), records.clone());
            let answered = Arc::clone(&answered);
            move || run(&name, &seeds, &records, &answered, &orders)
        });
        let load = Self { name: name.to_owned(), records, answered, order, thread: Some(thread) };
        load.wait_for_more(1);
        load
    }

    /// Requests that were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` further requests were answered.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, more: u64) {
        let until = self.answered() + more;
        wait_until(&format!("{more} more requests of the load"), 2 * SOON, || {
            let failures: Vec<String> =
                self.records.iter().flat_map(|record| lock(record).failures.clone()).collect();
            assert!(failures.is_empty(), "the load has failed: {failures:?}");
            self.answered() >= until
        });
    }

    /// Lets each writer end its request.
    pub(crate) fn stop(self) -> Recording {
        self.end(Order::Stop)
    }

    /// Drops the requests that are under way.
    pub(crate) fn abort(self) -> Recording {
        self.end(Order::Abort)
    }

    fn end(mut self, order: Order) -> Recording {
        self.order.send_replace(order);
        if self.thread.take().expect("it runs").join().is_err() {
            panic!("the load's thread has panicked");
        }
        let records = self.records.iter().map(|record| lock(record).clone()).collect();
        Recording { name: self.name.clone(), records, aborted: order == Order::Abort }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.order.send_replace(Order::Abort);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Recording {
    /// # Panics
    /// When a request has failed.
    #[track_caller]
    pub(crate) fn assert_no_failures(&self) {
        let failures: Vec<&String> = self.records.iter().flat_map(|record| &record.failures).collect();
        assert!(failures.is_empty(), "{} requests failed: {failures:?}", failures.len());
    }

    pub(crate) fn acked(&self) -> u64 {
        let acked = |record: &Record| record.puts.acked + record.appends.acked + record.register.acked;
        self.records.iter().map(acked).sum()
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.records.iter().map(|record| record.slowest).max().unwrap_or_default()
    }

    /// Reads everything and compares.
    ///
    /// # Panics
    /// When an acknowledged write is missing or was carried out twice, or a value is there that was never written.
    #[track_caller]
    pub(crate) fn verify(&self, db: &Db) {
        let found = db.scan(&format!("{}/", self.name));
        let mut wrong = String::new();
        for (writer, record) in self.records.iter().enumerate() {
            if let Err(what) = self.verify_writer(&found, writer, record) {
                let _ = writeln!(wrong, "writer {writer}: {what} ({record:?})");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    fn verify_writer(
        &self,
        found: &BTreeMap<String, String>,
        writer: usize,
        record: &Record,
    ) -> Result<(), String> {
        let keys = Keys { load: self.name.clone(), writer };
        let uncertain = self.aborted || !record.failures.is_empty();
        for count in [record.puts, record.appends, record.register] {
            let open = count.tried - count.acked;
            if open > u64::from(uncertain) {
                return Err(format!("{open} requests without an answer"));
            }
        }
        for i in 0..record.puts.tried {
            match found.get(&keys.put(i)) {
                Some(value) if *value == put_value(i) => {}
                None if i >= record.puts.acked => {}
                other => return Err(format!("put {i} is {other:?}")),
            }
        }
        let register = found.get(&keys.register()).map(|value| value.parse::<u64>());
        match register {
            None if record.register.acked == 0 => {}
            Some(Ok(value)) if (record.register.acked..=record.register.tried).contains(&(value + 1)) => {}
            other => return Err(format!("the register is {other:?}")),
        }
        let log = found.get(&keys.log()).map_or("", String::as_str);
        let records = log.len() as u64 / RECORD_BYTES;
        if !(record.appends.acked..=record.appends.tried).contains(&records) {
            return Err(format!("the log has {records} records"));
        }
        let wanted: String = (0..records).map(appended).collect();
        if log == wanted { Ok(()) } else { Err(format!("the log is {log}")) }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The names of a writer's keys.
struct Keys {
    load: String,
    writer: usize,
}

impl Keys {
    fn put(&self, i: u64) -> String {
        format!("{}/{}/put/{i}", self.load, self.writer)
    }

    fn register(&self) -> String {
        format!("{}/{}/register", self.load, self.writer)
    }

    fn log(&self) -> String {
        format!("{}/{}/log", self.load, self.writer)
    }
}

fn put_value(i: u64) -> String {
    format!("{i} {}", "x".repeat(usize::try_from(1 + i * 31 % 300).expect("small")))
}

fn appended(i: u64) -> String {
    format!("{i:09} ")
}

fn run(
    name: &str,
    seeds: &[String],
    records: &[Arc<Mutex<Record>>],
    answered: &Arc<AtomicU64>,
    orders: &watch::Receiver<Order>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let writers = async {
            let client = Client::connect(seeds, options()).await.expect("the cluster answers");
            let mut tasks = tokio::task::JoinSet::new();
            for (writer, record) in records.iter().enumerate() {
                let (load, client) = (name.to_owned(), client.clone());
                let (record, answered) = (Arc::clone(record), Arc::clone(answered));
                tasks.spawn(
                    Writer { keys: Keys { load, writer }, client, record, answered }.run(orders.clone()),
                );
            }
            tasks.join_all().await;
        };
        let mut aborted = orders.clone();
        tokio::select! {
            () = writers => {}
            _ = aborted.wait_for(|order| *order == Order::Abort) => {}
        }
    });
}

/// One writer: a request at a time.
struct Writer {
    keys: Keys,
    client: Client,
    record: Arc<Mutex<Record>>,
    answered: Arc<AtomicU64>,
}

impl Writer {
    async fn run(self, orders: watch::Receiver<Order>) {
        for i in 0.. {
            if *orders.borrow() != Order::Run {
                return;
            }
            if let Err(failure) = self.round(i).await {
                lock(&self.record).failures.push(failure);
                return;
            }
        }
    }

    async fn round(&self, i: u64) -> Result<(), String> {
        let Self { keys, client, .. } = self;
        self.timed(|record| &mut record.puts, client.put(keys.put(i), put_value(i))).await?;
        let at = self.timed(|record| &mut record.appends, client.append(keys.log(), appended(i))).await?;
        if at.offset != i * RECORD_BYTES {
            return Err(format!("append {i} went to offset {}", at.offset));
        }
        self.timed(|record| &mut record.register, client.put(keys.register(), i.to_string())).await?;
        self.read(keys.register(), i.to_string()).await?;
        let old = fastrand::u64(0..=i);
        self.read(keys.put(old), put_value(old)).await
    }

    /// Waits for a write and keeps record of it.
    async fn timed<T>(
        &self,
        count: fn(&mut Record) -> &mut Count,
        request: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<T, String> {
        count(&mut lock(&self.record)).tried += 1;
        let answer = self.answer(request.into_future()).await?;
        count(&mut lock(&self.record)).acked += 1;
        Ok(answer)
    }

    async fn read(&self, key: String, wanted: String) -> Result<(), String> {
        let found = self.answer(self.client.get(key.clone())).await?;
        match found {
            Some(found) if found.value == wanted => Ok(()),
            other => Err(format!("{key} was read as {other:?}, not {wanted}")),
        }
    }

    async fn answer<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
        let watch = Stopwatch::start();
        let answer = request.await;
        let elapsed = watch.elapsed();
        let mut record = lock(&self.record);
        record.slowest = record.slowest.max(elapsed);
        drop(record);
        self.answered.fetch_add(1, Ordering::Relaxed);
        answer.map_err(|error| format!("after {elapsed:?}: {error}"))
    }
}
