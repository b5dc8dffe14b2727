//! Reading the log at a start: where it ends, and whether anything before its end is missing.
//!
//! The log ends at the first position P where no batch with the next number checks, neither there nor
//! at the beginning of the next segment. What follows P is either a torn tail (un-synced sectors
//! may have reached the disk in any order, so valid batches may follow a broken one) or a sign of
//! damage. The difference: a header of a batch is written after everything that its `synced` field
//! names was synced. So if any header anywhere after P checks and names a position behind P, then P
//! had been synced, and is damaged. An idle log ends with a batch that has no records and vouches so
//! for all before it; only what was written in the last moments before a stop has nothing behind it.
//!
//! If something of a batch is at P and nothing vouches for it, this log alone does not show whether a stop tore it, or
//! it was synced and acknowledged and is damaged. Then the log ends before it, and the end is reported as doubtful
//! ([`DoubtfulEnd`]), since other copies may have more. Either way what follows P is overwritten with zeros, durably,
//! before anything new is written, so that it cannot come back.

use super::{
    LogReader, LogWriter,
    format::{
        ALIGNMENT, BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, Position, SEGMENT_HEADER_BYTES,
        decode_batch, is_rest_of_batch,
    },
    index::Index,
    segment::{self, Name, Segment},
    shared::{LogShared, State},
};
use crate::{DoubtfulEnd, Error, Options, disk::Disk, lock::Lock};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The log of a store that is being opened.
pub(crate) struct Opened {
    pub(crate) writer: LogWriter,
    pub(crate) reader: LogReader,
    pub(crate) shared: Arc<LogShared>,
    pub(crate) end_in_doubt: Option<DoubtfulEnd>,
}

/// The log as it was found, before anything is changed.
pub(crate) struct Replayed {
    pub(crate) index: Index,
    pub(crate) end_in_doubt: Option<DoubtfulEnd>,
    segments: BTreeMap<u64, Arc<Segment>>,
    /// Segments behind the one that the log ends in.
    later: Vec<Segment>,
    end: Position,
    /// Something of a batch lies behind the end in its segment.
    torn: bool,
    next_number: u64,
}

/// The numbers of the segment files and the paths of the free ones.
pub(crate) fn list_segments(disk: &dyn Disk, dir: &Path) -> Result<(Vec<u64>, Vec<PathBuf>), Error> {
    let names = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let (mut numbers, mut free) = (Vec::new(), Vec::new());
    for name in names {
        match segment::parse_name(&name) {
            Name::Segment(number) => numbers.push(number),
            Name::Free => free.push(dir.join(name)),
            Name::Other => {}
        }
    }
    numbers.sort_unstable();
    free.sort_unstable();
    Ok((numbers, free))
}

/// Reads the log without changing anything. `None` when there are no segments.
pub(crate) fn replay(disk: &dyn Disk, dir: &Path, numbers: &[u64]) -> Result<Option<Replayed>, Error> {
    let Some(&first) = numbers.first() else { return Ok(None) };
    check_consecutive(dir, first, numbers)?;
    let mut batches = read_batches(disk, dir, first, numbers)?;
    let (last, bytes, offset) = batches.take_last(dir)?;
    let Batches { index, segments, next, next_number, .. } = batches;
    let end = Position::new(last.number, offset);
    let next_number = next_number.unwrap_or(1);
    let header_behind = has_header(&last, &bytes, offset, (&last.path, end), end)?;
    let torn = header_behind || is_rest_of_batch(&bytes, offset, last.seed, next_number);
    let torn_end = torn.then(|| DoubtfulEnd { file: last.path.clone(), offset: offset as u64 });
    let missing = if torn { (last.path.clone(), end) } else { missing_at(&last, end, next.as_ref()) };
    let read = segments.len() + usize::from(next.is_some());
    let unread = numbers[read..].iter().map(|number| segment::load(disk, dir, *number));
    let (later, later_doubt) =
        check_later(next.map(Ok).into_iter().chain(unread), &missing, end, next_number)?;
    let end_in_doubt = torn_end.or(later_doubt);
    Ok(Some(Replayed { index, end_in_doubt, segments, later, end, torn, next_number }))
}

