//! The changes of entries: from the records that they wrote, or, further back, from the log.

use bytes::Bytes;
use common::codec::{Malformed, Wire};
use common::ids::{LogId, Seq};
use common::messages::{Change, Entry, Selection};
use common::operation::{Command, Expiry, Found, Operation};

use super::super::state::decode_record;
use super::no_ops::NoOps;

/// The changes that an entry made, by what it wrote to the records: keys with their new records, or `None`.
///
/// # Errors
/// When a record or the entry's command is damaged.
pub fn changes_of(
    id: LogId,
    command: &Bytes,
    records: impl Iterator<Item = (Bytes, Option<Bytes>)>,
) -> Result<Vec<Change>, Malformed> {
    let Command { operation, .. } = Command::from_wire(command.clone())?;
    let changes = records.map(|(key, record)| {
        // Copied, as it is kept and the key is a slice of a larger buffer.
        let key = Bytes::copy_from_slice(&key);
        let Some(record) = record else { return Ok(Change::Delete { key, version: id }) };
        let found = decode_record(record)?;
        let retimed = is_retimed(&operation, &key);
        Ok(if retimed { Change::Expiry { key, found } } else { Change::Put { key, found } })
    });
    changes.collect()
}

/// Whether an operation only changes the expiry of a key.
fn is_retimed(operation: &Operation, key: &Bytes) -> bool {
    match operation {
        Operation::Expire { .. } | Operation::Retime { .. } => true,
        Operation::Batch { parts, .. } => {
            let mut of_key = parts.iter().map(|part| &part.0).filter(|part| part.key() == Some(key));
            of_key.all(|part| matches!(part, Operation::Fetch { .. }) || is_retimed(part, key))
        }
        _ => false,
    }
}

/// Changes for one answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) changes: Vec<Change>,
    /// All changes up to here are in the answers so far.
    pub(super) through: LogId,
    bytes: usize,
    bytes_max: usize,
    /// Bytes of the next change, if they are more than there may be.
    pub(super) next_bytes: usize,
}

impl Page {
    pub(super) fn new(after: LogId, bytes_max: usize) -> Self {
        Self { changes: Vec::new(), through: after, bytes: 0, bytes_max, next_bytes: 0 }
    }

    /// Whether the page has nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.next_bytes == 0
    }

    /// Adds the changes of the next entry, all or none of them. Returns `false` if there is no room, so the page is
    /// done.
    pub(super) fn add(&mut self, id: LogId, changes: Vec<Change>) -> bool {
        let bytes: usize = changes.iter().map(Change::bytes).sum();
        if self.bytes + bytes > self.bytes_max && bytes > 0 {
            self.next_bytes = if self.changes.is_empty() { bytes } else { 0 };
            return false;
        }
        self.bytes += bytes;
        assert!(self.bytes <= self.bytes_max, "an answer is as large as was asked for");
        self.changes.extend(changes);
        self.through = id;
        true
    }

    /// Adds a gap up to `to`, as the changes are not known. There is always room for a gap, as two in a row become one.
    pub(super) fn skip(&mut self, to: LogId) {
        let from = self.through;
        match self.changes.last_mut() {
            Some(Change::Gap { to: end, .. }) => *end = to,
            _ => self.changes.push(Change::Gap { from, to }),
        }
        self.through = to;
    }

    /// Adds the next entry of the log, as far as it says what it did. Returns `false` if there is no room, so the page
    /// is done.
    pub(super) fn add_entry(&mut self, entry: &Entry, selection: &Selection, no_ops: &NoOps) -> bool {
        match changes_by(entry, selection, no_ops) {
            Some(changes) => self.add(entry.id, changes),
            None => {
                self.skip(entry.id);
                true
            }
        }
    }
}

/// The changes that an entry made to watched keys, if the log says them.
fn changes_by(Entry { id, body }: &Entry, selection: &Selection, no_ops: &NoOps) -> Option<Vec<Change>> {
    let Command { operation, .. } = Command::from_wire(body.clone()).ok()?;
    let mut watched = false;
    operation.each_key(|key| watched |= selection.contains(key));
    if !watched || no_ops.changed(id.seq) == Some(false) {
        return Some(Vec::new());
    }
    let version = *id;
    let change = match operation {
        Operation::Fetch { .. } | Operation::Tick {} | Operation::NoOp {} | Operation::Compare { .. } => {
            return Some(Vec::new());
        }
        _ if no_ops.changed(id.seq).is_none() => return None,
        Operation::Put { key, value, expires, .. } => {
            Change::Put { key, found: Found { value, version, expires } }
        }
        Operation::Set { key, value, expiry: Expiry::Never {}, .. } => {
            Change::Put { key, found: Found { value, version, expires: None } }
        }
        Operation::Delete { key, .. } | Operation::Take { key } => Change::Delete { key, version },
        // The results of these depend on the value before, or on the log time.
        Operation::Append { .. }
        | Operation::Expire { .. }
        | Operation::Set { .. }
        | Operation::Add { .. }
        | Operation::AddDecimal { .. }
        | Operation::Overwrite { .. }
        | Operation::Retime { .. }
        | Operation::Batch { .. } => return None,
    };
    Some(vec![change])
}

/// The part of the entries read back that may be used: those after `after` without a hole, up to `last`.
pub(super) fn in_order(entries: &[Entry], after: Seq, last: Seq) -> &[Entry] {
    let fits = |(index, entry): (usize, &Entry)| {
        entry.id.seq.0 == after.0 + 1 + index as u64 && entry.id.seq <= last
    };
    let len = entries.iter().enumerate().take_while(|(index, entry)| fits((*index, entry))).count();
    &entries[..len]
}
