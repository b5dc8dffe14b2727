//! The state on disk: `DIR/state`, the whole of it, replaced as a whole.
//!
//! The file is one line of JSON (a [`State`] under `state`, and `format`, 1), then one line `crc32c XXXXXXXX` of
//! the first line's bytes. It is written as `state.tmp`, synced, and renamed over `state`; then the directory is
//! synced. The version before it stays as `state.previous`. `lock` keeps a second ECS out (flock).
//!
//! Invariant: `state` is always whole: a crash at any moment leaves the old version or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use common::files::{create_unfinished, private_dir};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use ecs_core::State;

const STATE: &str = "state";
const PREVIOUS: &str = "state.previous";
const UNFINISHED: &str = "state.tmp";
const LOCK: &str = "lock";

/// The version of the file's format.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Content<S> {
    format: u32,
    state: S,
}

/// The ECS's directory, locked while this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens the directory, or makes it, and locks it.
    ///
    /// # Errors
    /// When it cannot be used, is in use, or holds something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Directory { path: path.to_owned(), source };
        private_dir(path).map_err(failed)?;
        for entry in fs::read_dir(path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if ![STATE, PREVIOUS, UNFINISHED, LOCK].iter().any(|own| name == **own)
                && !path.join(STATE).exists()
            {
                let found = name.to_string_lossy().into_owned();
                return Err(Error::Foreign { path: path.to_owned(), found });
            }
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK));
        let lock = lock.map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: path.to_owned() }),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// The state, or `None` in a new directory.
    ///
    /// # Errors
    /// When the file is damaged, or missing beside an older version of it.
    pub fn load(&self) -> Result<Option<State>, Error> {
        let (path, previous) = (self.path.join(STATE), self.path.join(PREVIOUS));
        let damaged = |what: String| {
            let previous = previous.exists().then(|| previous.clone());
            Error::Damaged { path: path.clone(), previous, what }
        };
        match fs::read(&path) {
            Ok(bytes) => match read(&bytes) {
                Ok(Read::State(state)) => Ok(Some(*state)),
                Ok(Read::OtherFormat(found)) => Err(Error::OtherVersion { path, found, own: FORMAT }),
                Err(what) => Err(damaged(what)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound && previous.exists() => {
                Err(damaged("it is missing".to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Directory { path: path.clone(), source }),
        }
    }

    /// Replaces the state; it is durable when this returns.
    ///
    /// # Errors
    /// When a write, sync or rename fails. What is on disk then is not known: the process must stop.
    pub fn store(&self, state: &State) -> Result<(), Error> {
        self.replace(state).map_err(|source| Error::Persist { path: self.path.join(STATE), source })
    }

    fn replace(&self, state: &State) -> io::Result<()> {
        let (path, unfinished) = (self.path.join(STATE), self.path.join(UNFINISHED));
        let mut file = create_unfinished(&unfinished)?;
        file.write_all(&written(state)?)?;
        file.sync_all()?;
        if path.exists() {
            // `state.previous` is for operators only, after damage; `state` itself exists at every moment.
            let previous = self.path.join(PREVIOUS);
            let _ = fs::remove_file(&previous);
            let _ = fs::hard_link(&path, &previous);
        }
        fs::rename(&unfinished, &path)?;
        File::open(&self.path)?.sync_all()
    }
}

fn written(state: &State) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&Content { format: FORMAT, state })?;
    let sum = crc32c::crc32c(&bytes);
    writeln!(bytes, "\ncrc32c {sum:08x}")?;
    Ok(bytes)
}

/// A file whose checksum is right.
#[derive(Debug, PartialEq)]
enum Read {
    State(Box<State>),
    OtherFormat(u32),
}

fn read(bytes: &[u8]) -> Result<Read, String> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("its first line does not end")?;
    let (json, rest) = bytes.split_at(end);
    let sum = std::str::from_utf8(rest).ok().and_then(|rest| rest.trim().strip_prefix("crc32c "));
    let sum = sum.and_then(|sum| u32::from_str_radix(sum, 16).ok()).ok_or("its checksum is missing")?;
    if crc32c::crc32c(json) != sum {
        return Err("its checksum does not match its content".to_owned());
    }
    let content: Content<serde_json::Value> =
        serde_json::from_slice(json).map_err(|error| format!("it is no state of an ecs ({error})"))?;
    if content.format != FORMAT {
        return Ok(Read::OtherFormat(content.format));
    }
    let state: Box<State> = serde_json::from_value(content.state).map_err(|error| error.to_string())?;
    state.view.check().map_err(|error| error.to_string())?;
    Ok(Read::State(state))
}

