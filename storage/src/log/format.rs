//! Bytes of the log: segment headers, batch headers and records. See `docs/format.md`.
//!
//! Every checksum is a CRC-32C that starts from a seed made of the segment's number, the segment's
//! random salt and the position in the segment, so that neither leftovers of a recycled file nor bytes
//! that a user put into a value can pass for a part of the log. Integers are little endian.

use crate::{LogId, Tag};
use crc32c::crc32c_append;

/// A segment begins with this and the format in two decimal digits. The header's checksum is at the same position in
/// every format, so that another format is not taken for damage.
const SEGMENT_MAGIC: &[u8; 6] = b"TRFLOG";
/// The format of segments that this program reads and writes.
pub(crate) const SEGMENT_FORMAT: u32 = 1;
/// Bytes of a segment's header. It has the first sector for itself, which is never written again with data.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 512;
pub(crate) const BATCH_MAGIC: [u8; 4] = *b"BtcH";
pub(crate) const BATCH_HEADER_BYTES: usize = 32;
pub(crate) const RECORD_HEADER_BYTES: usize = 32;
/// Batches and records begin at multiples of so many bytes.
pub(crate) const ALIGNMENT: usize = 8;
/// Bytes that damage, or a sector that a power cut lost, takes at most from a batch's header on. Behind them the
/// batch's records are looked for.
const LOST_HEADER_BYTES: usize = 4_096;

/// A position in the log, ordered: segment number in the upper, offset in the lower 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub(crate) u64);

