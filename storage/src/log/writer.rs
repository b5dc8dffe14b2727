//! The writer of the log: appends batches and makes them durable. One thread at a time uses it, under its owner's lock.

use super::{
    format::{
        ALIGNMENT, BATCH_HEADER_BYTES, BatchHeader, Kind, Position, RawRecord, SEGMENT_HEADER_BYTES,
        record_bytes,
    },
    segment::Segment,
    shared::LogShared,
};
use crate::{DURABLE_STATE_BYTES_MAX, Error, LogId, Record, disk::write_all_at, error::is_full};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

/// Bytes of the write buffer that are kept: one that grew beyond this for a large batch is freed.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Appends to the log. After a failed write or fsync every call returns [`Error::Poisoned`].
pub struct LogWriter {
    shared: Arc<LogShared>,
    segment: Arc<Segment>,
    offset: usize,
    next_number: u64,
    synced: Position,
    /// The position behind the last batch without records: everything before it is vouched for.
    vouched: Position,
    /// `seq` of each partition's last entry, ahead of the index while a batch is checked.
    lasts: BTreeMap<u16, u64>,
    buffer: Vec<u8>,
    records_crc: u32,
    /// Where each record of the batch lies.
    offsets: Vec<usize>,
}

impl LogWriter {
    pub(super) fn new(
        shared: Arc<LogShared>,
        segment: Arc<Segment>,
        offset: usize,
        next_number: u64,
        synced: Position,
    ) -> Self {
        let lasts = shared.read().index.partitions.iter().map(|(p, log)| (*p, log.last())).collect();
        shared.synced.store(synced.0, Ordering::Release);
        shared.appended.store(Position::new(segment.number, offset).0, Ordering::Release);
        let (buffer, offsets, records_crc) = (Vec::new(), Vec::new(), 0);
        let vouched = Position::default();
        Self { shared, segment, offset, next_number, synced, vouched, lasts, buffer, records_crc, offsets }
    }

    /// The largest batch that fits, in bytes of records (see [`Record`]; each takes 32 bytes and
    /// its body, rounded up to 8), as long as the partitions' durable states are small.
    #[must_use]
    pub fn batch_bytes_max(&self) -> u64 {
        self.shared.segment_bytes
            - (SEGMENT_HEADER_BYTES + 2 * BATCH_HEADER_BYTES) as u64
            - self.carry_bytes() as u64
    }

    fn carry_bytes(&self) -> usize {
        let state = self.shared.read();
        let bytes = |durable_state: usize| record_bytes(super::index::CARRY_HEADER_BYTES + durable_state);
        state.index.partitions.values().map(|p| bytes(p.durable_state.len())).sum()
    }

    /// Appends one batch. Readers see it at once; it is durable after the next [`Self::sync`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::DiskFull`] leave the log as it was; every other error
    /// closes it, and whether the batch survives is unknown until the next start.
    ///
    /// # Panics
    /// When an entry does not follow its partition's last one, a cut or an install goes behind what
    /// it may, or a durable state is too long: bugs of the caller.
    pub fn append(&mut self, batch: &[Record]) -> Result<(), Error> {
        self.shared.check_poison()?;
        let records = bytes_of(batch);
        let max = self.shared.segment_bytes as usize - SEGMENT_HEADER_BYTES - BATCH_HEADER_BYTES;
        if records > max {
            return Err(Error::TooLarge { what: "a batch", bytes: records as u64, max: max as u64 });
        }
        self.check(batch);
        let result = self.place_and_write(batch, records);
        if result.is_err() {
            self.lasts = self.shared.read().index.partitions.iter().map(|(p, l)| (*p, l.last())).collect();
        }
        result
    }

