//! The maintenance threads: one flushes, trims the log, makes spare segments, and trees before their first change,
//! another compacts (a large compaction must not delay flushes).
//!
//! A job that fails is reported by [`Maintenance::failure`] until it succeeds; a flush is tried again at
//! each tick: the memtable stays in memory and its entries in the log, so nothing is lost meanwhile.

use super::{
    partition::{PartitionTree, TreeContext},
    pre_create::PreCreated,
};
use crate::{
    Error,
    background::work_in_background,
    log::{LogShared, lock},
    options::{FLUSH_QUEUE_LEN_MAX, TICK_SECONDS},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) enum Job {
    Flush(Arc<PartitionTree>),
    /// Make a tree before it is needed.
    Make(Arc<PreCreated>),
    Spare,
    /// Nothing to do but to look at `stopping`.
    Wake,
}

/// Kinds of work that can fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Flush,
    Compact,
    Trim,
    Spare,
}

/// Shared by the two threads and the trees' owner.
pub(crate) struct Maintenance {
    pub(crate) log: Arc<LogShared>,
    pub(crate) context: Arc<TreeContext>,
    /// Seconds since the start, the trees' only sense of time.
    pub(crate) ticks: AtomicU64,
    /// Flushes done; with the log's events a cheap sign that `due` must look again.
    pub(crate) flushes: AtomicU64,
    pub(crate) queued: AtomicU64,
    stopping: AtomicBool,
    failures: Mutex<BTreeMap<(Task, u16), String>>,
    damage: OnceLock<String>,
    retry: Mutex<Vec<Arc<PartitionTree>>>,
    jobs: Mutex<Sender<Job>>,
    compactions: Mutex<Sender<Option<Arc<PartitionTree>>>>,
}

/// The receiving ends, for the threads or for a test that does their work.
pub(crate) struct Queues {
    jobs: Receiver<Job>,
    compactions: Receiver<Option<Arc<PartitionTree>>>,
}

impl Maintenance {
    pub(crate) fn new(log: Arc<LogShared>, context: Arc<TreeContext>) -> (Arc<Self>, Queues) {
        let (jobs, jobs_end) = channel();
        let (compactions, compactions_end) = channel();
        let this = Self {
            log,
            context,
            ticks: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            failures: Mutex::new(BTreeMap::new()),
            damage: OnceLock::new(),
            retry: Mutex::new(Vec::new()),
            jobs: Mutex::new(jobs),
            compactions: Mutex::new(compactions),
        };
        (Arc::new(this), Queues { jobs: jobs_end, compactions: compactions_end })
    }

