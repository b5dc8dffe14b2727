//! What the log thread, the readers and the maintenance share: the index, the segment files, the
//! spare and the free ones.

use super::{
    format::Position,
    index::Index,
    segment::{self, Segment},
};
use crate::{Error, disk::Disk, lock::Lock};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) struct LogShared {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) segment_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) state: RwLock<State>,
    /// The segment after the current one, pre-created under this lock.
    spare: Mutex<Spare>,
    /// Files of trimmed segments that can become segments again.
    pub(crate) free: Mutex<Vec<PathBuf>>,
    /// One trim at a time: segments go oldest first.
    /// The segments that have left the index but not yet the directory.
    trimming: Mutex<VecDeque<Arc<Segment>>>,
    /// Position up to which the log is known to be on disk.
    pub(crate) synced: AtomicU64,
    /// Position behind the last batch.
    pub(crate) appended: AtomicU64,
    /// Rolls and trims so far; a cheap sign that something changed.
    pub(crate) events: AtomicU64,
    /// One sync at a time. The system reports a failed write once for each open file, so the thread that gets the error
    /// must close the log before another thread syncs and takes the missing error for success.
    syncing: Mutex<()>,
    /// Why the log is closed; set once.
    pub(crate) poison: OnceLock<String>,
    /// Called when the spare has been taken, so that the next one is made in the background.
    pub(crate) on_roll: OnceLock<Box<dyn Fn() + Send + Sync>>,
    pub(crate) _lock: Arc<Lock>,
}

struct Spare {
    /// Number of the segment that is taken next. Counted here and not read off the index, which
    /// learns of a segment only when its catalog is written.
    number: u64,
    ready: Option<Segment>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u64, Arc<Segment>>,
}

