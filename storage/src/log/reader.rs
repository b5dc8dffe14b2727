//! Reading entries back, from any thread, also such as are not synced yet.

use super::{
    format::{Kind, Position, RECORD_HEADER_BYTES, RawRecord, SEGMENT_HEADER_BYTES},
    segment::Segment,
    shared::LogShared,
};
use crate::{Error, LogId, READ_ENTRIES_MAX, Read, disk::read_up_to};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes that are read in one piece, at most: neighbouring entries of a partition often lie close together.
const WINDOW_BYTES: usize = 64 * 1_024;
/// Bytes between two wanted entries, above which they are not read in one piece.
const FIRST_READ_BYTES: usize = 4_096;

/// Reads the log. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<LogShared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<LogShared>) -> Self {
        Self { shared }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &LogShared {
        &self.shared
    }

    /// Entries of a partition from `from` on, as many as fit into `max_bytes` of bodies but at
    /// least one if there is one.
    ///
    /// # Errors
    /// [`Error::Damaged`] when an entry does not check, [`Error::Io`].
    pub fn read(&self, partition: u16, from: u64, max_bytes: usize) -> Result<Read, Error> {
        loop {
            let (positions, segments, base) = {
                let state = self.shared.read();
                let Some(log) = state.index.get(partition) else { return Ok(Read::Entries(Vec::new())) };
                let Some(skip) = from.max(1).checked_sub(log.base.seq + 1) else {
                    return Ok(Read::Trimmed { base: log.base });
                };
                let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(log.positions.len());
                let positions: Vec<_> = log.positions.range(skip..).take(READ_ENTRIES_MAX).copied().collect();
                let segments: Vec<Arc<Segment>> = match (positions.first(), positions.last()) {
                    (Some(a), Some(b)) => {
                        state.segments.range(a.segment()..=b.segment()).map(|(_, s)| Arc::clone(s)).collect()
                    }
                    _ => Vec::new(),
                };
                (positions, segments, log.base)
            };
            match read_positions(partition, from.max(1), max_bytes, &positions, &segments) {
                Ok(entries) => return Ok(Read::Entries(entries)),
                // Cut or trimmed while it was read: look again.
                Err(Error::Damaged { .. }) if self.changed(partition, from.max(1), &positions, base) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn changed(&self, partition: u16, from: u64, positions: &[Position], base: LogId) -> bool {
        let state = self.shared.read();
        state.index.get(partition).is_none_or(|log| {
            log.base != base
                || (from..).zip(positions).any(|(seq, position)| log.position(seq) != Some(*position))
        })
    }

    /// Trimming keeps the entries from `from` on until [`Self::unpin`]. One pin a partition: a
    /// second replaces the first. Entries that are gone already stay gone.
    pub fn pin(&self, partition: u16, from: u64) {
        self.shared.set_pin(partition, Some(from));
    }

    /// Lets trimming go on.
    pub fn unpin(&self, partition: u16) {
        self.shared.set_pin(partition, None);
    }

    /// For tests without trees: reports entries up to `seq` as durable in a tree.
    #[doc(hidden)]
    pub fn set_applied(&self, partition: u16, seq: u64) -> Result<(), Error> {
        let generation = self.shared.read().index.get(partition).map_or(0, |log| log.generation);
        self.shared.set_applied(partition, generation, seq);
        self.shared.trim()
    }

    /// Bytes of log segments in use.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.shared.live_bytes()
    }
}

fn read_positions(
    partition: u16,
    from: u64,
    max_bytes: usize,
    positions: &[Position],
    segments: &[Arc<Segment>],
) -> Result<Vec<(LogId, Bytes)>, Error> {
    let mut entries = Vec::new();
    let mut total = 0;
    let mut window = Window { segment: 0, offset: 0, bytes: Vec::new() };
    for (seq, (i, position)) in (from..).zip(positions.iter().enumerate()) {
        // Without its segment the entry was trimmed in between; the caller finds out which.
        let Some(segment) = segments.iter().find(|s| s.number == position.segment()) else {
            return Err(Error::damaged("", 0, "its segment is gone"));
        };
        let next = positions.get(i + 1).filter(|n| n.segment() == position.segment());
        let near = next.is_some_and(|n| n.offset() < position.offset() + WINDOW_BYTES / 4);
        let ahead = if near { WINDOW_BYTES } else { FIRST_READ_BYTES };
        let header = window.get(segment, position.offset(), RECORD_HEADER_BYTES, ahead)?;
        let length = RECORD_HEADER_BYTES + RawRecord::claimed_length(header);
        if !entries.is_empty() && total + length - RECORD_HEADER_BYTES > max_bytes {
            break;
        }
        if length as u64 > segment.bytes - SEGMENT_HEADER_BYTES as u64 {
            return Err(Error::damaged(&segment.path, position.offset() as u64, "an entry is too long"));
        }
        let bytes = window.get(segment, position.offset(), length, ahead)?;
        match RawRecord::decode(bytes, position.offset(), segment.seed) {
            Some(r) if r.kind == Kind::Entry && r.partition == partition && r.id.seq == seq => {
                total += r.body.len();
                entries.push((r.id, Bytes::copy_from_slice(r.body)));
            }
            _ => {
                let detail = format!("entry {seq} of partition {partition} does not check");
                return Err(Error::damaged(&segment.path, position.offset() as u64, detail));
            }
        }
    }
    Ok(entries)
}

/// The piece of a segment that was read last.
struct Window {
    segment: u64,
    offset: usize,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&mut self, segment: &Segment, offset: usize, length: usize, ahead: usize) -> Result<&[u8], Error> {
        let end = self.offset + self.bytes.len();
        if self.segment != segment.number || offset < self.offset || offset + length > end {
            let wanted = length.max(ahead).min(segment.bytes as usize - offset);
            self.bytes.resize(wanted, 0);
            let read = read_up_to(&*segment.file, &mut self.bytes, offset as u64)
                .map_err(|e| Error::io("read", &segment.path, e))?;
            self.bytes.truncate(read);
            (self.segment, self.offset) = (segment.number, offset);
        }
        let start = offset - self.offset;
        self.bytes
            .get(start..start + length)
            .ok_or_else(|| Error::damaged(&segment.path, offset as u64, "the file ends within a record"))
    }
}