    pub(crate) fn start(self: &Arc<Self>, queues: Queues) -> Result<Vec<JoinHandle<()>>, Error> {
        let Queues { jobs, compactions } = queues;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(body);
            thread.map_err(|e| Error::io("start a maintenance thread for", &self.context.dir, e))
        };
        let (flusher, compactor) = (Arc::clone(self), Arc::clone(self));
        Ok(vec![
            spawn("storage-flush", Box::new(move || flusher.run(&jobs)))?,
            spawn("storage-compact", Box::new(move || compactor.run_compactions(&compactions)))?,
        ])
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.send(Job::Wake);
        drop(lock(&self.compactions).send(None));
    }

    pub(crate) fn send(&self, job: Job) {
        if let Job::Flush(tree) = &job {
            tree.jobs.fetch_add(1, Ordering::AcqRel);
            self.queued.fetch_add(1, Ordering::AcqRel);
        }
        // The receiver lives as long as its thread, which ends only after `stop`.
        drop(lock(&self.jobs).send(job));
    }

    /// How many more trees may be queued.
    pub(crate) fn room(&self) -> usize {
        FLUSH_QUEUE_LEN_MAX.saturating_sub(self.queued.load(Ordering::Acquire) as usize)
    }

    /// What failed and has not succeeded since.
    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failures).values().next().cloned()
    }

    /// Damage that was found, if any.
    pub(crate) fn damage(&self) -> Option<String> {
        self.damage.get().cloned()
    }

    #[allow(clippy::disallowed_methods, reason = "a thread of the shell; all others count its ticks")]
    fn run(&self, jobs: &Receiver<Job>) {
        let tick = Duration::from_secs(TICK_SECONDS);
        let mut next = Instant::now() + tick;
        while !self.stopping.load(Ordering::Acquire) {
            match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= next {
                self.tick();
                next = now + tick;
            }
        }
    }

    fn run_compactions(&self, compactions: &Receiver<Option<Arc<PartitionTree>>>) {
        work_in_background();
        while let Ok(Some(tree)) = compactions.recv() {
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            self.compact(&tree);
        }
    }

    /// Does all waiting work on the calling thread.
    pub(crate) fn work_all(&self, queues: &Queues) {
        self.tick();
        while let Ok(job) = queues.jobs.try_recv() {
            self.work(job);
        }
        while let Ok(Some(tree)) = queues.compactions.try_recv() {
            self.compact(&tree);
        }
        self.tidy();
    }

    pub(crate) fn tick(&self) {
        self.ticks.fetch_add(TICK_SECONDS, Ordering::AcqRel);
        // Not in the loop's head: there the list would stay locked, and a flush that fails adds to it.
        let retry = std::mem::take(&mut *lock(&self.retry));
        for tree in retry {
            self.flush(tree);
        }
        self.tidy();
    }

    fn tidy(&self) {
        self.report(Task::Spare, 0, self.log.prepare_spare());
        self.report(Task::Trim, 0, self.log.trim());
        let mut trash = std::mem::take(&mut *lock(&self.context.trash)).into_iter();
        while let Some(dir) = trash.next() {
            match std::fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!("cannot remove {} yet: {e}", dir.display());
                    lock(&self.context.trash).extend(std::iter::once(dir).chain(trash));
                    return;
                }
                _ => {}
            }
        }
    }

    fn work(&self, job: Job) {
        match job {
            Job::Flush(tree) => {
                self.queued.fetch_sub(1, Ordering::AcqRel);
                self.flush(tree);
                self.report(Task::Trim, 0, self.log.trim());
            }
            Job::Make(tree) => {
                if let Err(error) = tree.make(&self.context) {
                    tracing::warn!("storage maintenance: {error}; tried again at the first change");
                }
            }
            Job::Spare => self.report(Task::Spare, 0, self.log.prepare_spare()),
            Job::Wake => {}
        }
    }

    fn flush(&self, tree: Arc<PartitionTree>) {
        let result = self.flush_tree(&tree);
        let done = result.is_ok();
        self.report(Task::Flush, tree.partition, result);
        if done {
            self.flushes.fetch_add(1, Ordering::AcqRel);
            drop(lock(&self.compactions).send(Some(tree)));
        } else {
            lock(&self.retry).push(tree);
        }
    }

    /// Makes a tree's waiting memtables durable, and reports to the log up to where it is not needed for them.
    pub(crate) fn flush_tree(&self, tree: &PartitionTree) -> Result<(), Error> {
        let _one = lock(&tree.flushing);
        let waiting = tree.waiting();
        if tree.is_marked_for_removal() || waiting.is_empty() {
            return Ok(());
        }
        for sealed in &waiting {
            self.log.sync_up_to(sealed.log)?;
        }
        tree.flush(waiting.len())?;
        if let Some(applied) = waiting.iter().filter_map(|s| s.applied).next_back() {
            self.log.set_applied(tree.partition, tree.generation, applied.seq);
        }
        Ok(())
    }

    fn compact(&self, tree: &PartitionTree) {
        self.report(Task::Compact, tree.partition, tree.compact());
        tree.jobs.fetch_sub(1, Ordering::AcqRel);
        // `due` leaves a busy tree out: now it may be named.
        self.flushes.fetch_add(1, Ordering::AcqRel);
    }

    fn report(&self, task: Task, partition: u16, result: Result<(), Error>) {
        let mut failures = lock(&self.failures);
        let Err(error) = result else {
            failures.remove(&(task, partition));
            return;
        };
        let text = error.to_string();
        if matches!(error, Error::Damaged { .. }) {
            let _known = self.damage.set(text.clone());
        }
        if failures.get(&(task, partition)) != Some(&text) {
            tracing::error!("storage maintenance: {text}");
            failures.insert((task, partition), text);
        }
    }
}