    /// Makes every appended batch durable (one fdatasync).
    ///
    /// # Errors
    /// Any error closes the log: nothing appended since the last success may be acknowledged.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.shared.check_poison()?;
        let end = self.end();
        if end > self.synced {
            self.sync_segment()?;
            self.synced = end;
            self.shared.synced.store(end.0, Ordering::Release);
        }
        Ok(())
    }

    fn sync_segment(&self) -> Result<(), Error> {
        self.shared.sync_file(&self.segment)
    }

    /// Asserts that the batch follows what is in the log, before a byte of it is written.
    fn check(&mut self, batch: &[Record]) {
        // Where a partition begins anew within the batch.
        let mut begun = BTreeMap::new();
        for record in batch {
            let partition = record.partition();
            let last = self.lasts.entry(partition).or_default();
            match record {
                Record::Entry { id, .. } => {
                    assert!(id.seq == *last + 1, "partition {partition}: entry {} after {last}", id.seq);
                    *last = id.seq;
                }
                Record::Cut { after, .. } => {
                    let applied = begun.get(&partition).copied().unwrap_or_else(|| {
                        let state = self.shared.read();
                        state.index.get(partition).map_or(0, |l| l.applied.max(l.base.seq))
                    });
                    assert!(*after >= applied, "partition {partition}: cut after {after}, applied {applied}");
                    *last = (*last).min(*after);
                }
                Record::DurableState { durable_state, .. } => {
                    let length = durable_state.len();
                    assert!(
                        length <= DURABLE_STATE_BYTES_MAX,
                        "partition {partition}: a durable state of {length} bytes"
                    );
                }
                Record::Install { generation, base, .. } => {
                    assert!(generation % 2 == 1, "partition {partition}: {generation} was not staged");
                    *last = base.seq;
                    begun.insert(partition, base.seq);
                }
                Record::Drop { .. } => {
                    *last = 0;
                    begun.insert(partition, 0);
                }
            }
        }
    }

    fn place_and_write(&mut self, batch: &[Record], records: usize) -> Result<(), Error> {
        if self.offset + BATCH_HEADER_BYTES + records > self.segment.bytes as usize {
            self.roll(records)?;
        }
        self.begin();
        for record in batch {
            let partition = record.partition();
            match record {
                Record::Entry { id, body, .. } => self.push(Kind::Entry, partition, *id, body),
                Record::Cut { after, .. } => {
                    let tag = self.shared.read().index.get(partition).map(|l| l.tag_of(*after));
                    let id = LogId { tag: tag.unwrap_or_default(), seq: *after };
                    self.push(Kind::Cut, partition, id, &[]);
                }
                Record::DurableState { durable_state, .. } => {
                    self.push(Kind::DurableState, partition, LogId::default(), durable_state)
                }
                Record::Install { generation, base, .. } => {
                    self.push(Kind::Install, partition, *base, &generation.to_le_bytes());
                }
                Record::Drop { .. } => self.push(Kind::Drop, partition, LogId::default(), &[]),
            }
        }
        self.write_batch()
    }

    fn begin(&mut self) {
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER_BYTES, 0);
        self.offsets.clear();
        self.records_crc = 0;
    }

    fn push(&mut self, kind: Kind, partition: u16, id: LogId, body: &[u8]) {
        let at = self.offset + self.buffer.len();
        self.offsets.push(at);
        let record = RawRecord { kind, partition, id, body };
        self.records_crc = record.encode(self.segment.seed, at, self.records_crc, &mut self.buffer);
    }

    /// Writes and indexes the batch in the buffer; it fits into the segment.
    fn write_batch(&mut self) -> Result<(), Error> {
        let seed = self.segment.seed;
        let header = BatchHeader {
            number: self.next_number,
            synced: self.synced,
            bytes: (self.buffer.len() - BATCH_HEADER_BYTES) as u32,
            records_crc: self.records_crc,
        };
        header.encode(seed, self.offset, &mut self.buffer);
        self.write_buffer()?;
        self.index_buffer();
        self.offset += self.buffer.len();
        assert!(self.offset.is_multiple_of(ALIGNMENT));
        self.next_number += 1;
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn write_buffer(&self) -> Result<(), Error> {
        write_all_at(&*self.segment.file, &self.buffer, self.offset as u64).map_err(|short| {
            let file = self.segment.path.clone();
            if short.written == 0 && is_full(&short.source) {
                return Error::DiskFull { file };
            }
            let error = Error::Io { action: "write", file, source: short.source };
            self.shared.poison(&error);
            error
        })
    }

    fn index_buffer(&self) {
        let mut state = self.shared.write();
        for at in &self.offsets {
            let bytes = &self.buffer[at - self.offset..];
            let length = RawRecord::claimed_length(bytes);
            let record = RawRecord::view(&bytes[..super::format::RECORD_HEADER_BYTES + length]);
            let position = Position::new(self.segment.number, *at);
            let applied = record.ok_or("not a record").and_then(|r| state.index.apply(&r, position));
            assert!(applied.is_ok(), "batch {}: {applied:?}", self.next_number);
        }
        let end = Position::new(self.segment.number, self.offset + self.buffer.len());
        self.shared.appended.store(end.0, Ordering::Release);
    }

    /// Goes on in the next segment, whose first batch carries the state of all partitions.
    fn roll(&mut self, records: usize) -> Result<(), Error> {
        let (used, max) = (self.carry_bytes(), self.shared.segment_bytes as usize);
        if SEGMENT_HEADER_BYTES + 2 * BATCH_HEADER_BYTES + used + records > max {
            return Err(Error::TooLarge {
                what: "a batch",
                bytes: records as u64,
                max: self.batch_bytes_max(),
            });
        }
        let spare = self.shared.take_spare()?;
        if let Err(error) = self.sync() {
            self.shared.return_spare(spare);
            return Err(error);
        }
        let old = std::mem::replace(&mut self.segment, Arc::new(spare));
        let old_offset = std::mem::replace(&mut self.offset, SEGMENT_HEADER_BYTES);
        if let Err(error) = self.write_catalog() {
            // Only a full disk leaves the log usable: then nothing reached the new segment.
            let spare = std::mem::replace(&mut self.segment, old);
            self.offset = old_offset;
            Arc::into_inner(spare).into_iter().for_each(|s| self.shared.return_spare(s));
            return Err(error);
        }
        self.shared.events.fetch_add(1, Ordering::Release);
        if let Some(notify) = self.shared.on_roll.get() {
            notify();
        }
        Ok(())
    }

    /// Begins a partition's log anew behind its tree, where the log does not lead up to that.
    pub(crate) fn begin_after(&mut self, partition: u16, generation: u32, base: LogId) -> Result<(), Error> {
        self.shared.check_poison()?;
        let body = generation.to_le_bytes();
        let bytes = record_bytes(body.len());
        if self.offset + BATCH_HEADER_BYTES + bytes > self.segment.bytes as usize {
            self.roll(bytes)?;
        }
        self.begin();
        self.push(Kind::Install, partition, base, &body);
        self.write_batch()?;
        self.lasts.insert(partition, base.seq);
        Ok(())
    }

    pub(super) fn write_catalog(&mut self) -> Result<(), Error> {
        let carry = self.shared.read().index.carry();
        self.begin();
        for (partition, id, body) in carry {
            self.push(Kind::Carry, partition, id, &body);
        }
        self.write_batch()?;
        self.shared.write().segments.insert(self.segment.number, Arc::clone(&self.segment));
        Ok(())
    }

    /// Whether a batch without records is the last one: damage to anything in the log will be noticed
    /// at the next start. Until then damage to what the last sync wrote looks like a torn tail.
    #[must_use]
    pub fn is_vouched(&self) -> bool {
        self.vouched == self.end()
    }

    /// Appends a batch without records, whose header says what is on disk, and syncs it, unless the log
    /// ends with one. For a moment when nothing else is to be written: every later batch vouches for
    /// those before it, too.
    ///
    /// # Errors
    /// As [`Self::append`] and [`Self::sync`].
    pub fn vouch(&mut self) -> Result<(), Error> {
        if self.is_vouched() {
            return Ok(());
        }
        self.sync()?;
        self.append(&[])?;
        self.sync()?;
        self.vouched = self.end();
        Ok(())
    }

    /// The number of the batch that comes next: it grows with everything that is appended.
    #[must_use]
    pub fn next_batch(&self) -> u64 {
        self.next_number
    }

    fn end(&self) -> Position {
        Position::new(self.segment.number, self.offset)
    }

    /// Ends the log in good order: what is in it is [vouched for](Self::vouch).
    ///
    /// # Errors
    /// As [`Self::vouch`].
    pub fn close(mut self) -> Result<(), Error> {
        self.vouch()
    }
}

/// Bytes that the records of a batch take in the log.
fn bytes_of(batch: &[Record]) -> usize {
    let body = |record: &Record| match record {
        Record::Entry { body, .. } => body.len(),
        Record::DurableState { durable_state, .. } => durable_state.len(),
        Record::Install { .. } => 4,
        Record::Cut { .. } | Record::Drop { .. } => 0,
    };
    batch.iter().map(|r| record_bytes(body(r))).sum()
}