/// Refuses a log without one of its segments.
fn check_consecutive(dir: &Path, first: u64, numbers: &[u64]) -> Result<(), Error> {
    match (first..).zip(numbers).find(|(expected, number)| expected != *number) {
        Some((expected, _)) => {
            Err(Error::damaged(dir.join(segment::segment_name(expected)), 0, "the segment is missing"))
        }
        None => Ok(()),
    }
}

/// The batches of a log, up to the first position at which the next one does not check.
#[derive(Default)]
struct Batches {
    index: Index,
    /// The segments that the batches are in.
    segments: BTreeMap<u64, Arc<Segment>>,
    /// The last of these segments, its bytes, and the offset at which the last batch ends.
    last: Option<(Arc<Segment>, Vec<u8>, usize)>,
    /// The segment behind, if there is one, and its bytes. It does not begin with the next batch.
    next: Option<(Segment, Vec<u8>)>,
    /// The number of the batch that comes next; `None`: no batch was read.
    next_number: Option<u64>,
}

fn read_batches(disk: &dyn Disk, dir: &Path, first: u64, numbers: &[u64]) -> Result<Batches, Error> {
    let mut batches = Batches::default();
    for &number in numbers {
        let (segment, bytes) = segment::load(disk, dir, number)?;
        let Batches { index, next_number, .. } = &mut batches;
        let Some(offset) = replay_segment(&segment, &bytes, index, next_number, number == first)? else {
            batches.next = Some((segment, bytes));
            break;
        };
        let segment = Arc::new(segment);
        batches.segments.insert(number, Arc::clone(&segment));
        batches.last = Some((segment, bytes, offset));
    }
    Ok(batches)
}

impl Batches {
    /// The segment that the log ends in, its bytes, and the offset of the end.
    fn take_last(&mut self, dir: &Path) -> Result<(Arc<Segment>, Vec<u8>, usize), Error> {
        if let Some(last) = self.last.take() {
            return Ok(last);
        }
        match self.next.take() {
            // Only the very first segment may lack its catalog: trimming waits for a later one.
            Some((segment, bytes)) if segment.number == 1 => {
                let segment = Arc::new(segment);
                self.segments.insert(segment.number, Arc::clone(&segment));
                Ok((segment, bytes, SEGMENT_HEADER_BYTES))
            }
            first => {
                let path = first.map_or_else(|| dir.to_path_buf(), |(segment, _)| segment.path);
                let at = SEGMENT_HEADER_BYTES as u64;
                Err(Error::damaged(path, at, "the first catalog does not check"))
            }
        }
    }
}

/// Where to look when something is missing behind a log that ends with a whole batch: where that batch ends, or the
/// beginning of the next segment, if the first batch there is broken.
fn missing_at(last: &Segment, end: Position, next: Option<&(Segment, Vec<u8>)>) -> (PathBuf, Position) {
    match next {
        Some((next, bytes)) if decode_batch(bytes, SEGMENT_HEADER_BYTES, next.seed).is_none() => {
            (next.path.clone(), Segment::first(next.number))
        }
        _ => (last.path.clone(), end),
    }
}

/// Looks through the segments behind the one that the log ends in. Returns them, and the position at which something
/// may be missing, if one of them has a header, or something of the next batch.
fn check_later(
    later: impl Iterator<Item = Result<(Segment, Vec<u8>), Error>>,
    (file, at): &(PathBuf, Position),
    end: Position,
    next_number: u64,
) -> Result<(Vec<Segment>, Option<DoubtfulEnd>), Error> {
    let (mut segments, mut is_doubtful) = (Vec::new(), false);
    for loaded in later {
        let (segment, bytes) = loaded?;
        is_doubtful |= has_header(&segment, &bytes, SEGMENT_HEADER_BYTES, (file, *at), end)?
            || is_rest_of_batch(&bytes, SEGMENT_HEADER_BYTES, segment.seed, next_number);
        segments.push(segment);
    }
    let doubt = is_doubtful.then(|| DoubtfulEnd { file: file.clone(), offset: at.offset() as u64 });
    Ok((segments, doubt))
}