impl Position {
    pub(crate) fn new(segment: u64, offset: usize) -> Self {
        assert!(segment < 1 << 32 && offset < 1 << 32, "segment {segment}, offset {offset}");
        Self(segment << 32 | offset as u64)
    }
    pub(crate) fn segment(self) -> u64 {
        self.0 >> 32
    }
    pub(crate) fn offset(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// The seed of the checksums, different for each use of each segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(number: u64, salt: u64) -> Self {
        Self(crc32c_append(crc32c_append(0, &salt.to_le_bytes()), &number.to_le_bytes()))
    }
    fn at(self, offset: usize) -> u32 {
        crc32c_append(self.0, &(offset as u32).to_le_bytes())
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) bytes: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..6].copy_from_slice(SEGMENT_MAGIC);
        out[6..8].copy_from_slice(&[b'0' + (SEGMENT_FORMAT / 10) as u8, b'0' + (SEGMENT_FORMAT % 10) as u8]);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.salt.to_le_bytes());
        out[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32c_append(0, &out[..32]);
        out[32..36].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header, if it checks; or the format, if it is another one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let bytes = bytes.get(..36)?;
        let digit = |at: usize| bytes[at].is_ascii_digit().then(|| u32::from(bytes[at] - b'0'));
        if &bytes[..6] != SEGMENT_MAGIC || u32_at(bytes, 32) != crc32c_append(0, &bytes[..32]) {
            return None;
        }
        let format = digit(6)? * 10 + digit(7)?;
        let header = Self { number: u64_at(bytes, 8), salt: u64_at(bytes, 16), bytes: u64_at(bytes, 24) };
        Some(if format == SEGMENT_FORMAT { Ok(header) } else { Err(format) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// One more than the batch before, over all segments.
    pub(crate) number: u64,
    /// Everything before this position was known to be on disk when this batch was written.
    pub(crate) synced: Position,
    /// Length of the records with their padding.
    pub(crate) bytes: u32,
    /// Checksum of the records' checksums: binds them to this batch. Without it, records of an
    /// un-synced batch that a crash left behind could complete a later batch at the same position.
    pub(crate) records_crc: u32,
}

impl BatchHeader {
    pub(crate) fn encode(&self, seed: Seed, offset: usize, out: &mut [u8]) {
        out[..4].copy_from_slice(&BATCH_MAGIC);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.synced.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.records_crc.to_le_bytes());
        let crc = crc32c_append(seed.at(offset), &out[8..BATCH_HEADER_BYTES]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header at `offset` of a segment, if there is one that checks.
    pub(crate) fn decode(segment: &[u8], offset: usize, seed: Seed) -> Option<Self> {
        let bytes = segment.get(offset..)?.get(..BATCH_HEADER_BYTES)?;
        if bytes[..4] != BATCH_MAGIC || u32_at(bytes, 4) != crc32c_append(seed.at(offset), &bytes[8..]) {
            return None;
        }
        Some(Self {
            number: u64_at(bytes, 8),
            synced: Position(u64_at(bytes, 16)),
            bytes: u32_at(bytes, 24),
            records_crc: u32_at(bytes, 28),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry,
    Cut,
    DurableState,
    Install,
    Drop,
    /// A partition's state carried over to the beginning of a segment.
    Carry,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Entry, Self::Cut, Self::DurableState, Self::Install, Self::Drop, Self::Carry]
            .into_iter()
            .find(|k| *k as u8 + 1 == byte)
    }
}

/// A record as it lies in a segment. The meaning of `id` and `body` depends on the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) kind: Kind,
    pub(crate) partition: u16,
    pub(crate) id: LogId,
    pub(crate) body: &'a [u8],
}

/// Bytes that a record with such a body takes in the log.
pub(crate) fn record_bytes(body: usize) -> usize {
    (RECORD_HEADER_BYTES + body).next_multiple_of(ALIGNMENT)
}

impl<'a> RawRecord<'a> {
    /// Appends the record to `out`; `offset` is where it will lie in the segment. Returns the
    /// checksum `records_crc` of the records so far, this one included.
    pub(crate) fn encode(&self, seed: Seed, offset: usize, records_crc: u32, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
        header[8] = self.kind as u8 + 1;
        header[10..12].copy_from_slice(&self.partition.to_le_bytes());
        header[12..16].copy_from_slice(&self.id.tag.generation.to_le_bytes());
        header[16..24].copy_from_slice(&self.id.tag.version.to_le_bytes());
        header[24..32].copy_from_slice(&self.id.seq.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.body);
        let crc = crc32c_append(seed.at(offset), &out[start + 4..]).to_le_bytes();
        out[start..start + 4].copy_from_slice(&crc);
        out.resize(start + record_bytes(self.body.len()), 0);
        crc32c_append(records_crc, &crc)
    }

    /// The record at the start of `bytes`, which lies at `offset` of its segment.
    pub(crate) fn decode(bytes: &'a [u8], offset: usize, seed: Seed) -> Option<Self> {
        let length = u32_at(bytes.get(..RECORD_HEADER_BYTES)?, 4) as usize;
        let bytes = bytes.get(..RECORD_HEADER_BYTES.checked_add(length)?)?;
        Kind::from_byte(bytes[8])?;
        if u32_at(bytes, 0) != crc32c_append(seed.at(offset), &bytes[4..]) {
            return None;
        }
        Self::view(bytes)
    }

    /// A record whose bytes are known to be right.
    pub(crate) fn view(bytes: &'a [u8]) -> Option<Self> {
        let tag = Tag { generation: u32_at(bytes, 12), version: u64_at(bytes, 16) };
        Some(Self {
            kind: Kind::from_byte(bytes[8])?,
            partition: u16::from_le_bytes([bytes[10], bytes[11]]),
            id: LogId { tag, seq: u64_at(bytes, 24) },
            body: &bytes[RECORD_HEADER_BYTES..],
        })
    }

    /// The body's length that a record's header claims, unchecked.
    pub(crate) fn claimed_length(header: &[u8]) -> usize {
        u32_at(header, 4) as usize
    }
}

/// Reads the batch at `offset` of a segment: its header and its records with their offsets. `None`
/// when any byte of it does not check.
pub(crate) fn decode_batch(
    segment: &[u8],
    offset: usize,
    seed: Seed,
) -> Option<(BatchHeader, Vec<(usize, RawRecord<'_>)>)> {
    let header = BatchHeader::decode(segment, offset, seed)?;
    let end = (offset + BATCH_HEADER_BYTES).checked_add(header.bytes as usize)?;
    let bytes = segment.get(..end)?;
    let mut at = offset + BATCH_HEADER_BYTES;
    let mut records = Vec::new();
    let mut records_crc = 0;
    while at < end {
        let record = RawRecord::decode(&bytes[at..], at, seed)?;
        records_crc = crc32c_append(records_crc, &bytes[at..at + 4]);
        records.push((at, record));
        at += record_bytes(record.body.len());
    }
    (at == end && records_crc == header.records_crc).then_some((header, records))
}

/// Whether a batch with this number was written at `offset`, judged by what is left there: a header that checks but for
/// the magic, the number, or what the checksum protects; or one of its records behind a header that is gone. Leftovers
/// of a former use of the file do not count.
pub(crate) fn is_rest_of_batch(segment: &[u8], offset: usize, seed: Seed, number: u64) -> bool {
    let behind = offset + BATCH_HEADER_BYTES;
    let Some(header) = segment.get(offset..behind) else { return false };
    if header[..4] == BATCH_MAGIC && u64_at(header, 8) == number {
        return true;
    }
    let mut numbered = [0; BATCH_HEADER_BYTES - 8];
    numbered.copy_from_slice(&header[8..]);
    numbered[..8].copy_from_slice(&number.to_le_bytes());
    if u32_at(header, 4) == crc32c_append(seed.at(offset), &numbered) {
        return true;
    }
    let records = (behind..segment.len().min(behind + LOST_HEADER_BYTES)).step_by(ALIGNMENT);
    records.into_iter().any(|at| RawRecord::decode(&segment[at..], at, seed).is_some())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
