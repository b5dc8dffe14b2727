//! Ids of log entries, between the store's types and the protocol's.

use common::ids::{Epoch, LogId, Seq};

/// The protocol's name of an entry.
pub(crate) fn from_log_id(id: storage::LogId) -> LogId {
    LogId { tag: from_tag(id.tag), seq: Seq(id.seq) }
}

/// The protocol's name of an epoch.
pub(crate) fn from_tag(tag: storage::Tag) -> Epoch {
    Epoch { generation: tag.generation, version: tag.version }
}

/// The store's name of an entry.
pub(crate) fn log_id(id: LogId) -> storage::LogId {
    let tag = storage::Tag { generation: id.tag.generation, version: id.tag.version };
    storage::LogId { tag, seq: id.seq.0 }
}