/// A part of a log that reads: consecutive segments, up to the end or to the first position that does not check.
pub(crate) struct Readable {
    pub(crate) index: Index,
    /// The first and the last segment.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Where it ends in the last one.
    pub(crate) end: usize,
    /// Why it is not the whole log, if it is not.
    pub(crate) damage: Option<String>,
}

/// Reads what can be read of a log that may be damaged, without changing anything: the parts of it, each of which
/// begins with a catalog, in their order. One part, if the log is whole.
pub(crate) fn replay_readable(disk: &dyn Disk, dir: &Path, numbers: &[u64]) -> Result<Vec<Readable>, Error> {
    let whole = match replay(disk, dir, numbers) {
        Ok(whole) => return Ok(whole.map(Readable::whole).into_iter().collect()),
        Err(error @ Error::OtherVersion { .. }) => return Err(error),
        Err(error) => error.to_string(),
    };
    let (mut parts, mut rest) = (Vec::new(), numbers);
    while let Some(&first) = rest.first() {
        let mut part =
            Readable { index: Index::default(), first, last: first, end: 0, damage: Some(whole.clone()) };
        let (mut expected, mut taken) = (None, 0);
        for (&number, consecutive) in rest.iter().zip(first..) {
            if number != consecutive {
                break;
            }
            let Ok((segment, bytes)) = segment::load(disk, dir, number) else { break };
            // A part that does not follow must not change what was read before, so it is tried on a copy.
            let mut index = part.index.clone();
            let read = replay_segment(&segment, &bytes, &mut index, &mut expected, number == first);
            let Ok(Some(end)) = read else { break };
            (part.index, part.last, part.end) = (index, number, end);
            taken += 1;
        }
        if taken > 0 {
            parts.push(part);
        }
        rest = &rest[taken.max(1)..];
    }
    Ok(parts)
}

impl Readable {
    fn whole(replayed: Replayed) -> Self {
        let first = replayed.segments.keys().next().copied().unwrap_or(replayed.end.segment());
        let (last, end) = (replayed.end.segment(), replayed.end.offset());
        let damage = replayed.end_in_doubt.map(|doubt| doubt.to_string());
        Self { index: replayed.index, first, last, end, damage }
    }
}

/// Takes over the batches of one segment and returns where they end; `None` when the segment does
/// not begin with the batch that comes next.
fn replay_segment(
    segment: &Segment,
    bytes: &[u8],
    index: &mut Index,
    expected: &mut Option<u64>,
    first: bool,
) -> Result<Option<usize>, Error> {
    let mut offset = SEGMENT_HEADER_BYTES;
    while let Some((header, records)) = decode_batch(bytes, offset, segment.seed) {
        if expected.is_some_and(|e| e != header.number) {
            break;
        }
        *expected = Some(header.number + 1);
        for (at, record) in records {
            let position = Position::new(segment.number, at);
            let catalog = first && offset == SEGMENT_HEADER_BYTES;
            let applied = if catalog { index.restore(&record) } else { index.apply(&record, position) };
            applied.map_err(|detail| {
                let detail = format!("{detail} (partition {})", record.partition);
                Error::damaged(&segment.path, at as u64, detail)
            })?;
        }
        offset += BATCH_HEADER_BYTES + header.bytes as usize;
    }
    Ok((offset > SEGMENT_HEADER_BYTES).then_some(offset))
}

/// Whether there is a batch header at or after `from` that checks. Refuses when one shows that `end`
/// had been synced.
fn has_header(
    segment: &Segment,
    bytes: &[u8],
    from: usize,
    (missing, at): (&PathBuf, Position),
    end: Position,
) -> Result<bool, Error> {
    let mut found = false;
    for offset in (from..bytes.len()).step_by(ALIGNMENT) {
        if bytes[offset..].starts_with(&BATCH_MAGIC)
            && let Some(header) = BatchHeader::decode(bytes, offset, segment.seed)
        {
            found = true;
            if header.synced <= end {
                continue;
            }
            let detail = format!(
                "what was on disk here is gone: batch {} at byte {offset} of segment {} was written after it",
                header.number, segment.number
            );
            return Err(Error::damaged(missing, at.offset() as u64, detail));
        }
    }
    Ok(found)
}