/// The guarded data stays whole when a thread panics: every change is a sequence of memory
/// operations that cannot fail half way, so a poisoned lock is taken as it is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogShared {
    pub(crate) fn new(
        dir: PathBuf,
        options: &crate::Options,
        lock: Arc<Lock>,
        state: State,
        free: Vec<PathBuf>,
    ) -> Self {
        let number = state.segments.last_key_value().map_or(1, |(number, _)| number + 1);
        Self {
            dir,
            disk: Arc::clone(&options.disk),
            segment_bytes: options.segment_bytes,
            log_bytes: options.log_bytes,
            state: RwLock::new(state),
            spare: Mutex::new(Spare { number, ready: None }),
            free: Mutex::new(free),
            trimming: Mutex::new(VecDeque::new()),
            synced: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            events: AtomicU64::new(0),
            syncing: Mutex::new(()),
            poison: OnceLock::new(),
            on_roll: OnceLock::new(),
            _lock: lock,
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what was written to a segment durable, or closes the log.
    pub(crate) fn sync_file(&self, segment: &Segment) -> Result<(), Error> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_poison()?;
        segment.file.sync().map_err(|source| {
            // Never reported as a full disk, which is harmless: what was appended before may be lost already.
            let error = Error::Io { action: "sync", file: segment.path.clone(), source };
            self.poison(&error);
            error
        })
    }

    pub(crate) fn check_poison(&self) -> Result<(), Error> {
        self.poison.get().map_or(Ok(()), |reason| Err(Error::Poisoned { reason: reason.clone() }))
    }

    /// Closes the log for good: what is on disk is no longer known.
    pub(crate) fn poison(&self, error: &Error) {
        if self.poison.set(error.to_string()).is_ok() {
            tracing::error!("the log is closed: {error}");
        }
    }

    /// Makes the segment after the current one, unless it is there already.
    pub(crate) fn prepare_spare(&self) -> Result<(), Error> {
        let mut spare = lock(&self.spare);
        if spare.ready.is_none() {
            spare.ready = Some(self.make_segment(spare.number)?);
        }
        Ok(())
    }

    pub(crate) fn take_spare(&self) -> Result<Segment, Error> {
        let mut spare = lock(&self.spare);
        let segment = match spare.ready.take() {
            Some(segment) => segment,
            None => self.make_segment(spare.number)?,
        };
        spare.number += 1;
        Ok(segment)
    }

    /// Gives back what was taken and not written to.
    pub(crate) fn return_spare(&self, segment: Segment) {
        let mut spare = lock(&self.spare);
        spare.number = segment.number;
        // A spare that was made meanwhile has a number that is too high; the next start removes it.
        spare.ready = Some(segment);
    }

    fn make_segment(&self, number: u64) -> Result<Segment, Error> {
        let free = lock(&self.free).pop();
        segment::prepare(&*self.disk, &self.dir, number, self.segment_bytes, free.as_deref())
    }

    /// The log is on disk up to `position` when this returns. The writer syncs for its own
    /// promises; this is for maintenance, whose trees must not get ahead of the log.
    pub(crate) fn sync_up_to(&self, position: Position) -> Result<(), Error> {
        self.check_poison()?;
        if self.synced.load(Ordering::Acquire) >= position.0 {
            return Ok(());
        }
        let Some(segment) = self.read().segments.get(&position.segment()).cloned() else { return Ok(()) };
        self.sync_file(&segment)
    }

    /// Notes up to where a tree is durable, so that the log need not keep these entries.
    pub(crate) fn set_applied(&self, partition: u16, generation: u32, seq: u64) {
        let mut state = self.write();
        if let Some(log) = state.index.partitions.get_mut(&partition)
            && log.exists
            && log.generation == generation
        {
            log.applied = log.applied.max(seq);
        }
    }

    pub(crate) fn set_pin(&self, partition: u16, pin: Option<u64>) {
        if let Some(log) = self.write().index.partitions.get_mut(&partition) {
            log.pin = pin;
        }
    }

    /// Bytes of the segments that the log takes now.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.read().segments.values().map(|s| s.bytes).sum()
    }

    /// Gives up the oldest segments that are not needed. Their files are kept for reuse as long as
    /// all files together stay within the log's size.
    pub(crate) fn trim(&self) -> Result<(), Error> {
        let mut leaving = lock(&self.trimming);
        self.take_unneeded(&mut leaving)?;
        while let Some(segment) = leaving.pop_front() {
            let bytes = segment.bytes;
            let files = lock(&self.free).len() as u64 + 2;
            let reuse = bytes == self.segment_bytes
                && self.live_bytes() + files * self.segment_bytes <= self.log_bytes;
            match segment::release(&*self.disk, &self.dir, &segment, reuse) {
                Ok(true) => lock(&self.free).push(self.dir.join(segment.free_name())),
                Ok(false) => {}
                Err(error) => {
                    // A newer one must not go before it: that would leave a hole.
                    leaving.push_front(segment);
                    return Err(error);
                }
            }
            self.events.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn take_unneeded(&self, leaving: &mut VecDeque<Arc<Segment>>) -> Result<(), Error> {
        // What the index says may rest on a cut, an install or a drop that is not on disk yet, and so
        // may the catalog that stands in for older segments: first make it durable.
        let (keep, appended) = {
            let state = self.read();
            let appended = Position(self.appended.load(Ordering::Acquire));
            (state.index.keep_from(appended.segment()), appended)
        };
        if self.read().segments.first_key_value().is_none_or(|(first, _)| *first >= keep) {
            return Ok(());
        }
        self.sync_up_to(appended)?;
        let mut state = self.write();
        let kept = state.segments.split_off(&keep);
        leaving.extend(std::mem::replace(&mut state.segments, kept).into_values());
        state.index.trim_before(keep);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::{Disk, DiskFile, RealDisk};
    use crate::{LogId, OpenedLog, Options, Record, Tag, open_log};
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// A system that reports a failed write once: to the first sync after `fails` is set, which then takes as long as
    /// the test likes. Later syncs succeed.
    #[derive(Default)]
    struct FailsOnce {
        fails: AtomicBool,
        began: Mutex<Option<Sender<()>>>,
        ends: Mutex<Option<Receiver<()>>>,
    }

    struct FailsOnceDisk(Arc<FailsOnce>);
    struct FailsOnceFile(Box<dyn DiskFile>, Arc<FailsOnce>);

    impl Disk for FailsOnceDisk {
        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(FailsOnceFile(RealDisk.create(path)?, Arc::clone(&self.0))))
        }

        fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(FailsOnceFile(RealDisk.open(path)?, Arc::clone(&self.0))))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            RealDisk.remove(path)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            RealDisk.sync_dir(dir)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            RealDisk.list(dir)
        }
    }

    impl DiskFile for FailsOnceFile {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.0.write_at(bytes, offset)
        }

        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(bytes, offset)
        }

        fn sync(&self) -> io::Result<()> {
            if !self.1.fails.swap(false, Ordering::AcqRel) {
                return self.0.sync();
            }
            let began = self.1.began.lock().unwrap().take().expect("one sync fails");
            began.send(()).unwrap();
            let ends = self.1.ends.lock().unwrap().take().expect("one sync fails");
            // Without the lock the other sync is through before; with it, it waits for this one.
            const OTHER_MAY_TAKE: Duration = Duration::from_millis(200);
            let _other = ends.recv_timeout(OTHER_MAY_TAKE);
            Err(io::Error::other("reported once"))
        }
    }

    #[test]
    fn an_error_that_one_sync_gets_is_no_success_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Arc::new(FailsOnce::default());
        let disk = Arc::new(FailsOnceDisk(Arc::clone(&faults)));
        let options = Options { disk, background: false, ..Options::default() };
        let OpenedLog { writer: mut log, reader, .. } = open_log(dir.path(), &options).unwrap();
        let id = LogId { tag: Tag { generation: 0, version: 1 }, seq: 1 };
        log.append(&[Record::Entry { partition: 0, id, body: "x".into() }]).unwrap();
        let (began, has_begun) = channel();
        let (end, ends) = channel();
        *faults.began.lock().unwrap() = Some(began);
        *faults.ends.lock().unwrap() = Some(ends);
        faults.fails.store(true, Ordering::Release);
        std::thread::scope(|scope| {
            let shared = reader.shared();
            let appended = super::Position(shared.appended.load(Ordering::Acquire));
            let background = scope.spawn(move || shared.sync_up_to(appended));
            has_begun.recv().unwrap();
            assert!(log.sync().is_err(), "what the other sync failed to write is not on disk");
            let _gone = end.send(());
            assert!(background.join().unwrap().is_err());
        });
    }
}