/// What is to be written, and its ticket.
type Job = (u64, State);

/// Writes states on a thread of its own, so that the driver never waits for the disk.
#[derive(Debug)]
pub struct Journal {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the thread. It calls `done` with the ticket of each state that is on disk, or, as the last call, with the
    /// reason why one is not.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(
        directory: Directory,
        done: impl FnMut(Result<u64, Error>) + Send + 'static,
    ) -> Result<Self, Error> {
        let (jobs, queue) = sync_channel(1);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let thread = thread.spawn(move || work(&directory, &queue, done))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has a state written. One at a time: the core waits for each.
    pub fn persist(&self, ticket: u64, state: State) {
        // The thread ends early only after a failure, which it has reported through `done`.
        if let Some(jobs) = &self.jobs {
            let _gone = jobs.send((ticket, state));
        }
    }
}

impl Drop for Journal {
    /// Waits for the write under way.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(directory: &Directory, queue: &Receiver<Job>, mut done: impl FnMut(Result<u64, Error>)) {
    while let Ok((ticket, state)) = queue.recv() {
        let result = directory.store(&state);
        let failed = result.is_err();
        done(result.map(|()| ticket));
        if failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::ClusterId;
    use common::ring::Partitions;

    fn state(id: u128) -> State {
        State::new(ClusterId(id), Partitions::default())
    }

    #[test]
    fn what_was_stored_is_loaded_and_the_version_before_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        assert!(directory.load().unwrap().is_none());
        directory.store(&state(1)).unwrap();
        directory.store(&state(2)).unwrap();
        assert_eq!(directory.load().unwrap(), Some(state(2)));
        let previous = fs::read(dir.path().join(PREVIOUS)).unwrap();
        assert_eq!(read(&previous), Ok(Read::State(Box::new(state(1)))));
    }

    #[test]
    fn a_second_ecs_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Directory::open(dir.path()).unwrap();
        assert!(matches!(Directory::open(dir.path()), Err(Error::InUse { .. })));
    }

    #[test]
    fn the_directory_of_another_program_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(
            matches!(Directory::open(dir.path()), Err(Error::Foreign { found, .. }) if found == "thesis.tex")
        );
        assert!(!dir.path().join(LOCK).exists());
    }

    #[test]
    fn a_state_of_a_newer_version_is_told_to_be_that_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        directory.store(&state(1)).unwrap();
        let path = dir.path().join(STATE);
        let json = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .replace(r#""format":1"#, r#""format":2"#);
        let newer = format!("{json}\ncrc32c {:08x}\n", crc32c::crc32c(json.as_bytes()));
        fs::write(&path, &newer).unwrap();
        let error = directory.load().unwrap_err();
        assert!(matches!(error, Error::OtherVersion { found: 2, own: FORMAT, .. }), "{error}");
        assert!(error.to_string().contains("a newer version of ecs"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        directory.store(&state(1)).unwrap();
        let path = dir.path().join(STATE);
        let good = fs::read(&path).unwrap();
        for index in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[index] ^= 4;
            fs::write(&path, bad).unwrap();
            assert!(matches!(directory.load(), Err(Error::Damaged { .. })), "byte {index}");
        }
        for length in [0, 1, good.len() / 2] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(matches!(directory.load(), Err(Error::Damaged { .. })), "cut to {length}");
        }
    }
}
