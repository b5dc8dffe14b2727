//! A disk in memory that knows what has been synced, so that a test can cut the power.
//!
//! Un-synced data is kept as the list of writes. An image after a power cut takes, for each sector of
//! 512 bytes on its own, any state between what was synced and what was written last, sometimes
//! torn within the sector; of un-synced directory changes it takes a part from the front.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use storage::disk::{Disk, DiskFile};

pub(crate) const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct Content {
    pub(crate) synced: Vec<u8>,
    pub(crate) writes: Vec<(usize, Vec<u8>)>,
    pub(crate) now: Vec<u8>,
}

#[derive(Clone)]
enum Change {
    Set(PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Clone, Default)]
pub(crate) struct Files {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    pending: Vec<Change>,
    pub(crate) syncs: usize,
    /// The sync with this number fails.
    pub(crate) fail_sync: Option<usize>,
    /// After so many more bytes written, writes fail with this error number.
    pub(crate) fail_write: Option<(usize, i32)>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeDisk(pub(crate) Arc<Mutex<Files>>);

pub(crate) struct FakeFile {
    disk: FakeDisk,
    inode: usize,
}

fn no_file() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl FakeDisk {
    pub(crate) fn files<T>(&self, f: impl FnOnce(&mut Files) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    /// The disk as a power cut could leave it.
    pub(crate) fn crash(&self, random: &mut fastrand::Rng) -> Self {
        let old = self.0.lock().unwrap();
        let mut names = old.synced_names.clone();
        let kept = random.usize(0..=old.pending.len());
        for change in &old.pending[..kept] {
            apply(&mut names, change);
        }
        let contents = old.contents.iter().map(|c| Content::of(c.crash(random))).collect();
        let files = Files { contents, synced_names: names.clone(), names, ..Files::default() };
        Self(Arc::new(Mutex::new(files)))
    }

    /// The disk as a killed process leaves it: everything written is there, but not synced.
    pub(crate) fn kill(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// A copy with everything durable as it is now.
    pub(crate) fn settled(&self) -> Self {
        let mut files = self.0.lock().unwrap().clone();
        for content in &mut files.contents {
            *content = Content::of(std::mem::take(&mut content.now));
        }
        files.synced_names = files.names.clone();
        files.pending.clear();
        Self(Arc::new(Mutex::new(files)))
    }

    /// Changes a file's bytes behind the store's back.
    pub(crate) fn edit(&self, path: &Path, f: impl FnOnce(&mut Vec<u8>)) {
        let mut files = self.0.lock().unwrap();
        let inode = files.names[path];
        let content = &mut files.contents[inode];
        f(&mut content.now);
        content.synced = content.now.clone();
        content.writes.clear();
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let files = self.0.lock().unwrap();
        files.contents[files.names[path]].now.clone()
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Set(path, inode) => {
            names.retain(|_, i| i != inode);
            names.insert(path.clone(), *inode);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
    }
}

impl Content {
    fn of(bytes: Vec<u8>) -> Self {
        Self { synced: bytes.clone(), writes: Vec::new(), now: bytes }
    }

    fn crash(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut image = self.synced.clone();
        let mut sectors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, (offset, bytes)) in self.writes.iter().enumerate() {
            for sector in offset / SECTOR_BYTES..(offset + bytes.len()).div_ceil(SECTOR_BYTES) {
                sectors.entry(sector).or_default().push(i);
            }
        }
        // Sometimes nearly all or nearly nothing of it reached the disk.
        let keep = [0.0, 0.1, 0.5, 0.9, 1.0][random.usize(0..5)];
        for (sector, writes) in sectors {
            let kept = if random.f64() < keep { writes.len() } else { random.usize(0..=writes.len()) };
            let whole = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
            for write in &writes[..kept] {
                copy_within(&mut image, &self.writes[*write], whole);
            }
            if kept < writes.len() && random.u8(0..4) == 0 {
                let split = whole.0 + random.usize(0..SECTOR_BYTES);
                let part = if random.bool() { (whole.0, split) } else { (split, whole.1) };
                copy_within(&mut image, &self.writes[writes[kept]], part);
            }
        }
        image
    }
}

fn copy_within(image: &mut Vec<u8>, (offset, bytes): &(usize, Vec<u8>), (from, to): (usize, usize)) {
    let (from, to) = (from.max(*offset), to.min(offset + bytes.len()));
    if from < to {
        image.resize(image.len().max(to), 0);
        image[from..to].copy_from_slice(&bytes[from - offset..to - offset]);
    }
}

impl Disk for FakeDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.0.lock().unwrap();
        files.contents.push(Content::default());
        let inode = files.contents.len() - 1;
        files.names.insert(path.to_path_buf(), inode);
        files.pending.push(Change::Set(path.to_path_buf(), inode));
        Ok(Box::new(FakeFile { disk: self.clone(), inode }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.0.lock().unwrap().names.get(path).ok_or_else(no_file)?;
        Ok(Box::new(FakeFile { disk: self.clone(), inode }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let inode = files.names.remove(from).ok_or_else(no_file)?;
        files.names.insert(to.to_path_buf(), inode);
        files.pending.push(Change::Set(to.to_path_buf(), inode));
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        files.names.remove(path).ok_or_else(no_file)?;
        files.pending.push(Change::Remove(path.to_path_buf()));
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        files.synced_names = files.names.clone();
        files.pending.clear();
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.0.lock().unwrap();
        let inside = files.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside.map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }
}

impl DiskFile for FakeFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().contents[self.inode].now.len() as u64)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut files = self.disk.0.lock().unwrap();
        let mut length = bytes.len();
        if let Some((left, error)) = &mut files.fail_write {
            length = length.min(*left);
            *left -= length;
            if length == 0 {
                return Err(io::Error::from_raw_os_error(*error));
            }
        }
        let content = &mut files.contents[self.inode];
        let offset = offset as usize;
        let write = (offset, bytes[..length].to_vec());
        copy_within(&mut content.now, &write, (offset, offset + length));
        content.writes.push(write);
        Ok(length)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let files = self.disk.0.lock().unwrap();
        let rest = files.contents[self.inode].now.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn sync(&self) -> io::Result<()> {
        let mut files = self.disk.0.lock().unwrap();
        files.syncs += 1;
        if files.fail_sync.is_some_and(|n| files.syncs >= n) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let content = &mut files.contents[self.inode];
        for (offset, bytes) in std::mem::take(&mut content.writes) {
            let all = (offset, offset + bytes.len());
            copy_within(&mut content.synced, &(offset, bytes), all);
        }
        Ok(())
    }
}

/// Number of random runs, more when `SEEDS` is set.
pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    let start = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let count = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    start.map_or(0..count, |s: u64| s..s + 1)
}

/// A directory for a store, in memory where there is such a place: the tests sync often, and what a
/// disk would keep is tested with [`FakeDisk`].
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