/// Opens the log for writing: cuts a torn tail off, makes what was found durable and says so in a
/// first batch.
pub(crate) fn open(dir: &Path, options: &Options, lock: Arc<Lock>) -> Result<Opened, Error> {
    let disk = &*options.disk;
    let (numbers, _) = list_segments(disk, dir)?;
    let Some(replayed) = replay(disk, dir, &numbers)? else { return create(dir, options, lock) };
    let last = Arc::clone(&replayed.segments[&replayed.end.segment()]);
    if let Some(doubt) = &replayed.end_in_doubt {
        tracing::warn!("{doubt}");
    }
    cut_tail(disk, dir, &last, replayed.torn.then_some(replayed.end.offset()), replayed.later)?;
    let free = usable_free(disk, dir, options.segment_bytes)?;
    let state = State { index: replayed.index, segments: replayed.segments };
    let shared = Arc::new(LogShared::new(dir.to_path_buf(), options, lock, state, free));
    let offset = replayed.end.offset();
    let mut writer = LogWriter::new(Arc::clone(&shared), last, offset, replayed.next_number, replayed.end);
    if offset == SEGMENT_HEADER_BYTES {
        writer.write_catalog()?;
    }
    writer.vouch()?;
    let reader = LogReader::new(Arc::clone(&shared));
    Ok(Opened { writer, reader, shared, end_in_doubt: replayed.end_in_doubt })
}

fn create(dir: &Path, options: &Options, lock: Arc<Lock>) -> Result<Opened, Error> {
    let mut free = usable_free(&*options.disk, dir, options.segment_bytes)?;
    let file = free.pop();
    let segment = segment::prepare(&*options.disk, dir, 1, options.segment_bytes, file.as_deref())?;
    let segment = Arc::new(segment);
    let segments = BTreeMap::from([(1, Arc::clone(&segment))]);
    let state = State { index: Index::default(), segments };
    let shared = Arc::new(LogShared::new(dir.to_path_buf(), options, lock, state, free));
    let mut writer = LogWriter::new(Arc::clone(&shared), segment, SEGMENT_HEADER_BYTES, 1, Segment::first(1));
    writer.write_catalog()?;
    writer.sync()?;
    Ok(Opened { writer, reader: LogReader::new(Arc::clone(&shared)), shared, end_in_doubt: None })
}

/// Free files of the right length; others (of a crash, or of another segment size) go.
fn usable_free(disk: &dyn Disk, dir: &Path, bytes: u64) -> Result<Vec<PathBuf>, Error> {
    let (_, free) = list_segments(disk, dir)?;
    let mut usable = Vec::new();
    for path in free {
        let length = disk.open(&path).and_then(|f| f.len()).map_err(|e| Error::io("open", &path, e))?;
        if length == bytes {
            usable.push(path);
        } else {
            disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(usable)
}

/// Overwrites what follows the log's end, if that is `torn`. Later segments become free files: even if nothing in them
/// checks, parts of un-synced batches may be there, and a new use gets a salt of its own.
fn cut_tail(
    disk: &dyn Disk,
    dir: &Path,
    last: &Segment,
    torn: Option<usize>,
    later: Vec<Segment>,
) -> Result<(), Error> {
    // The newest goes first, so that a crash in between leaves no hole.
    for segment in later.into_iter().rev() {
        segment::release(disk, dir, &Arc::new(segment), true)?;
    }
    if let Some(end) = torn {
        segment::fill(&*last.file, end as u64..last.bytes, &last.path)?;
    }
    // Also what was read may be in memory only, after a killed process.
    last.file.sync().map_err(|e| Error::Io { action: "sync", file: last.path.clone(), source: e })
}
