//! The threads of a server, besides that of the core.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender as JobSender, channel};
use std::thread::JoinHandle;

use storage::LogWriter;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::driver::Events;
use crate::error::Error;
use crate::net::heartbeat::DiskStallMonitor;
use crate::store::log_writer::{self, LogQueue};
use crate::workers::digest::{self, DigestJob};
use crate::workers::key_scan::{self, KeyScan};
use crate::workers::scrub::{self, ScrubJob};
use crate::workers::transfer::{self, BuildJob, ReadJob};

/// Work for the threads that are not the core's, by thread.
pub(super) struct Workers {
    pub(super) log: LogQueue,
    pub(super) readers: JobSender<ReadJob>,
    pub(super) builders: JobSender<BuildJob>,
    pub(super) scrubber: JobSender<ScrubJob>,
    pub(super) digester: JobSender<DigestJob>,
    pub(super) key_scanner: JobSender<KeyScan>,
}

/// Threads that are running. They have handles that keep the store in use: they end before the server does.
pub(super) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until all have ended, after their senders were dropped.
    pub(super) fn join(self) {
        for thread in self.0 {
            let _panicked = thread.join();
        }
    }
}

/// Starts the threads that read and write the store. Their results become events of the core.
pub(super) fn spawn_workers(
    dir: &Path,
    log: LogWriter,
    disk: Arc<DiskStallMonitor>,
    events: &Events,
) -> Result<(Workers, Threads), Error> {
    let (log, log_thread) = log_writer::queue(log, disk);
    let (log_events, log_dir) = (events.clone(), dir.to_owned());
    let ((readers, read_jobs), read_events) = (channel(), events.clone());
    let ((builders, build_jobs), build_events) = (channel(), events.clone());
    let ((scrubber, scrub_jobs), scrub_events) = (channel(), events.clone());
    let ((digester, digest_jobs), digest_events) = (channel(), events.clone());
    let ((key_scanner, scans), scan_events) = (channel(), events.clone());
    let threads = vec![
        spawn("log", move || log_thread.run(&log_dir, &log_events))?,
        spawn_background("copies-read", move || transfer::read(&read_jobs, &read_events))?,
        spawn_background("copies-build", move || transfer::build(&build_jobs, &build_events))?,
        spawn_background("scrub", move || scrub::run(&scrub_jobs, &scrub_events))?,
        spawn_background("digests", move || digest::run(&digest_jobs, &digest_events))?,
        spawn("key-scans", move || key_scan::run(&scans, &scan_events))?,
    ];
    Ok((Workers { log, readers, builders, scrubber, digester, key_scanner }, Threads(threads)))
}

/// The runtime of the core's thread. Everything between a socket and the core happens on this thread, so a request
/// wakes no other thread on its way.
pub(super) fn core_runtime() -> Result<Runtime, Error> {
    let started = Builder::new_current_thread().enable_all().build();
    started.map_err(|source| Error::Io { action: "start the runtime", source })
}

/// The thread of the links for large messages, which encodes, reads and checks them.
pub(super) struct BulkThread {
    pub(super) handle: Handle,
    // Dropping it ends the thread.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl BulkThread {
    pub(super) fn start() -> Result<Self, Error> {
        let runtime = core_runtime()?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        let thread = spawn("bulk", move || _ = runtime.block_on(stopped))?;
        Ok(Self { handle, stop, thread })
    }

    pub(super) fn end(self) {
        drop(self.stop);
        let _panicked = self.thread.join();
    }
}

pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map_err(|source| Error::Io { action: "start a thread", source })
}

/// A thread whose work can wait until requests are answered.
fn spawn_background(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    spawn(name, || {
        storage::work_in_background();
        body();
    })
}
