//! Segment files: made in the background, written once from front to back, then recycled.
//!
//! A file is called `free-<n>.log` until it is complete (full length of written zeros, or the
//! content of its last use) and gets its number only when its header is durable. So a numbered
//! file whose header does not check is damage, never a leftover of a crash.

use super::format::{Position, SEGMENT_FORMAT, SEGMENT_HEADER_BYTES, Seed, SegmentHeader};
use crate::{
    Error,
    disk::{Disk, DiskFile, read_up_to, write_all_at},
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

const ZEROS_BYTES: usize = 1 << 20;

/// A numbered segment file.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) seed: Seed,
    pub(crate) bytes: u64,
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// What a name in the log directory stands for.
pub(crate) enum Name {
    Segment(u64),
    Free,
    Other,
}

pub(crate) fn parse_name(name: &str) -> Name {
    let Some(stem) = name.strip_suffix(".log") else { return Name::Other };
    match stem.parse() {
        Ok(number) if stem.len() == 20 => Name::Segment(number),
        _ if stem.starts_with("free-") => Name::Free,
        _ => Name::Other,
    }
}

/// Makes segment `number` out of a free file or a new one. Durable when it returns.
pub(crate) fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    bytes: u64,
    free: Option<&Path>,
) -> Result<Segment, Error> {
    let path = dir.join(segment_name(number));
    let fresh = dir.join(format!("free-{number}.log"));
    let source = free.unwrap_or(&fresh);
    let file = if free.is_some() {
        disk.open(source).map_err(|e| Error::io("open", source, e))?
    } else {
        let file = disk.create(source).map_err(|e| Error::io("create", source, e))?;
        if let Err(error) = fill(&*file, 0..bytes, source) {
            drop(disk.remove(source));
            return Err(error);
        }
        file
    };
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|e| Error::io("draw a salt for", source, e.into()))?;
    let header = SegmentHeader { number, salt: u64::from_le_bytes(salt), bytes };
    write_all_at(&*file, &header.encode(), 0).map_err(|e| Error::io("write", source, e.source))?;
    file.sync().map_err(|e| Error::io("sync", source, e))?;
    disk.rename(source, &path).map_err(|e| Error::io("rename", source, e))?;
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    Ok(Segment { number, path, file, seed: Seed::new(number, header.salt), bytes })
}

/// Writes zeros over a part of a file.
pub(crate) fn fill(file: &dyn DiskFile, range: Range<u64>, path: &Path) -> Result<(), Error> {
    let zeros = vec![0; ZEROS_BYTES.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(zeros.len() as u64);
        write_all_at(file, &zeros[..length as usize], at).map_err(|e| Error::io("write", path, e.source))?;
        at += length;
    }
    Ok(())
}

/// Turns a segment that is not needed any more into a free file if `keep` is set and no reader has it open, else
/// removes it. Returns whether there is a free file now.
pub(crate) fn release(
    disk: &dyn Disk,
    dir: &Path,
    segment: &Arc<Segment>,
    keep: bool,
) -> Result<bool, Error> {
    let path = &segment.path;
    // A reader that still has it open would see the file's next content. The index does not list the segment any more,
    // so no other reader can open it.
    let keep = keep && Arc::strong_count(segment) == 1;
    let done = match if keep { disk.rename(path, &dir.join(segment.free_name())) } else { disk.remove(path) }
    {
        // A second try, after the directory could not be synced.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        done => done.map(|()| keep),
    };
    let done = done.map_err(|e| Error::io("give up", path, e))?;
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    Ok(done)
}

impl Segment {
    /// Where the first batch of a segment lies.
    pub(crate) fn first(number: u64) -> Position {
        Position::new(number, SEGMENT_HEADER_BYTES)
    }

    /// What the file is called when it is free. Not by its number alone: the same number may have
    /// been free before, after a start that gave it up.
    pub(crate) fn free_name(&self) -> String {
        format!("free-{}-{}.log", self.number, self.seed)
    }
}

/// Opens a numbered file for recovery and reads all of it.
pub(crate) fn load(disk: &dyn Disk, dir: &Path, number: u64) -> Result<(Segment, Vec<u8>), Error> {
    let path = dir.join(segment_name(number));
    let file = disk.open(&path).map_err(|e| Error::io("open", &path, e))?;
    let length = file.len().map_err(|e| Error::io("read", &path, e))?;
    let mut bytes =
        vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(crate::SEGMENT_BYTES_MAX as usize)];
    let read = read_up_to(&*file, &mut bytes, 0).map_err(|e| Error::io("read", &path, e))?;
    bytes.truncate(read);
    match SegmentHeader::decode(&bytes) {
        Some(Err(found)) => Err(Error::OtherVersion { file: path, found, own: SEGMENT_FORMAT }),
        Some(Ok(header)) if header.number != number => {
            Err(Error::damaged(path, 8, format!("its header says that it is segment {}", header.number)))
        }
        Some(Ok(header)) if header.bytes != length => {
            Err(Error::damaged(path, length, format!("{length} bytes long instead of {}", header.bytes)))
        }
        Some(Ok(header)) => {
            let seed = Seed::new(number, header.salt);
            Ok((Segment { number, path, file, seed, bytes: length }, bytes))
        }
        None => Err(Error::damaged(path, 0, "the segment's header does not check")),
    }
}
